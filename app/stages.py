"""Stages of stream developers: what is found wrong when they are declared, and how one runs.

A wrong stage is refused at the start, with the place where it stands. What can only be seen while
it runs says the stage, its file and line.
"""

import asyncio
import difflib
import inspect
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import dropwhile
from pathlib import Path
from typing import Any

from mode import Service
from mode.utils.logging import get_logger
from structlog.contextvars import bound_contextvars

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
    "place_of",
    "trace_of",
]

logger = get_logger(__name__)

#: What a per-event stage is: it returns the event, another in its place, or None to drop it.
EventStage = Callable[[Event], Awaitable[Event | None]]
#: So many events without one that passes are told: a ``return`` may be missing.
SUSPICIOUS_EVENTS = 100
#: Different errors of a stage whose traceback is in the log, once each.
MAX_KINDS = 50
#: Frames of a traceback that say nothing about a stage.
OURS = str(Path(__file__).parent)
#: Not an event's trouble: its batch comes again, or its partition is opened anew.
OF_THE_BATCH = (UnavailableError, FencedError, TableError)


class StageNames:
    """The names of stages and agents, and where each stands. No name is used twice."""

    def __init__(self) -> None:
        self._places: dict[str, str] = {}
        #: Name of a stage → the name of the one behind which it wants to be.
        self._after: dict[str, str] = {}

    def take(self, name: str, function: Callable[..., Any], *, after: str = "") -> None:
        """Note a stage or agent.

        Raises:
            SettingsError: another one has the name: each webhook would meet only one of them.
        """
        place = place_of(function)
        known = self._places.get(name)
        if known is not None and known != place:
            raise SettingsError(
                f"two stages or agents are called {name!r}: {known} and {place}. Rename one of them"
            )
        self._places[name] = place
        if after:
            self._after[name] = after

    def check_places(self, names: Collection[str]) -> None:
        """Refuse stages behind something that is not there; ``names``: what they may be behind.

        To be called when all modules are imported.

        Raises:
            SettingsError: a stage names something else.
        """
        for name, after in self._after.items():
            if after not in names:
                near = difflib.get_close_matches(after, names, 1)
                hint = f": did you mean {near[0]!r}?" if near else ""
                raise SettingsError(
                    f"the stage {name!r} ({self._places[name]}) says after={after!r}, and there is "
                    f"no such stage{hint} There are {', '.join(sorted(names))}"
                )


def check_event_stage(function: Callable[..., Any]) -> None:
    """Refuse what cannot work, and warn of what hardly does.

    Raises:
        SettingsError: it is no ``async def``, or does not take one event.
    """
    name, place = _name(function), place_of(function)
    if not inspect.iscoroutinefunction(inspect.unwrap(function)):
        raise SettingsError(f"the stage {name!r} ({place}) has to be `async def {name}(event)`")
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        raise SettingsError(
            f"the stage {name!r} ({place}) has to take one event and nothing else: {error}"
        ) from error


def place_of(function: Callable[..., Any]) -> str:
    """File and line of a function, for people: ``my_project/agents/enrich.py:12``."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return str(getattr(function, "__module__", "?"))
    return f"{code.co_filename}:{code.co_firstlineno}"


class FailureLog:
    """Puts the tracebacks of a stream developer's function into the log, once for each kind."""

    def __init__(self, what: str, name: str, function: Callable[..., Any]) -> None:
        """``what`` it is, for people: a stage, an agent."""
        self._who = f"the {what} {name!r} ({place_of(function)})"
        self._said: set[tuple[str, str]] = set()

    def note(self, error: Exception, trace: str) -> None:
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
    #: Events without one that passed, until one does.
    _dropped: int | None = 0
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
                await self._one(batch, entry)
            return
        waiting = iter(list(batch.live()))

        async def work() -> None:
            for entry in waiting:
                await self._one(batch, entry)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.concurrency, len(batch))):
                    group.create_task(work())
        except* OF_THE_BATCH as errors:
            raise errors.exceptions[0] from None

    async def _one(self, batch: Batch, entry: Entry) -> None:
        with bound_contextvars(event_id=entry.value.event_id):
            await self._work(batch, entry)

    async def _work(self, batch: Batch, entry: Entry) -> None:
        try:
            with batch.on(entry, alone=self.concurrency == 1):
                changed = await self._called(entry.value)
        except OF_THE_BATCH:
            raise
        except Exception as error:  # noqa: BLE001 a stage is user code
            trace = trace_of(error)
            self._log.note(error, trace)
            entry.fail(self.name, error, trace=trace)
            return
        self._watch(dropped=changed is None)
        if changed is None:
            entry.outcome = Dropped(self.name)
        elif changed is not entry.value:
            entry.value = changed
            entry.changed = True

    async def _called(self, event: Event) -> Event | None:
        async with asyncio.timeout(self.timeout):
            changed = await self.function(event)
        if changed is not None and not isinstance(changed, Event):
            raise StageResultError(
                f"the stage {self.name!r} ({place_of(self.function)}) returned "
                f"{type(changed).__name__}: Event or None is wanted"
            )
        return changed

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
            try:
                await self._open.enter_async_context(asynccontextmanager(function)())
            except Exception as error:
                raise SettingsError(
                    f"the lifespan {_name(function)!r} ({place_of(function)}) failed: {error!r}"
                ) from error

    async def on_stop(self) -> None:
        """Run what is behind each ``yield``."""
        try:
            await self._open.aclose()
        except Exception:  # user code, and the worker stops all the same
            logger.exception("a lifespan failed while the worker stopped")


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def trace_of(error: Exception) -> str:
    """Where it was raised, frame by frame below ours: code only, no values."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = dropwhile(lambda frame: frame.filename.startswith(OURS), frames)
    return "".join(traceback.format_list(theirs))
