"""What is still to be copied into tools' queues: of each event where it is, in the order it came.

An event's line is written by the commit that first decides about it, so it is there if and only if
the event was taken; what becomes of the event here, later, does not matter to the copy. The line
has ids alone: the event itself is read in whichever tier it is when its turn comes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from hookstream.app.redis import keys
from hookstream.app.routing.catalog import Catalog
from hookstream.app.streams.batch import Entry
from hookstream.app.streams.commit import Writes
from hookstream.app.streams.outcome import ERASED, Dropped, Duplicate
from hookstream.codecs.envelope import Event

__all__ = ["Line", "write_outbox"]


@dataclass(frozen=True, slots=True)
class Line:
    """One event in an outbox: its id, and the entry that it came in."""

    event_id: str
    entry_id: str

    def encode(self) -> bytes:
        """As it stands in the stream."""
        return f"{self.event_id} {self.entry_id}".encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """What :meth:`encode` made. Raises ValueError."""
        event_id, entry_id = data.decode().split(" ")
        return cls(event_id, entry_id)


def write_outbox(writes: Writes, number: int, entries: Iterable[Entry], catalog: Catalog) -> None:
    """Add what is to be copied of entries that are decided about for the first time.

    Every event but duplicates and replays: also one that fails here, or that nobody wants.
    """
    written = set()
    for entry in entries:
        event = entry.value
        if not isinstance(event, Event) or event.replay_id:
            continue
        if isinstance(entry.outcome, Duplicate) or entry.outcome == Dropped(ERASED):
            continue
        tool = catalog.tools.get(event.tool_id)
        if tool is None or tool.forward is None:
            continue
        line = Line(event.event_id, entry.entry_id)
        writes.append(keys.outbox(number, tool.tool_id), line.encode())
        written.add(tool.tool_id)
    for tool_id in written:
        writes.add("HSET", keys.outboxes(number), tool_id, "")
