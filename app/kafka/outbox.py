"""What is still to be mirrored: a line in its partition, written by the commit that decides it.

So there is a line if and only if the event was taken, or the update is in its feed, in that order;
what is mirrored is read when its line's turn comes. How far a mirror has come is what is left.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Self

import orjson

from hookstream.app.queues.reading import event_to_copy
from hookstream.app.redis import keys
from hookstream.app.streams.batch import Entry
from hookstream.app.streams.commit import Writes

__all__ = ["EVENTS", "UPDATES", "EventLine", "UpdateLine", "write_events", "write_updates"]

#: What is mirrored.
EVENTS: Final = "events"
UPDATES: Final = "updates"


@dataclass(frozen=True, slots=True)
class EventLine:
    """An event, and the entry that it came in."""

    event_id: str
    entry_id: str
    tenant: str
    tool_id: str

    def encode(self) -> bytes:
        """As it stands in the stream."""
        return orjson.dumps([self.event_id, self.entry_id, self.tenant, self.tool_id])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """What :meth:`encode` made. Raises ValueError, TypeError."""
        return cls(*map(str, orjson.loads(data)))


@dataclass(frozen=True, slots=True)
class UpdateLine:
    """An update, by its number in a context's feed."""

    tenant: str
    context_id: str
    seq: int

    def encode(self) -> bytes:
        """As it stands in the stream."""
        return orjson.dumps([self.tenant, self.context_id, self.seq])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """What :meth:`encode` made. Raises ValueError, TypeError."""
        tenant, context_id, seq = orjson.loads(data)
        return cls(str(tenant), str(context_id), int(seq))


def write_events(
    writes: Writes, number: int, entries: Iterable[Entry], *, first: Callable[[Entry], bool]
) -> None:
    """Add the events of entries that are decided about for the first time, as ``first`` says.

    Every event but duplicates and replays, once: also one that fails here, or that nobody wants.
    """
    for entry in entries:
        event = event_to_copy(entry)
        if event is None or not first(entry):
            continue
        line = EventLine(event.event_id, entry.entry_id, event.tenant, event.tool_id)
        writes.append(keys.mirror(number, EVENTS), line.encode())


def write_updates(writes: Writes, number: int, placed: Iterable[tuple[str, str, int]]) -> None:
    """Add updates that a commit puts into feeds: tenant, context and number of each."""
    for each in placed:
        writes.append(keys.mirror(number, UPDATES), UpdateLine(*each).encode())
