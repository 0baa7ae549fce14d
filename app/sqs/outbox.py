"""What is still to be copied into tools' queues: of each event where it is, in the order it came.

An event's line is written by the commit that first decides about it, so it is there if and only if
the event was taken; what becomes of the event here, later, does not matter to the copy. The line
has ids alone: the event itself is read in whichever tier it is when its turn comes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Self

from hookstream.app.queues.reading import event_to_copy
from hookstream.app.redis import keys
from hookstream.app.routing.catalog import Catalog
from hookstream.app.routing.paths import OLD, Migration
from hookstream.app.routing.queues import SqsTarget
from hookstream.app.streams.batch import Entry
from hookstream.app.streams.commit import Writes
from hookstream.app.streams.outcome import Blocked
from hookstream.codecs.envelope import Event

__all__ = ["BARRIER", "COPY", "MARK", "SHADOW", "Line", "write_outbox"]

#: An event for old workers to work on; one that they may only look at; a mark that a key is handed
#: over; a place behind which nothing goes before updates that are on their way are delivered.
COPY: Final = "copy"
SHADOW: Final = "shadow"
MARK: Final = "mark"
BARRIER: Final = "barrier"
_KINDS: Final = (COPY, SHADOW, MARK, BARRIER)


@dataclass(frozen=True, slots=True)
class Line:
    """One line: of an event its id and the entry that it came in; of a mark its id and its key."""

    name: str
    place: str
    kind: str = COPY

    def encode(self) -> bytes:
        """As it stands in the stream."""
        kind = "" if self.kind == COPY else f" {self.kind}"
        return f"{self.name} {self.place}{kind}".encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """What :meth:`encode` made. Raises ValueError."""
        name, place, *kind = data.decode().split(" ")
        if len(kind) > 1 or any(each not in _KINDS for each in kind):
            raise ValueError(f"no line of an outbox: {data[:100]!r}")
        return cls(name, place, *kind)


def write_outbox(
    writes: Writes,
    number: int,
    entries: Iterable[Entry],
    catalog: Catalog,
    *,
    modes: Mapping[str, Migration | None],
    first: Callable[[Entry], bool],
) -> None:
    """Add what is to be copied of entries whose turn has come.

    Every event but duplicates and replays, once: also one that fails here, or that nobody wants.
    ``modes``: of tools those by which their events' paths were decided. ``first``: whether an entry
    is decided about for the first time.
    """
    written = set()
    for entry in entries:
        event = event_to_copy(entry)
        if event is None:
            continue
        tool = catalog.tools.get(event.tool_id)
        if tool is None or tool.forward is None:
            continue
        mode = modes.get(tool.tool_id, tool.migration)
        for line in _lines(entry, event, tool.forward, mode, first):
            writes.append(keys.outbox(number, tool.tool_id), line.encode())
            written.add(tool.tool_id)
    for tool_id in written:
        writes.add("HSET", keys.outboxes(number), tool_id, "")


def _lines(
    entry: Entry,
    event: Event,
    forward: SqsTarget,
    mode: Migration | None,
    first: Callable[[Entry], bool],
) -> Iterator[Line]:
    kind: Literal["copy", "shadow", ""] = COPY
    if mode is None:
        if first(entry):
            yield Line(event.event_id, entry.entry_id)
        return
    if isinstance(entry.outcome, Blocked) and entry.outcome.key:
        # its turn comes later; what is behind a mark is nothing for old workers
        if entry.begins == "mark":
            yield Line(entry.mark, entry.outcome.key, MARK)
        return
    if entry.attempts or not (first(entry) or entry.listed):
        return
    if entry.path != OLD:
        kind = SHADOW if mode.copies(entry.path, shown=forward.shadow) else ""
    if entry.begins == "barrier":
        yield Line(BARRIER, entry.entry_id, BARRIER)
    if kind:
        yield Line(event.event_id, entry.entry_id, kind)
