"""Ids: of events, UUIDv7 whose ``rand_a`` carries the partition; the partition of a key; tools'."""

import os
import struct
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import xxhash

__all__ = [
    "DEFAULT_TENANT",
    "MAX_PARTITIONS",
    "entry_order",
    "event_time_ms",
    "full_tool_id",
    "id_range",
    "new_event_id",
    "own_tool_id",
    "partition_of",
    "partition_of_event",
    "random_bits",
]

MAX_PARTITIONS = 4096
#: The tenant that an installation is by itself: its tools are called by their own ids.
DEFAULT_TENANT = "default"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RAND_B_MASK = (1 << 62) - 1


def new_event_id(now_ms: int, partition: int, random_bits: int) -> str:
    """A UUIDv7 (RFC 9562, 5.7) at ``now_ms`` whose 12 bits of ``rand_a`` are ``partition``.

    The id alone then says which stream to look in, so no index is kept for it.
    """
    value = (now_ms & 0xFFFFFFFFFFFF) << 80 | 0x7 << 76 | partition << 64
    value |= 0b10 << 62 | (random_bits & _RAND_B_MASK)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class _Pool:
    """Random numbers of the system, a page of them at a time: each would cost a system call."""

    def __init__(self) -> None:
        self._numbers: Iterator[tuple[int]] = iter(())
        # a child must not draw what its parent draws
        os.register_at_fork(after_in_child=self._empty)

    def _empty(self) -> None:
        self._numbers = iter(())

    def draw(self) -> int:
        """62 random bits."""
        drawn = next(self._numbers, None)
        if drawn is None:
            self._numbers = struct.iter_unpack("Q", os.urandom(4096))
            drawn = next(self._numbers)
        return drawn[0] & _RAND_B_MASK


random_bits = _Pool().draw


def partition_of_event(event_id: str) -> int:
    """The partition that :func:`new_event_id` put into an id."""
    return int(event_id[15:18], 16)


def event_time_ms(event_id: str) -> int:
    """The Unix time in milliseconds in an id.

    Raises:
        ValueError: if ``event_id`` is not a UUID of version 7 in its canonical form.
    """
    parsed = uuid.UUID(event_id)
    if parsed.version != 7 or str(parsed) != event_id:
        raise ValueError(f"{event_id[:64]!r} is not a UUIDv7 in lower case with hyphens")
    return parsed.int >> 80


def id_range(since: datetime | None, until: datetime | None) -> tuple[uuid.UUID, uuid.UUID]:
    """The first id of what was received since ``since``, and the first one past ``until``."""
    ends = []
    for at, none in ((since, 0), (until, (1 << 128) - 1)):
        if at is None:
            ends.append(none)
            continue
        # rounded up: an id says milliseconds
        ms = -((_EPOCH - at) // timedelta(milliseconds=1))
        ends.append(min(max(ms, 0), (1 << 48) - 1) << 80)
    return uuid.UUID(int=ends[0]), uuid.UUID(int=ends[1])


def partition_of(partitions: int, *parts: str) -> int:
    """``hash(parts) mod partitions``; every part ends in NUL so that no two lists collide."""
    return xxhash.xxh3_64_intdigest(("\0".join(parts) + "\0").encode()) % partitions


def entry_order(entry_id: str) -> tuple[int, int]:
    """A stream entry's id as something that compares in stream order."""
    ms, _, seq = entry_id.partition("-")
    return int(ms), int(seq)


def full_tool_id(tenant: str, tool_id: str) -> str:
    """What a tenant's tool is called in the whole installation: ``tenant/tool``.

    Streams, keys, tables and the archive call it so. Of the default tenant it is the tool's own id:
    an id has no ``/``, so no two tools have one name.
    """
    return tool_id if tenant == DEFAULT_TENANT else f"{tenant}/{tool_id}"


def own_tool_id(full_id: str) -> str:
    """What its tenant calls a tool, of what :func:`full_tool_id` made."""
    return full_id.rpartition("/")[2]
