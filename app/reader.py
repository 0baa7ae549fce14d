"""The reader of one channel: from streams of owned partitions to batches, with back-pressure."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mode import Service
from mode.utils.locks import Event
from mode.utils.logging import get_logger
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from hookstream.app import keys, metrics
from hookstream.app.backoff import backoff_seconds
from hookstream.app.batch import Batch, Entry, Partition
from hookstream.app.channel import RedisStreamChannel
from hookstream.app.errors import FencedError, MovedError, UnavailableError
from hookstream.app.redis_client import is_redis_down
from hookstream.codecs.errors import CodecError

__all__ = ["StreamReader"]

logger = get_logger(__name__)

#: How long a read waits for new entries; less than the socket's timeout.
BLOCK_MS = 1000
#: How long it waits while a partition is full and will soon want to be read again.
BUSY_BLOCK_MS = 5
#: How often a single event is tried when the stage's own code fails on it.
MAX_ATTEMPTS = 3


@dataclass(slots=True, eq=False)
class Slot:
    """What the reader knows of one partition: read ahead, in flight, and how far it has read."""

    partition: Partition
    buffer: deque[Entry] = field(default_factory=deque)
    in_flight: Batch | None = None
    #: Pending entries after this id are read before new ones.
    last_id: str = "0-0"
    recovering: bool = True
    attempt: int = 0
    #: Most entries in the next batch: halved when a batch fails, so that a poison event ends alone.
    limit: int = 1
    waiting: asyncio.TimerHandle | None = None
    checked_at: float = 0.0


class StreamReader(Service):
    """Reads ``XREADGROUP`` over all owned partitions at once, one batch a partition in flight."""

    mundane_level = "debug"

    def __init__(
        self,
        channel: RedisStreamChannel,
        redis: Redis,
        consumer: str,
        *,
        batch_max: int,
        buffer_max: int,
        on_fenced: Callable[[int], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.channel = channel
        self.redis = redis
        self.consumer = consumer
        self.batch_max = batch_max
        self.buffer_max = max(buffer_max, batch_max)
        self.on_fenced = on_fenced
        self.slots: dict[int, Slot] = {}
        self._wake = Event()
        self._idle = Event()
        self._draining = False

    async def attach(self, partitions: Sequence[Partition]) -> None:
        """Begin to read partitions that are now owned: first what was pending, whoever had it.

        All at once, so that no read blocks on some of them while entries wait in the others.
        """
        await asyncio.gather(*(self._take_over(partition.number) for partition in partitions))
        for partition in partitions:
            self.slots[partition.number] = Slot(partition, limit=self.batch_max)
        self._wake.set()

    async def _take_over(self, number: int) -> None:
        key = keys.stream(self.channel.name, number)
        await self._ensure_group(key, "0")
        cursor = b"0-0"
        while True:
            reply = await self.redis.xautoclaim(
                key, keys.GROUP, self.consumer, 0, cursor, count=1000, justid=False
            )
            cursor = reply[0]
            if cursor in (b"0-0", "0-0"):
                break

    def detach(self, number: int) -> None:
        """Stop reading a partition; a batch in flight will be fenced or has been committed."""
        slot = self.slots.pop(number, None)
        if slot and slot.waiting:
            slot.waiting.cancel()
        self._check_idle()

    async def drain(self, timeout_seconds: float) -> bool:
        """Read no more, and wait for the batches in flight; False when time ran out first."""
        self._draining = True
        for slot in self.slots.values():
            slot.buffer.clear()
        self._check_idle()
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_seconds)
        except TimeoutError:
            return False
        return True

    @Service.task
    async def _read(self) -> None:
        failures = 0
        while not self.should_stop:
            try:
                await self._read_once()
                failures = 0
            except (RedisError, OSError) as error:
                if isinstance(error, ResponseError) and "NOGROUP" in str(error):
                    await self._restore_groups()
                    continue
                failures += 1
                metrics.READ_ERRORS.labels(channel=self.channel.name).inc()
                if failures == 1 or failures % 20 == 0:
                    logger.warning(
                        "%s: cannot read from Redis (%s); trying on", self.channel.name, error
                    )
                # a lost reply leaves entries pending that ">" never shows again
                for slot in self.slots.values():
                    slot.recovering = True
                await self.sleep(backoff_seconds(failures))

    async def _read_once(self) -> None:
        if self._draining or not self.slots:
            self._wake.clear()
            await self.wait_first(self._wake, timeout=1.0)
            return
        for slot in list(self.slots.values()):
            if slot.recovering:
                await self._recover(slot)
        streams: dict[str, str] = {}
        by_key: dict[bytes, Slot] = {}
        full = False
        for number, slot in self.slots.items():
            if slot.recovering or len(slot.buffer) >= self.buffer_max:
                full = True
                continue
            key = keys.stream(self.channel.name, number)
            streams[key] = ">"
            by_key[key.encode()] = slot
        if not streams:
            self._wake.clear()
            await self.wait_first(self._wake, timeout=0.05)
            return
        reply = await self.redis.xreadgroup(
            keys.GROUP,
            self.consumer,
            streams,
            count=self.buffer_max,
            block=BUSY_BLOCK_MS if full else BLOCK_MS,
        )
        for key, entries in reply or ():
            await self._receive(by_key[key], entries)
        if not reply:
            await self._look_for_strays()

    async def _recover(self, slot: Slot) -> None:
        """Read this consumer's own pending entries past what the slot has seen."""
        key = keys.stream(self.channel.name, slot.partition.number)
        if len(slot.buffer) >= self.buffer_max:
            return
        reply = await self.redis.xreadgroup(
            keys.GROUP, self.consumer, {key: slot.last_id}, count=self.buffer_max
        )
        entries = reply[0][1] if reply else []
        if not entries:
            slot.recovering = False
            return
        await self._receive(slot, entries)

    async def _look_for_strays(self) -> None:
        """Entries that another consumer read while it lost its lease are pending, unseen by us."""
        now = time.monotonic()
        for slot in list(self.slots.values()):
            if slot.in_flight or slot.buffer or slot.recovering or now - slot.checked_at < 5.0:
                continue
            slot.checked_at = now
            key = keys.stream(self.channel.name, slot.partition.number)
            summary = await self.redis.xpending(key, keys.GROUP)
            if summary["pending"] and not slot.in_flight and not slot.buffer:
                await self.redis.xautoclaim(key, keys.GROUP, self.consumer, 0, b"0-0", count=1000)
                slot.last_id = "0-0"
                slot.recovering = True

    async def _receive(self, slot: Slot, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        gone: list[bytes] = []
        for entry_id, fields in entries:
            slot.last_id = entry_id.decode()
            if not fields:
                gone.append(entry_id)
                continue
            slot.buffer.append(self._decode(slot.last_id, fields))
        if gone:
            key = keys.stream(self.channel.name, slot.partition.number)
            logger.error("%s: %d pending entries were deleted from the stream", key, len(gone))
            await self.redis.xack(key, keys.GROUP, *gone)
        await self._dispatch(slot)

    def _decode(self, entry_id: str, fields: dict[bytes, bytes]) -> Entry:
        raw = fields.get(b"d", b"")
        entry = Entry(entry_id, raw, None)
        try:
            entry.value = self.channel.decode_value(raw)
        except CodecError as error:
            entry.fail("decode", error)
        return entry

    async def _dispatch(self, slot: Slot) -> None:
        if slot.in_flight or slot.waiting or not slot.buffer or self._draining:
            return
        count = min(len(slot.buffer), slot.limit)
        entries = [slot.buffer.popleft() for _ in range(count)]
        batch = Batch(self.channel.name, slot.partition, entries, self._ended)
        slot.in_flight = batch
        self._idle.clear()
        metrics.BATCH_EVENTS.labels(channel=self.channel.name).observe(count)
        await self.channel.put_batch(batch)

    def _ended(self, batch: Batch, error: BaseException | None) -> None:
        slot = self.slots.get(batch.partition.number)
        if slot is None or slot.in_flight is not batch:
            return
        slot.in_flight = None
        if error is None:
            slot.attempt = 0
            slot.limit = min(self.batch_max, slot.limit * 2)
            self._resume(slot)
        elif isinstance(error, FencedError):
            logger.warning("%s: %s", self.channel.name, error)
            self.on_fenced(batch.partition.number)
        else:
            self._again(slot, batch, error)
        self._check_idle()

    def _again(self, slot: Slot, batch: Batch, error: BaseException) -> None:
        """Put a failed batch back; one whose own code fails is tried in ever smaller parts."""
        slot.attempt += 1
        outside = is_redis_down(error) or isinstance(error, (UnavailableError, MovedError))
        metrics.BATCH_FAILURES.labels(channel=self.channel.name).inc()
        if slot.attempt == 1 or slot.attempt % 20 == 0:
            logger.warning(
                "%s[%d]: a batch of %d failed (attempt %d): %s: %s",
                self.channel.name,
                batch.partition.number,
                len(batch),
                slot.attempt,
                type(error).__name__,
                error,
                exc_info=None if outside else error,
            )
        entries = [self._decode(entry.entry_id, {b"d": entry.raw}) for entry in batch.entries]
        if not outside:
            if len(entries) == 1 and slot.attempt >= MAX_ATTEMPTS:
                entries[0].fail("batch", error)
            slot.limit = max(1, slot.limit // 4)
        slot.buffer.extendleft(reversed(entries))
        slot.waiting = asyncio.get_running_loop().call_later(
            backoff_seconds(slot.attempt), self._retry, slot
        )

    def _retry(self, slot: Slot) -> None:
        slot.waiting = None
        self._resume(slot)

    def _resume(self, slot: Slot) -> None:
        self._wake.set()
        if slot.buffer and not self._draining:
            self.add_future(self._dispatch(slot))

    def _check_idle(self) -> None:
        if all(slot.in_flight is None for slot in self.slots.values()):
            self._idle.set()

    async def _ensure_group(self, key: str, start: str) -> None:
        try:
            await self.redis.xgroup_create(key, keys.GROUP, id=start, mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def _restore_groups(self) -> None:
        """After a failover a group may be missing: made again where this reader had got to."""
        for number, slot in self.slots.items():
            key = keys.stream(self.channel.name, number)
            await self._ensure_group(key, slot.last_id)
