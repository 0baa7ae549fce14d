"""Turns: what all partitions of a worker have, of every channel, is read in one round trip.

Reading is fenced: the scripts check the lease in the same step, so that a worker which has lost its
lease (stopped for a while, say) cannot take entries away from the one that has it. While something
comes, the next turn is after a while that follows from how much comes (:func:`linger_seconds`), and
what came meanwhile is one batch a partition, whose commits travel together, too. When nothing comes
a blocking command says when there is something: a wake-up only, it changes nothing.
"""

import asyncio
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mode import Service
from mode.utils.logging import get_logger
from redis.exceptions import RedisError, ResponseError

from hookstream.app import metrics, tasks
from hookstream.app.backoff import backoff_seconds
from hookstream.app.errors import FencedError, OutdatedError
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS, Scripts, as_ours, is_cluster
from hookstream.app.redis.errors import OF_ONE_KEY, redis_kind
from hookstream.app.streams.slot import Slot

__all__ = ["Turns", "linger_seconds"]

logger = get_logger(__name__)

#: Wake-ups end at multiples of this time (of the loop's clock), so that one follows for all of
#: them.
BLOCK_MS = 1000
#: Wake-ups of one lane that are waited for at once: each takes a connection.
WAKEUPS_AT_ONCE = 8
#: Most entries of one stream in a turn: who has more of them is read by itself.
LOOK = 64
#: Partitions that are read by themselves in one round trip, before others are looked at again; with
#: large ones among them a few only, which are that many entries. In a cluster each read takes a
#: connection.
READS_A_STEP = 16
LARGE_READS_A_STEP = 4
#: How long a partition is left alone that cannot be read while others can.
SIT_OUT_SECONDS = 1.0
#: How long a partition is not read that nothing says anything of.
LOOK_SECONDS = 10.0
#: Longest time between two turns while entries come, and how many entries are worth all of it.
LINGER_SECONDS = 0.01
LINGER_ENTRIES = 2.0
#: A stream to which nothing came for so long is left to wake-ups, while others are looked at each
#: turn; which of them that are is seen so often.
WARM_SECONDS = 1.0
COOL_SECONDS = 0.25
#: How far back entries count for the rate at which they come.
RATE_SECONDS = 0.25


def linger_seconds(rate: float) -> float:
    """The time between two turns when ``rate`` entries come a second.

    A batch of one costs nearly what one of a few does: where some come within
    :data:`LINGER_SECONDS` they are waited for; where none would, nobody waits.
    """
    return LINGER_SECONDS * min(1.0, rate * LINGER_SECONDS / LINGER_ENTRIES)


@dataclass(slots=True)
class Rate:
    """Entries a second, of the last :data:`RATE_SECONDS` or so."""

    value: float = 0.0
    at: float = 0.0

    def add(self, entries: int, now: float) -> None:
        """So many have come by ``now``."""
        self.value *= math.exp((self.at - now) / RATE_SECONDS)
        self.value += entries / RATE_SECONDS
        self.at = now


@dataclass(slots=True, eq=False)
class Lane:
    """Slots that are read together: all on one server, those of one partition in a cluster."""

    slots: dict[str, Slot] = field(default_factory=dict)
    #: Those of which there may be more to read.
    hungry: set[Slot] = field(default_factory=set)
    #: Those that no wake-up covers, and to which others than this worker append.
    uncovered: set[Slot] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None
    #: Wake-ups that are waited for, the oldest first, and what one of them failed with.
    wakeups: "dict[asyncio.Task[None], None]" = field(default_factory=dict)
    error: BaseException | None = None
    #: The last turn found something: the next one looks again.
    active: bool = False
    #: When wake-ups are next asked for while it is active, and old looks made again.
    cools: float = 0.0
    checks: float = 0.0
    #: When that one is due (the loop's clock).
    due: float = 0.0
    rate: Rate = field(default_factory=Rate)
    steps: int = 0

    def cancel(self) -> None:
        """Stop to read."""
        for task in (self.task, *self.wakeups):
            if task is not None:
                task.cancel()


class Turns(Service):
    """Reads the slots of a worker's readers, turn by turn."""

    mundane_level = "debug"

    def __init__(
        self, redis: Any, scripts: Scripts, consumer: str, *, timeout_seconds: float, **kwargs: Any
    ) -> None:
        """``timeout_seconds``: after which redis-py gives up a command; wake-ups are shorter."""
        super().__init__(**kwargs)
        self._redis = redis
        self._scripts = scripts
        self._consumer = consumer
        self._block_ms = max(1, min(BLOCK_MS, int(timeout_seconds * 800)))
        self._lanes: dict[int, Lane] = {}
        self._reads = asyncio.Semaphore(READS_A_STEP)

    def join(self, slot: Slot) -> None:
        """Begin to read a slot."""
        lane = self._lane(slot)
        lane.slots[slot.stream] = slot
        slot.hungry = lane.hungry
        lane.hungry.add(slot)
        if not slot.reader.channel.by_owner:
            lane.uncovered.add(slot)
        lane.wake.set()

    def leave(self, slot: Slot) -> None:
        """Read it no more."""
        for name, lane in list(self._lanes.items()):
            if lane.slots.get(slot.stream) is slot:
                del lane.slots[slot.stream]
                lane.hungry.discard(slot)
                lane.uncovered.discard(slot)
                # a wake-up that it waits for may still come: it is nobody's any more, and must not
                # take what its partition's next slot is to read
                slot.hungry = set()
                if not lane.slots and name >= 0:
                    del self._lanes[name]
                    lane.cancel()

    def wake(self, slot: Slot) -> None:
        """It may be read again: there is room, or it has lingered."""
        self._lane(slot).wake.set()

    def appended(self, stream: str) -> None:
        """This worker has appended to a stream: where it reads that, too, nobody has to say so."""
        for lane in self._lanes.values():
            slot = lane.slots.get(stream)
            if slot is not None:
                lane.hungry.add(slot)
                lane.wake.set()
                return

    async def on_stop(self) -> None:
        """Stop reading."""
        for lane in self._lanes.values():
            lane.cancel()

    def _lane(self, slot: Slot) -> Lane:
        name = slot.partition.number if is_cluster(self._redis) else -1
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane()
            lane.task = tasks.spawn_loop(
                "Turns._follow", functools.partial(self._follow, lane), self
            )
        return lane

    async def _follow(self, lane: Lane) -> None:
        failures = 0
        for slot in lane.slots.values():
            # begun anew: what a read brought may be lost
            slot.recover()
        while not self.should_stop:
            try:
                await self._step(lane)
                failures = 0
            except REDIS_ERRORS as error:
                failures += 1
                for channel in {slot.reader.channel.name for slot in lane.slots.values()}:
                    metrics.READ_ERRORS.labels(channel=channel).inc()
                if failures == 1 or failures % 20 == 0:
                    logger.warning(
                        "cannot read from Redis (%s: %s); trying on", type(error).__name__, error
                    )
                # a lost reply leaves entries pending that ">" never shows again
                for slot in lane.slots.values():
                    slot.recover()
                await asyncio.sleep(backoff_seconds(failures))
                # what other wake-ups failed with meanwhile is the same trouble
                lane.error = None

    async def _step(self, lane: Lane) -> None:
        """Read what there is; where there is nothing, wait until there may be something."""
        lane.wake.clear()
        if lane.error is not None:
            error, lane.error = lane.error, None
            raise error
        now = asyncio.get_running_loop().time()
        if now >= lane.checks:
            lane.checks = now + 1.0
            # the stream may be another one by now, or have no group
            lane.hungry.update(s for s in lane.slots.values() if now - s.looked_at > LOOK_SECONDS)
        alone: list[Slot] = []
        marked: list[Slot] = []
        for slot in lane.hungry:
            if slot.reads():
                (alone if slot.recovering or slot.large else marked).append(slot)
        looks = lane.active and now >= lane.due
        quiet = self._quiet(lane, now) if looks or not lane.active else []
        if not (alone or marked or looks):
            await self._wait(lane)
            return
        # a few at a time, those first whose last read is longest ago: what has just come to a
        # quiet partition is not read behind a page of each of the others
        alone = sorted(alone, key=lambda slot: slot.read_at)[:READS_A_STEP]
        if any(slot.large for slot in alone):
            alone = alone[:LARGE_READS_A_STEP]
        together = [*marked, *quiet] if looks else marked
        lane.steps += 1
        for slot in (*alone, *together):
            slot.looked_at = now
        for slot in alone:
            slot.read_at = lane.steps
        # not after the reads: what is appended while they are carried out may not be in them
        lane.hungry.difference_update(alone, together)
        came = fresh = 0
        replies: list[Any] = []
        if alone:
            # at one time, so that they are one round trip
            found, *replies = await asyncio.gather(
                self._look(together), *map(self._read, alone), return_exceptions=True
            )
        else:
            found = await self._look(together)
        if not isinstance(found, BaseException):
            # first: pages of what has a backlog take a while to decode
            for slot, entries in found:
                slot.came_at = now
                came += len(entries)
                fresh += 0 if slot.reader.channel.by_owner else len(entries)
                await self._receive(slot, entries, LOOK)
        came += await self._receive_alone(lane, alone, replies)
        if isinstance(found, BaseException):
            raise found
        if looks:
            lane.rate.add(fresh, now)
            lane.active = came > 0
        else:
            lane.active = lane.active or came > 0
        if looks or lane.due < now:
            lane.due = now + linger_seconds(lane.rate.value)

    def _quiet(self, lane: Lane, now: float) -> list[Slot]:
        """Slots that are looked at each turn though nothing says that there is something.

        The others are left to wake-ups: all of them where nothing comes any more.
        """
        quiet = [slot for slot in lane.uncovered if slot not in lane.hungry and slot.reads()]
        if not lane.active:
            self._start_wakeup(lane, quiet)
            return []
        if now >= lane.cools:
            # a look at all that is quiet costs more than a wake-up that does not come
            lane.cools = now + COOL_SECONDS
            self._start_wakeup(lane, [s for s in quiet if now - s.came_at > WARM_SECONDS])
            quiet = [slot for slot in quiet if slot.wakeup is None]
        return quiet

    async def _wait(self, lane: Lane) -> None:
        """Wait for the next turn: a while where something came, else for a wake-up."""
        timer = None
        if lane.active:
            timer = asyncio.get_running_loop().call_at(lane.due, lane.wake.set)
        try:
            await lane.wake.wait()
        finally:
            if timer is not None:
                timer.cancel()

    async def _receive_alone(
        self, lane: Lane, slots: Sequence[Slot], replies: Sequence[Any]
    ) -> int:
        """Hand on what was read one by one; how many entries that is.

        Pages of new entries are decoded beside the next turns: on a loop that is never idle that
        takes as long as dozens of turns, for which nobody with one urgent entry should wait.

        Raises what the server says where that is not one partition's trouble.
        """
        failed = [reply for reply in replies if isinstance(reply, BaseException)]
        came = 0
        for slot, reply in zip(slots, replies, strict=True):
            if isinstance(reply, BaseException):
                begins = not slot.trouble
                slot.trouble = _kind(reply)
                alone = len(failed) < len(slots) and isinstance(reply, ResponseError)
                if alone or slot.trouble in OF_ONE_KEY:
                    # the server is well, and this partition is not: the others go on
                    self._sit_out(slot, reply, begins=begins)
                    failed.remove(reply)
            elif reply is not None:
                came += len(reply)
                slot.came_at = slot.looked_at
                if reply and not slot.recovering:
                    slot.receiving = True
                    tasks.spawn("Turns._take_in", self._take_in(lane, slot, reply), service=self)
                else:
                    await self._receive(slot, reply, slot.reader.page)
        for error in failed:
            raise error
        return came

    async def _take_in(self, lane: Lane, slot: Slot, entries: list[Any]) -> None:
        """Decode a page; until then its stream is not read again, which keeps the order."""
        try:
            await self._receive(slot, entries, slot.reader.page)
        except REDIS_ERRORS as error:
            # the lane raises it
            lane.error = error
        finally:
            slot.receiving = False
            lane.wake.set()

    async def _receive(self, slot: Slot, entries: list[Any], asked: int) -> None:
        if slot.trouble and slot.in_flight is None and slot.attempt == 0:
            slot.trouble = ""
        await slot.reader.receive(slot, entries, asked=asked)

    def _sit_out(self, slot: Slot, error: BaseException, *, begins: bool) -> None:
        """Leave a partition alone for a moment, and read it from where it was."""
        name, number = slot.reader.channel.name, slot.partition.number
        metrics.READ_ERRORS.labels(channel=name).inc()
        if begins:
            logger.warning("%s[%d]: cannot be read: %s", name, number, error)
        slot.recover()
        slot.lingering = True
        if slot.waiting is None:
            loop = asyncio.get_running_loop()
            slot.waiting = loop.call_later(SIT_OUT_SECONDS, slot.reader.go_on, slot)

    async def _read(self, slot: Slot) -> list[Any] | None:
        """A page of one stream, nothing at the end; None when this read does not count."""
        try:
            async with self._reads:
                entries: list[Any] = await self._scripts.call(
                    "read",
                    [slot.lease, slot.stream],
                    [
                        slot.partition.epoch,
                        slot.partition.nonce,
                        keys.GROUP,
                        self._consumer,
                        slot.reader.page,
                        slot.last_id if slot.recovering else ">",
                        slot.read_generation,
                    ],
                )
        except (FencedError, OutdatedError, ResponseError) as error:
            if not self._is_over(slot, error):
                raise
            return None
        return entries

    def _is_over(self, slot: Slot, error: Exception) -> bool:
        """Whether a slot's read has come to nothing, and what follows from it is done."""
        if isinstance(error, OutdatedError):
            # an earlier look at what is pending was carried out late, or a failover lost this one
            slot.recover()
        elif isinstance(error, FencedError) or "NOGROUP" in str(error):
            # Redis lost the group in a failover: read everything about the partition anew
            slot.reader.lost(slot, error)
        else:
            return False
        return True

    async def _look(self, slots: Sequence[Slot]) -> list[tuple[Slot, list[Any]]]:
        """What is new in streams, of those that have something; all in one call."""
        if not slots:
            return []
        by_lease: dict[tuple[str, int, str], list[Slot]] = {}
        for slot in slots:
            fence = (slot.lease, slot.partition.epoch, slot.partition.nonce)
            by_lease.setdefault(fence, []).append(slot)
        names: list[str] = []
        arguments: list[object] = [keys.GROUP, self._consumer, LOOK]
        places: dict[int, Slot] = {}
        for (lease, epoch, nonce), members in by_lease.items():
            names.append(lease)
            arguments += (len(members), epoch, nonce)
            for slot in members:
                names.append(slot.stream)
                places[len(names)] = slot
                arguments.append(slot.read_generation)
        async with self._reads:
            reply = await self._scripts.call("look", names, arguments)
        found = []
        for place, entries in zip(reply[::2], reply[1::2], strict=True):
            slot = places[place]
            if isinstance(entries, list):
                found.append((slot, entries))
                continue
            error = as_ours(ResponseError(entries.decode()))
            if not self._is_over(slot, error):
                begins, slot.trouble = not slot.trouble, _kind(error)
                self._sit_out(slot, error, begins=begins)
        return found

    def _start_wakeup(self, lane: Lane, slots: Sequence[Slot]) -> None:
        """Have the server say when one of those has something that nothing waits for yet."""
        quiet = list(slots)
        if not quiet:
            return
        if len(lane.wakeups) >= WAKEUPS_AT_ONCE:
            # not waited for: a cancelled command may go on to its end all the same, and says
            # nothing wrong then
            oldest = next(iter(lane.wakeups))
            del lane.wakeups[oldest]
            oldest.cancel()
            quiet += [slot for slot in lane.slots.values() if slot.wakeup is oldest]
        task = tasks.spawn("Turns._wait_for_wakeup", self._wait_for_wakeup(lane, quiet))
        lane.wakeups[task] = None
        for slot in quiet:
            slot.wakeup = task
            lane.uncovered.discard(slot)

    async def _wait_for_wakeup(self, lane: Lane, slots: Sequence[Slot]) -> None:
        by_key = {slot.stream: slot for slot in slots}
        task = asyncio.current_task()
        block = self._block_ms - int(asyncio.get_running_loop().time() * 1000) % self._block_ms
        try:
            found = await self._redis.xread(
                {key: slot.last_id for key, slot in by_key.items()}, count=1, block=block
            )
            for key, _ in found or ():
                found_in = by_key[key.decode()]
                found_in.hungry.add(found_in)
        except Exception as error:  # noqa: BLE001 the lane raises it
            lane.error = error
        finally:
            for slot in slots:
                if slot.wakeup is task:
                    slot.wakeup = None
                    if lane.slots.get(slot.stream) is slot:
                        lane.uncovered.add(slot)
            lane.wakeups.pop(task, None)  # type: ignore[arg-type]
            lane.wake.set()


def _kind(error: BaseException) -> str:
    return redis_kind(error) if isinstance(error, RedisError) else type(error).__name__
