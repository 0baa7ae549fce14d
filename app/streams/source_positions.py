"""Source positions: which entries of ``events[p]`` ``updates[q]``'s feeds have already taken.

Outputs are appended before their batch commits, so a crash repeats them. Each carries its entry id
and the *low-water mark*: the first id of the batch it was made in. All below it has been committed
by the owner of p and never legitimately comes again; what is at or above it is remembered one by
one.
The exceptions are *pinned*: an event that failed after its outputs may have been sent comes again
later, under the source position that it had. For as long as the owner of p says so it may come, and
that it came is remembered.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from hookstream.app.ids import entry_order
from hookstream.app.redis import keys
from hookstream.app.streams.batch import Entry
from hookstream.app.streams.commit import Writes
from hookstream.app.streams.outcome import ACCEPTED, Accepted, Failed, Quarantined
from hookstream.codecs.routed import Routed, routed_origin

__all__ = ["SourcePosition", "admit", "write_source_positions"]

START = "0-0"
#: Entries that were pinned once and are remembered when they are no more.
MAX_LATE = 256


@dataclass(slots=True)
class SourcePosition:
    """What has been seen of one partition of events."""

    low_water_mark: str = START
    seen: set[str] = field(default_factory=set)

    def accept(self, entry_id: str, low_water_mark: str, pins: Collection[str] = ()) -> bool:
        """Whether this is the first time that ``entry_id`` comes; remembers it if so.

        ``seen`` never holds more than the batches whose outputs are in flight, what is pinned, and
        the newest of what was pinned: it is cleared as the low-water mark rises.
        """
        if low_water_mark != self.low_water_mark and entry_order(low_water_mark) > entry_order(
            self.low_water_mark
        ):
            self._rise(low_water_mark, pins)
        if entry_id in self.seen:
            return False
        if entry_order(entry_id) < entry_order(self.low_water_mark) and entry_id not in pins:
            return False
        self.seen.add(entry_id)
        return True

    def _rise(self, low_water_mark: str, pins: Collection[str]) -> None:
        limit, old = entry_order(low_water_mark), entry_order(self.low_water_mark)
        self.low_water_mark = low_water_mark
        # an append that is carried out late still says that it is pinned: what came so is
        # remembered for a while
        late = sorted((seen for seen in self.seen if entry_order(seen) < old), key=entry_order)
        self.seen = {
            *late[-MAX_LATE:],
            *(seen for seen in self.seen if entry_order(seen) >= limit or seen in pins),
        }

    def copy(self) -> "SourcePosition":
        """One that can be thrown away when the commit fails."""
        return SourcePosition(self.low_water_mark, set(self.seen))

    def encode(self) -> str:
        """As it is kept in Redis: the low-water mark and what was seen above it."""
        return " ".join((self.low_water_mark, *self.seen))

    @classmethod
    def decode(cls, text: str) -> "SourcePosition":
        """The mark in a Redis value."""
        low_water_mark, *seen = text.split()
        return cls(low_water_mark, set(seen))


def admit(
    entries: Sequence[Entry], source_positions: Mapping[int, SourcePosition]
) -> tuple[list[Entry], dict[int, SourcePosition]]:
    """Entries that have not been seen, and the marks that say so; ``source_positions`` stays as it
    is.

    One that comes again as a failed event is taken without asking: its source position was seen
    when it failed.
    """
    marks: dict[int, SourcePosition] = {}
    fresh = []
    for entry in entries:
        if isinstance(entry.outcome, Failed) and not isinstance(entry.value, Routed):
            continue
        quarantined = isinstance(entry.outcome, Quarantined)
        p, entry_id, low_water_mark, pins = (
            routed_origin(entry.raw) if quarantined else _origin(entry.value)
        )
        if not entry.failed_event_id:
            mark = marks.get(p)
            if mark is None:
                mark = marks[p] = (
                    source_positions[p].copy() if p in source_positions else SourcePosition()
                )
            if not mark.accept(entry_id, low_water_mark, pins):
                # a copy of what was delivered, is held, or is tried again by its failed event
                entry.outcome = ACCEPTED
                continue
        if isinstance(entry.outcome, Accepted):
            fresh.append(entry)
    return fresh, marks


def _origin(routed: Routed) -> tuple[int, str, str, tuple[str, ...]]:
    """Where a routed event came from."""
    return (
        routed.origin_partition,
        routed.origin_entry_id,
        routed.origin_floor,
        routed.origin_pins,
    )


def write_source_positions(
    writes: Writes,
    number: int,
    source_positions: dict[int, SourcePosition],
    marks: Mapping[int, SourcePosition],
) -> None:
    """Keep what :func:`admit` has seen; ``source_positions`` of ``number`` follow the commit."""
    for p, mark in marks.items():
        writes.add("HSET", keys.source_positions(number), p, mark.encode())
    writes.then(lambda: source_positions.update(marks))
