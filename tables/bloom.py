"""Dedup history: what message ids a partition has seen, beyond the tools' windows.

A Bloom filter a day (B. H. Bloom, Space/time trade-offs in hash coding with allowable errors,
1970) says "never" or "perhaps". What it says "perhaps" to is a candidate, and no more than that.
The filters themselves are :mod:`rbloom`'s; here are their bytes, a bound on their memory, and the
pure question which events of a batch are suspected.
"""

import math
import operator
import struct
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import rbloom
import xxhash

from hookstream.tables.dedup import DAY_MS, Candidate, Mark, entry_ms
from hookstream.tables.errors import TableCorruptError

__all__ = ["DayFilter", "FilterCache", "Shape", "suspected", "unsettled"]

KEY_BYTES: Final = 16
#: Magic and version, number of keys, changelog id (two integers), checksum of all that follows it.
_HEADER: Final = struct.Struct(">4sQQQQ")
_MAGIC: Final = b"HSB1"


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a day's filter is made: events it is meant for, and how often it may be wrong.

    The rate is that of one filter: an event that is asked of eight days is suspected eight times
    as often.
    """

    events: int
    false_positives: float


class DayFilter:
    """The message ids of one day in one partition, up to a place in the changelog.

    ``count`` is the number of keys that were added, ``position`` the changelog id that it has
    reached. A filter that is not ``readable`` is one whose bytes are lost: it says "perhaps" to
    everything, so that nothing is taken for new that it might have known.
    """

    __slots__ = ("bloom", "count", "hashes", "position")

    def __init__(self, bloom: rbloom.Bloom | None, count: int = 0, position: str = "0-0") -> None:
        self.bloom = bloom
        self.count = count
        self.position = position
        # rbloom does not tell how many bits it sets a key: its bytes begin with the number. An
        # empty filter is false, so nothing here asks for more than whether it is None
        self.hashes = int.from_bytes(bloom.save_bytes()[:8], "little") if bloom is not None else 0

    @classmethod
    def new(cls, shape: Shape) -> Self:
        """An empty filter of a shape."""
        # keys are BLAKE2b's, 128 bits each: no second hash is needed
        return cls(rbloom.Bloom(shape.events, shape.false_positives, operator.index))

    @classmethod
    def unreadable(cls) -> Self:
        """What stands in for a filter whose bytes are lost."""
        return cls(None)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The filter in the bytes of :meth:`encode`.

        Raises:
            TableCorruptError: they are not what was written.
        """
        if len(data) <= _HEADER.size + 8:
            raise TableCorruptError(f"a day's filter of {len(data)} bytes")
        magic, count, ms, seq, checksum = _HEADER.unpack_from(data)
        if magic != _MAGIC or checksum != _checksum(count, ms, seq, data[_HEADER.size :]):
            raise TableCorruptError("a day's filter whose checksum is wrong")
        bloom = rbloom.Bloom.load_bytes(data[_HEADER.size :], operator.index)
        return cls(bloom, count, f"{ms}-{seq}")

    def encode(self) -> bytes:
        """The filter as bytes, with its count and its place in the changelog.

        Raises:
            TableCorruptError: the filter is not readable.
        """
        if self.bloom is None:
            raise TableCorruptError("a filter whose bytes are lost cannot be saved")
        body = self.bloom.save_bytes()
        ms, seq = map(int, self.position.split("-"))
        return (
            _HEADER.pack(_MAGIC, self.count, ms, seq, _checksum(self.count, ms, seq, body)) + body
        )

    @property
    def readable(self) -> bool:
        """Whether it knows what it has seen."""
        return self.bloom is not None

    @property
    def size_bytes(self) -> int:
        """Memory that it takes, and about as much when it is saved."""
        return self.bloom.size_in_bits // 8 if self.bloom is not None else 0

    def add(self, keys: Iterable[bytes], position: str) -> None:
        """Add keys of 16 bytes, with the changelog id that names them."""
        numbers = [number(key) for key in keys]
        if self.bloom is not None:
            self.bloom.update(numbers)
        self.count += len(numbers)
        self.position = position

    def perhaps(self, value: int) -> bool:
        """Whether a key, as :func:`number`, may have been added. False is certain."""
        return self.bloom is None or value in self.bloom

    def fill(self) -> float:
        """The share of its bits that are set, as the number of keys lets expect."""
        if self.bloom is None:
            return 1.0
        return 1.0 - math.exp(-self.hashes * self.count / self.bloom.size_in_bits)

    def false_positives(self) -> float:
        """How often it is wrong about a key that it has not seen, estimated from its fill."""
        return self.fill() ** self.hashes if self.bloom is not None else 1.0


def _checksum(count: int, ms: int, seq: int, body: bytes) -> int:
    return xxhash.xxh3_64_intdigest(struct.pack(">QQQ", count, ms, seq) + body)


def number(key: bytes) -> int:
    """A key of 16 bytes as the signed integer that rbloom takes."""
    return int.from_bytes(key, "big", signed=True)


class FilterCache:
    """Filters in memory, at most ``limit_bytes`` of them: the one longest unused goes first.

    What goes can always be read again, so nothing is lost with it. One process has one cache for
    all of its partitions; each partition's filters are under its ``owner``.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.evicted = 0
        self._kept: OrderedDict[tuple[Hashable, int], DayFilter] = OrderedDict()

    def get(self, owner: Hashable, day: int) -> DayFilter | None:
        """The filter of a day, if it is in memory; it counts as used now."""
        kept = self._kept.get((owner, day))
        if kept is not None:
            self._kept.move_to_end((owner, day))
        return kept

    def put(self, owner: Hashable, day: int, kept: DayFilter) -> None:
        """Keep a filter, and let go what is over the limit; the new one stays in any case."""
        self.remove(owner, day)
        self._kept[owner, day] = kept
        self.used_bytes += kept.size_bytes
        while self.used_bytes > self.limit_bytes and len(self._kept) > 1:
            _, gone = self._kept.popitem(last=False)
            self.used_bytes -= gone.size_bytes
            self.evicted += 1

    def remove(self, owner: Hashable, day: int) -> None:
        """Forget a day that is over."""
        gone = self._kept.pop((owner, day), None)
        self.used_bytes -= gone.size_bytes if gone else 0

    def drop(self, owner: Hashable) -> None:
        """Forget all of a partition's filters."""
        for _, day in [name for name in self._kept if name[0] == owner]:
            self.remove(owner, day)

    def by_owner(self) -> Iterator[list[DayFilter]]:
        """The filters in memory, those of one partition together."""
        groups: dict[Hashable, list[DayFilter]] = {}
        for (owner, _), kept in self._kept.items():
            groups.setdefault(owner, []).append(kept)
        return iter(groups.values())

    def __len__(self) -> int:
        return len(self._kept)


def unsettled(
    candidates: Sequence[Candidate], keys: Sequence[bytes], known: Mapping[bytes, Mark]
) -> list[int]:
    """Which candidates their window says nothing of, and history is asked about."""
    found = []
    for at, (candidate, key) in enumerate(zip(candidates, keys, strict=True)):
        if not candidate.history_ms or candidate.again or candidate.noted_ms:
            continue
        mark = known.get(key)
        if mark is None or (
            mark.entry_id != candidate.entry_id and entry_ms(candidate.entry_id) >= mark.expires_ms
        ):
            found.append(at)
    return found


def suspected(
    candidates: Sequence[Candidate],
    keys: Sequence[bytes],
    asked: Iterable[int],
    filters: Mapping[int, DayFilter],
) -> list[int]:
    """Which of the candidates ``asked`` about have perhaps been seen: about 0.3 µs a day each."""
    rows = [
        (at, number(keys[at]), entry_ms(candidates[at].entry_id) - candidates[at].history_ms)
        for at in asked
    ]
    found: set[int] = set()
    for day, kept in filters.items():
        # the end of a day is what has to be within history
        ends_ms = (day + 1) * DAY_MS
        if kept.bloom is None:
            found.update(at for at, _, since_ms in rows if since_ms < ends_ms)
        else:
            bloom = kept.bloom
            found.update(at for at, value, since in rows if since < ends_ms and value in bloom)
    return sorted(found)
