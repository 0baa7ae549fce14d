"""Ranges of entries: what the archive was given of a tool, and what of it is new."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import NamedTuple

from hookstream.app.archive.rows import ArchivedEvent, Entry, parse_entry

__all__ = ["Covered", "Placed", "merged", "not_in", "place"]

#: An event behind its entry and partition.
Placed = tuple[Entry, int, ArchivedEvent]


class Covered(NamedTuple):
    """A range of a partition's entries; ``newest_ms``: when the newest of its events came."""

    partition: int
    first: Entry
    last: Entry
    newest_ms: int = 0

    def has(self, partition: int, entry: Entry) -> bool:
        """Whether an entry is in it."""
        return partition == self.partition and self.first <= entry <= self.last

    def touches(self, other: "Covered") -> bool:
        """Whether an entry could be in both."""
        same = self.partition == other.partition
        return same and self.first <= other.last and other.first <= self.last

    def joined(self, other: "Covered") -> "Covered":
        """Both of them."""
        first, last = min(self.first, other.first), max(self.last, other.last)
        return Covered(self.partition, first, last, max(self.newest_ms, other.newest_ms))


def merged(ranges: Iterable[Covered]) -> list[Covered]:
    """The same without ranges that overlap."""
    found: list[Covered] = []
    for each in sorted(ranges):
        if found and found[-1].touches(each):
            found[-1] = found[-1].joined(each)
        else:
            found.append(each)
    return found


def place(events: Sequence[ArchivedEvent], ranges: Sequence[Covered]) -> list[Placed]:
    """Events with their entries, in that order; each is in one of the ranges.

    Raises:
        ValueError: an entry's id is none, or in none of them.
    """
    placed = [(parse_entry(event.entry_id), event.partition, event) for event in events]
    if outside := not_in(placed, ranges):
        raise ValueError(f"the entry {outside[0].entry_id} is in none of the ranges to store")
    return sorted(placed, key=itemgetter(0, 1))


def not_in(placed: Iterable[Placed], ranges: Sequence[Covered]) -> list[ArchivedEvent]:
    """Events that are in none of these ranges, which do not overlap."""
    of: dict[int, list[Covered]] = {}
    for each in sorted(ranges):
        of.setdefault(each.partition, []).append(each)
    lasts = {partition: [each.last for each in some] for partition, some in of.items()}
    found = []
    for entry, partition, event in placed:
        some = of.get(partition, ())
        at = bisect_left(lasts.get(partition, ()), entry)
        if at == len(some) or some[at].first > entry:
            found.append(event)
    return found
