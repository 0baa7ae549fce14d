"""What a provider is: how it signs, what it calls its events, when two webhooks are one event."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.json_body import ARRAYS
from hookstream.app.providers.lookup import text_at, word_at
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.codecs.envelope import FORM

__all__ = [
    "HOUR",
    "JSON",
    "UNKNOWN",
    "Answer",
    "Delivery",
    "Provider",
    "Sign",
    "any_secret",
    "batch_type",
    "body_type",
    "event_name",
    "id_at",
    "short_id",
    "signed",
]

HOUR = 3600
JSON = "application/json"
UNKNOWN = "unknown"
MAX_NAME_CHARS = 200
MAX_ID_CHARS = 256


@dataclass(frozen=True, slots=True)
class Answer:
    """What a sender gets back: to a trial of the URL, or to a webhook that was accepted."""

    status: int
    body: bytes
    content_type: str


class Sign(Protocol):
    """The headers that a real delivery of ``body`` would carry, its signature among them.

    ``now`` is in Unix seconds; ``event_type``, ``delivery_id`` and ``url`` are used where the
    provider has them in a header or signs them. Raises BadRequestError on an unusable secret.
    """

    def __call__(
        self,
        body: bytes,
        secret: str,
        options: SignatureOptions,
        *,
        now: float,
        event_type: str,
        delivery_id: str,
        url: str,
    ) -> dict[str, str]: ...


@dataclass(frozen=True, slots=True)
class Provider:
    """One row of the table.

    ``verify(request, secrets, options, now)`` raises SignatureError; ``now`` is in Unix seconds and
    each of the secrets may be the right one. ``event_type`` and ``delivery_id`` raise
    BadRequestError where a body has to be understood and cannot be; the type is never empty, the
    delivery id is where none was sent. ``check_secret`` raises BadRequestError. ``correlation``
    yields what a payload as JSON, an object or a list, is about, the most telling first.

    ``handshake(request)`` is the answer to a verified request by which the provider tries out the
    URL; None where it is a webhook. Raises BadRequestError. ``answer(request, accepted)`` is what
    the provider gets for a webhook that was accepted, where it takes ``accepted``, a 202 with the
    event's id as JSON, amiss; the event is durable by then, so it raises nothing.
    """

    name: str
    title: str
    verify: Callable[[WebhookRequest, Sequence[str], SignatureOptions, float], None]
    event_type: Callable[[WebhookRequest, SignatureOptions], str]
    delivery_id: Callable[[WebhookRequest, SignatureOptions], str]
    sign: Sign
    dedup_strategy: str
    dedup_window_seconds: int
    #: What the tool's secret is at the provider, in words for people.
    credential: str
    check_secret: Callable[[str], None]
    dedup_fields: tuple[str, ...] = ()
    keep_headers: tuple[str, ...] = ()
    needs_secret: bool = True
    handshake: Callable[[WebhookRequest], Answer | None] | None = None
    answer: Callable[[WebhookRequest, Answer], Answer] | None = None
    correlation: Callable[[Any], Iterator[str]] | None = None
    #: For senders that put the time of sending into the body: the body as sent at ``now``.
    stamp: Callable[[bytes, float], bytes] | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a sender puts into one delivery; ``now`` is in Unix seconds."""

    body: bytes
    secret: str
    options: SignatureOptions
    now: float
    event_type: str
    delivery_id: str
    url: str


def signed(headers: Callable[[Delivery], dict[str, str]]) -> Sign:
    """The ``sign`` of a provider whose ``headers`` of a delivery are these."""

    def sign(
        body: bytes,
        secret: str,
        options: SignatureOptions,
        *,
        now: float,
        event_type: str,
        delivery_id: str,
        url: str,
    ) -> dict[str, str]:
        hook = Delivery(body, secret, options, now, event_type, delivery_id, url)
        # what a sender has no value for it does not send
        return {name: value for name, value in headers(hook).items() if value}

    return sign


def any_secret(secret: str) -> None:
    """Refuse a secret that no sender can have. Raises BadRequestError."""
    if not secret.strip():
        raise BadRequestError("a secret is empty")
    try:
        secret.encode()
    except UnicodeEncodeError as error:
        raise BadRequestError("a secret has characters that are not Unicode text") from error


def event_name(event: str, action: str = "") -> str:
    """``event``, or ``event.action``; ``unknown`` where that is no short printable name."""
    if not _is_name(event):
        return UNKNOWN
    name = f"{event}.{action}" if _is_name(action) else event
    return name if len(name) <= MAX_NAME_CHARS else UNKNOWN


def short_id(text: str) -> str:
    """A delivery id, or "" where it is none that can be kept whole."""
    return text if len(text) <= MAX_ID_CHARS and text.isprintable() else ""


def id_at(data: Any, path: str) -> str:
    """The id at a dotted path, text or whole number; "" where there is none."""
    return short_id(word_at(data, path))


def body_type(body: bytes) -> str:
    """The content type that a sender would give this body: JSON, or else a form."""
    return JSON if body.lstrip()[:1] in (b"{", b"[", b"") else FORM


def _is_name(text: str) -> bool:
    return 0 < len(text) <= MAX_NAME_CHARS and text.isprintable() and text == text.strip()


def batch_type(payload: Any, path: str) -> str:
    """The type that all events of a list have; ``batch`` where they differ."""
    events = payload if isinstance(payload, ARRAYS) else [payload]
    types = {event_name(text_at(event, path)) for event in events}
    if len(types) == 1:
        return types.pop()
    return "batch" if types else UNKNOWN
