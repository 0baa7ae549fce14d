"""Mirrors: events and updates are put into topics, in the order of their keys, at least once.

Each worker sends what waits in its partitions, and removes a line once brokers have its record.
What ends in between sends it again, with the same id in a header. Kafka may be away for as long as
it likes: nobody waits for it, and what waits for it are lines of some 100 bytes.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.archive.rows import Place
from hookstream.app.backoff import backoff_seconds
from hookstream.app.errors import SchemaRegistryError, UnavailableError
from hookstream.app.ids import own_tool_id
from hookstream.app.kafka.client import BrokerError
from hookstream.app.kafka.outbox import EVENTS, UPDATES, EventLine, UpdateLine
from hookstream.app.kafka.producing import Record, RecordProducer
from hookstream.app.kafka.wire import json_value, protobuf_value
from hookstream.app.queues.queue_tasks import QueueTasks
from hookstream.app.queues.reading import events_at
from hookstream.app.queues.states import QueueState
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.routing.catalog import Catalog
from hookstream.app.routing.event_keys import key_name_of
from hookstream.app.routing.paths import key_name
from hookstream.app.settings import Settings
from hookstream.app.stores.events import EventStore
from hookstream.app.streams.partition import Partition
from hookstream.codecs.envelope import Event, encode_event
from hookstream.codecs.errors import CodecError

__all__ = ["MirroredEvents", "MirroredUpdates", "Mirrors"]

logger = get_logger(__name__)

#: How often it is looked whether mirrors run, and for new lines where there were none.
LOOK_SECONDS: Final = 1.0
IDLE_SECONDS: Final = 0.2
#: Lines of a partition that are sent at a time, and of all of them: their payloads are in memory.
PAGE: Final = 100
PAGE_OF_ALL: Final = 500
#: For how long a partition has to be here before lines of a mirror that is not wanted are dropped.
FORGET_SECONDS: Final = 60.0
#: The subjects of the registry that records' values are of.
SUBJECTS: Final = {EVENTS: "hookstream-envelope", UPDATES: "hookstream-feed-update"}


@dataclass(frozen=True, slots=True)
class Waiting:
    """A line and where it is; ``record`` is None where there is none to be sent, and ``why``."""

    number: int
    entry_id: bytes
    line: EventLine | UpdateLine
    record: Record | None
    why: str = ""


class Source(Protocol):
    """What is mirrored: how lines become records."""

    async def records(
        self, schema_id: int, number: int, lines: Sequence[tuple[bytes, bytes]]
    ) -> list[Waiting]:
        """The records of a partition's lines (entry id, bytes), in order.

        Raises UnavailableError where they cannot be read now.
        """


class Mirrors(Service):
    """Sends what waits in this worker's partitions, each mirror in a task of its own."""

    mundane_level = "debug"

    def __init__(
        self,
        redis: Any,
        settings: Settings,
        *,
        sources: Mapping[str, Source],
        owned: Callable[[], Mapping[int, Partition]],
        schema_id: Callable[[str], Awaitable[int]],
        **kwargs: Any,
    ) -> None:
        """``sources`` by what is mirrored; ``schema_id``: of a subject of the registry."""
        super().__init__(**kwargs)
        self.redis = redis
        self.settings = settings
        self.sources = sources
        self.owned = owned
        self.schema_id = schema_id
        self._senders: QueueTasks[str] = QueueTasks("Mirrors.sender", self._sender)
        self._wanted = {
            stream: topic
            for stream, topic in (
                (EVENTS, settings.kafka_events_topic),
                (UPDATES, settings.kafka_updates_topic),
            )
            if topic
        }

    def states(self) -> list[QueueState]:
        """How each mirror does."""
        return self._senders.states()

    @tasks.loop
    async def _run(self) -> None:
        forget_at = 0.0
        try:
            while not self.should_stop:
                await self._senders.follow(self._wanted)
                if time.monotonic() >= forget_at:
                    forget_at = time.monotonic() + FORGET_SECONDS / 4
                    await self._forget()
                await self.sleep(LOOK_SECONDS)
        finally:
            await self._senders.stop()

    def _sender(self, stream: str, topic: str) -> "Mirror":
        return Mirror(self, stream, topic)

    async def _forget(self) -> None:
        """Drop what waits for a mirror that is not set any more."""
        for stream in (EVENTS, UPDATES):
            if stream in self._wanted:
                continue
            since = time.monotonic() - FORGET_SECONDS
            numbers = [n for n, each in self.owned().items() if each.opened_at < since]
            try:
                await self._drop(stream, numbers)
            except REDIS_ERRORS as error:
                logger.debug("lines of the mirror of %s are dropped later: %s", stream, error)

    async def _drop(self, stream: str, numbers: Sequence[int]) -> None:
        pipe = self.redis.pipeline(transaction=False)
        for number in numbers:
            pipe.xlen(keys.mirror(number, stream))
        found = await pipe.execute() if numbers else []
        for number, lines in zip(numbers, found, strict=True):
            if lines:
                await self.redis.unlink(keys.mirror(number, stream))
                metrics.KAFKA_NOT_MIRRORED.labels(stream=stream, reason="forgotten").inc(lines)
                logger.warning(
                    "no topic is set for %s any more: %d of partition %d that were to be mirrored "
                    "are not",
                    stream,
                    lines,
                    number,
                )


class Mirror:
    """Sends events, or updates, into their topic."""

    def __init__(self, mirrors: Mirrors, stream: str, topic: str) -> None:
        self._mirrors = mirrors
        self._stream = stream
        self.state = QueueState("", topic, errors=metrics.KAFKA_ERRORS, word="topic")
        self._producer = RecordProducer(mirrors.settings, topic)
        self._schema_id = 0

    async def run(self) -> None:
        """Send until cancelled."""
        try:
            while True:
                try:
                    gone = await self._round()
                except (BrokerError, UnavailableError, SchemaRegistryError, *REDIS_ERRORS) as error:
                    await self._failed(error)
                    continue
                self.state.well()
                if not gone:
                    await asyncio.sleep(IDLE_SECONDS)
        finally:
            await self._producer.close()

    async def _failed(self, error: Exception) -> None:
        if isinstance(error, BrokerError):
            self.state.failed(error)
            # what it still has in hand must not come behind what is sent again
            await self._producer.close()
        else:
            self.state.held_up(error)
        await asyncio.sleep(backoff_seconds(self.state.failures))

    async def _round(self) -> int:
        """Send a page of what waits; how many lines are gone. Raises what is in the way."""
        mirrors, stream = self._mirrors, self._stream
        owned = dict(mirrors.owned())
        pipe = mirrors.redis.pipeline(transaction=False)
        for number in owned:
            pipe.xrange(keys.mirror(number, stream), count=PAGE)
            pipe.xlen(keys.mirror(number, stream))
        found = await pipe.execute() if owned else []
        pages = {number: page for number, page in zip(owned, found[::2], strict=True) if page}
        self._measure(pages, sum(found[1::2]))
        gone = 0
        waiting: list[Waiting] = []
        # who has waited longest goes first
        for number in sorted(pages, key=lambda each: _ms(pages[each][0][0])):
            if waiting and len(waiting) + len(pages[number]) > PAGE_OF_ALL:
                break
            waiting += await self._read(number, pages[number])
        # who has a partition by now sends what is left of it
        here = mirrors.owned()
        waiting = [each for each in waiting if here.get(each.number) is owned[each.number]]
        if waiting:
            gone = await self._send(waiting)
        return gone

    def _measure(self, pages: Mapping[int, Sequence[tuple[bytes, Any]]], lines: int) -> None:
        metrics.KAFKA_MIRROR_WAITING.labels(stream=self._stream).set(lines)
        oldest = min((_ms(page[0][0]) for page in pages.values()), default=0)
        age = max(0.0, time.time() - oldest / 1000) if oldest else 0.0
        metrics.KAFKA_MIRROR_OLDEST_SECONDS.labels(stream=self._stream).set(age)

    async def _read(self, number: int, page: Sequence[tuple[bytes, Any]]) -> list[Waiting]:
        if not self._schema_id:
            self._schema_id = await self._mirrors.schema_id(SUBJECTS[self._stream])
        lines = [(entry_id, fields.get(b"d", b"")) for entry_id, fields in page]
        return await self._mirrors.sources[self._stream].records(self._schema_id, number, lines)

    async def _send(self, waiting: Sequence[Waiting]) -> int:
        """Send records; how many lines are gone. Raises BrokerError where some of them are not."""
        for each in waiting:
            if each.record is None:
                self._pass_over(each.line, each.why)
        gone = await self._remove([each for each in waiting if each.record is None])
        wanted = [each.record for each in waiting if each.record is not None]
        if not wanted:
            return gone
        sent = await self._producer.send(wanted)
        for record in sent.too_large:
            self._pass_over(record.line, "too-large")
        metrics.KAFKA_MIRRORED.labels(stream=self._stream).inc(len(sent.took))
        over = {id(record) for record in (*sent.took, *sent.too_large)}
        done = [each for each in waiting if each.record is not None and id(each.record) in over]
        gone += await self._remove(done)
        if sent.error is not None:
            raise sent.error
        return gone

    def _pass_over(self, line: object, why: str) -> None:
        metrics.KAFKA_NOT_MIRRORED.labels(stream=self._stream, reason=why).inc()
        logger.warning(
            "%s is not mirrored to the topic %s: %s",
            line,
            self.state.queue,
            WHY.get(why, why),
        )

    async def _remove(self, done: Sequence[Waiting]) -> int:
        by_number: dict[int, list[bytes]] = {}
        for each in done:
            by_number.setdefault(each.number, []).append(each.entry_id)
        pipe = self._mirrors.redis.pipeline(transaction=False)
        for number, entries in by_number.items():
            pipe.xdel(keys.mirror(number, self._stream), *entries)
        if by_number:
            await pipe.execute()
        return len(done)


class MirroredEvents:
    """Events as envelopes, by the keys that they are ordered by."""

    def __init__(self, store: EventStore, catalog: Callable[[], Catalog]) -> None:
        self._store = store
        self._catalog = catalog

    async def records(
        self, schema_id: int, number: int, lines: Sequence[tuple[bytes, bytes]]
    ) -> list[Waiting]:
        """See :class:`Source`."""
        found = [(entry_id, EventLine.decode(data)) for entry_id, data in lines]
        events = await events_at(
            self._store,
            [
                (line.event_id, Place(line.tenant, line.tool_id, number, line.entry_id))
                for _, line in found
            ],
        )
        waiting = []
        for (entry_id, line), event in zip(found, events, strict=True):
            waiting.append(self._waiting(schema_id, number, entry_id, line, event))
            if event is not None:
                event.release()
            # a payload is unpacked, and may be parsed: others are not to wait for all of them
            await asyncio.sleep(0)
        return waiting

    def _waiting(
        self, schema_id: int, number: int, entry_id: bytes, line: EventLine, event: Event | None
    ) -> Waiting:
        if event is None:
            return Waiting(number, entry_id, line, None, "gone")
        tool = self._catalog().tools.get(event.tool_id)
        try:
            key = key_name_of(tool, event) if tool else key_name((event.tenant, event.tool_id))
            value = protobuf_value(schema_id, encode_event(event))
        except CodecError:
            return Waiting(number, entry_id, line, None, "unread")
        headers = {
            "hookstream_event_id": event.event_id,
            "hookstream_tenant": event.tenant,
            "hookstream_tool_id": own_tool_id(event.tool_id),
            "hookstream_type": event.type,
        }
        at_ms = event.received_at_ms
        record = Record(key.encode(), value, _headers(headers), at_ms, line)
        return Waiting(number, entry_id, line, record)


class MirroredUpdates:
    """Updates as JSON, by the contexts that they are of."""

    def __init__(
        self, read: Callable[[Sequence[tuple[str, str, int]]], Awaitable[list[bytes | None]]]
    ) -> None:
        """``read``: updates by tenant, context and number; see ``Feeds.at``."""
        self._read = read

    async def records(
        self, schema_id: int, number: int, lines: Sequence[tuple[bytes, bytes]]
    ) -> list[Waiting]:
        """See :class:`Source`."""
        found = [(entry_id, UpdateLine.decode(data)) for entry_id, data in lines]
        bodies = await self._read([(li.tenant, li.context_id, li.seq) for _, li in found])
        waiting = []
        for (entry_id, line), body in zip(found, bodies, strict=True):
            if body is None:
                waiting.append(Waiting(number, entry_id, line, None, "gone"))
                continue
            key = f"{line.tenant}/{line.context_id}"
            headers = {
                "hookstream_update_id": f"{key}/{line.seq}",
                "hookstream_tenant": line.tenant,
                "hookstream_context_id": line.context_id,
            }
            value = json_value(schema_id, body)
            record = Record(key.encode(), value, _headers(headers), None, line)
            waiting.append(Waiting(number, entry_id, line, record))
        return waiting


#: Why something is not mirrored, in words.
WHY: Final = {
    "gone": "it was erased, or its time is over",
    "too-large": "its record is larger than brokers take (message.max.bytes, max.message.bytes)",
    "unread": "its payload cannot be read",
}


def _headers(given: Mapping[str, str]) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, value.encode()) for name, value in given.items())


def _ms(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])
