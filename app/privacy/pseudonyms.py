"""Pseudonyms: the same value of a tenant gets the same name, and no name says the value.

By HMAC-SHA256 (RFC 2104) with a key of the installation, from which each tenant has its own: names
of two tenants cannot be compared. Without the key nobody can try out values.
"""

import base64
import hashlib
import hmac
import re
from typing import Final

from hookstream.app.privacy.kinds import family

__all__ = ["Pseudonyms", "is_pseudonym"]

#: Characters of 5 bits each: two values of a billion share a name with a chance of 1 in 2,000,000.
CHARACTERS: Final = 16
_NAME: Final = re.compile(
    r"(?:email|phone|card|iban|ip|name|address|birth_date|national_id|secret|field)_[a-z2-7]{16}"
)
_SEPARATORS: Final = re.compile(r"[\s().+/-]")
#: Written with and without separators they are the same.
_COMPACT: Final = frozenset({"phone", "card", "iban", "national_id"})


class Pseudonyms:
    """Names for values of one tenant."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes, tenant: str) -> None:
        self._key = hmac.digest(key, b"hookstream pseudonyms\0" + tenant.encode(), hashlib.sha256)

    def name(self, kind: str, text: str) -> str:
        """What stands for a value: its family and 16 characters."""
        kind = family(kind)
        value = text.strip().casefold()
        if kind in _COMPACT:
            value = _SEPARATORS.sub("", value)
        digest = hmac.digest(self._key, f"{kind}\0{value}".encode(errors="replace"), hashlib.sha256)
        return f"{kind}_{base64.b32encode(digest)[:CHARACTERS].decode().lower()}"


def is_pseudonym(text: str) -> bool:
    """Whether a text looks like what :meth:`Pseudonyms.name` gives."""
    return _NAME.fullmatch(text) is not None
