"""Stages of stream developers: what is found wrong when they are declared, and how one runs.

A wrong stage is refused at the start, with the place where it stands. What can only be seen while
it runs says the stage, its file and line.
"""

import asyncio
import difflib
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import dropwhile
from pathlib import Path
from typing import Any

from mode import Service
from mode.utils.logging import get_logger
from structlog.contextvars import bound_contextvars

from hookstream.app import tasks
from hookstream.app.declarations import (
    ASYNC,
    check_function,
    check_name,
    check_number,
    declared_twice,
    name_of,
    place_of,
)
from hookstream.app.errors import FencedError, SettingsError, StageResultError, UnavailableError
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.outcome import Dropped
from hookstream.codecs.envelope import Event
from hookstream.tables.errors import TableError

__all__ = [
    "EventStage",
    "EventStageRunner",
    "FailureLog",
    "Lifespans",
    "StageNames",
    "check_event_stage",
    "tell_slow",
    "trace_of",
    "wrong_result",
]

logger = get_logger(__name__)

#: What a per-event stage is: it returns the event, another in its place, or None to drop it.
EventStage = Callable[[Event], Awaitable[Event | None]]
#: So many events without one that passes are told: a ``return`` may be missing.
SUSPICIOUS_EVENTS = 100
#: So many parsed payloads of a stage are looked at again: it must not change them in place.
LOOKS = 20
#: What an event is known by: a stage that returned another one would have it delivered twice.
IDENTITY = ("event_id", "tenant", "replay_id", "replay_context_id")
#: What windows, order and the event log go by: it is as it was when the event came.
FIXED = (
    "received_at_ms", "message_id", "batch_id", "batch_index",
    "kept_masked", "blocked_by", "source",
)  # fmt: skip
#: A batch that is in a stage for so long is told.
SLOW_SECONDS = 30.0
#: A lifespan that takes so long to begin or to end is told.
LIFESPAN_SECONDS = 10.0
#: Different errors of a stage whose traceback is in the log, once each.
MAX_KINDS = 50
#: What failed events have for their stage where none of them failed, and why.
NOT_STAGES = {
    "batch": "a batch failed as a whole",
    "crashed": "the worker died of them",
    "decode": "they could not be read",
    "schema": "their payload breaks the tool's schema",
}
#: Frames of a traceback that say nothing about a stage.
OURS = str(Path(__file__).parent)
#: Not an event's trouble: its batch comes again, or its partition is opened anew.
OF_THE_BATCH = (UnavailableError, FencedError, TableError)


class StageNames:
    """The names of stages and agents, and where each stands. No name is used twice."""

    def __init__(self) -> None:
        self._places: dict[str, str] = {}
        self._modules: dict[str, str] = {}
        #: Name of a stage → the name of the one behind which it wants to be.
        self._after: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._places)

    def take(self, name: str, function: Callable[..., Any], *, after: str = "") -> None:
        """Note a stage or agent.

        Raises:
            SettingsError: another one has the name, or it is there already: each webhook would
                meet only one of them, or none; or the name says of failed events something else.
        """
        place, module = place_of(function), str(function.__module__)
        if name in NOT_STAGES:
            raise SettingsError(
                f"no stage or agent can be called {name!r} ({place}): failed events have that for "
                f"their stage where {NOT_STAGES[name]}. Rename it"
            )
        known = self._places.get(name)
        if known == place:
            raise SettingsError(
                declared_twice("stage or agent", name, place, {self._modules[name], module})
            )
        if known is not None:
            raise SettingsError(
                f"two stages or agents are called {name!r}: {known} and {place}. Rename one of them"
            )
        self._places[name], self._modules[name] = place, module
        if after:
            self._after[name] = after

    def check_places(self, names: Collection[str]) -> None:
        """Refuse stages behind something that is not there; ``names``: what they may be behind.

        To be called when all modules are imported.

        Raises:
            SettingsError: stages name something else: all that do are in it.
        """
        wrong = []
        for name, after in self._after.items():
            if after not in names:
                near = difflib.get_close_matches(after, names, 1)
                hint = f": did you mean {near[0]!r}?" if near else "."
                wrong.append(
                    f"the stage {name!r} ({self._places[name]}) says after={after!r}, and there is "
                    f"no such stage{hint}"
                )
        if wrong:
            raise SettingsError(f"{' '.join(wrong)} There are {', '.join(sorted(names))}")


def check_event_stage(
    function: Callable[..., Any], after: object, concurrency: object, timeout: object
) -> None:
    """Refuse what cannot work.

    Raises:
        SettingsError: it is no ``async def`` of one event; or what it is declared with is no name
            of a stage, or no such number.
    """
    check_function("the stage", function, ASYNC, "event")
    name, place = name_of(function), place_of(function)
    if callable(after):
        raise SettingsError(
            f"the stage {name!r} ({place}) names the one before it as text: "
            f"after={name_of(after)!r}"
        )
    check_name(f"`after` of the stage {name!r}, the name of the one before it,", after, place)
    check_number(f"`concurrency` of the stage {name!r}", concurrency, place, least=1, whole=True)
    if timeout is not None:
        check_number(f"`timeout` of the stage {name!r}, in seconds,", timeout, place)


class FailureLog:
    """Puts the tracebacks of a stream developer's function into the log, once for each kind."""

    def __init__(self, what: str, name: str, function: Callable[..., Any]) -> None:
        """``what`` it is, for people: a stage, an agent."""
        self._who = f"the {what} {name!r} ({place_of(function)})"
        self._said: set[tuple[str, str]] = set()

    def note(self, error: BaseException, trace: str) -> None:
        """Log ``error`` if none like it came before; ``trace``: where it was raised."""
        kind = (type(error).__name__, trace.rsplit("File ", 1)[-1])
        if kind in self._said or len(self._said) >= MAX_KINDS:
            return
        self._said.add(kind)
        logger.error(
            "%s failed; its traceback is here once for each kind of error",
            self._who,
            exc_info=error,
        )


@dataclass(slots=True)
class EventStageRunner:
    """Runs a per-event stage over batches, and says what is wrong with it once."""

    name: str
    function: EventStage
    #: Most events of one batch that it works on at a time; what comes out keeps its order.
    concurrency: int = 1
    #: How long it may take for one event (seconds); None: as long as it likes.
    timeout: float | None = None
    #: The event that it was called with last.
    event_id: str = ""
    #: Events without one that passed, until one does.
    _dropped: int | None = 0
    #: So many events more are looked at for what it changes in place.
    _looks: int = LOOKS
    _log: FailureLog = field(init=False)

    def __post_init__(self) -> None:
        self._log = FailureLog("stage", self.name, self.function)

    async def __call__(self, batch: Batch) -> None:
        """Call it for every live event of a batch; one that raises fails alone.

        Raises:
            UnavailableError: the stage says that a server it needs is away: nothing was decided.
            FencedError, TableError: the partition, or its table, is not here any more.
        """
        if self.concurrency == 1:
            for entry in batch.live():
                await self._run(batch, entry)
            return
        waiting = iter(list(batch.live()))

        async def work() -> None:
            for entry in waiting:
                await self._run(batch, entry)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.concurrency, len(batch))):
                    group.create_task(work())
        except* OF_THE_BATCH as errors:
            raise errors.exceptions[0] from None

    async def _run(self, batch: Batch, entry: Entry) -> None:
        """Run it for one event, whose id is in what it logs."""
        self.event_id = entry.value.event_id
        with bound_contextvars(event_id=self.event_id):
            await self._decide_outcome(batch, entry)

    async def _decide_outcome(self, batch: Batch, entry: Entry) -> None:
        """Call it for one event; what it returns or raises is what becomes of that."""
        try:
            with batch.on(entry, alone=self.concurrency == 1):
                changed = await self._call(entry.value)
        except OF_THE_BATCH:
            raise
        except BaseException as error:  # a stage is user code
            if tasks.ends_task(error):
                raise
            trace = trace_of(error)
            self._log.note(error, trace)
            entry.fail(self.name, error, trace=trace)
            return
        self._watch(dropped=changed is None)
        if self._looks and changed is not None and entry.value.is_parsed:
            self._look_at_data(entry.value, changed)
        if changed is None:
            entry.outcome = Dropped(self.name)
        elif changed is not entry.value:
            entry.value = changed
            entry.changed = True

    async def _call(self, event: Event) -> Event | None:
        """What the stage returns, if it is in time and what a stage may return."""
        async with asyncio.timeout(self.timeout):
            changed = await self.function(event)
        if changed is not event and (wrong := wrong_result(event, changed)):
            raise StageResultError(
                f"the stage {self.name!r} ({place_of(self.function)}) returned {wrong}"
            )
        return changed

    def _look_at_data(self, event: Event, changed: Event) -> None:
        """Tell, once, of a stage that changes what ``event.data()`` gives."""
        self._looks -= 1
        # who puts it back as another payload has done what is right
        if changed.payload is event.payload and event.is_data_changed():
            self._looks = 0
            logger.warning(
                "the stage %r (%s) changes what event.data() gave it: that is lost, and conditions "
                "may see it. Return event.enrich(name=value), or replace(event, payload=...)",
                self.name,
                place_of(self.function),
            )

    def _watch(self, *, dropped: bool) -> None:
        if self._dropped is None:
            return
        if not dropped:
            self._dropped = None
            return
        self._dropped += 1
        if self._dropped == SUSPICIOUS_EVENTS:
            self._dropped = None
            logger.warning(
                "the stage %r (%s) has dropped every event of its first %d: is a `return event` "
                "missing?",
                self.name,
                place_of(self.function),
                SUSPICIOUS_EVENTS,
            )


def wrong_result(event: Event, result: object) -> str:
    """What is wrong with what a stage returned for an event, for people; "" where nothing is."""
    if result is None:
        return ""
    if not isinstance(result, Event):
        return f"{type(result).__name__}: Event or None is wanted"
    if any(getattr(event, name) != getattr(result, name) for name in IDENTITY):
        return (
            f"another event ({result.event_id!r:.40}) than it was given: return the one that it is "
            "called with, or what replace() or enrich() makes of it"
        )
    for name in FIXED:
        if getattr(event, name) != getattr(result, name):
            return (
                f"an event with another {name} than it was given, which stays as it came: change "
                "type, headers, content_type and payload, or enrich() it"
            )
    return result.unsendable()


def tell_slow(name: str, function: Callable[..., Any], batch: Batch) -> asyncio.TimerHandle:
    """Have it told that a batch has been in a stage for :data:`SLOW_SECONDS`, unless cancelled.

    A stage that waits for ever stops its partition, and nothing else would say where.
    """

    def tell() -> None:
        at = getattr(function, "event_id", "")
        logger.warning(
            "%s[%d]: a batch of %d has been in the stage %r (%s) for %d s%s; its partition waits. "
            "`timeout` bounds what one event may take",
            batch.channel,
            batch.partition.number,
            len(batch),
            name,
            place_of(getattr(function, "function", function)),
            SLOW_SECONDS,
            f", now at event {at}" if at else "",
        )

    return asyncio.get_running_loop().call_later(SLOW_SECONDS, tell)


class Lifespans(Service):
    """What stages need for as long as a worker runs: clients, pools, caches.

    Each is an ``async def`` with one ``yield``: what is before it happens before the first event,
    what is behind it after the last one, the newest first.
    """

    mundane_level = "debug"

    def __init__(
        self, functions: Sequence[Callable[[], AsyncGenerator[None, None]]], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._functions = functions
        self._open = AsyncExitStack()

    async def on_start(self) -> None:
        """Run each up to its ``yield``.

        Raises:
            SettingsError: one raises: its stages could not work.
        """
        for function in self._functions:
            who = f"the lifespan {name_of(function)!r} ({place_of(function)})"
            try:
                with _told(f"{who} has not come to its `yield`: the worker waits for it"):
                    await self._open.enter_async_context(asynccontextmanager(function)())
            except BaseException as error:
                if tasks.ends_task(error):
                    raise
                raise SettingsError(f"{who} failed: {error!r}") from error

    async def on_stop(self) -> None:
        """Run what is behind each ``yield``."""
        try:
            with _told("a lifespan has not ended behind its `yield`: the worker cannot stop"):
                await self._open.aclose()
        except BaseException as error:  # user code, and the worker stops all the same
            if tasks.ends_task(error):
                raise
            logger.exception("a lifespan failed while the worker stopped")


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Have it told where this takes longer than :data:`LIFESPAN_SECONDS`."""
    tell = asyncio.get_running_loop().call_later(
        LIFESPAN_SECONDS, logger.warning, "%s (%d s by now)", what, LIFESPAN_SECONDS
    )
    try:
        yield
    finally:
        tell.cancel()


def trace_of(error: BaseException) -> str:
    """Where it was raised, frame by frame below ours: code only, no values."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = dropwhile(lambda frame: frame.filename.startswith(OURS), frames)
    return "".join(traceback.format_list(theirs))
