"""Origins: which entries of ``events[p]`` have already been taken into ``updates[q]``'s feeds.

Outputs are appended before their batch commits, so a crash repeats them. Each carries its entry id
and the *floor*: the first id of the batch it was made in. All below a floor has been committed by
the owner of p and never legitimately comes again; what is at or above it is remembered one by one.
The exceptions are *pinned*: an event that failed after its outputs may have been sent comes again
later, under the origin that it had. For as long as the owner of p says so it may come, and that it
came is remembered.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from hookstream.app.ids import entry_order
from hookstream.app.redis import keys
from hookstream.app.streams.batch import Entry
from hookstream.app.streams.commit import Writes
from hookstream.app.streams.outcome import ACCEPTED, Accepted, Failed, Quarantined
from hookstream.codecs.routed import Routed, routed_origin

__all__ = ["OriginMark", "admit", "write_origins"]

START = "0-0"
#: Entries that were pinned once and are remembered when they are no more.
MAX_LATE = 256


@dataclass(slots=True)
class OriginMark:
    """What has been seen of one partition of events."""

    floor: str = START
    seen: set[str] = field(default_factory=set)

    def accept(self, entry_id: str, floor: str, pins: Collection[str] = ()) -> bool:
        """Whether this is the first time that ``entry_id`` comes; remembers it if so.

        ``seen`` never holds more than the batches whose outputs are under way, what is pinned, and
        the newest of what was pinned: it is cleared as the floor rises.
        """
        if floor != self.floor and entry_order(floor) > entry_order(self.floor):
            self._rise(floor, pins)
        if entry_id in self.seen:
            return False
        if entry_order(entry_id) < entry_order(self.floor) and entry_id not in pins:
            return False
        self.seen.add(entry_id)
        return True

    def _rise(self, floor: str, pins: Collection[str]) -> None:
        limit, old = entry_order(floor), entry_order(self.floor)
        self.floor = floor
        # an append that is carried out late still says that it is pinned: what came so is
        # remembered for a while
        late = sorted((seen for seen in self.seen if entry_order(seen) < old), key=entry_order)
        self.seen = {
            *late[-MAX_LATE:],
            *(seen for seen in self.seen if entry_order(seen) >= limit or seen in pins),
        }

    def copy(self) -> "OriginMark":
        """One that can be thrown away when the commit fails."""
        return OriginMark(self.floor, set(self.seen))

    def encode(self) -> str:
        """As it is kept in Redis: the floor and what was seen above it."""
        return " ".join((self.floor, *self.seen))

    @classmethod
    def decode(cls, text: str) -> "OriginMark":
        """The mark in a Redis value."""
        floor, *seen = text.split()
        return cls(floor, set(seen))


def admit(
    entries: Sequence[Entry], origins: Mapping[int, OriginMark]
) -> tuple[list[Entry], dict[int, OriginMark]]:
    """Entries that have not been seen, and the marks that say so; ``origins`` stays as it is.

    One that comes again as a letter is taken without asking: its origin was seen when it failed.
    """
    marks: dict[int, OriginMark] = {}
    fresh = []
    for entry in entries:
        if isinstance(entry.outcome, Failed) and not isinstance(entry.value, Routed):
            continue
        quarantined = isinstance(entry.outcome, Quarantined)
        p, entry_id, floor, pins = routed_origin(entry.raw) if quarantined else _origin(entry.value)
        if not entry.letter_id:
            mark = marks.get(p)
            if mark is None:
                mark = marks[p] = origins[p].copy() if p in origins else OriginMark()
            if not mark.accept(entry_id, floor, pins):
                # a copy of what was delivered, is held, or is tried again by its letter
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


def write_origins(
    writes: Writes, number: int, origins: dict[int, OriginMark], marks: Mapping[int, OriginMark]
) -> None:
    """Keep what :func:`admit` has seen; ``origins`` of partition ``number`` follow the commit."""
    for p, mark in marks.items():
        writes.add("HSET", keys.origins(number), p, mark.encode())
    writes.then(lambda: origins.update(marks))
