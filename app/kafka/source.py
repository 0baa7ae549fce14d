"""Events that come out of topics: receivers share the partitions of each tool's topic.

A tool's topic has a consumer group of its own, so Kafka gives each partition to one receiver. What
a partition has is taken in its order, one record after the other; its offset is committed once the
event is in Redis, or Redis has the refusal of what can be none. Whoever loses a partition meanwhile
leaves the rest to the next one: what comes twice is the same event, since its id follows from the
record's place.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, IllegalStateError
from mode.utils.logging import get_logger
from prometheus_client import Counter

from hookstream.app import metrics, tasks
from hookstream.app.backoff import backoff_seconds
from hookstream.app.errors import HookstreamError
from hookstream.app.ids import own_tool_id
from hookstream.app.kafka.client import (
    KAFKA_ERRORS,
    BrokerError,
    broker_error,
    client_options,
    found_error,
)
from hookstream.app.kafka.records import arrival, unpack
from hookstream.app.queues.door import QueueDoors
from hookstream.app.queues.intake import Intake
from hookstream.app.queues.queue_tasks import QueueWork, Unlisted
from hookstream.app.queues.states import QueueState
from hookstream.app.routing.catalog import Tool
from hookstream.app.routing.topics import KafkaSource
from hookstream.app.settings import Settings

__all__ = ["KafkaIntake"]

logger = get_logger(__name__)

#: How long records are waited for.
POLL_MS: Final = 500
SHORT_MS: Final = 20
#: Records of one poll, and bytes that are fetched of a partition, and of all, ahead of it.
RECORDS: Final = 200
PARTITION_BYTES: Final = 1 << 20
FETCH_BYTES: Final = 8 << 20
#: A receiver that says nothing for so long has lost its partitions to the others.
SESSION_MS: Final = 10_000
#: How long a rebalance waits for what a receiver has in hand.
REBALANCE_MS: Final = 10_000
#: How often offsets are committed: what was taken since then comes again after a crash.
COMMIT_EVERY_SECONDS: Final = 0.5
#: How long offsets may take to be committed, and how long leaving may take.
COMMIT_SECONDS: Final = 3.0
#: How often brokers are asked how far their partitions are: aiokafka does not say when they are
#: away.
WATCH_SECONDS: Final = 5.0
#: How often it is looked whether a topic has come to be, or got more partitions.
METADATA_MS: Final = 30_000
#: Heartbeats say that a receiver lives; it may wait for Redis for as long as that takes.
FOR_EVER_MS: Final = 2**31 - 1


class KafkaIntake(Intake[KafkaSource]):
    """Reads the topics of all tools."""

    def __init__(self, doors: QueueDoors) -> None:
        super().__init__(doors, "KafkaIntake.topic")

    def source_of(self, tool: Tool) -> KafkaSource | None:
        """See :class:`Intake`."""
        return tool.source if isinstance(tool.source, KafkaSource) else None

    def reader(self, tool_id: str, source: KafkaSource) -> QueueWork:
        """See :class:`Intake`."""
        settings = self.doors.settings
        if not settings.may_read_topic(source.topic):
            state = QueueState(tool_id, source.topic, errors=metrics.KAFKA_ERRORS, word="topic")
            name = "HOOKSTREAM_KAFKA_TOPICS" if settings.kafka_url else "HOOKSTREAM_KAFKA_URL"
            return Unlisted(state, name)
        return TopicReader(self.doors, tool_id, source)


class TopicReader:
    """Takes what comes out of one tool's topic."""

    def __init__(self, doors: QueueDoors, tool_id: str, source: KafkaSource) -> None:
        self.tool_id = tool_id
        self.source = source
        self.state = QueueState(tool_id, source.topic, errors=metrics.KAFKA_ERRORS, word="topic")
        self._settings: Settings = doors.settings
        self._door = doors.of(tool_id, self.state)
        self._consumer: Any = None
        #: By partition, what takes its records, and the offset behind what is durable here.
        self._taking: dict[TopicPartition, asyncio.Task[None]] = {}
        self._done: dict[TopicPartition, int] = {}
        #: The same, also where that is committed.
        self._at: dict[TopicPartition, int] = {}
        #: What is in the way of asking brokers, as far as that is known.
        self._trouble: BrokerError | None = None
        self._watching: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Take records until cancelled. What is in hand then comes again."""
        while True:
            try:
                await self._read()
            except KAFKA_ERRORS as error:
                self.state.failed(await found_error(self._settings, error))
            finally:
                # whoever stops this may cancel it again
                await asyncio.shield(tasks.spawn("TopicReader.close", self._close()))
            await asyncio.sleep(backoff_seconds(self.state.failures))

    async def _read(self) -> None:
        """Join the group and take what comes. Raises what brokers say."""
        settings = self._settings
        consumer = self._consumer = AIOKafkaConsumer(
            **client_options(settings),
            group_id=f"{settings.kafka_group}.{self.tool_id.replace('/', '.')}",
            enable_auto_commit=False,
            # of a tool that is new all that is there is an event
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=SESSION_MS // 4,
            rebalance_timeout_ms=REBALANCE_MS,
            max_poll_interval_ms=FOR_EVER_MS,
            metadata_max_age_ms=METADATA_MS,
            max_partition_fetch_bytes=PARTITION_BYTES,
            fetch_max_bytes=FETCH_BYTES,
        )
        consumer.subscribe([self.source.topic], listener=Listener(self))
        if not self.state.trouble:
            self.state.trouble, self.state.detail = "joining", "its group is being joined"
        await consumer.start()
        logger.info("tool %s: reading the topic %s", self.tool_id, self.source.topic)
        self._trouble = None
        self._watching = tasks.awaited("TopicReader.watch", self._watch())
        commit_at = 0.0
        while True:
            waits = self._waits()
            if waits:
                self.state.troubled(*waits)
            elif self._trouble is None:
                self.state.well()
            if free := ([] if waits else self._free()):
                # others that come to their end meanwhile are not to wait for it
                wait_ms = SHORT_MS if self._taking else POLL_MS
                found = await consumer.getmany(*free, timeout_ms=wait_ms, max_records=RECORDS)
                for partition, records in found.items():
                    self._begin(partition, records)
            else:
                await self._wait_a_moment()
            self._look_at_tasks()
            if time.monotonic() >= commit_at:
                await self._commit(self._done)
                commit_at = time.monotonic() + COMMIT_EVERY_SECONDS

    def _waits(self) -> tuple[str, str] | None:
        """What nothing is taken for now: its kind, and in words."""
        if not self._consumer.partitions_for_topic(self.source.topic):
            return "missing", "there is no such topic: it is read as soon as there is one"
        return self._door.waits()

    async def _wait_a_moment(self) -> None:
        """Wait for something in hand to come to its end, no longer than a poll takes."""
        if self._taking:
            await asyncio.wait(
                self._taking.values(),
                timeout=POLL_MS / 1000,
                return_when=asyncio.FIRST_COMPLETED,
            )
        else:
            await asyncio.sleep(POLL_MS / 1000)

    async def _watch(self) -> None:
        """Ask again and again how far partitions are: what waits, and whether brokers are there."""
        while True:
            try:
                await self._measure()
                self._trouble = None
            except KAFKA_ERRORS as error:
                self._trouble = await found_error(self._settings, error)
                self.state.failed(self._trouble)
            await asyncio.sleep(WATCH_SECONDS)

    def _free(self) -> list[TopicPartition]:
        """Partitions of which nothing is in hand."""
        return [each for each in self._consumer.assignment() if each not in self._taking]

    def _begin(self, partition: TopicPartition, records: Sequence[Any]) -> None:
        metrics.KAFKA_RECEIVED.labels(tool=self.tool_id).inc(len(records))
        self._taking[partition] = tasks.awaited("TopicReader.take", self._take(partition, records))

    def _look_at_tasks(self) -> None:
        """End what is done. Raises what a task has raised: its records come again."""
        for partition, task in list(self._taking.items()):
            if task.done():
                del self._taking[partition]
                task.result()

    async def _take(self, partition: TopicPartition, records: Iterable[Any]) -> None:
        """Take records of one partition, in their order."""
        for record in records:
            if record.value is not None:
                await self._take_one(record)
            # else it says that its key is over, in a topic that is compacted: no event
            self._done[partition] = self._at[partition] = record.offset + 1

    async def _take_one(self, record: Any) -> None:
        came = arrival(record, self.source, time.time_ns() // 1_000_000)
        try:
            await self._door.take(came, lambda: unpack(came))
        except HookstreamError as error:
            logger.warning(
                "the topic %s of tool %s: the %s can be no event (%s): it is passed over, and GET "
                "/api/v1/tools/%s/refusals has it",
                self.source.topic,
                self.tool_id,
                came.name,
                error,
                own_tool_id(self.tool_id),
            )
            counter: Counter | None = metrics.KAFKA_REFUSED
            failures = 0
            while not await self._door.refuse(came, error, counter):
                counter = None
                failures += 1
                await asyncio.sleep(backoff_seconds(failures))

    async def _commit(self, done: dict[TopicPartition, int]) -> None:
        """Say how far partitions have been taken. What is not said comes again, and is known."""
        offsets = dict(done)
        if not offsets:
            return
        try:
            await asyncio.wait_for(self._consumer.commit(offsets), COMMIT_SECONDS)
        except (CommitFailedError, IllegalStateError) as error:
            # others have these partitions by now
            logger.debug("the topic %s: offsets are not committed: %s", self.source.topic, error)
        except KAFKA_ERRORS as error:
            self.state.failed(broker_error(error))
            return
        for partition, offset in offsets.items():
            if self._done.get(partition) == offset:
                del self._done[partition]

    async def _measure(self) -> None:
        """How much waits in the partitions that are read here. Raises what brokers say."""
        lag = 0
        assigned = list(self._consumer.assignment())
        ends = await self._consumer.end_offsets(assigned) if assigned else {}
        for partition, end in ends.items():
            at = self._at.get(partition)
            if at is None:
                at = await self._consumer.committed(partition) or 0
                at = self._at.setdefault(partition, at)
            lag += max(0, end - at)
        metrics.KAFKA_SOURCE_LAG.labels(tool=self.tool_id).set(lag)

    async def lose(self, partitions: Iterable[TopicPartition]) -> None:
        """End what is in hand of partitions that others get, and say how far it has come."""
        lost = list(partitions)
        await tasks.stop(*(self._taking.pop(each) for each in lost if each in self._taking))
        await self._commit({each: self._done[each] for each in lost if each in self._done})
        for each in lost:
            self._done.pop(each, None)
            self._at.pop(each, None)

    async def _close(self) -> None:
        """End what is in hand, say how far it has come, and leave the group."""
        consumer = self._consumer
        if consumer is None:
            return
        watching = [self._watching] if self._watching else []
        await tasks.stop(*watching, *self._taking.values())
        self._taking.clear()
        try:
            await self._commit(self._done)
            await asyncio.wait_for(consumer.stop(), COMMIT_SECONDS)
        except KAFKA_ERRORS as error:
            logger.debug("the topic %s is left without a word: %s", self.source.topic, error)
        self._consumer = self._watching = None
        self._done.clear()
        self._at.clear()
        metrics.KAFKA_SOURCE_LAG.labels(tool=self.tool_id).set(0)


class Listener(ConsumerRebalanceListener):
    """Hears which partitions others get."""

    def __init__(self, reader: TopicReader) -> None:
        self._reader = reader

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """What is in hand of them ends before anybody else gets them."""
        await self._reader.lose(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Nothing is to be done."""
