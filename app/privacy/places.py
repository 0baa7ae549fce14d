"""What the name of a field says of its value."""

import re
from functools import lru_cache
from typing import Final

__all__ = ["field_name", "is_identifier"]

_WORDS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[\s.:/-]+")
MAX_NAME_CHARS: Final = 80
#: Last words of names whose values tell things apart, or count time: never a card or an IBAN.
_IDENTIFIERS: Final = frozenset(
    {
        "id", "ids", "uuid", "guid", "gid", "sha", "hash", "digest", "checksum", "etag", "commit",
        "ref", "revision", "timestamp", "ts", "time", "at", "date", "created", "updated", "version",
        "amount", "total", "price", "size", "count", "nonce", "cursor", "url", "href", "link",
        "ticket", "fingerprint", "signature", "arn", "path", "node", "seq", "sequence", "offset",
    }
)  # fmt: skip


@lru_cache(4096)
def field_name(name: str) -> str:
    """A name in ``snake_case``: of ``cardNumber``, ``Card-Number`` and ``card_number`` the same.

    >>> field_name("cardNumber"), field_name("Card-Number"), field_name("IBANCode")
    ('card_number', 'card_number', 'iban_code')
    """
    return _WORDS.sub("_", name[:MAX_NAME_CHARS]).strip("_@#").lower()


@lru_cache(4096)
def is_identifier(field: str) -> bool:
    """Whether a field holds what tells things apart, an amount or a time."""
    return field.rpartition("_")[2] in _IDENTIFIERS
