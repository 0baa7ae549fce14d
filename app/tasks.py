"""Background tasks: the end of each is heard of, and nothing goes on as if it were still there.

Every task of ours begins here (``tests/unit/test_tasks.py`` looks for others):

- :func:`loop`, in place of Faust's ``@Service.task``: what raises is started again, later each
  time. Faust's own would end the process.
- :func:`spawn`: work that nobody waits for; ``failed`` closes what depends on it.
- :func:`awaited`: work whose error the caller hears, since it waits for it.

What fails is logged with its traceback once, counted in ``hookstream_task_failures_total`` and
named in ``/health`` for a minute.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from mode import Service
from mode.services import ServiceTask
from mode.utils.logging import get_logger

from hookstream.app import metrics
from hookstream.app.backoff import backoff_seconds
from hookstream.app.logs import without_ids

__all__ = [
    "BOARD",
    "Board",
    "TaskFailure",
    "awaited",
    "ends_task",
    "hear_loop",
    "keep_running",
    "loop",
    "spawn",
    "spawn_loop",
    "stop",
    "was_cancelled",
]

logger = get_logger(__name__)

T = TypeVar("T")

#: What has not failed for so long is well: it is named no more, and begins anew with its pauses.
WELL_SECONDS = 60.0
#: The same failure again is a line in the log every so many times.
SAID_EVERY = 20
#: A task that was cancelled and has not ended by then is cancelled again.
STOP_SECONDS = 0.5
#: The name for what fails outside any task of ours: callbacks, and tasks of libraries.
UNHEARD = "asyncio"

#: Tasks that run: the event loop itself keeps weak references only.
_running: set[asyncio.Task[Any]] = set()


@dataclass(slots=True)
class TaskFailure:
    """A task that has failed: how often in a row, with which kind of error, and when last."""

    task: str
    failures: int
    error: str
    #: It is started again; else what depended on it was closed.
    restarts: bool
    #: Of the monotonic clock, in seconds.
    at: float


class Board:
    """Which tasks have failed lately. Errors are not kept: they hold on to what frames hold."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failures: dict[str, TaskFailure] = {}

    def failed(self, name: str, error: BaseException, *, restarts: bool) -> None:
        """Note, count and log that the task ``name`` has ended with ``error``."""
        metrics.TASK_FAILURES.labels(task=name).inc()
        kind, known = type(error).__name__, self._failures.get(name)
        if known is None or known.error != kind or self._now() - known.at > WELL_SECONDS:
            known = self._failures[name] = TaskFailure(name, 0, kind, restarts, 0.0)
        known.failures += 1
        known.at = self._now()
        if known.failures == 1 or known.failures % SAID_EVERY == 0:
            logger.error(
                "the task %s failed (%d in a row): %s: %s; %s",
                name,
                known.failures,
                kind,
                error,
                "it is started again" if restarts else "what depends on it is closed",
                exc_info=error if known.failures == 1 else None,
            )

    def lately(self) -> list[TaskFailure]:
        """Tasks whose last failure is less than :data:`WELL_SECONDS` ago, the newest first."""
        since = self._now() - WELL_SECONDS
        found = [failure for failure in self._failures.values() if failure.at > since]
        return sorted(found, key=lambda failure: -failure.at)


#: The failures of this process.
BOARD = Board()


def loop(function: Callable[[Any], Awaitable[None]]) -> ServiceTask:
    """Make a method a task of its service, begun with it, that is started again when it raises.

    It is over when it returns, or with its service.
    """

    @functools.wraps(function)
    async def run(service: Service) -> None:
        await keep_running(function.__qualname__, lambda: function(service), service)

    return Service.task(run)


async def keep_running(name: str, run: Callable[[], Awaitable[None]], service: Service) -> None:
    """Run until it returns or ``service`` stops; begin again, ever later, each time it raises."""
    failures = 0
    while not service.should_stop:
        begun = time.monotonic()
        try:
            await run()
            return
        except BaseException as error:
            if ends_task(error):
                raise
            # also where something it waited for was cancelled, and not the task
            BOARD.failed(name, error, restarts=True)
        failures = 1 if time.monotonic() - begun > WELL_SECONDS else failures + 1
        await service.sleep(backoff_seconds(failures))


def spawn_loop(
    name: str, run: Callable[[], Awaitable[None]], service: Service
) -> asyncio.Task[None]:
    """Start what :func:`keep_running` keeps running, now and not with the service."""
    return spawn(name, keep_running(name, run, service), service=service)


def spawn(
    name: str,
    work: Coroutine[Any, Any, Any],
    *,
    service: Service | None = None,
    failed: Callable[[BaseException], None] | None = None,
) -> asyncio.Task[Any]:
    """Start work that nobody waits for; ``failed`` is called with the error that it ends with.

    It ends with ``service``, if one is given: cancelled, and waited for.
    """
    task = awaited(name, work)
    if service is not None:
        # what Service.add_future does, without its crash of the whole process
        service._futures.add(task)
        task.add_done_callback(service._futures.discard)
    task.add_done_callback(functools.partial(_ended, name, failed), context=without_ids())
    return task


def awaited(name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start work that the caller waits for, and whose error is the caller's to hear."""
    task = asyncio.get_running_loop().create_task(work, name=name, context=without_ids())
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


async def stop(*stopping: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait for their end, whatever it is.

    Again and again: a cancellation can get lost in ``asyncio.wait_for`` (Python 3.11), within which
    redis-py sends its commands.
    """
    while left := [task for task in stopping if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=STOP_SECONDS)
    for task in stopping:
        if not task.cancelled():
            task.exception()  # heard of, and nobody's any more


def hear_loop() -> None:
    """Hear, too, what fails in callbacks and in tasks of libraries, of which nobody else hears."""
    asyncio.get_running_loop().set_exception_handler(_unheard)
    # a coroutine that nobody awaits, say: as a line of the log, and not beside it
    logging.captureWarnings(True)


def _unheard(running: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    error = context.get("exception")
    # what a connection ends with is said by whoever is at its other end
    if isinstance(error, Exception) and "transport" not in context:
        BOARD.failed(UNHEARD, error, restarts=False)
    else:
        running.default_exception_handler(dict(context))


def _ended(
    name: str, failed: Callable[[BaseException], None] | None, task: asyncio.Task[Any]
) -> None:
    error: BaseException | None
    if task.cancelled():
        if task.cancelling():
            return
        error = asyncio.CancelledError("what it waited for was cancelled")
    else:
        error = task.exception()
    if error is None:
        return
    BOARD.failed(name, error, restarts=False)
    if failed is not None:
        failed(error)


def ends_task(error: BaseException) -> bool:
    """Whether ``error`` is the end of the task that it is raised in: cancelled, or closed.

    Anything else is the trouble of the code that raised it: a stage that calls ``sys.exit()`` must
    neither end its process nor leave its partition with a batch that never ends, nor must one that
    raises ``CancelledError`` itself.
    """
    if isinstance(error, asyncio.CancelledError):
        return was_cancelled()
    return isinstance(error, GeneratorExit)


def was_cancelled() -> bool:
    """Whether a ``CancelledError`` is meant for this task, and not for what it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
