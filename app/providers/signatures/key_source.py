"""Where a key is that a webhook is verified by: said by a row, fetched by the receiver."""

from collections.abc import Callable
from dataclasses import dataclass, field

from hookstream.app.providers.signatures.public_keys import Keys

__all__ = ["KeySource", "is_absent", "never_absent"]

#: What a host answers for what it does not have, or no more; Amazon S3 says 403.
_ABSENT = frozenset({400, 403, 404, 410})


def is_absent(status: int, body: bytes) -> bool:
    """Whether an answer says that there is no such key, not that something went wrong."""
    return status in _ABSENT


def never_absent(status: int, body: bytes) -> bool:
    """The same of a place that is always there: where it is not found something went wrong."""
    return False


@dataclass(frozen=True, slots=True)
class KeySource:
    """An address of the provider's own, and how to read what is there.

    Whoever makes one has compared all of ``url`` with what the provider's addresses look like: it
    is fetched as it is. ``read`` raises ValueError. ``key_id`` is the key that is wanted of
    several; "" for the only one. ``body``: JSON that is posted; without it is a GET.
    """

    url: str
    read: Callable[[bytes], Keys]
    key_id: str = field(default="", compare=False)
    body: bytes = field(default=b"", repr=False)
    is_absent: Callable[[int, bytes], bool] = field(default=is_absent, compare=False)
