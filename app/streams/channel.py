"""Channels: Redis Streams as ``faust.Channel``, and named in-memory ones between the stages."""

import asyncio
import math
import time
from asyncio import QueueFull
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import faust
from faust.serializers import codecs as faust_codecs
from faust.types import TP, FutureMessage, RecordMetadata
from mode.utils.logging import get_logger
from mode.utils.queues import ThrowableQueue

from hookstream.app import metrics, tasks
from hookstream.app.errors import TableUseError
from hookstream.app.redis import keys
from hookstream.app.settings import Settings
from hookstream.app.streams.batch import Batch

__all__ = ["BatchChannel", "RedisStreamChannel", "Taker", "pass_on"]

logger = get_logger(__name__)

#: So many events wait for an agent that looks on; what comes then goes past it.
LOOKER_EVENTS = 4096
#: How often it is said again that an agent misses events.
SAY_DROPPED_SECONDS = 60.0


class StreamsApp(Protocol):
    """What channels need of their application, which is a ``faust.App`` besides."""

    consumer_generation_id: int
    settings: Settings
    stream_channels: "dict[str, RedisStreamChannel]"

    def partition_for(self, key: str) -> int:
        """The partition of a key."""

    async def append_entry(self, stream: str, data: bytes) -> bytes:
        """Append to a stream of Redis; returns the entry's id."""


class LookerQueue(ThrowableQueue):
    """Batches with :data:`LOOKER_EVENTS` events between them, and the one that went beyond."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._sizes: deque[int] = deque()
        self._held = 0

    def full(self) -> bool:
        """Whether no other batch is taken now."""
        return self._held >= LOOKER_EVENTS

    def _put(self, event: Any) -> None:
        super()._put(event)
        # noted: entries may leave a batch while it waits here
        self._sizes.append(max(1, len(event.value)))
        self._held += self._sizes[-1]

    def _get(self) -> Any:
        self._held -= self._sizes.popleft()
        return super()._get()


@dataclass(frozen=True, slots=True)
class Taker:
    """What takes a channel's batches: ``work`` says whether one goes on, ``following`` whereto.

    ``together`` is there where a stage takes several of different partitions in one pass. It gives
    those that go on, and those that it leaves for ``work``: what waits for something else must not
    be waited for by others.
    """

    work: Callable[[Batch], Coroutine[Any, Any, bool]]
    following: "Callable[[], BatchChannel | None]"
    together: Callable[[Sequence[Batch]], Awaitable[tuple[list[Batch], list[Batch]]]] | None = None


class BatchChannel(faust.Channel):
    """A named in-memory channel whose values are batches; what links one stage to the next."""

    _queue: ThrowableQueue | None

    def __init__(self, app: StreamsApp, name: str = "", *, looker: str = "", **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        self.name = name
        #: The agent that looks on here: what it has no room for it does not get.
        self.looker = looker
        #: Where the function stands that ends this channel's batches; "" where there is none.
        self.consumer = ""
        self.taker: Taker | None = None
        self._dropped = 0
        self._said_at = -math.inf

    @property
    def queue(self) -> ThrowableQueue:
        """What waits for the agent that iterates."""
        if self.looker and self._queue is None:
            self._queue = LookerQueue(flow_control=self.app.flow_control)
        return super().queue

    def looked_at_by(self, agent: str) -> "BatchChannel":
        """The same for an agent that looks on: nothing waits for it, and it may miss events."""
        seen: BatchChannel = self._clone(looker=agent)
        return seen

    async def put(self, value: Any) -> None:
        """Put a Faust event with a batch before every agent; who looks on is not waited for."""
        root = self._root if self._root is not None else self
        for subscriber in list(root._subscribers):
            if subscriber.looker:
                subscriber.offer(value)
            else:
                await subscriber.queue.put(value)

    def offer(self, value: Any) -> None:
        """Put it before the agent that looks on, if there is room for it."""
        try:
            self.queue.put_nowait(value)
            value.value.looked_at = True
            return
        except QueueFull:
            missed = len(value.value)
        metrics.AGENT_DROPPED.labels(agent=self.looker).inc(missed)
        self._dropped += missed
        if time.monotonic() - self._said_at >= SAY_DROPPED_SECONDS:
            self._said_at = time.monotonic()
            logger.warning(
                "the agent %s is too slow for %s: %d events have gone past it so far. What may "
                "miss nothing belongs into a stream channel of its own (docs/stages.md)",
                self.looker,
                self.name,
                self._dropped,
            )

    def get_topic_name(self) -> str:
        """The name, as ``hookstream agents`` shows it."""
        return self.name

    def _clone_args(self) -> Mapping[str, Any]:
        return {**super()._clone_args(), "name": self.name, "looker": self.looker}

    def __str__(self) -> str:
        return self.name

    async def put_batch(self, batch: Batch) -> None:
        """Hand a batch to every agent that iterates over this channel."""
        await self.put(self._event(batch))

    async def put_batches(self, batches: Sequence[Batch]) -> None:
        """Hand on batches of different partitions: in one pass, where what takes them can do that.

        Returns at their end then. Who looks on sees each of them.
        """
        if self.taker is not None and self.taker.together is not None:
            await pass_on(batches, self)
            return
        for batch in batches:
            await self.put_batch(batch)

    def show(self, batch: Batch) -> None:
        """Let those see a batch who look on; whoever takes from this channel has it already."""
        if lookers := [each for each in self._subscribers if each.looker]:
            event = self._event(batch)
            for looker in lookers:
                looker.offer(event)

    def _event(self, batch: Batch) -> Any:
        message = faust.types.Message(
            self.name,
            batch.partition.number,
            -1,
            timestamp=None,
            timestamp_type=0,
            headers={},
            key=None,
            value=batch,
            checksum=None,
            tp=TP(self.name, batch.partition.number),
            # Faust skips what it takes for a leftover from before a rebalance
            generation_id=self.app.consumer_generation_id,
        )
        return self.app.create_event(None, batch, {}, message)


class RedisStreamChannel(BatchChannel):
    """A stream in each of P partitions, read as :class:`Batch`; ``send`` appends.

    ``send(key=..., value=...)`` encodes by the channel's codec and picks the partition by the
    key's hash, or takes ``partition``. The consumer group is made when a partition is first read.
    Of an ``own`` one, which is a stream developer's, a batch that is done is committed by its
    reader; of the pipeline's the last stage does that.
    """

    def __init__(
        self,
        app: StreamsApp,
        name: str = "",
        *,
        codec: str = "",
        own: bool = False,
        batch_max: int | None = None,
        linger_seconds: float = 0.0,
        linger_share: float = math.inf,
        by_owner: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(app, name, **kwargs)
        #: Only the owner of a partition appends to it, in its commits: nobody else has to be asked
        #: whether there is something.
        self.by_owner = by_owner
        self.codec = codec
        self.own = own
        #: Most entries of one batch, where that is less than ``HOOKSTREAM_BATCH_MAX_EVENTS``.
        self.batch_max = batch_max
        #: Time after a batch in which no more of its partition is read, so that what comes then is
        #: one batch more and not several; at most this share of the time that the batch took.
        self.linger_seconds = linger_seconds
        self.linger_share = linger_share
        if not self.is_iterator and self._root is None:
            app.stream_channels[name] = self

    def _clone_args(self) -> Mapping[str, Any]:
        names = ("codec", "own", "batch_max", "linger_seconds", "linger_share", "by_owner")
        return {**super()._clone_args(), **{name: getattr(self, name) for name in names}}

    def decode_value(self, raw: bytes) -> Any:
        """The value in an entry's bytes; raises what the codec raises."""
        return faust_codecs.loads(self.codec, raw)

    def encode_value(self, value: Any) -> bytes:
        """A value as it stands in an entry; raises what the codec raises."""
        encoded: bytes = faust_codecs.dumps(self.codec, value)
        return encoded

    async def publish_message(
        self, fut: FutureMessage[Any], wait: bool = True
    ) -> Awaitable[RecordMetadata]:
        """Append to the stream; the event log's offset is the entry id's milliseconds."""
        message = fut.message
        partition = message.partition
        if partition is None:
            partition = self.app.partition_for(str(message.key or ""))
        elif not 0 <= partition < self.app.settings.partitions:
            raise ValueError(
                f"{self.name!r} has no partition {partition!r:.20}, which nobody would read: there "
                f"are 0 to {self.app.settings.partitions - 1}; leave it out, and the key says which"
            )
        entry_id = await self.app.append_entry(
            keys.stream(self.name, partition), self.encode_value(message.value)
        )
        tp = TP(self.name, partition)
        result: Awaitable[RecordMetadata] = await self._finalize_message(
            fut,
            RecordMetadata(
                topic=self.name,
                partition=partition,
                topic_partition=tp,
                offset=int(entry_id.partition(b"-")[0]),
                timestamp=message.timestamp,
                timestamp_type=1,
            ),
        )
        return result


async def pass_on(batches: Sequence[Batch], target: BatchChannel | None) -> None:
    """Take batches of different partitions from stage to stage, to their end, in this task.

    From agent to agent a stage costs 25 µs of CPU more, which is as much as the stages themselves
    where batches are small; so does each batch by itself. Who looks on at a channel sees it all the
    same.
    """
    while target is not None and batches:
        for batch in batches:
            target.show(batch)
        taker = target.taker
        assert taker is not None
        if len(batches) == 1:
            if not await taker.work(batches[0]):
                return
        else:
            left: Sequence[Batch] = batches
            if taker.together is not None:
                batches, left = await taker.together(batches)
            if left:
                await _apart(batches if taker.together else (), left, taker)
                return
        target = taker.following()
    for batch in batches:
        if batch.own:
            try:
                batch.done()
            except TableUseError as error:
                batch.fail(error)


async def _apart(through: Sequence[Batch], left: Sequence[Batch], taker: Taker) -> None:
    """Have each of ``left`` go through a stage by itself, and on together with those that are
    through at the same time: at first with ``through``.
    """
    # of each task the batches that it has, and whether it is at this stage still
    running: dict[asyncio.Task[Any], tuple[Sequence[Batch], bool]] = {
        tasks.awaited("pass_on.work", taker.work(batch)): ([batch], True) for batch in left
    }
    try:
        while running or through:
            if through and not running:
                await pass_on(through, taker.following())
                return
            if through:
                going = tasks.awaited("pass_on", pass_on(through, taker.following()))
                running[going] = (through, False)
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            through = []
            for task in [each for each in running if each in done]:
                batches, here = running.pop(task)
                if error := _error_of(task):
                    # its task was ended, and not this one: a batch without an end stops its
                    # partition
                    for batch in batches:
                        batch.fail(error)
                elif here and task.result():
                    through.extend(batches)
    finally:
        await tasks.stop(*running)


def _error_of(task: "asyncio.Task[Any]") -> BaseException | None:
    if task.cancelled():
        return asyncio.CancelledError("what worked on it was cancelled")
    return task.exception()
