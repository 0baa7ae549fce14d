"""Batches: a body of many things is as many requests, each as if it had come alone.

What a provider's row does with a body it does with each of its items: nothing else knows of
batches. An item of a list that is the whole body is a body by itself. One that stands within an
object stays there, alone: ``{"live": "true", "notificationItems": [{…}]}``, so that the provider's
own documentation, and the conditions that people know, hold.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.codecs.json_items import Group, Shape, TooManyError, grouped, items_of, value_of
from hookstream.codecs.json_payload import limits, marks
from hookstream.codecs.readable import LINES, MAX_LINES, media_type

__all__ = ["BULK", "Batch", "Bulk", "split"]

#: The type of an event that stands for all of a batch.
BULK: Final = "batch"
BOM_UTF8: Final = b"\xef\xbb\xbf"
#: A body may have so many times the elements that are parsed: what is parsed are its items.
MAX_TIMES: Final = 4
#: Items that are counted by kind, and kinds that are told apart.
MAX_COUNTED: Final = 20_000
MAX_KINDS: Final = 20
OTHERS: Final = "others"


def body_text(request: WebhookRequest) -> str:
    """The body as text; bytes that are no UTF-8 come back when it is encoded.

    Which characters they are is for who reads an item. No header says where items are: it may not
    be signed, and who repeats a captured batch would make others of it.
    """
    return request.decoded.removeprefix(BOM_UTF8).decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """How the bodies of a provider that sends batches are made.

    ``kind(item)`` is what one of them is called. ``text(request)`` is the JSON that the items are
    in, "" where this is no batch. ``alone(text)`` is an item's body without what belongs to others.
    ``content_type`` is that of an item. ``lines``: it may also be lines of JSON, as its type says.
    """

    shape: Shape
    kind: Callable[[Any], str]
    text: Callable[[WebhookRequest], str] = body_text
    alone: Callable[[str], str] | None = None
    content_type: str = "application/json"
    lines: bool = False

    def said(self) -> str:
        """The places of the items, for people: ``entry[].changes[]``."""
        places = ", ".join(f"`{place}`" for place in _places(self.shape))
        return f"{places} and lines" if self.lines else places


@dataclass(frozen=True, slots=True)
class Bulk:
    """A batch that stays one event: how many things are in it, and how many of each kind."""

    events: int
    kinds: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The requests that a batch is, in order; each is made when it is asked for."""

    request: WebhookRequest
    batch: Batch
    text: str
    groups: Sequence[Group]

    def __len__(self) -> int:
        return sum(len(group.spans) for group in self.groups)

    def __iter__(self) -> Iterator[WebhookRequest]:
        return (
            _part(self.request, self.batch, part)
            for group in self.groups
            for part in group.texts(self.text)
        )


def split(
    request: WebhookRequest, batch: Batch | None, most: int
) -> Sequence[WebhookRequest] | Parts | Bulk:
    """The requests that a verified one stands for, in order; none where its batch is empty.

    One that is no batch, or that nothing can be read of, stands for itself. One of more than
    ``most`` things is a Bulk.
    """
    if batch is None or not (text := batch.text(request)):
        return [request]
    if batch.lines and media_type(request.header("content-type")) in LINES:
        return _lines(request, batch, text, most)
    if marks(request.decoded) > MAX_TIMES * limits.elements:
        return [request]
    try:
        groups = grouped(text, batch.shape, most)
    except TooManyError:
        return _bulk(text, batch) or [request]
    except (ValueError, RecursionError):
        return [request]
    if groups is None:
        return [request]
    return Parts(request, batch, text, groups)


def _lines(
    request: WebhookRequest, batch: Batch, text: str, most: int
) -> Sequence[WebhookRequest] | Bulk:
    """Lines of JSON: one that is none is an item all the same."""
    parts = [part for line in text.split("\n", MAX_LINES + 1) if (part := line.strip("\x1e \t\r"))]
    if len(parts) > MAX_LINES:
        return [request]
    if len(parts) > most:
        return Bulk(len(parts), _counted(map(_read, parts), batch))
    return [_part(request, batch, part) for part in parts]


def _read(text: str) -> Any:
    try:
        return value_of(text)
    except (ValueError, RecursionError):
        return None


def _part(request: WebhookRequest, batch: Batch, text: str) -> WebhookRequest:
    text = batch.alone(text) if batch.alone else text
    content_type = batch.content_type
    if not text.isascii():
        # as it was named: of what is UTF-8 nobody looks at it
        _, named, parameters = request.header("content-type").partition(";")
        content_type += named + parameters
    headers = {**request.headers, "content-type": (content_type,)}
    return replace(request, headers=headers, decoded=text.encode("utf-8", "surrogateescape"))


def _bulk(text: str, batch: Batch) -> Bulk | None:
    # behind what was looked at there may be anything
    if (value := _read(text)) is None:
        return None
    items = items_of(value, batch.shape)
    return Bulk(len(items), _counted(items, batch) if len(items) <= MAX_COUNTED else {})


def _counted(items: Any, batch: Batch) -> dict[str, int]:
    kinds = Counter(map(batch.kind, items))
    counts = dict(kinds.most_common(MAX_KINDS))
    if rest := kinds.total() - sum(counts.values()):
        counts[OTHERS] = rest
    return counts


def _places(shape: Shape) -> list[str]:
    if isinstance(shape, Mapping):
        return [
            name + (place if place.startswith("[") else f".{place}")
            for name, inner in shape.items()
            for place in _places(inner)
        ]
    return [f"[].{place}" for place in _places(shape[0])] if shape else ["[]"]
