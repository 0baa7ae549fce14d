"""The reader of one channel: from streams of owned partitions to batches, with back-pressure.

Reading is fenced: a script checks the lease in the same step, so that a worker which has lost its
lease (stopped for a while, say) cannot take entries away from the one that has it. The blocking
command is a wake-up only: it changes nothing.
"""

import asyncio
import functools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mode import Service
from mode.utils.logging import get_logger
from redis.exceptions import RedisError, ResponseError

from hookstream.app import metrics, tasks
from hookstream.app.backoff import backoff_seconds
from hookstream.app.errors import FencedError, OutdatedError, UnavailableError
from hookstream.app.ids import entry_order
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS, Scripts, is_cluster, is_redis_down
from hookstream.app.redis.errors import OF_ONE_KEY, redis_kind
from hookstream.app.streams.batch import Batch, Entry, event_of
from hookstream.app.streams.channel import RedisStreamChannel
from hookstream.app.streams.outcome import Quarantined
from hookstream.app.streams.partition import Partition
from hookstream.app.streams.readable import make_readable
from hookstream.app.streams.table_writes import SplitBatchError
from hookstream.codecs.errors import CodecError, UnknownVersionError
from hookstream.tables.errors import TableError

__all__ = ["StreamReader"]

logger = get_logger(__name__)

#: Wake-ups end at multiples of this time (of the loop's clock), so that one follows for all of
#: them.
BLOCK_MS = 1000
#: Wake-ups of one lane that are waited for at once: each takes a connection.
WAKEUPS_AT_ONCE = 8
#: Most entries of one read: one partition's backlog does not hold up what others have.
PAGE = 256
#: Partitions that are read in one round trip, before others are looked at again; with large ones
#: among them a few only, which are that many entries. In a cluster each read takes a connection.
READS_A_STEP = 16
LARGE_READS_A_STEP = 4
#: Entries that are decoded before others have the loop: a full read takes 10 ms and more.
DECODED_AT_A_TIME = 64
#: How often a batch of one event is tried when a stage fails on the batch as a whole.
MAX_ATTEMPTS = 3
#: Batches of what waited for its turn, before one of what has been read goes again.
RELEASED_IN_A_ROW = 3
#: How long a partition is left alone that cannot be read while others can.
SIT_OUT_SECONDS = 1.0
#: How long a partition is not read that no wake-up says anything of.
LOOK_SECONDS = 10.0
#: Most bytes of payload in one batch, unpacked, if it is more than one event.
BATCH_MAX_PAYLOAD_BYTES = 32 * 1024 * 1024


class Released(Protocol):
    """Entries of a partition whose turn has come before all that is in its stream."""

    def any(self, partition: Partition) -> bool:
        """Whether there may be some."""

    def first(self, partition: Partition) -> bool:
        """Whether all of them come before anything else."""

    async def take(self, partition: Partition, limit: int) -> list[Entry]:
        """The next ones, ``limit`` at most."""


@dataclass(slots=True, eq=False)
class Slot:
    """What the reader knows of one partition: prefetched, in flight, and how far it has read."""

    partition: Partition
    buffer: deque[Entry] = field(default_factory=deque)
    in_flight: Batch | None = None
    #: When that batch was sent on its way (the loop's clock).
    sent_at: float = 0.0
    last_id: str = "0-0"
    #: This consumer's own pending entries are read before new ones.
    recovering: bool = True
    #: Counts how often what is pending was read anew; reads of an earlier round are refused.
    read_generation: int = 0
    #: Where to go on reading when what is pending has been read.
    delivered_id: str = "0-0"
    #: There may be more to read without waiting for a wake-up.
    hungry: bool = True
    #: The step in which it was last read, and when (the loop's clock).
    read_at: int = 0
    looked_at: float = 0.0
    #: The last read gave as much as was asked for.
    large: bool = True
    #: What waits for the server to say that it has something new.
    wakeup: "asyncio.Task[None] | None" = None
    #: It was left out of the last reads because its buffer was full.
    full: bool = False
    attempt: int = 0
    #: Most entries in the next batch: smaller after a failure, so that a poison event ends alone.
    limit: int = 1
    waiting: asyncio.TimerHandle | None = None
    #: It is not read until ``waiting`` is over.
    lingering: bool = False
    #: The next batch is being put together.
    dispatching: bool = False
    #: Batches of what waited for its turn that went one after the other.
    released: int = 0
    #: Kind of what a server said when this was last read, or its batch tried; "" when it went well.
    trouble: str = ""


class Lane:
    """Slots that are read together: all of them on one server, one a lane in a cluster."""

    def __init__(self) -> None:
        self.slots: dict[int, Slot] = {}
        self.wake = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        #: Wake-ups that are waited for, the oldest first, and what one of them failed with.
        self.wakeups: dict[asyncio.Task[None], None] = {}
        self.error: BaseException | None = None

    def cancel(self) -> None:
        """Stop to read."""
        for task in (self.task, *self.wakeups):
            if task is not None:
                task.cancel()


class StreamReader(Service):
    """Reads all owned partitions of a channel, one batch a partition in flight."""

    mundane_level = "debug"

    def __init__(
        self,
        channel: RedisStreamChannel,
        redis: Any,
        scripts: Scripts,
        consumer: str,
        payloads: Payloads,
        *,
        batch_max: int,
        buffer_max: int,
        timeout_seconds: float,
        released: Released | None = None,
        commit: Callable[[Batch], Awaitable[None]] | None = None,
        **kwargs: Any,
    ) -> None:
        """``timeout_seconds``: after which redis-py gives up a command; wake-ups are shorter.

        ``commit``: of a channel whose batches are committed here once they are done.
        """
        # ``released``: of a channel whose entries may have to wait for their turn elsewhere
        super().__init__(**kwargs)
        self.channel = channel
        self.redis = redis
        self.scripts = scripts
        self.consumer = consumer
        self.payloads = payloads
        self.batch_max = batch_max
        self.buffer_max = max(buffer_max, batch_max)
        self.page = min(self.buffer_max, PAGE)
        self.block_ms = max(1, min(BLOCK_MS, int(timeout_seconds * 800)))
        self._released = released
        self._commit = commit
        self.slots: dict[int, Slot] = {}
        self._lanes: dict[int, Lane] = {}
        self._idle = asyncio.Event()
        self._steps = 0
        self._draining: set[int] = set()
        self._reads = asyncio.Semaphore(READS_A_STEP)

    async def attach(self, partitions: Sequence[Partition]) -> None:
        """Begin to read partitions that are now owned: first what was pending, whoever had it.

        Raises:
            FencedError: one of them has another owner already.
        """
        slots = await asyncio.gather(*(self._take_over(partition) for partition in partitions))
        for slot in slots:
            number = slot.partition.number
            self._draining.discard(number)
            self.slots[number] = slot
            lane = self._lane(number)
            lane.slots[number] = slot
            lane.wake.set()

    def _lane(self, number: int) -> Lane:
        name = number if is_cluster(self.redis) else -1
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane()
            lane.task = tasks.spawn_loop(
                "StreamReader._follow", functools.partial(self._follow, lane), self
            )
        return lane

    async def _take_over(self, partition: Partition) -> Slot:
        key = keys.stream(self.channel.name, partition.number)
        cursor: Any = "0-0"
        while True:
            cursor, delivered = await self.scripts.call(
                "take_over",
                [keys.lease(partition.number), key],
                [partition.epoch, partition.nonce, keys.GROUP, self.consumer, cursor, "0-0"],
            )
            if cursor in (b"0-0", "0-0"):
                return Slot(partition, limit=self.batch_max, delivered_id=delivered.decode())

    def detach(self, number: int) -> None:
        """Stop reading a partition; a batch in flight will be fenced or has been committed."""
        slot = self.slots.pop(number, None)
        if slot and slot.waiting:
            slot.waiting.cancel()
        for name, lane in list(self._lanes.items()):
            if lane.slots.pop(number, None) and not lane.slots and name >= 0:
                del self._lanes[name]
                lane.cancel()
        self._draining.discard(number)
        self._idle.set()

    def troubles(self) -> dict[int, str]:
        """Partitions that a server's trouble holds up, and its kind."""
        return {number: slot.trouble for number, slot in self.slots.items() if slot.trouble}

    def prefetched(self, number: int) -> int:
        """Entries of a partition that have been read and wait for their batch."""
        slot = self.slots.get(number)
        return len(slot.buffer) if slot else 0

    def resume(self, number: int) -> None:
        """Look whether anything of a partition may go now."""
        if slot := self.slots.get(number):
            self._resume(slot)

    async def drain(self, numbers: Sequence[int], timeout_seconds: float) -> bool:
        """Send no more batches of these, and wait for those in flight; False when time ran out."""
        self._draining.update(numbers)
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while any(self.slots[n].in_flight for n in numbers if n in self.slots):
            self._idle.clear()
            left = deadline - asyncio.get_running_loop().time()
            try:
                await asyncio.wait_for(self._idle.wait(), max(0.0, left))
            except TimeoutError:
                return False
        return True

    async def on_stop(self) -> None:
        """Stop reading."""
        for lane in self._lanes.values():
            lane.cancel()

    async def _follow(self, lane: Lane) -> None:
        failures = 0
        for slot in lane.slots.values():
            # begun anew: what a read brought may be lost
            self._recover(slot)
        while not self.should_stop:
            try:
                await self._step(lane)
                failures = 0
            except REDIS_ERRORS as error:
                failures += 1
                metrics.READ_ERRORS.labels(channel=self.channel.name).inc()
                if failures == 1 or failures % 20 == 0:
                    logger.warning(
                        "%s: cannot read from Redis (%s: %s); trying on",
                        self.channel.name,
                        type(error).__name__,
                        error,
                    )
                # a lost reply leaves entries pending that ">" never shows again
                for slot in lane.slots.values():
                    self._recover(slot)
                await asyncio.sleep(backoff_seconds(failures))
                # what other wake-ups failed with meanwhile is the same trouble
                lane.error = None

    def _recover(self, slot: Slot) -> None:
        if not slot.recovering:
            slot.recovering = True
            slot.read_generation += 1
            slot.delivered_id = slot.last_id
        slot.hungry = True

    async def _step(self, lane: Lane) -> None:
        """Read what there is; where there is nothing, wait for a wake-up."""
        lane.wake.clear()
        if lane.error is not None:
            error, lane.error = lane.error, None
            raise error
        slots = [slot for number, slot in lane.slots.items() if number not in self._draining]
        for slot in slots:
            slot.full = len(slot.buffer) >= self.buffer_max
        self._start_wakeup(lane, slots)
        hungry = [s for s in slots if s.hungry and not s.full and not s.lingering]
        if not hungry:
            await lane.wake.wait()
            return
        # a few at a time, those first whose last read is longest ago: what has just come to a
        # quiet partition is not read behind a page of each of the others
        hungry = sorted(hungry, key=lambda slot: slot.read_at)[:READS_A_STEP]
        if any(slot.large for slot in hungry):
            hungry = hungry[:LARGE_READS_A_STEP]
        self._steps += 1
        for slot in hungry:
            slot.read_at = self._steps
            slot.looked_at = asyncio.get_running_loop().time()
        replies = await asyncio.gather(
            *(self._read(slot) for slot in hungry), return_exceptions=True
        )
        failed = [reply for reply in replies if isinstance(reply, BaseException)]
        for slot, reply in zip(hungry, replies, strict=True):
            if isinstance(reply, BaseException):
                begins = not slot.trouble
                slot.trouble = _kind(reply)
                alone = len(failed) < len(hungry) and isinstance(reply, ResponseError)
                if alone or slot.trouble in OF_ONE_KEY:
                    # the server is well, and this partition is not: the others go on
                    self._sit_out(slot, reply, begins=begins)
                    failed.remove(reply)
                continue
            if slot.in_flight is None and slot.attempt == 0:
                slot.trouble = ""
            if reply is not None:
                await self._receive(slot, reply)
        for error in failed:
            raise error

    def _sit_out(self, slot: Slot, error: BaseException, *, begins: bool) -> None:
        """Leave a partition alone for a moment, and read it from where it was."""
        metrics.READ_ERRORS.labels(channel=self.channel.name).inc()
        number = slot.partition.number
        if begins:
            logger.warning("%s[%d]: cannot be read: %s", self.channel.name, number, error)
        self._recover(slot)
        slot.lingering = True
        if slot.waiting is None:
            slot.waiting = asyncio.get_running_loop().call_later(SIT_OUT_SECONDS, self._retry, slot)

    def _start_wakeup(self, lane: Lane, slots: Sequence[Slot]) -> None:
        """Have the server say when one of those has something that nothing waits for yet.

        While others are read: what comes to a quiet partition is seen after one step, not when
        there is nothing else to do.
        """
        quiet = [s for s in slots if s.wakeup is None and not s.hungry and not s.full]
        if not quiet:
            return
        if len(lane.wakeups) >= WAKEUPS_AT_ONCE:
            # not waited for: a cancelled command may go on to its end all the same, and says
            # nothing wrong then
            oldest = next(iter(lane.wakeups))
            del lane.wakeups[oldest]
            oldest.cancel()
            quiet += [slot for slot in slots if slot.wakeup is oldest]
        task = tasks.spawn("StreamReader._wait_for_wakeup", self._wait_for_wakeup(lane, quiet))
        lane.wakeups[task] = None
        for slot in quiet:
            slot.wakeup = task

    async def _wait_for_wakeup(self, lane: Lane, slots: Sequence[Slot]) -> None:
        by_key = {keys.stream(self.channel.name, slot.partition.number): slot for slot in slots}
        task = asyncio.current_task()
        block = self.block_ms - int(asyncio.get_running_loop().time() * 1000) % self.block_ms
        try:
            found = await self.redis.xread(
                {key: slot.last_id for key, slot in by_key.items()}, count=1, block=block
            )
            for key, _ in found or ():
                by_key[key.decode()].hungry = True
            self._look_at_quiet(slots)
        except Exception as error:  # noqa: BLE001 the lane raises it
            lane.error = error
        finally:
            for slot in slots:
                if slot.wakeup is task:
                    slot.wakeup = None
            lane.wakeups.pop(task, None)  # type: ignore[arg-type]
            lane.wake.set()

    def _look_at_quiet(self, slots: Sequence[Slot]) -> None:
        """Read what no wake-up has come for: the stream may be another one by now, or have no
        group.

        A wake-up waits for what comes behind the last entry that was read here, whatever became of
        the stream meanwhile.
        """
        now = asyncio.get_running_loop().time()
        for slot in slots:
            if now - slot.looked_at > LOOK_SECONDS:
                slot.hungry = True

    async def _read(self, slot: Slot) -> list[Any] | None:
        """Entries, none at the end; None when this read does not count."""
        number = slot.partition.number
        try:
            async with self._reads:
                entries: list[Any] = await self.scripts.call(
                    "read",
                    [keys.lease(number), keys.stream(self.channel.name, number)],
                    [
                        slot.partition.epoch,
                        slot.partition.nonce,
                        keys.GROUP,
                        self.consumer,
                        self.page,
                        slot.last_id if slot.recovering else ">",
                        slot.read_generation,
                    ],
                )
        except FencedError as error:
            self._lost(slot, error)
            return None
        except OutdatedError:
            # an earlier look at what is pending was carried out late, or a failover lost this one
            self._recover(slot)
            return None
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            # Redis lost the group in a failover: read everything about the partition anew
            self._lost(slot, error)
            return None
        return entries

    async def _receive(self, slot: Slot, entries: list[Any]) -> None:
        if slot.recovering and not entries:
            slot.recovering = False
            slot.last_id = max(slot.last_id, slot.delivered_id, key=entry_order)
            return
        slot.large = len(entries) >= self.page
        if not slot.recovering and not slot.large:
            slot.hungry = False
        gone: list[bytes] = []
        for at, (entry_id, parts) in enumerate(entries):
            if at % DECODED_AT_A_TIME == DECODED_AT_A_TIME - 1:
                await asyncio.sleep(0)
            slot.last_id = entry_id.decode()
            if not parts:
                gone.append(entry_id)
                continue
            slot.buffer.append(self._entry(slot, slot.last_id, parts))
        if gone:
            key = keys.stream(self.channel.name, slot.partition.number)
            logger.error("%s: %d pending entries were deleted from the stream", key, len(gone))
            await self.redis.xack(key, keys.GROUP, *gone)
        await self._dispatch(slot)

    def _entry(self, slot: Slot, entry_id: str, parts: Sequence[bytes]) -> Entry:
        """What a stream holds under an id; whatever that is, it is an entry."""
        fields = dict(zip(parts[::2], parts[1::2], strict=False))
        raw = fields.get(b"d", b"")
        try:
            failed_event_id = fields.get(b"r", b"").decode()
            attempts = int(fields.get(b"a", 0))
            if b"d" not in fields:
                raise CodecError(f"it has no field d, only {sorted(fields)[:10]}")
        except (ValueError, CodecError) as error:
            # nobody of ours wrote that: for a person to look at
            entry = Entry(entry_id, raw or repr(parts)[:10_000].encode(), None)
            entry.fail("decode", error, final=True)
            return entry
        entry = self._decode(
            Entry(entry_id, raw, None, failed_event_id=failed_event_id, attempts=attempts)
        )
        # what was pending may have been worked on by whoever had it before
        entry.sent = slot.recovering
        entry.doubt_ms = doubt_ms(fields.get(b"u"))
        return entry

    def _decode(self, entry: Entry) -> Entry:
        try:
            entry.value = self.channel.decode_value(entry.raw)
        except UnknownVersionError as error:
            entry.outcome = Quarantined(error.version)
        except Exception as error:  # noqa: BLE001 whatever a codec says, the entry is what is wrong
            entry.fail("decode", error, final=True)
        return entry

    async def _dispatch(self, slot: Slot) -> None:
        number = slot.partition.number
        if slot.in_flight or slot.waiting or slot.dispatching or number in self._draining:
            return
        if self.slots.get(number) is not slot:
            return
        slot.dispatching = True
        try:
            await self._add_released(slot)
        except (FencedError, OutdatedError) as error:
            self._lost(slot, error)
            return
        except Exception as error:
            logger.warning(
                "%s[%d]: cannot read what was blocked: %s; trying on",
                self.channel.name,
                number,
                error,
                exc_info=None if isinstance(error, REDIS_ERRORS) else error,
            )
            slot.waiting = asyncio.get_running_loop().call_later(1.0, self._retry, slot)
            return
        finally:
            slot.dispatching = False
        if number in self._draining or self.slots.get(number) is not slot or not slot.buffer:
            return
        entries = _take(slot)
        batch = Batch(
            self.channel.name,
            slot.partition,
            entries,
            self._ended,
            behind=len(slot.buffer),
            own=self._commit is not None,
        )
        slot.in_flight = batch
        slot.sent_at = asyncio.get_running_loop().time()
        metrics.BATCH_EVENTS.labels(channel=self.channel.name).observe(len(entries))
        try:
            # behind a failure each payload is looked into: a damaged one must not fail its batch
            await make_readable(self.payloads, entries, unpack=slot.attempt > 0)
        except Exception as error:  # noqa: BLE001 a batch without an end stops its partition
            batch.fail(error)
            return
        await self.channel.put_batch(batch)

    async def _add_released(self, slot: Slot) -> None:
        """Put what waited for its turn before all that was read: it came earlier.

        Mostly: so that what comes meanwhile goes on too, while much is let go.
        """
        if self._released is None or (slot.buffer and slot.buffer[0].released):
            return
        limited = slot.released >= RELEASED_IN_A_ROW and not self._released.first(slot.partition)
        if slot.buffer and limited:
            slot.released = 0
            return
        released = await self._released.take(slot.partition, slot.limit)
        slot.released = slot.released + 1 if released else 0
        slot.buffer.extendleft(self._decode(entry) for entry in reversed(released))

    def _ended(self, batch: Batch, error: BaseException | None) -> None:
        slot = self.slots.get(batch.partition.number)
        if slot is None or slot.in_flight is not batch:
            return
        if error is None and self._commit is not None:
            tasks.spawn("StreamReader._settle", self._settle(slot, batch), service=self)
        else:
            self._over(slot, batch, error)

    async def _settle(self, slot: Slot, batch: Batch) -> None:
        """Commit a batch that is done; until then its partition sends no other one."""
        assert self._commit is not None
        error: Exception | None = None
        try:
            await self._commit(batch)
        except Exception as caught:  # noqa: BLE001 a batch without an end stops its partition
            error = caught
        if self.slots.get(batch.partition.number) is slot and slot.in_flight is batch:
            self._over(slot, batch, error)

    def _over(self, slot: Slot, batch: Batch, error: BaseException | None) -> None:
        slot.in_flight = None
        slot.trouble = ""
        if error is None:
            slot.attempt = 0
            slot.limit = min(self.batch_max, slot.limit * 2)
            if self.channel.linger_seconds and len(slot.buffer) < slot.limit:
                loop = asyncio.get_running_loop()
                took = (loop.time() - slot.sent_at) * self.channel.linger_share
                slot.lingering = True
                slot.waiting = loop.call_later(
                    min(self.channel.linger_seconds, took), self._retry, slot
                )
            else:
                self._resume(slot)
        elif slot.partition.lost or isinstance(error, (FencedError, OutdatedError, TableError)):
            self._lost(slot, error)
        elif isinstance(error, SplitBatchError):
            self._split(slot, batch, error.at)
        elif not (slot.partition.leaving and isinstance(error, asyncio.CancelledError)):
            # what is given back to be handed over is pending: its next owner reads it
            self._again(slot, batch, error)
        self._idle.set()

    def _lost(self, slot: Slot, error: BaseException) -> None:
        number = slot.partition.number
        if self.slots.get(number) is not slot:
            return
        slot.buffer.clear()
        # until it is attached anew: new entries would go before those that were thrown away, and
        # raise the low-water mark of their source positions above them
        self._draining.add(number)
        slot.partition.lose(error)

    def _again(self, slot: Slot, batch: Batch, error: BaseException) -> None:
        """Put a failed batch back; one whose own code fails is tried in ever smaller parts."""
        slot.attempt += 1
        outside = is_redis_down(error) or isinstance(error, UnavailableError)
        slot.trouble = _kind(error) if outside else ""
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
        entries = self._anew(batch)
        if not outside:
            if len(entries) == 1 and slot.attempt >= MAX_ATTEMPTS:
                final = slot.attempt > MAX_ATTEMPTS
                if final:
                    # not even by those that look at what has failed
                    entries[0].value = None
                entries[0].fail("batch", error, final=final)
            slot.limit = max(1, slot.limit // 4)
        slot.buffer.extendleft(reversed(entries))
        slot.waiting = asyncio.get_running_loop().call_later(
            backoff_seconds(slot.attempt), self._retry, slot
        )

    def _split(self, slot: Slot, batch: Batch, at: int) -> None:
        """Put a batch back whose first part, up to the entry ``at``, goes without the others."""
        slot.limit = max(1, at)
        slot.buffer.extendleft(reversed(self._anew(batch)))
        self._resume(slot)

    def _anew(self, batch: Batch) -> list[Entry]:
        """The entries of a batch as they were read."""
        return [
            self._decode(
                Entry(
                    entry.entry_id,
                    entry.raw,
                    None,
                    failed_event_id=entry.failed_event_id,
                    attempts=entry.attempts,
                    listed=entry.listed,
                    parked=entry.parked,
                    sent=entry.sent,
                    doubt_ms=entry.doubt_ms,
                )
            )
            for entry in batch.entries
        ]

    def _retry(self, slot: Slot) -> None:
        slot.waiting = None
        if slot.lingering and slot.partition.number in self.slots:
            slot.lingering = False
            self._lane(slot.partition.number).wake.set()
        self._resume(slot)

    def _resume(self, slot: Slot) -> None:
        number = slot.partition.number
        if slot.full and len(slot.buffer) < self.buffer_max and number in self.slots:
            self._lane(number).wake.set()
        waits = self._released is not None and self._released.any(slot.partition)
        if (slot.buffer or waits) and number not in self._draining:
            tasks.spawn("StreamReader._dispatch", self._dispatch(slot), service=self)


def _take(slot: Slot) -> list[Entry]:
    """The next batch's entries: no more than the slot allows, nor than fits into memory."""
    entries: list[Entry] = []
    size = 0
    while slot.buffer and len(entries) < slot.limit:
        if entries and entries[0].released != slot.buffer[0].released:
            break
        event = event_of(slot.buffer[0].value)
        size += event.payload_bytes if event else 0
        if entries and size > BATCH_MAX_PAYLOAD_BYTES:
            break
        entries.append(slot.buffer.popleft())
    return entries


def doubt_ms(field: bytes | None) -> int | None:
    """For how long it is not known whether an entry's event was appended before; None: it was not.

    In the field ``u``, which only entries out of a spool have. What cannot be read is a doubt, too.
    """
    if field is None:
        return None
    return int(field) if field.isdigit() and len(field) < 19 else 0


def _kind(error: BaseException) -> str:
    return redis_kind(error) if isinstance(error, RedisError) else type(error).__name__
