"""What the stages pass on: a batch of entries of one partition, with what is decided so far."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hookstream.app.circuit_breaker import Breaker
from hookstream.app.errors import FencedError
from hookstream.app.feeds.priority_queues import DEFERRABLE, Deferred
from hookstream.app.status import Status
from hookstream.app.streams.generations import Generations
from hookstream.app.streams.source_positions import OriginMark
from hookstream.codecs.routed import Change, Target
from hookstream.tables.dedup import DedupTable, Layer
from hookstream.tables.rates import RateTable
from hookstream.tables.table import Table

if TYPE_CHECKING:
    from hookstream.app.dedup.history import PartitionHistory

__all__ = ["HELD_VERSION", "Batch", "Entry", "Failure", "Partition"]


#: What an entry waits for whose envelope only a newer worker reads.
HELD_VERSION = "held-version"


@dataclass(slots=True)
class Partition:
    """A partition that this worker owns: its fence, its table, its state in Redis as known here.

    ``sequence``: how many commits it has had; ``origins``: what has been seen of each
    ``events[p]`` in ``updates[number]``; ``seqs``: the last sequence number of each
    ``tenant/context_id`` that was looked at here; ``holds``: ordering keys that are held back, with
    the letter that holds each ("" while what waited is let go); ``pins``: letters whose outputs
    may have been sent already, with the entry that they were sent for; ``breakers``: of tools that
    have failed; ``withheld``: how many updates of each ``tenant/context_id`` wait to be folded;
    ``arrivals``: GCRA's theoretical arrival time (Unix ms) of those contexts that have a rate;
    ``deferred``: what waits in each stream of deferred updates.
    """

    number: int
    epoch: int
    nonce: str
    dedup: DedupTable
    sequence: int = 0
    #: What ``sequence`` was when it was claimed.
    claimed_sequence: int = 0
    #: Called once, when it is lost.
    on_lost: "Callable[[Partition, BaseException], None]" = lambda *_: None
    origins: dict[int, OriginMark] = field(default_factory=dict)
    seqs: dict[str, int] = field(default_factory=dict)
    #: Where its feeds were begun anew, and the highest number that it found in any of them.
    generations: Generations = field(default_factory=Generations)
    top: int = 0
    holds: dict[str, str] = field(default_factory=dict)
    pins: dict[str, str] = field(default_factory=dict)
    breakers: dict[str, Breaker] = field(default_factory=dict)
    withheld: dict[str, int] = field(default_factory=dict)
    arrivals: dict[str, float] = field(default_factory=dict)
    deferred: dict[str, Deferred] = field(
        default_factory=lambda: {priority: Deferred() for priority in DEFERRABLE}
    )
    #: Opened when the first context here turns out to have a rate.
    rates: RateTable | None = None
    #: Opened when the first event here asks for history.
    history: "PartitionHistory | None" = None
    #: Held by whoever numbers updates: the deliver stage, or what folds withheld ones.
    feed_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: Held by whoever decides about letters and commits that: the commit stage, or the keeper.
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: Held while a commit is under way.
    committing: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: Set when this worker lets the partition go.
    closed: bool = False
    #: Why the picture of it here cannot be trusted any more.
    lost: BaseException | None = None

    def check(self) -> None:
        """Raise FencedError where this worker has no business in the partition any more."""
        if self.closed or self.lost is not None:
            why = f": {type(self.lost).__name__}: {self.lost}" if self.lost else ""
            raise FencedError(f"partition {self.number} was let go here{why}")

    def lose(self, error: BaseException) -> None:
        """Trust nothing that is known of it here: let it go, and claim it anew.

        From now on every commit is refused with FencedError. To be called by whoever cannot say
        whether what is here is what Redis has.
        """
        if self.lost is None:
            self.lost = error
            self.on_lost(self, error)

    def released(self) -> list[str]:
        """Ordering keys whose holder is resolved: what waited behind it comes next."""
        return [key for key, holder in self.holds.items() if not holder]

    def close_tables(self) -> None:
        """Close RocksDB; another process may open it then."""
        self.closed = True
        if self.history is not None:
            self.history.close()
        for table in self._tables():
            table.close()

    def wipe_tables(self) -> None:
        """Delete what is in RocksDB: it is built anew from the changelogs."""
        for table in self._tables():
            table.wipe(table.path)

    def _tables(self) -> list[Table]:
        return [self.dedup, *([self.rates] if self.rates else [])]


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
