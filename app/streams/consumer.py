"""The reader of one channel: from streams of owned partitions to batches, with back-pressure.

When its partitions are read is for :mod:`hookstream.app.streams.turns` to say, which reads those of
all channels together.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import chain
from typing import Any, Protocol

from mode import Service
from mode.utils.logging import get_logger
from redis.exceptions import RedisError

from hookstream.app import metrics, tasks
from hookstream.app.backoff import backoff_seconds
from hookstream.app.errors import FencedError, OutdatedError, UnavailableError
from hookstream.app.ids import entry_order
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS, Scripts, is_cluster, is_redis_down
from hookstream.app.redis.errors import redis_kind
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.channel import RedisStreamChannel
from hookstream.app.streams.deaths import Deaths, Trials
from hookstream.app.streams.entry_fields import read_entry
from hookstream.app.streams.outcome import Quarantined
from hookstream.app.streams.partition import Partition
from hookstream.app.streams.readable import is_away, make_readable
from hookstream.app.streams.slot import Slot
from hookstream.app.streams.suspects import Suspects
from hookstream.app.streams.table_writes import SplitBatchError
from hookstream.app.streams.turns import Turns
from hookstream.codecs.errors import UnknownVersionError
from hookstream.tables.errors import TableError

__all__ = ["StreamReader"]

logger = get_logger(__name__)

#: Most entries of one read: one partition's backlog does not hold up what others have.
PAGE = 256
#: Entries that are decoded before others have the loop: a full read takes 10 ms and more.
DECODED_AT_A_TIME = 64
#: How often a batch of one event is tried when a stage fails on the batch as a whole.
MAX_ATTEMPTS = 3
#: Most events of batches that go through the stages together: as many as a full batch has.
GROUP_EVENTS = 64
#: Batches of what waited for its turn, before one of what has been read goes again.
RELEASED_IN_A_ROW = 3


class Released(Protocol):
    """Entries of a partition whose turn has come before all that is in its stream."""

    def any(self, partition: Partition) -> bool:
        """Whether there may be some."""

    def first(self, partition: Partition) -> bool:
        """Whether all of them come before anything else."""

    async def take(self, partition: Partition, limit: int) -> list[Entry]:
        """The next ones, ``limit`` at most."""


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
        turns: Turns,
        *,
        batch_max: int,
        buffer_max: int,
        trials: Trials | None = None,
        released: Released | None = None,
        commit: Callable[[Batch], Awaitable[None]] | None = None,
        is_urgent: Callable[[Entry], bool] = lambda _: False,
        **kwargs: Any,
    ) -> None:
        """``turns`` and ``trials`` are a worker's. ``commit``: of a channel whose batches are
        committed here once they are done. ``is_urgent``: what goes with nothing else in a group.
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
        self._trials = trials or Trials()
        self._trials.join(self._resume_all)
        self._released = released
        self._commit = commit
        self.slots: dict[int, Slot] = {}
        self._turns = turns
        self._sizes = metrics.BATCH_EVENTS.labels(channel=channel.name)
        self._is_urgent = is_urgent
        self._apart = is_cluster(redis)
        #: Slots whose next batch is sent on its way in a moment.
        self._ready: dict[Slot, None] = {}
        self._idle = asyncio.Event()
        self._draining: set[int] = set()

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
            self._turns.join(slot)

    async def _take_over(self, partition: Partition) -> Slot:
        key = keys.stream(self.channel.name, partition.number)
        deaths_key = keys.deaths(partition.number, self.channel.name)
        fence = [partition.epoch, partition.nonce]
        cursor: Any = "0-0"
        count: Any = int(partition.after_death)
        while True:
            cursor, delivered, count, told = await self.scripts.call(
                "take_over",
                [keys.lease(partition.number), key, deaths_key],
                [*fence, keys.GROUP, self.consumer, cursor, "0-0", count],
            )
            if cursor in (b"0-0", "0-0"):
                deaths = Deaths.decode(told)
                return Slot(
                    self,
                    partition,
                    Suspects(self.scripts, partition, self.channel.name, self._trials, deaths),
                    limit=self.batch_max,
                    delivered_id=delivered.decode(),
                )

    def detach(self, number: int) -> None:
        """Stop reading a partition; a batch in flight will be fenced or has been committed."""
        slot = self.slots.pop(number, None)
        if slot:
            slot.suspects.forget()
        if slot and slot.waiting:
            slot.waiting.cancel()
        if slot:
            self._turns.leave(slot)
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

    def _resume_all(self) -> None:
        for slot in self.slots.values():
            self._resume(slot)

    async def drain(self, numbers: Sequence[int], timeout_seconds: float) -> bool:
        """Send no more batches of these, and wait for those in flight; False when time ran out."""
        self._draining.update(numbers)
        for slot in [self.slots[n] for n in numbers if n in self.slots]:
            if not slot.in_flight:
                slot.suspects.release()
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while any(self.slots[n].in_flight for n in numbers if n in self.slots):
            self._idle.clear()
            left = deadline - asyncio.get_running_loop().time()
            try:
                await asyncio.wait_for(self._idle.wait(), max(0.0, left))
            except TimeoutError:
                return False
        return True

    def drains(self, number: int) -> bool:
        """Whether nothing more of a partition is to be read."""
        return number in self._draining

    async def receive(self, slot: Slot, entries: list[Any], *, asked: int) -> None:
        """Take what was read, of which there might have been as many as were ``asked`` for."""
        slot.large = len(entries) >= asked
        if slot.recovering or slot.large:
            # there may be more
            slot.hungry.add(slot)
        if slot.recovering and not entries:
            slot.recovering, slot.large = False, True
            slot.last_id = max(slot.last_id, slot.delivered_id, key=entry_order)
            self._forget_gone(slot)
            return
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
        # not waited for: what one partition's payloads take to fetch is not the others' to wait for
        self._send(slot)

    def _entry(self, slot: Slot, entry_id: str, parts: Sequence[bytes]) -> Entry:
        # what was pending may have been worked on by whoever had it before
        entry = read_entry(entry_id, parts, sent=slot.recovering)
        if entry.failure is None and slot.suspects.most(entry) is None:
            self._decode(entry)
        return entry

    def _decode(self, entry: Entry) -> Entry:
        try:
            entry.value = self.channel.decode_value(entry.raw)
        except UnknownVersionError as error:
            entry.outcome = Quarantined(error.version)
        except Exception as error:  # noqa: BLE001 whatever a codec says, the entry is what is wrong
            entry.fail("decode", error, final=True)
        return entry

    def _send(self, slot: Slot) -> None:
        """Have a partition's next batch sent on its way, together with others of this moment."""
        if not self._ready:
            tasks.spawn("StreamReader._dispatch", self._dispatch(), service=self)
        self._ready[slot] = None

    async def _dispatch(self) -> None:
        ready, self._ready = self._ready, {}
        batches: list[Batch] = []
        alone: list[Slot] = []
        for slot in ready:
            if not self._may_begin(slot):
                continue
            if self._is_plain(slot):
                if self._released is not None:
                    slot.released = 0
                batches += await self._begun(slot)
            else:
                alone.append(slot)
        for slot in alone:
            tasks.spawn("StreamReader._dispatch_alone", self._dispatch_alone(slot), service=self)
        groups = list(self._groups(batches))
        for group in groups[1:]:
            tasks.spawn("StreamReader._put", self._put(group), service=self)
        if groups:
            await self._put(groups[0])

    def _may_begin(self, slot: Slot) -> bool:
        """Whether a partition may have a batch now."""
        number = slot.partition.number
        waits = slot.in_flight or slot.waiting or slot.dispatching or number in self._draining
        return not waits and slot.suspects.may_begin() and self.slots.get(number) is slot

    def _is_plain(self, slot: Slot) -> bool:
        """Whether its next batch may go beside others: it has not failed, and nobody is to be
        asked for anything that goes into it.
        """
        if slot.attempt or slot.suspects.any() or not slot.buffer or slot.buffer[0].released:
            return False
        return self._released is None or not self._released.any(slot.partition)

    def _groups(self, batches: Sequence[Batch]) -> Iterator[list[Batch]]:
        """Batches that go together: what is critical apart, and no more events than of one batch.

        All that a group has are through when the last one is. In a cluster each goes by itself: one
        of its servers that does not answer is nothing to partitions of others.
        """
        if self._apart:
            yield from ([batch] for batch in batches)
            return
        urgent = [batch for batch in batches if any(map(self._is_urgent, batch.entries))]
        for alike in (urgent, [batch for batch in batches if batch not in urgent]):
            group: list[Batch] = []
            events = 0
            for batch in alike:
                if group and events + len(batch) > GROUP_EVENTS:
                    yield group
                    group, events = [], 0
                group.append(batch)
                events += len(batch)
            if group:
                yield group

    async def _dispatch_alone(self, slot: Slot) -> None:
        number = slot.partition.number
        if not self._may_begin(slot):
            return
        slot.dispatching = True
        try:
            await self._add_released(slot)
        except (FencedError, OutdatedError) as error:
            self.lost(slot, error)
            return
        except Exception as error:
            logger.warning(
                "%s[%d]: cannot read what was blocked: %s; trying on",
                self.channel.name,
                number,
                error,
                exc_info=None if isinstance(error, REDIS_ERRORS) else error,
            )
            slot.waiting = asyncio.get_running_loop().call_later(1.0, self.go_on, slot)
            return
        finally:
            slot.dispatching = False
        if number in self._draining or self.slots.get(number) is not slot or not slot.buffer:
            return
        for batch in await self._begun(slot):
            await self._put([batch])

    async def _begun(self, slot: Slot) -> list[Batch]:
        """The next batch of a partition, which is in flight from now on; none where it waits."""
        how = slot.suspects.ask(slot.buffer[0])
        if how is None:
            return []
        entries = slot.take()
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
        self._sizes.observe(len(entries))
        try:
            await slot.suspects.begin(how, entries, self._decode)
        except Exception as error:  # noqa: BLE001 a batch without an end stops its partition
            batch.fail(error)
            return []
        return [batch]

    async def _put(self, batches: Sequence[Batch]) -> None:
        """Make payloads readable, and hand batches on; those that have to wait for theirs alone."""
        if len(batches) > 1:
            waits = [batch for batch in batches if is_away(batch.entries)]
            for batch in waits:
                tasks.spawn("StreamReader._put", self._put([batch]), service=self)
            batches = [batch for batch in batches if batch not in waits]
        readable = []
        for batch in batches:
            slot = self.slots.get(batch.partition.number)
            # behind a failure each payload is looked into: a damaged one must not fail its batch
            unpack = slot is not None and slot.attempt > 0
            try:
                await make_readable(self.payloads, batch.entries, unpack=unpack)
            except Exception as error:  # noqa: BLE001 a batch without an end stops its partition
                batch.fail(error)
            else:
                readable.append(batch)
        try:
            await self.channel.put_batches(readable)
        except BaseException as error:
            if not self.should_stop:
                # what worked on them was ended, and not this reader
                for batch in readable:
                    batch.fail(error)
            raise

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

    def _forget_gone(self, slot: Slot) -> None:
        """All that is pending has been read: what was counted and is not in it is over."""
        in_flight = slot.in_flight.entries if slot.in_flight else ()
        if slot.suspects.keep(chain(slot.buffer, in_flight)):
            tasks.spawn("StreamReader._clear", slot.suspects.clear(), service=self)

    async def _end_told(self, slot: Slot, batch: Batch, error: BaseException | None) -> None:
        await slot.suspects.tell_over()
        if self.slots.get(batch.partition.number) is slot and slot.in_flight is batch:
            self._over(slot, batch, error)

    def _over(self, slot: Slot, batch: Batch, error: BaseException | None) -> None:
        if slot.suspects.over(batch.entries, committed=error is None):
            tasks.spawn("StreamReader._end_told", self._end_told(slot, batch, error), service=self)
            return
        slot.in_flight = None
        slot.suspects.ended()
        slot.trouble = ""
        if error is None:
            slot.attempt = 0
            slot.limit = min(self.batch_max, slot.limit * 2)
            if self.channel.linger_seconds and len(slot.buffer) < slot.limit:
                loop = asyncio.get_running_loop()
                took = (loop.time() - slot.sent_at) * self.channel.linger_share
                slot.lingering = True
                slot.waiting = loop.call_later(
                    min(self.channel.linger_seconds, took), self.go_on, slot
                )
            else:
                self._resume(slot)
        elif slot.partition.lost or isinstance(error, (FencedError, OutdatedError, TableError)):
            self.lost(slot, error)
        elif isinstance(error, SplitBatchError):
            self._split(slot, batch, error.at)
        elif not (slot.partition.leaving and isinstance(error, asyncio.CancelledError)):
            # what is given back to be handed over is pending: its next owner reads it
            self._again(slot, batch, error)
        # not at once: who has ended it may still look at it
        asyncio.get_running_loop().call_soon(batch.forget)
        self._idle.set()

    def lost(self, slot: Slot, error: BaseException) -> None:
        """Let a partition go: it is not this worker's any more, or not as it is known here."""
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
            backoff_seconds(slot.attempt), self.go_on, slot
        )

    def _split(self, slot: Slot, batch: Batch, at: int) -> None:
        """Put a batch back whose first part, up to the entry ``at``, goes without the others."""
        slot.limit = max(1, at)
        slot.buffer.extendleft(reversed(self._anew(batch)))
        self._resume(slot)

    def _anew(self, batch: Batch) -> list[Entry]:
        return [self._decode(entry.anew()) for entry in batch.entries]

    def go_on(self, slot: Slot) -> None:
        """What a slot waited for is over."""
        slot.waiting = None
        if slot.lingering and slot.partition.number in self.slots:
            slot.lingering = False
            self._turns.wake(slot)
        self._resume(slot)

    def _resume(self, slot: Slot) -> None:
        number = slot.partition.number
        if slot.full and len(slot.buffer) < self.buffer_max and number in self.slots:
            self._turns.wake(slot)
        waits = self._released is not None and self._released.any(slot.partition)
        if (slot.buffer or waits) and number not in self._draining:
            self._send(slot)


def _kind(error: BaseException) -> str:
    return redis_kind(error) if isinstance(error, RedisError) else type(error).__name__
