"""Work that a sender's text can make expensive: in child processes, bounded in time and memory.

A thread would not do: what runs there holds the GIL or cannot be ended. Children are started when
there is first something to do (some 100 ms), stay for what follows, know no secrets, have none of
our sockets, and die with us. One that breaches its bound is killed; the next task gets a new one.
What is small is quicker done where it stands (a task costs some 0.2 ms): callers choose by size.
"""

import asyncio
import os
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import bounded_child as child
from hookstream.app import metrics
from hookstream.app.errors import OverBudgetError

__all__ = ["Aside", "BoundedPool"]

logger = get_logger(__name__)

T = TypeVar("T")

#: Children at a time, and tasks that wait for one.
CHILDREN = 2
MAX_WAITING = 256
#: Address space of a child.
MEMORY_BYTES = 768 * 1024 * 1024
#: Longest that a child may take for what is only to be done aside.
ASIDE_SECONDS = 60.0
#: For a child to start and to import what a task needs, before the task's own time begins.
START_SECONDS = 15.0
#: What a task may return, pickled.
MAX_ANSWER_BYTES = 256 * 1024 * 1024
#: What a child sees of our environment: none of the settings, which hold secrets.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "SYSTEMROOT")


class BoundedPool(Service):
    """Runs functions in child processes that can be ended."""

    mundane_level = "debug"

    def __init__(
        self,
        *,
        children: int = CHILDREN,
        memory_bytes: int = MEMORY_BYTES,
        max_waiting: int = MAX_WAITING,
        nice: int = 0,
        start_seconds: float = START_SECONDS,
        threads: int = 1,
        **kwargs: Any,
    ) -> None:
        """``nice``: by how much others go before the children (``os.nice``).

        ``threads``: how many of a child compute at a time, by which its time of CPU is longer.
        """
        super().__init__(**kwargs)
        self._memory_bytes = memory_bytes
        self._nice = nice
        self._start_seconds = start_seconds
        self._threads = threads
        self._max_waiting = max_waiting
        self._places = asyncio.Semaphore(children)
        self._waiting = 0
        #: Children that have nothing to do; the one that worked last is the next.
        self._idle: list[asyncio.subprocess.Process] = []
        self._all: set[asyncio.subprocess.Process] = set()

    async def run(self, what: str, function: Callable[..., T], *args: object, seconds: float) -> T:
        """Call ``function``, of a module's top level, with arguments that can be pickled.

        ``what`` names the kind of work in metrics: one of a few. ``seconds`` are those of the work
        itself; waiting for a place and the start of a child are not counted.

        Raises:
            OverBudgetError: it took longer, or more memory than a child may have, or too many wait.
            Exception: what ``function`` raises.
        """
        task = pickle.dumps((function, args), pickle.HIGHEST_PROTOCOL)
        if self._waiting >= self._max_waiting:
            raise self._breach(what, "busy", "too much of this kind waits already")
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            return await self._run(what, task, seconds)  # type: ignore[no-any-return]
        finally:
            self._places.release()

    async def _run(self, what: str, task: bytes, seconds: float) -> Any:
        process = await self._child()
        begun = time.monotonic()
        kept = False
        try:
            async with asyncio.timeout(self._start_seconds) as limit:
                assert process.stdin is not None
                process.stdin.write(child.TASK.pack(seconds * self._threads, len(task)))
                process.stdin.write(task)
                await process.stdin.drain()
                kind, value = await _read_answer(process)
                begun = time.monotonic()
                if kind == child.BEGUN:
                    limit.reschedule(asyncio.get_running_loop().time() + seconds)
                    kind, value = await _read_answer(process)
            kept = kind != child.OUT_OF_MEMORY
        except TimeoutError as error:
            raise self._breach(what, "time", f"it took more than {seconds:g} s") from error
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise self._breach(what, "crash", "it ended its process") from error
        finally:
            metrics.BOUNDED_SECONDS.labels(what=what).observe(time.monotonic() - begun)
            # also where the caller was cancelled: what runs is nobody's any more
            if kept and not self.should_stop:
                self._idle.append(process)
            else:
                self._end(process)
        if kind == child.OUT_OF_MEMORY:
            megabytes = self._memory_bytes // 2**20
            raise self._breach(what, "memory", f"it needs more than {megabytes} MB of memory")
        found = pickle.loads(value)  # noqa: S301 our own child's, which holds no more than its task
        if kind == child.RAISED:
            raise found
        return found

    async def _child(self) -> asyncio.subprocess.Process:
        while self._idle:
            process = self._idle.pop()
            if process.returncode is None:
                return process
            self._all.discard(process)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # else the folder of the file comes first, whose names hide others
            str(Path(child.__file__)),
            str(self._memory_bytes),
            str(os.getpid()),
            str(self._nice),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=_environment(),
        )
        self._all.add(process)
        return process

    def _end(self, process: asyncio.subprocess.Process) -> None:
        self._all.discard(process)
        if process.returncode is None:
            process.kill()

    async def on_shutdown(self) -> None:
        """End every child."""
        self._idle.clear()
        for process in list(self._all):
            self._end(process)
            await process.wait()

    def _breach(self, what: str, reason: str, detail: str) -> OverBudgetError:
        metrics.BOUNDED_BREACHES.labels(what=what, reason=reason).inc()
        return OverBudgetError(f"{what} was given up: {detail}", reason)


class Aside:
    """Has functions called where they do not hold up the event loop, nor what else Python does.

    In a child of ``pool``; in a thread where there is none, or where no child gets through with it:
    that is slower, and the same.
    """

    def __init__(self, pool: BoundedPool | None = None) -> None:
        self._pool = pool
        self._told = False
        #: How long children have been waited for: in that time nobody here is held up.
        self.child_seconds = 0.0

    async def run(self, what: str, name: str, *arguments: object) -> Any:
        """Call ``module:function`` with what can be pickled; see :meth:`BoundedPool.run`.

        Raises:
            Exception: what the function raises.
        """
        if self._pool is not None:
            begun = time.monotonic()
            try:
                return await self._pool.run(
                    what, child.by_name, name, *arguments, seconds=ASIDE_SECONDS
                )
            except (OverBudgetError, OSError) as error:
                if not self._told:
                    self._told = True
                    logger.warning("%s goes on in a thread where no child does it: %s", what, error)
            finally:
                self.child_seconds += time.monotonic() - begun
        return await self._here(name, *arguments)

    async def _here(self, name: str, *arguments: object) -> Any:
        return await asyncio.to_thread(child.by_name, name, *arguments)


async def _read_answer(process: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
    assert process.stdout is not None
    kind, length = child.ANSWER.unpack(await process.stdout.readexactly(child.ANSWER.size))
    if length > MAX_ANSWER_BYTES:
        return child.OUT_OF_MEMORY, b""
    return kind, await process.stdout.readexactly(length)


def _environment() -> dict[str, str]:
    known = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # where we find modules, also those of a project of one's own, it does
    return known | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
