"""Sealed content: bytes that a data key of their tenant and month has sealed with AES-256-GCM.

What is sealed says so, and by which key; whatever does not begin like this is as it came::

    magic (4 bytes, of which the last is the version) | key id (8, big-endian) | nonce (12, random)
    | ciphertext | tag (16)

Magic, key id and the place that it was sealed for are associated data: it opens there only. None of
what else is kept begins with the magic: JSON and texts are UTF-8, which has no byte 255, protobuf's
first tag has another wire type, frames and dictionaries of zstd have magic numbers of their own.
Where any bytes may stand, what stands beside them says whether they are sealed.
"""

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hookstream.codecs.errors import CodecError, ErasedError, UnknownKeyError

__all__ = [
    "ADDED_BYTES",
    "KEYS",
    "KeyBook",
    "MonthKey",
    "archive_place",
    "block_place",
    "daily_place",
    "dictionary_place",
    "error_place",
    "is_sealed",
    "key_ids",
    "month_after",
    "month_of",
    "month_of_event",
    "open_sealed",
    "payload_place",
    "refusal_place",
    "sealed_head",
    "sealed_like",
    "update_place",
]

_MAGIC: Final = b"\xffHS\x01"
_KEY_END: Final = 12
_NONCE_END: Final = 24
_TAG_BYTES: Final = 16
_DAY_MS: Final = 24 * 3600 * 1000
#: What sealing adds to each value.
ADDED_BYTES: Final = _NONCE_END + _TAG_BYTES


class MonthKey:
    """The data key of a tenant's month, in the clear. It can be pickled for a child process."""

    __slots__ = ("_cipher", "_head", "_key", "key_id", "month", "tenant")

    def __init__(self, key_id: int, tenant: str, month: str, key: bytes) -> None:
        """``key``: 32 bytes."""
        self.key_id = key_id
        self.tenant = tenant
        self.month = month
        self._key = key
        self._cipher = AESGCM(key)
        self._head = sealed_head(key_id)

    def __reduce__(self) -> tuple[type["MonthKey"], tuple[int, str, str, bytes]]:
        return MonthKey, (self.key_id, self.tenant, self.month, self._key)

    def __repr__(self) -> str:
        return f"MonthKey({self.key_id}, {self.tenant!r}, {self.month!r})"

    def seal(self, data: bytes, place: bytes) -> bytes:
        """``data``, sealed; to be opened for the same ``place`` only."""
        nonce = os.urandom(_NONCE_END - _KEY_END)
        return b"".join((self._head, nonce, self._cipher.encrypt(nonce, data, self._head + place)))

    def open(self, sealed: bytes, place: bytes) -> bytes:
        """What this key has sealed for a place. Raises CodecError where it has not."""
        if len(sealed) < ADDED_BYTES:
            raise CodecError("sealed bytes that have been cut off")
        try:
            return self._cipher.decrypt(
                sealed[_KEY_END:_NONCE_END], sealed[_NONCE_END:], self._head + place
            )
        except InvalidTag as error:
            raise CodecError("changed since it was sealed, or sealed for something else") from error


class KeyBook:
    """Data keys by id, and the newest one of each tenant and month, as this process has them."""

    def __init__(self) -> None:
        self._known: dict[int, MonthKey] = {}
        self._newest: dict[tuple[str, str], MonthKey] = {}
        self._destroyed: set[int] = set()
        self._retired: set[int] = set()
        self._lock = threading.Lock()

    def add(self, key: MonthKey) -> None:
        """Have a key from now on. Of two of a month the later one added seals, if not retired."""
        with self._lock:
            if key.key_id not in self._destroyed:
                self._known[key.key_id] = key
                if key.key_id not in self._retired:
                    self._newest[key.tenant, key.month] = key

    def retire(self, key_id: int) -> None:
        """Have a key open what it has sealed, and seal nothing more."""
        with self._lock:
            self._retired.add(key_id)
            self._seal_no_more(key_id)

    def get(self, key_id: int) -> MonthKey | None:
        """A key; None where it has to be fetched, or is destroyed."""
        return self._known.get(key_id)

    def newest(self, tenant: str, month: str) -> MonthKey | None:
        """The key that seals what is of a tenant and month; None where it has to be made."""
        return self._newest.get((tenant, month))

    def destroy(self, key_id: int) -> bool:
        """Forget a key for good: what it has sealed reads as erased. Whether that is news."""
        with self._lock:
            fresh = key_id not in self._destroyed
            self._destroyed.add(key_id)
            self._drop(key_id)
            return fresh

    def is_destroyed(self, key_id: int) -> bool:
        """Whether a key is known to be destroyed."""
        return key_id in self._destroyed

    def missing(self, ids: Iterable[int]) -> set[int]:
        """Those of ``ids`` that have to be fetched."""
        return {one for one in ids if one not in self._known and one not in self._destroyed}

    @contextmanager
    def lent(self, keys: Iterable[MonthKey]) -> Iterator[None]:
        """Within this block, have keys; those that were not there before are forgotten after it."""
        fresh = [key for key in keys if key.key_id not in self._known]
        for key in fresh:
            self.add(key)
        try:
            yield
        finally:
            with self._lock:
                for key in fresh:
                    self._drop(key.key_id)

    def _drop(self, key_id: int) -> None:
        self._seal_no_more(key_id)
        self._known.pop(key_id, None)

    def _seal_no_more(self, key_id: int) -> None:
        key = self._known.get(key_id)
        if key is not None and self._newest.get((key.tenant, key.month)) is key:
            del self._newest[key.tenant, key.month]


#: The book of this process. Ids are random and never used twice: it may serve any number of apps.
KEYS = KeyBook()


def is_sealed(data: bytes) -> bool:
    """Whether bytes are sealed, by whichever version of this."""
    return data[:3] == _MAGIC[:3]


def sealed_head(key_id: int) -> bytes:
    """How everything begins that a key has sealed; nothing else has these 12 bytes."""
    return _MAGIC + key_id.to_bytes(8, "big")


def key_ids(values: Iterable[bytes | None]) -> set[int]:
    """The keys that values were sealed by."""
    return {
        int.from_bytes(data[4:_KEY_END], "big")
        for data in values
        if data is not None and is_sealed(data)
    }


def open_sealed(data: bytes, place: bytes) -> bytes:
    """What was sealed for a place, by a key that is in this process's book; 2 µs for 500 bytes.

    Raises:
        UnknownKeyError: the key is not in the book: fetch it, try again.
        ErasedError: the key was destroyed.
        CodecError: it is not sealed, by a newer release, damaged, or sealed for another place.
    """
    if data[:4] != _MAGIC:
        raise CodecError("not sealed, or in a form that this release does not know: upgrade it")
    number = int.from_bytes(data[4:_KEY_END], "big")
    key = KEYS.get(number)
    if key is None:
        raise ErasedError(number) if KEYS.is_destroyed(number) else UnknownKeyError(number)
    return key.open(data, place)


def sealed_like(old: bytes, data: bytes, place: bytes) -> bytes:
    """What comes in place of ``old``: sealed by the same key for ``place``, or clear as that was.

    Raises:
        UnknownKeyError: the key is not in the book: fetch it, try again.
        ErasedError: the key was destroyed meanwhile: ``old`` reads as erased already.
    """
    if not is_sealed(old):
        return data
    [number] = key_ids((old,))
    key = KEYS.get(number)
    if key is None:
        raise ErasedError(number) if KEYS.is_destroyed(number) else UnknownKeyError(number)
    return key.seal(data, place)


def month_of(ms: int) -> str:
    """The month of Unix milliseconds, in UTC.

    >>> month_of(1_798_761_600_000)
    '2027-01'
    """
    return _month_of_day(max(0, ms) // _DAY_MS)


@lru_cache(maxsize=1024)
def _month_of_day(day: int) -> str:
    at = datetime.fromtimestamp(day * _DAY_MS // 1000, UTC)
    return f"{at:%Y-%m}"


def month_after(month: str) -> str:
    """The month that follows.

    >>> month_after("2026-12")
    '2027-01'
    """
    year, number = int(month[:4]), int(month[5:])
    return f"{year + number // 12:04}-{number % 12 + 1:02}"


def month_of_event(event_id: str) -> str:
    """The month in which an event was received, by its id (a UUIDv7)."""
    return month_of(int(event_id[:8] + event_id[9:13], 16))


def payload_place(tenant: str, event_id: str) -> bytes:
    """Of an event's payload, in whichever stream, blob, spool or letter."""
    return f"payload\0{tenant}\0{event_id}".encode()


def update_place(tenant: str, about: str) -> bytes:
    """Of an update: ``about`` an event until it has a context, then of that context's feed."""
    return f"update\0{tenant}\0{about}".encode()


def block_place(name: str) -> bytes:
    """Of a warm block, by its key in Redis."""
    return f"block\0{name}".encode()


def archive_place(tenant: str, tool_id: str, first_event: bytes) -> bytes:
    """Of the payloads of an archived row group, by the id of the event in its first row."""
    return f"archive\0{tenant}\0{tool_id}\0".encode() + first_event


def dictionary_place(dictionary_id: int) -> bytes:
    """Of a compression dictionary."""
    return f"dictionary\0{dictionary_id}".encode()


def error_place(tenant: str) -> bytes:
    """Of what is said of a failure of one of a tenant's events."""
    return f"error\0{tenant}".encode()


def refusal_place(stream: str) -> bytes:
    """Of a refused webhook, by the stream that it is in."""
    return f"refusal\0{stream}".encode()


def daily_place(tenant: str, context_id: str, day: str) -> bytes:
    """Of the summary of a context's day."""
    return f"daily\0{tenant}\0{context_id}\0{day}".encode()
