"""Agents of stream developers: over stream channels of their own, and looking on at the pipeline.

A batch of a channel of one's own ends in one script, as the pipeline's do: what it sends on, its
failed events and its acknowledgement, fenced by the lease. What was read and not committed comes
again.
"""

import asyncio
import functools
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from faust.agents import current_agent
from mode.utils.logging import get_logger

from hookstream.app import tasks
from hookstream.app.declarations import place_of
from hookstream.app.errors import UnavailableError
from hookstream.app.failures.blocking import judge
from hookstream.app.failures.failed_events import log_failures, write_failures
from hookstream.app.redis.client import Scripts
from hookstream.app.settings import Settings
from hookstream.app.stages import FailureLog, trace_of
from hookstream.app.streams.batch import Batch, Entry, OutputChannel
from hookstream.app.streams.commit import Writes, commit
from hookstream.app.streams.outcome import Accepted

__all__ = ["ChannelCommits", "EventStream", "each_event", "looks_on"]

logger = get_logger(__name__)

#: In a batch that is worked off one by one, what is done is committed at least so often.
COMMIT_SECONDS = 0.2
#: After which an agent that returned, or failed without an event, is begun again.
AGAIN_SECONDS = 1.0


class ChannelCommits:
    """Commits batches of stream developers' channels, as a whole or from their beginning on."""

    def __init__(self, scripts: Scripts, settings: Settings, now_ms: Callable[[], int]) -> None:
        self._scripts = scripts
        self._settings = settings
        self._now_ms = now_ms

    async def __call__(self, batch: Batch, count: int | None = None) -> None:
        """Commit the first ``count`` entries (None: all), and what was sent until now.

        They leave the batch. Raises what a commit raises; then they are in it as before.
        """
        done: Sequence[Entry] = batch.entries[:count]
        if not done:
            return
        part = Batch(batch.channel, batch.partition, list(done), lambda *_: None)
        writes, sends, now_ms = Writes(), list(batch.sends), self._now_ms()
        decision = judge(part, self._settings, now_ms)
        write_failures(writes, part, decision, self._settings, now_ms)
        for stream, value in sends:
            writes.append(stream, value)
        await commit(self._scripts, batch.partition, batch.channel, writes, done, trim=True)
        batch.entries = batch.entries[len(done) :]
        batch.sends = batch.sends[len(sends) :]
        log_failures(part)


class EventStream:
    """What an agent over a channel of one's own iterates over: values, one after the other.

    A value is done when the next one is asked for. One at which the agent raises is tried again
    later, alone, and in the end is a dead letter.
    """

    def __init__(
        self,
        name: str,
        batches: AsyncIterator[Batch],
        commits: Callable[[Batch, int], Awaitable[None]],
    ) -> None:
        self._name = name
        self._commits = commits
        self._batch: Batch | None = None
        self._entry: Entry | None = None
        self._sends: list[tuple[str, bytes]] = []
        self._values = self._read(batches)

    def __aiter__(self) -> "EventStream":
        return self

    async def __anext__(self) -> Any:
        return await anext(self._values)

    def send(self, channel: OutputChannel, value: Any) -> None:
        """Append ``value`` to the same partition of another channel of one's own, with the commit
        of the event that is being worked on: exactly once, whatever crashes.

        Raises:
            RuntimeError: no event is being worked on.
            ValueError: it is a channel of the pipeline; and what its codec raises.
        """
        if self._batch is None or self._entry is None:
            raise RuntimeError("send() belongs to the event that the agent is working on")
        self._sends.append(self._batch.output(channel, value))

    def failed(self, error: BaseException, trace: str) -> bool:
        """The agent raised ``error``; False where that was not while it worked on an event."""
        if self._batch is None or self._entry is None:
            return False
        if isinstance(error, UnavailableError):
            # a server's trouble is not the event's: what is left of the batch comes again
            self._end(error)
        else:
            self._entry.fail(self._name, error, trace=trace)
        self._entry = None
        return True

    def abandon(self) -> None:
        """Nobody iterates any more: what is not committed comes again."""
        self._end(asyncio.CancelledError("its agent has ended"))

    def _end(self, error: BaseException) -> None:
        if self._batch is not None:
            self._batch.fail(error)
        self._batch = self._entry = None

    async def _read(self, batches: AsyncIterator[Batch]) -> AsyncIterator[Any]:
        async for batch in batches:
            self._batch, committed_at, committed = batch, time.monotonic(), 0
            for number, entry in enumerate(list(batch.entries)):
                if isinstance(entry.outcome, Accepted):
                    self._entry, self._sends = entry, []
                    yield entry.value
                    if batch.ended:
                        break
                    if self._entry is not None:
                        batch.sends += self._sends
                    self._entry = None
                leaving = batch.partition.leaving
                if leaving or time.monotonic() - committed_at > COMMIT_SECONDS:
                    try:
                        await self._commits(batch, number + 1 - committed)
                    except Exception as error:  # noqa: BLE001 the reader decides by its kind
                        self._end(error)
                        break
                    committed_at, committed = time.monotonic(), number + 1
                if leaving and batch.entries:
                    self._end(asyncio.CancelledError("its partition is handed over"))
                    break
            else:
                batch.done()
            self._batch = None


def each_event(
    name: str,
    function: Callable[[EventStream], Any],
    commits: Callable[[], Callable[[Batch, int], Awaitable[None]]],
) -> Callable[[AsyncIterator[Batch]], AsyncIterator[Any]]:
    """An agent over batches out of ``async def f(stream)``, which iterates over values.

    When it raises, that event alone has failed; it is begun again, and goes on with the next one.
    """

    @functools.wraps(function)
    async def run(batches: AsyncIterator[Batch]) -> AsyncIterator[Any]:
        stream = EventStream(name, batches, commits())
        try:
            async for result in _again_and_again(name, function, stream, stream.failed):
                yield result
        finally:
            stream.abandon()

    return run


def looks_on(
    name: str, function: Callable[[Any], Any]
) -> Callable[[AsyncIterator[Batch]], AsyncIterator[Any]]:
    """An agent that looks on at a Faust stream of batches; when it raises it is begun again.

    Faust would end the process where one does that often.
    """

    @functools.wraps(function)
    async def run(batches: AsyncIterator[Batch]) -> AsyncIterator[Any]:
        async for result in _again_and_again(name, function, batches, lambda *_: False):
            yield result

    return run


async def _again_and_again(
    name: str,
    function: Callable[[Any], Any],
    stream: Any,
    failed: Callable[[BaseException, str], bool],
) -> AsyncIterator[Any]:
    """Run an agent until Faust stops it, and give what it yields.

    It is begun again at once where ``failed`` says that what it raised was one event's trouble,
    else after a moment.
    """
    log = FailureLog("agent", name, function)
    while True:
        try:
            if inspect.isasyncgenfunction(function):
                async for result in function(stream):
                    yield result
            else:
                await function(stream)
        except BaseException as error:  # an agent is user code
            if tasks.ends_task(error):
                raise
            trace = trace_of(error)
            if failed(error, trace):
                log.note(error, trace)
                continue
            tasks.BOARD.failed(name, error, restarts=True)
        else:
            agent = current_agent()
            if agent is not None and (agent.should_stop or agent.app.should_stop):
                # its stream has ended
                return
            logger.error(
                "the agent %r (%s) has returned; it is begun again, and should iterate for as long "
                "as there is something",
                name,
                place_of(function),
            )
        await asyncio.sleep(AGAIN_SECONDS)
