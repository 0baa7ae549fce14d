"""What can be set of a tool's scheme."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.signatures.digests import (
    DIGEST_BYTES,
    ENCODINGS,
    Algorithm,
    Encoding,
)
from hookstream.app.providers.signatures.hmac_scheme import (
    KEY_ENCODINGS,
    TIME_UNITS,
    HmacScheme,
    KeyEncoding,
    TimeUnit,
)
from hookstream.app.providers.signatures.named_challenge import (
    AS_HEADER,
    HEADER_NAME,
    Place,
    parse_answer,
    parse_place,
)
from hookstream.app.providers.signatures.template import compile_template, uses
from hookstream.app.providers.signatures.timestamps import DIGITS

__all__ = ["BODILESS", "DEFAULT_TOLERANCE_SECONDS", "AnyAge", "SignatureOptions"]

#: Answers that have no body: one would be taken for the next answer.
BODILESS = (204, 205)

#: How far a signed time may be from this server's clock, either way, unless a provider differs.
DEFAULT_TOLERANCE_SECONDS = 300
MAX_TOLERANCE_SECONDS = 7 * 24 * 3600

#: Headers that carry credentials: an event's type or id is never taken from one of them.
_SECRET_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "x-gitlab-token", "x-hookstream-token"}
)
#: In place of a list's name: the body is the list.
WHOLE = "[]"
MAX_BATCH_NAMES = 8
_LIST_NAME = re.compile(r"(?!\d+$)[^*\[\]\s]+")
_MEDIA_TYPE = re.compile(r"[a-z]+/[a-z0-9.+-]{1,60}")

CHOICES: Mapping[str, tuple[str, ...]] = {
    "algorithm": tuple(DIGEST_BYTES),
    "encoding": ENCODINGS,
    "key_encoding": KEY_ENCODINGS,
    "timestamp_unit": TIME_UNITS,
    "secret_format": ("", "raw"),
}
#: Most characters of each text.
TEXTS: Mapping[str, int] = {
    "prefix": 64, "type_field": 200, "delivery_field": 200, "signature_name": 64,
    "signature_field": 200, "signature_query": 64, "timestamp_name": 64, "timestamp_field": 200,
    "answer_body": 1024, "answer_type": 80, "challenge": 200, "challenge_answer": 400,
    "secret_from": 200, "audience": 1024, "tenant": 64, "batch_field": 200,
}  # fmt: skip
SEPARATORS = (",", ";", "&", " ")
NUMBERS = (("tolerance_seconds", 1, MAX_TOLERANCE_SECONDS), ("answer_status", 200, 299))


@dataclass(frozen=True, slots=True)
class SignatureOptions:
    """What can be set of a tool's scheme; an empty ``header`` is the provider's own.

    What :class:`HmacScheme` has says how a generic sender signs; ``type_*`` and ``delivery_*``
    where it names the event and the delivery: a header, or a dotted path into a JSON body
    (``event.id``). ``tolerance_seconds`` bounds the age of signed times. ``answer_*`` is what such
    a sender is answered; ``secret_format`` whether a Standard Webhooks secret is ``raw`` text.
    ``challenge`` is where a request that tries out the address has what ``challenge_answer`` gives
    back; ``secret_from`` where a first request hands the secret over;
    ``audience`` for whom a token has to be, ``tenant`` of whom it has to be. ``batch_field`` is the
    list of the body whose items are an event each: its dotted path, or ``[]`` where the body is
    that list.

    Raises:
        BadRequestError: a value that cannot be used; the detail names the option.
    """

    header: str = ""
    algorithm: Algorithm = "sha256"
    encoding: Encoding = "hex"
    prefix: str = ""
    type_header: str = ""
    type_field: str = ""
    delivery_header: str = ""
    delivery_field: str = ""
    tolerance_seconds: int | None = None
    signed: str = "{body}"
    key_encoding: KeyEncoding = "raw"
    signature_name: str = ""
    signature_field: str = ""
    signature_query: str = ""
    separator: str = ","
    timestamp_name: str = ""
    timestamp_header: str = ""
    timestamp_field: str = ""
    timestamp_unit: TimeUnit = "s"
    id_header: str = ""
    answer_status: int = 0
    answer_body: str = ""
    answer_type: str = ""
    secret_format: str = ""
    challenge: str = ""
    challenge_answer: str = ""
    secret_from: str = ""
    audience: str = ""
    tenant: str = ""
    batch_field: str = ""

    def __post_init__(self) -> None:
        for name in ("header", "type_header", "delivery_header", "timestamp_header", "id_header"):
            value = getattr(self, name)
            if value != "" and not (isinstance(value, str) and HEADER_NAME.fullmatch(value)):
                raise BadRequestError(f"options.{name}: not the name of an HTTP header")
        for name in ("type_header", "delivery_header"):
            value = getattr(self, name).lower()
            if value and (
                value in _SECRET_HEADERS or "signature" in value or value == self.header.lower()
            ):
                raise BadRequestError(
                    f"options.{name}: this header carries a credential, which must not become "
                    "part of an event"
                )
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise BadRequestError(
                    f"options.{name}: one of {', '.join(word or 'nothing' for word in known)}"
                )
        for name, longest in TEXTS.items():
            value = getattr(self, name)
            if not isinstance(value, str) or len(value) > longest or not value.isprintable():
                raise BadRequestError(f"options.{name}: at most {longest} printable characters")
        if self.separator not in SEPARATORS:
            raise BadRequestError("options.separator: one of , ; & or a space")
        self._check_scheme()
        self._check_answer()
        self._check_first_contact()
        self._check_batch()
        for name, low, high in NUMBERS:
            value = getattr(self, name)
            if isinstance(value, str) and DIGITS.fullmatch(value):
                # a command line has nothing but text
                value = int(value)
                object.__setattr__(self, name, value)
            if value not in (None, 0) and (type(value) is not int or not low <= value <= high):
                raise BadRequestError(f"options.{name}: a whole number from {low} to {high}")
        if self.tolerance_seconds is not None and self.tolerance_seconds < 1:
            raise BadRequestError(
                f"options.tolerance_seconds: a whole number from 1 to {MAX_TOLERANCE_SECONDS}"
            )

    def _check_scheme(self) -> None:
        if not isinstance(self.signed, str):
            raise BadRequestError("options.signed: a text, as {timestamp}.{body}")
        try:
            compile_template(self.signed)
        except BadRequestError as error:
            raise BadRequestError(f"options.signed: {error}") from error
        if (self.timestamp_name or self.separator != ",") and not self.signature_name:
            raise BadRequestError(
                "options.signature_name: which of the list is the signature, as v1 in t=1,v1=ab"
            )
        places = [
            name
            for name in ("timestamp_name", "timestamp_header", "timestamp_field")
            if getattr(self, name)
        ]
        if len(places) > 1:
            raise BadRequestError(f"options.{places[1]}: the time has a place already, {places[0]}")
        if bool(places) != uses(self.signed, "timestamp"):
            raise BadRequestError(
                f"options.{places[0]}: {{timestamp}} is not in options.signed, so anybody could "
                "change it"
                if places
                else "options.signed: where {timestamp} stands is not said: set timestamp_name, "
                "timestamp_header or timestamp_field"
            )
        if bool(self.id_header) != uses(self.signed, "id"):
            raise BadRequestError("options.id_header: goes with {id} in options.signed")
        if self.signature_field and self.signature_query:
            raise BadRequestError("options.signature_query: signature_field says where it stands")

    def _check_first_contact(self) -> None:
        if self.challenge_answer and not self.challenge:
            raise BadRequestError(
                "options.challenge: where it stands, which goes with challenge_answer"
            )
        try:
            if place := self.challenge_place():
                parse_answer(self.challenge_template(place), place)
        except BadRequestError as error:
            name = "challenge" if not self.challenge_answer else "challenge_answer"
            raise BadRequestError(f"options.{name}: {error}") from error
        try:
            self.secret_place()
        except BadRequestError as error:
            raise BadRequestError(f"options.secret_from: {error}") from error

    def _check_batch(self) -> None:
        if not self.batch_field:
            return
        names = self.batch_names()
        if len(names) > MAX_BATCH_NAMES or not all(map(_LIST_NAME.fullmatch, names)):
            raise BadRequestError(
                "options.batch_field: the list's name, as events or data.items, or [] where the "
                f"body is the list; at most {MAX_BATCH_NAMES} names, and none is a number"
            )
        if self.delivery_header:
            raise BadRequestError(
                "options.delivery_header: all events of a batch would have one id, and all but the "
                "first be duplicates; set delivery_field, or leave it out"
            )
        if names and self.delivery_field and not self.delivery_field.startswith(self.first_item()):
            raise BadRequestError(
                "options.delivery_field: all events of a batch would have one id; each keeps its "
                f"place in the body, so it is {self.first_item()} and the id's name"
            )

    def batch_names(self) -> list[str]:
        """The names that lead to the list of events; none where the body is it."""
        return [] if self.batch_field in ("", WHOLE) else self.batch_field.split(".")

    def first_item(self) -> str:
        """What paths into an item begin with: each event has one item, where it stood."""
        names = self.batch_names()
        return "".join(f"{name}." for name in (*names, "0")) if names else ""

    def challenge_place(self) -> Place | None:
        """Where a challenge stands, if that is said."""
        return parse_place(self.challenge) if self.challenge else None

    def challenge_template(self, place: Place) -> str:
        """What it is answered: what came in a header goes back in one, all else as text."""
        return self.challenge_answer or (AS_HEADER if place.kind == "header" else "{challenge}")

    def secret_place(self) -> Place | None:
        """Where a first request hands the secret over, if that is said."""
        return (
            parse_place(self.secret_from, kinds=("header", "field")) if self.secret_from else None
        )

    def _check_answer(self) -> None:
        if not _MEDIA_TYPE.fullmatch(self.answer_type or "text/plain"):
            raise BadRequestError("options.answer_type: a media type, as text/plain")

    def scheme(self, header: str) -> HmacScheme:
        """The scheme that is set, with the signature in ``header`` where no place is named."""
        elsewhere = self.signature_field or self.signature_query
        return HmacScheme(
            header="" if elsewhere else self.header or header,
            signed=self.signed,
            algorithm=self.algorithm,
            encoding=self.encoding,
            key_encoding=self.key_encoding,
            prefix=self.prefix,
            signature_name=self.signature_name,
            timestamp_name=self.timestamp_name,
            separator=self.separator,
            timestamp_header=self.timestamp_header,
            timestamp_field=self.timestamp_field,
            timestamp_unit=self.timestamp_unit,
            id_header=self.id_header,
            field=self.signature_field,
            query=self.signature_query,
        )

    def tolerance(self, default: int = DEFAULT_TOLERANCE_SECONDS) -> float:
        """Seconds that a signed time may be off."""
        return default if self.tolerance_seconds is None else self.tolerance_seconds


class AnyAge(SignatureOptions):
    """The same for a request that is not new: its signed time may be off by any number."""

    __slots__ = ()

    def tolerance(self, default: int = DEFAULT_TOLERANCE_SECONDS) -> float:
        """Without end."""
        return math.inf
