"""One HTTP request as a provider sent it: what a signature is verified over."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers.json_body import look_into

__all__ = ["MAX_FORM_FIELDS", "WebhookRequest", "form_pairs"]

#: Longest header that takes part in a verification; the longest real ones have some hundreds.
MAX_HEADER_CHARS = 8192
MAX_FORM_FIELDS = 1000


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """One HTTP request as a provider sent it.

    ``headers`` maps lower-case names to every value sent, in order. ``body`` is what came over the
    wire, which is what signatures cover; ``decoded`` is it without its content encoding.
    """

    method: str
    url: str
    headers: Mapping[str, tuple[str, ...]]
    body: bytes
    decoded: bytes
    _parsed: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def header(self, name: str) -> str:
        """The first value of a header, or "" where it is absent."""
        values = self.headers.get(name.lower())
        return values[0] if values else ""

    def single(self, name: str) -> str:
        """The one value of a header that a verification rests on.

        Raises:
            SignatureError: it is missing, empty, repeated or longer than 8 KiB.
        """
        values = self.headers.get(name.lower(), ())
        if len(values) > 1:
            # two readers could each take another one
            raise SignatureError(f"{name} was sent {len(values)} times: send it once")
        if not values or not values[0]:
            raise SignatureError(f"{name} is missing or empty: the webhook has to carry it")
        if len(values[0]) > MAX_HEADER_CHARS:
            raise SignatureError(f"{name} is longer than {MAX_HEADER_CHARS} characters")
        return values[0]

    @property
    def content_type(self) -> str:
        """The media type without its parameters, in lower case."""
        return self.header("content-type").partition(";")[0].strip().lower()

    def json(self) -> Any:
        """The decoded body as JSON to look into, parsed once (``json_body.look_into``).

        Raises:
            BadRequestError: it is not JSON.
        """
        if not self._parsed:
            self._parsed.append(look_into(self.decoded))
        return self._parsed[0]

    def form(self) -> dict[str, str]:
        """The first value of each field of a form. Raises BadRequestError where it is no form."""
        try:
            pairs = form_pairs(self.decoded)
        except ValueError as error:
            raise BadRequestError(
                f"the body is not a form in UTF-8 of at most {MAX_FORM_FIELDS} fields"
            ) from error
        return dict(reversed(pairs))


def form_pairs(body: bytes) -> list[tuple[str, str]]:
    """The fields of a form. Raises ValueError: not UTF-8, or too many."""
    parse: Callable[..., list[tuple[str, str]]] = parse_qsl
    return parse(
        body.decode(),
        keep_blank_values=True,
        errors="strict",
        max_num_fields=MAX_FORM_FIELDS,
    )
