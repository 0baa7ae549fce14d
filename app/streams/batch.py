"""What the stages pass on: a batch of entries of one partition, with what is decided so far."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from hookstream.app.errors import TableUseError
from hookstream.app.redis import keys
from hookstream.app.routing.paths import KeyState, Migration, Taken
from hookstream.app.status import Status
from hookstream.app.streams.outcome import (
    ACCEPTED,
    Accepted,
    Duplicate,
    Failed,
    Outcome,
    status_of,
)
from hookstream.app.streams.partition import Partition
from hookstream.app.streams.table_writes import SCOPE, Scope, TableWrites
from hookstream.codecs.envelope import Event
from hookstream.codecs.routed import Change, Finished, Routed, Target
from hookstream.tables.dedup import Layer

__all__ = ["Batch", "Entry", "OutputChannel", "event_of"]

#: Of a traceback: some twenty frames.
MAX_TRACE_CHARACTERS = 4000
#: Of what an error says.
MAX_ERROR_CHARACTERS = 2000


class OutputChannel(Protocol):
    """A stream channel of a stream developer's, which batches of another one may send to."""

    name: str
    own: bool

    def encode_value(self, value: Any) -> bytes:
        """A value as it stands in an entry."""


@dataclass(slots=True)
class Entry:
    """One stream entry on its way through the stages.

    ``value`` is what the channel's codec made of ``raw``: an Event, a Routed, an AuditBatch;
    None where it could not be read (then ``outcome`` says why). ``failed_event_id`` is set on an
    entry that comes again after it failed ``attempts`` times, or was blocked.
    """

    entry_id: str
    raw: bytes
    value: Any
    outcome: Outcome = ACCEPTED
    #: What dedup's judgement rests on, whatever else becomes of it.
    dedup: Layer = ""
    targets: tuple[Target, ...] = ()
    #: What its contexts will read, and the value that it was made of.
    finished: tuple[Event, Finished] | None = None
    failed_event_id: str = ""
    attempts: int = 0
    #: The ordering key in whose list of blocked entries it waited for its turn.
    listed: str = ""
    #: The tool in whose set of parked events it waited for the end of its circuit breaker.
    parked: str = ""
    #: An earlier attempt may have sent its outputs: it keeps its source position, whatever becomes
    #: of it.
    sent: bool = False
    #: How long (ms) it is not known whether this event was appended before, by the receiver's
    #: clock; None: it was not.
    doubt_ms: int | None = None
    #: Whether a stage put another value in place of the one in ``raw``.
    changed: bool = False
    #: Of an event whose tool moves from old workers to here: which path it works in, "" where that
    #: is not decided; what begins with it, a mark or a barrier, and the mark's id.
    path: str = ""
    begins: str = ""
    mark: str = ""
    #: What is told of it so that both paths can be compared; None where its tool does not move.
    taken: Taken | None = None

    @property
    def released(self) -> bool:
        """Whether it waited, and comes before what is in its stream."""
        return bool(self.listed or self.parked)

    @property
    def status(self) -> Status:
        """The status of its event, as far as this batch has come."""
        return status_of(self.outcome)

    @property
    def failure(self) -> Failed | None:
        """Why it failed; None where it did not."""
        return self.outcome if isinstance(self.outcome, Failed) else None

    @property
    def duplicate_of(self) -> str:
        """The event id of the first occurrence; "" where it is no duplicate."""
        return self.outcome.of if isinstance(self.outcome, Duplicate) else ""

    def anew(self) -> "Entry":
        """This entry as it was read, without its value and what became of it."""
        return Entry(
            self.entry_id,
            self.raw,
            None,
            failed_event_id=self.failed_event_id,
            attempts=self.attempts,
            listed=self.listed,
            parked=self.parked,
            sent=self.sent,
            doubt_ms=self.doubt_ms,
        )

    def fail(
        self, stage: str, error: BaseException, *, final: bool = False, trace: str = ""
    ) -> None:
        """Take this event out of the batch's way: it is tried again, in the end a dead letter.

        ``trace``: the frames of its traceback, for a person to look at; the last ones are kept.
        """
        trace = storable(trace[-MAX_TRACE_CHARACTERS:])
        self.outcome = Failed(stage, words_of(error)[:MAX_ERROR_CHARACTERS], final, trace)


def words_of(error: BaseException) -> str:
    """An error as it is kept: its kind, and what it says, if it can say that."""
    kind = type(error).__name__
    try:
        text = storable(str(error))
    except Exception as another:  # noqa: BLE001 its words are user code, too
        text = f"(what it says cannot be read: {type(another).__name__})"
    return f"{kind}: {text}" if text else f"{kind} (it says no more)"


def storable(text: str) -> str:
    """``text`` as Redis and PostgreSQL take it: neither lone surrogates nor NUL, but their escapes.

    An error may quote what a sender sent.
    """
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")


@dataclass(slots=True, eq=False)
class Batch:
    """All that one read of one partition returned, at most ``HOOKSTREAM_BATCH_MAX_EVENTS``.

    It ends in exactly one of :meth:`done` and :meth:`fail`; until then its partition sends no
    other batch, so batches of a partition never overtake each other. ``low_water_mark`` is its
    first entry's id: all before it has been committed.
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
    #: An agent that looks on has it, or will have.
    looked_at: bool = False
    low_water_mark: str = ""
    #: Entries that the reader has prefetched behind this batch.
    behind: int = 0
    #: Whether it is of a stream developer's own channel: then it is committed once it is done.
    own: bool = False
    #: Streams and entries that are appended when, and only when, this is committed.
    sends: list[tuple[str, bytes]] = field(default_factory=list)
    #: What its stages have written to tables of their own.
    tables: TableWrites[Entry] = field(default_factory=TableWrites)
    #: By tool and ordering key, what its path comes to with this batch.
    paths: dict[tuple[str, str], KeyState] = field(default_factory=dict)
    #: By tool, the mode by which its events' paths were decided; None where it has none.
    modes: dict[str, Migration | None] = field(default_factory=dict)
    _owners: Counter[str] | None = field(default=None, repr=False)
    _registry_version: tuple[int, int] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.low_water_mark = self.entries[0].entry_id if self.entries else ""

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def owners(self) -> Counter[str]:
        """How many of its events are of which tenant; "" of what could not be read."""
        if self._owners is None:
            events = (event_of(entry.value) for entry in self.entries)
            self._owners = Counter(event.tenant if event else "" for event in events)
        return self._owners

    @property
    def registry_version(self) -> tuple[int, int]:
        """Version and token of the newest catalog that a receiver of its events knew.

        Of those that were live when this was asked first.
        """
        if self._registry_version is None:
            events = (entry.value for entry in self.live())
            named = ((e.registry_version, e.registry_token) for e in events)
            self._registry_version = max(named, default=(0, 0))
        return self._registry_version

    def live(self) -> Iterator[Entry]:
        """The entries that are still to be processed: not duplicates, not dropped, not failed."""
        return (entry for entry in self.entries if isinstance(entry.outcome, Accepted))

    def values(self) -> list[Any]:
        """The values of the entries that are still to be processed."""
        return [entry.value for entry in self.live()]

    def output(self, channel: OutputChannel, value: Any) -> tuple[str, bytes]:
        """A value as an entry for this partition of ``channel``.

        Raises:
            ValueError: it or this batch is of a channel of the pipeline; and what its codec raises.
        """
        for name, own in ((self.channel, self.own), (channel.name, channel.own)):
            if not own:
                raise ValueError(
                    f"the channel {name!r} belongs to the pipeline: what is sent with a commit "
                    "goes from one channel of app.stream_channel to another"
                )
        return keys.stream(channel.name, self.partition.number), channel.encode_value(value)

    def send(self, channel: OutputChannel, value: Any) -> None:
        """Append ``value`` to this partition of a channel of one's own, with the commit: exactly
        once, whatever crashes.

        For batches of channels of one's own. Raises what :meth:`output` raises.
        """
        self.sends.append(self.output(channel, value))

    @contextmanager
    def on(self, entry: Entry, *, alone: bool = True) -> Iterator[None]:
        """Within this, what is written to tables is of one entry, at the time of its event.

        It counts if the entry gets through. ``alone``: no other entry of the batch is worked on
        meanwhile. What was written is forgotten where this ends with an exception.
        """
        scope = Scope(self, entry, alone)
        token = SCOPE.set(scope)
        try:
            yield
            for look in scope.looks:
                look()
        except BaseException:
            self.tables.undo(entry)
            raise
        finally:
            scope.over = True
            SCOPE.reset(token)

    def done(self) -> None:
        """The batch is committed; of a channel of one's own: it is to be committed now.

        Raises:
            TableUseError: it is not: its stages have written to tables, and no commit took that.
        """
        if self.tables and not self.tables.taken:
            raise TableUseError(
                f"what stages of the channel {self.channel!r} write to tables is not committed: "
                "write to tables in @app.stage, or in @app.batches before the stage 'commit'"
            )
        self._end(None)

    def fail(self, error: BaseException) -> None:
        """The batch could not be committed: its entries are still pending and come again."""
        self._end(error)

    def forget(self) -> None:
        """Let go of what it holds: each stage's task has its last batch until the next one comes.

        For its reader, once nothing of it is needed any more. Who looks on may still be at it.
        """
        if not self.looked_at:
            self.entries, self.sends, self.changes, self.remembered = [], [], [], []
            self.tables = TableWrites()

    def _end(self, error: BaseException | None) -> None:
        if not self.ended:
            self.ended = True
            entries = self.entries
            self.on_end(self, error)
            for entry in entries:
                if isinstance(event := event_of(entry.value), Event):
                    event.release()


def event_of(value: Any) -> Event | Finished | None:
    """The event in an entry's value, or what is said of it; None where it has none."""
    if isinstance(value, Event):
        return value
    return value.event if isinstance(value, Routed) else None
