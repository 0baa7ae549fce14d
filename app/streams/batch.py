"""What the stages pass on: a batch of entries of one partition, with what is decided so far."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hookstream.app.status import Status
from hookstream.app.streams.partition import Partition
from hookstream.codecs.envelope import Event
from hookstream.codecs.routed import Change, Routed, Target
from hookstream.tables.dedup import Layer

__all__ = ["HELD_VERSION", "Batch", "Entry", "Failure", "event_of"]


#: What an entry waits for whose envelope only a newer worker reads.
HELD_VERSION = "held-version"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why and where an event could not be processed. ``final``: trying again cannot help."""

    stage: str
    error: str
    final: bool = False


@dataclass(slots=True)
class Entry:
    """One stream entry on its way through the stages.

    ``value`` is what the channel's codec made of ``raw``: an Event, a Routed, an AuditBatch;
    None where it could not be read (then ``failure`` says why). ``letter_id`` is set on an entry
    that comes again after it failed ``attempts`` times, or was held back.
    """

    entry_id: str
    raw: bytes
    value: Any
    status: Status = Status.ACCEPTED
    duplicate_of: str = ""
    #: What dedup's judgement rests on.
    dedup: Layer = ""
    targets: tuple[Target, ...] = ()
    dropped_by: str = ""
    letter_id: str = ""
    attempts: int = 0
    #: The ordering key in whose list of held letters it waited for its turn.
    held: str = ""
    #: The ordering key for whose turn it waits now.
    hold_key: str = ""
    #: An earlier attempt may have sent its outputs: it keeps its origin, whatever becomes of it.
    sent: bool = False
    #: How long (ms) it is not known whether this event was appended before, by the receiver's
    #: clock; None: it was not.
    doubt_ms: int | None = None
    #: Whether a stage put another value in place of the one in ``raw``.
    changed: bool = False
    failure: Failure | None = None
    #: Set when the event waits for something else than its own next attempt: "parked", "held",
    #: "held-version".
    waits: str = ""
    #: The envelope's version, where only a newer worker reads it.
    version: int = 0

    def hold_version(self, version: int) -> None:
        """Keep this entry, unread, until a worker runs that knows its envelope's version."""
        self.status = Status.RETRYING
        self.waits = HELD_VERSION
        self.version = version

    def fail(self, stage: str, error: BaseException, *, final: bool = False) -> None:
        """Take this event out of the batch's way: it is tried again, in the end a dead letter."""
        self.failure = Failure(stage, f"{type(error).__name__}: {error}"[:2000], final)
        self.status = Status.RETRYING


@dataclass(slots=True, eq=False)
class Batch:
    """All that one read of one partition returned, at most ``HOOKSTREAM_BATCH_MAX_EVENTS``.

    It ends in exactly one of :meth:`done` and :meth:`fail`; until then its partition sends no
    other batch, so batches of a partition never overtake each other. ``floor`` is its first
    entry's id: all before it has been committed.
    """

    channel: str
    partition: Partition
    entries: list[Entry]
    on_end: Callable[["Batch", BaseException | None], None]
    read_at: float = field(default_factory=time.perf_counter)
    changes: list[Change] = field(default_factory=list)
    #: Day and key of what dedup history has to keep.
    remembered: list[tuple[int, bytes]] = field(default_factory=list)
    ended: bool = False
    floor: str = ""
    #: Entries that the reader has read ahead behind this batch.
    behind: int = 0

    def __post_init__(self) -> None:
        self.floor = self.entries[0].entry_id if self.entries else ""

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def registry_version(self) -> tuple[int, int]:
        """Version and token of the newest registry that a receiver of its live events knew."""
        events = (entry.value for entry in self.live())
        return max(((e.registry_version, e.registry_token) for e in events), default=(0, 0))

    def live(self) -> Iterator[Entry]:
        """The entries that are still to be processed: not duplicates, not dropped, not failed."""
        return (entry for entry in self.entries if entry.status is Status.ACCEPTED)

    def done(self) -> None:
        """The batch is committed."""
        self._end(None)

    def fail(self, error: BaseException) -> None:
        """The batch could not be committed: its entries are still pending and come again."""
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if not self.ended:
            self.ended = True
            self.on_end(self, error)


def event_of(value: Any) -> Event | None:
    """The event in an entry's value; None where it has none."""
    if isinstance(value, Event):
        return value
    return value.event if isinstance(value, Routed) else None
