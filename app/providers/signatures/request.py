"""One HTTP request as a provider sent it: what a signature is verified over."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers.json_body import look_into
from hookstream.app.providers.signatures.public_keys import Keys
from hookstream.codecs.form import MAX_FORM_FIELDS, form_pairs
from hookstream.codecs.readable import read_payload

__all__ = ["WebhookRequest"]

#: Longest header that takes part in a verification; the longest real ones have some hundreds.
MAX_HEADER_CHARS = 8192


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """One HTTP request as a provider sent it.

    ``headers`` maps lower-case names to every value sent, in order. ``body`` is what came over the
    wire, which is what signatures cover; ``decoded`` is it without its content encoding. ``keys``
    are those that the row has asked for, fetched (:class:`KeySource`).
    """

    method: str
    url: str
    headers: Mapping[str, tuple[str, ...]]
    body: bytes
    decoded: bytes
    keys: Keys = field(default_factory=dict, repr=False, compare=False)
    _parsed: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

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

    def joined(self, name: str, separator: str = ",") -> str:
        """A header that is a list, its lines joined as they would stand on one.

        By commas (RFC 9110, 5.3), or by what its sender puts between the parts. Raises:
            SignatureError: it is missing, empty or longer than 8 KiB in all.
        """
        text = separator.join(value for value in self.headers.get(name.lower(), ()) if value)
        if not text:
            raise SignatureError(f"{name} is missing or empty: the webhook has to carry it")
        if len(text) > MAX_HEADER_CHARS:
            raise SignatureError(f"{name} is longer than {MAX_HEADER_CHARS} characters")
        return text

    def query(self, name: str) -> str:
        """The first value of a query parameter, percent decoded; "" where there is none."""
        query = self.url.partition("?")[2].partition("#")[0]
        try:
            pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS)
        except ValueError:
            return ""
        return next((value for found, value in pairs if found == name), "")

    @property
    def content_type(self) -> str:
        """The media type without its parameters, in lower case."""
        return self.header("content-type").partition(";")[0].strip().lower()

    def json(self, written_as: str = "") -> Any:
        """The decoded body as JSON to look into, parsed once (``json_body.look_into``).

        None where nothing can be read of it, or it is not parsed: it is kept all the same. What is
        no JSON is what ``Content-Type`` says. Nobody signs that: a sender that writes something
        else into signed bodies has its row say what (``written_as``), so that a copy under another
        header is read as the same.
        """
        if written_as not in self._parsed:
            try:
                self._parsed[written_as] = look_into(self.decoded)
            except BadRequestError:
                kind = written_as or self.header("content-type")
                self._parsed[written_as] = read_payload(self.decoded, kind)
        return self._parsed[written_as]

    def form(self) -> dict[str, str]:
        """The first value of each field of a form; none where it is no form."""
        try:
            return dict(reversed(form_pairs(self.decoded)))
        except ValueError:
            return {}
