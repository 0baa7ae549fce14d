"""What can be set of a tool's scheme."""

import math
import re
from dataclasses import dataclass
from typing import Any

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.signatures.digests import DIGEST_BYTES, Algorithm, Encoding
from hookstream.app.providers.signatures.timestamps import DIGITS

__all__ = ["DEFAULT_TOLERANCE_SECONDS", "AnyAge", "SignatureOptions"]

#: How far a signed time may be from this server's clock, either way, unless a provider differs.
DEFAULT_TOLERANCE_SECONDS = 300
MAX_TOLERANCE_SECONDS = 7 * 24 * 3600

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
#: Headers that carry credentials: an event's type or id is never taken from one of them.
_SECRET_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "x-gitlab-token", "x-hookstream-token"}
)


@dataclass(frozen=True, slots=True)
class SignatureOptions:
    """What can be set of a tool's scheme; an empty ``header`` is the provider's own.

    ``header``, ``algorithm``, ``encoding`` and ``prefix`` say where and how a generic sender signs;
    ``type_*`` and ``delivery_*`` where it names the event and the delivery: a header, or a dotted
    path into a JSON body (``event.id``). ``tolerance_seconds`` bounds the age of signed times.

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

    def __post_init__(self) -> None:
        for name in ("header", "type_header", "delivery_header"):
            value = getattr(self, name)
            if value != "" and not (isinstance(value, str) and _HEADER_NAME.fullmatch(value)):
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
        if self.algorithm not in tuple(DIGEST_BYTES):
            raise BadRequestError(f"options.algorithm: one of {', '.join(DIGEST_BYTES)}")
        if self.encoding not in ("hex", "base64"):
            raise BadRequestError("options.encoding: hex or base64")
        for name, longest in (("prefix", 64), ("type_field", 200), ("delivery_field", 200)):
            value = getattr(self, name)
            if not isinstance(value, str) or len(value) > longest or not value.isprintable():
                raise BadRequestError(f"options.{name}: at most {longest} printable characters")
        tolerance: Any = self.tolerance_seconds
        if isinstance(tolerance, str) and DIGITS.fullmatch(tolerance):
            # a command line has nothing but text
            tolerance = int(tolerance)
            object.__setattr__(self, "tolerance_seconds", tolerance)
        if tolerance is not None and (
            type(tolerance) is not int or not 1 <= tolerance <= MAX_TOLERANCE_SECONDS
        ):
            raise BadRequestError(
                f"options.tolerance_seconds: a whole number from 1 to {MAX_TOLERANCE_SECONDS}"
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
