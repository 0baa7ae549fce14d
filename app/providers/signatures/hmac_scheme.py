"""The scheme that most senders have: an HMAC over some text of the request, put somewhere.

What differs is data: :class:`HmacScheme`. A provider names its own in its file; a tool of provider
``generic`` in its options.
"""

import base64
import binascii
import hmac
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from hookstream.app.errors import BadRequestError, SignatureError
from hookstream.app.providers.lookup import word_at
from hookstream.app.providers.signatures.digests import (
    DIGEST_BYTES,
    UNSET,
    Algorithm,
    Encoding,
    digests_of,
    encoded,
    key_bytes,
    match,
    parts_of,
)
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.providers.signatures.template import signed_text, uses
from hookstream.app.providers.signatures.timestamps import (
    check_age,
    check_timestamp,
    iso_seconds,
)

__all__ = ["KEY_ENCODINGS", "TIME_UNITS", "HmacScheme", "KeyEncoding", "TimeUnit", "hmac_key"]

KeyEncoding = Literal["raw", "base64", "hex", "whsec"]
TimeUnit = Literal["s", "ms", "iso"]
KEY_ENCODINGS: Final = ("raw", "base64", "hex", "whsec")
TIME_UNITS: Final = ("s", "ms", "iso")


def hmac_key(secret: str, encoding: KeyEncoding = "raw") -> bytes:
    """A secret as the key of an HMAC; ``whsec`` is base64 after ``whsec_`` or ``v1,whsec_``.

    Raises:
        BadRequestError: it is not encoded so, or empty.
    """
    if encoding == "raw":
        return key_bytes(secret)
    text = secret.strip()
    try:
        if encoding == "hex":
            key = bytes.fromhex(text)
        else:
            if encoding == "whsec":
                text = text.removeprefix("v1,").removeprefix("whsec_")
            text += "=" * (-len(text) % 4)
            key = base64.b64decode(
                text, altchars=b"-_" if set("-_") & set(text) else None, validate=True
            )
    except (ValueError, binascii.Error) as error:
        what = {"hex": "hex", "base64": "base64", "whsec": "whsec_ followed by base64"}[encoding]
        raise BadRequestError(f"the secret is not {what}") from error
    if not key:
        raise BadRequestError("the secret has no key in it")
    return key


@dataclass(frozen=True, slots=True)
class HmacScheme:
    """Where the parts of a signature stand, and what it is over.

    The signature is in ``header``, or in the body at ``field``, or in the query parameter
    ``query``. With ``signature_name`` it is one of a list of ``name=value`` parted by
    ``separator`` (``t=1700000000,v1=ab…``), in which ``timestamp_name`` may name the time; else it
    follows ``prefix``. ``signed`` is a template (``template.py``). A time of ``timestamp_unit`` is
    in that list, in ``timestamp_header`` or in the body at ``timestamp_field``; where there is one
    it has to be signed.
    """

    header: str = ""
    signed: str = "{body}"
    algorithm: Algorithm = "sha256"
    encoding: Encoding = "hex"
    key_encoding: KeyEncoding = "raw"
    prefix: str = ""
    signature_name: str = ""
    timestamp_name: str = ""
    separator: str = ","
    timestamp_header: str = ""
    timestamp_field: str = ""
    timestamp_unit: TimeUnit = "s"
    id_header: str = ""
    field: str = ""
    query: str = ""

    @property
    def has_time(self) -> bool:
        """Whether a time is signed."""
        return bool(self.timestamp_name or self.timestamp_header or self.timestamp_field)

    @property
    def place(self) -> str:
        """Where the signature is, in words."""
        if self.field:
            return f"the body's {self.field}"
        return f"the query's {self.query}" if self.query else self.header

    def verify(
        self,
        request: WebhookRequest,
        secrets: Sequence[str],
        *,
        now: float,
        tolerance_seconds: float,
        given_away: Callable[[str], bool] = lambda text: False,
    ) -> None:
        """One of the secrets has signed the request, lately where it says when.

        ``given_away``: whether anybody could have had a text signed, so that its signature says
        nothing.

        Raises:
            SignatureError: none has.
        """
        keys = list(self._keys(secrets))
        if not keys:
            raise SignatureError(UNSET)
        signatures, time = self._read(request)
        if self.has_time:
            self._check_time(time, now, tolerance_seconds)
        text = signed_text(
            self.signed,
            request,
            timestamp=time,
            delivery_id=request.single(self.id_header) if self.id_header else "",
        )
        if given_away(text.decode("latin-1")):
            raise SignatureError(
                "what is signed is a challenge, which this tool signs for anybody who asks"
            )
        size = DIGEST_BYTES[self.algorithm]
        candidates = digests_of(self.place, signatures, self.encoding, size)
        hint = ""
        if uses(self.signed, "url") or uses(self.signed, "decoded_url"):
            hint = (
                "also check that the tool's public_url, or HOOKSTREAM_PUBLIC_URL, is as the sender "
                "has it"
            )
        expected = (hmac.digest(key, text, self.algorithm) for key in keys)
        match(self.place, expected, candidates, hint)

    def sign(
        self, request: WebhookRequest, secret: str, *, now: float, delivery_id: str = ""
    ) -> dict[str, str]:
        """The headers of a signed request. Only for schemes whose signature is in a header.

        Raises:
            BadRequestError: a secret that is not encoded as it has to be; a signature in the body.
        """
        if not self.header:
            raise BadRequestError(f"a signature in {self.place} cannot be added to a finished body")
        time = self._time_text(now, request)
        headers = {}
        if self.id_header:
            headers[self.id_header] = delivery_id
        if self.timestamp_header:
            headers[self.timestamp_header] = time
        text = signed_text(self.signed, request, timestamp=time, delivery_id=delivery_id)
        key = hmac_key(secret, self.key_encoding)
        signature = encoded(hmac.digest(key, text, self.algorithm), self.encoding)
        if self.signature_name:
            pairs = [(self.timestamp_name, time)] if self.timestamp_name else []
            pairs.append((self.signature_name, signature))
            value = self.separator.join(f"{name}={value}" for name, value in pairs)
        else:
            value = self.prefix + signature
        return headers | {self.header: value}

    def _keys(self, secrets: Sequence[str]) -> Iterator[bytes]:
        for secret in secrets:
            # an empty secret would be one that everybody knows
            if secret:
                try:
                    yield hmac_key(secret, self.key_encoding)
                except BadRequestError:
                    continue

    def _read(self, request: WebhookRequest) -> tuple[list[str], str]:
        """The signatures, and the time's text ("" where there is none)."""
        time = ""
        if self.timestamp_header:
            time = request.single(self.timestamp_header)
        elif self.timestamp_field:
            time = word_at(request.json(), self.timestamp_field)
            if not time:
                raise SignatureError(f"the body has no {self.timestamp_field}, the signed time")
        text = self._signature_text(request)
        if not self.signature_name:
            if not text.startswith(self.prefix):
                raise SignatureError(f"{self.place} does not begin with {self.prefix}")
            return [text[len(self.prefix) :]], time
        pairs = [
            (name.strip(), value.strip())
            for name, _, value in (
                entry.partition("=")
                for part in parts_of(text, self.separator, self.place)
                # what joins the lines of a header does so by commas, whatever parts the list
                for entry in (part.split(",") if self.header else [part])
            )
        ]
        if self.timestamp_name:
            times = list(
                dict.fromkeys(value for name, value in pairs if name == self.timestamp_name)
            )
            if len(times) != 1:
                raise SignatureError(
                    f"{self.place} does not carry one time, {self.timestamp_name}=…"
                )
            time = times[0]
        return [value for name, value in pairs if name == self.signature_name], time

    def _signature_text(self, request: WebhookRequest) -> str:
        if self.field:
            text = word_at(request.json(), self.field)
        elif self.query:
            text = request.query(self.query)
        else:
            # a list may stand on several lines (RFC 9110, 5.3)
            return (
                request.joined(self.header, self.separator)
                if self.signature_name
                else request.single(self.header)
            )
        if not text:
            raise SignatureError(f"{self.place} is missing or empty: the webhook has to carry it")
        return text

    def _check_time(self, text: str, now: float, tolerance_seconds: float) -> None:
        name = self.timestamp_header or f"the time in {self.place}"
        if self.timestamp_unit == "iso":
            check_age(now - iso_seconds(text, name), tolerance_seconds, name)
        elif self.timestamp_unit == "ms":
            check_timestamp(text, now, tolerance_seconds, name, per_second=1000)
        else:
            check_timestamp(text, now, tolerance_seconds, name)

    def _time_text(self, now: float, request: WebhookRequest) -> str:
        if self.timestamp_field:
            return word_at(request.json(), self.timestamp_field)
        if self.timestamp_unit == "iso":
            return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
        return str(int(now * (1000 if self.timestamp_unit == "ms" else 1)))
