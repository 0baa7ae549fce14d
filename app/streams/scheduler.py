"""Scheduler: who works on batches on the event loop's one core, the most urgent first.

Every event that is worked on at once makes each step of all the others longer: with a dozen full
batches an urgent one takes half a second for what is done in milliseconds. So a stage asks for a
slot, work with few events in all has one at a time, and it pauses between events: others run
meanwhile, and work that is due earlier takes the slot over. Of small batches many have a slot at a
time: their commits travel together. Where there are several tenants, each waits behind its own work
(:mod:`hookstream.app.streams.shares`).
"""

import asyncio
import heapq
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from hookstream.app.priority import rank
from hookstream.app.streams.shares import EVENT_SECONDS, Shares

__all__ = ["Scheduler", "TimeSlot", "Work", "begins", "due"]

#: How long one piece of work runs before others are looked after.
SLICE_SECONDS = 0.001
#: Work that is in flight at once, in events: three full batches, of which one runs while the others
#: wait for Redis.
EVENTS_AT_ONCE = 192
#: The same where something may be critical: one full batch, so that each step of an urgent one
#: waits for a third of the others' steps.
URGENT_EVENTS_AT_ONCE = 64
#: So few critical events begin beside what is in flight: a full batch has its slot until Redis has
#: answered, which is longer than all that they need.
FEW_EVENTS = 8
#: How much later work is due, by its priority: more than the queue of an overloaded worker is long.
#: Bounded, so that nothing waits for ever.
PRIORITY_SECONDS = (0.0, 0.2, 1.0, 2.0)


class Work(Protocol):
    """A batch, or what is as one to a scheduler."""

    @property
    def owners(self) -> Mapping[str, int]:
        """How many of its events are whose."""

    def __len__(self) -> int:
        """How many events it has."""


def due(now: float, events: int, priority: str = "critical") -> float:
    """When a batch is due (seconds, on the clock of ``now``): earliest deadline first decides."""
    return now + events * EVENT_SECONDS + PRIORITY_SECONDS[rank(priority)]


def begins(events: int, priority: str) -> bool:
    """Whether a batch waits for no slot: few events, with something critical among them."""
    return events <= FEW_EVENTS and priority == "critical"


class Scheduler:
    """Lends the loop to work with some ``at_once`` events at a time; who begins may exceed that."""

    def __init__(
        self,
        slice_seconds: float = SLICE_SECONDS,
        at_once: int = EVENTS_AT_ONCE,
        *,
        urgent: Callable[[], bool] = lambda: False,
        several: Callable[[], bool] = lambda: False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``urgent``: whether something may be critical; then fewer events go at a time.

        ``several``: whether there are several tenants; one alone waits as it comes."""
        self._now = now
        self.slice_seconds = slice_seconds
        self._several = several
        self._shares = Shares()
        self._at_once = at_once
        self._urgent = urgent
        self._taken = 0
        self._waiting: list[tuple[float, int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    @asynccontextmanager
    async def slot(
        self, due: float, events: int = 1, *, at_once: bool = False
    ) -> AsyncIterator["TimeSlot"]:
        """Wait for a slot for work of so many events, and have it until the block ends.

        ``at_once``: one more than there are (:func:`begins`).
        """
        events = max(1, events)
        await self.take(due, events, at_once=at_once)
        slot = TimeSlot(self, due, events)
        try:
            yield slot
        finally:
            if slot.held:
                self.release(events)

    def slot_for(
        self, batches: Sequence[Work], priority: str, due_priority: str = ""
    ) -> AbstractAsyncContextManager["TimeSlot"]:
        """A slot for batches with work of that priority, that is due by it, or as said."""
        at_once = all(begins(len(batch), priority) for batch in batches)
        due_priority = due_priority or priority
        if not self._several():
            # whose they are makes no difference, and costs something
            events = sum(map(len, batches))
            return self.slot(due(self._now(), events, due_priority), events, at_once=at_once)
        owners: Counter[str] = Counter()
        for batch in batches:
            owners.update(batch.owners)
        return self.slot_of(owners, due_priority, at_once=at_once)

    @asynccontextmanager
    async def slot_of(
        self, owners: Mapping[str, int], priority: str, *, at_once: bool = False
    ) -> AsyncIterator["TimeSlot"]:
        """A slot for events; ``owners`` says how many are whose.

        Where there are several tenants it is due behind what its own ones have asked for before.
        """
        now, events, several = self._now(), sum(owners.values()), self._several()
        since = self._shares.take(owners, priority, now) if several else now
        try:
            async with self.slot(due(since, events, priority), events, at_once=at_once) as slot:
                yield slot
        finally:
            if several:
                self._shares.give_back(owners, priority)

    async def take(self, due: float, events: int = 1, *, at_once: bool = False) -> None:
        """Wait until this work has a slot."""
        if at_once or self._has_room():
            self._taken += events
            return
        await self._wait(due, events)

    async def give_way(self, due: float, events: int = 1) -> None:
        """Give a slot up for who is due earlier, and wait for another one."""
        await self._wait(due, events, given=events)

    async def _wait(self, due: float, events: int, given: int = 0) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (due, next(self._order), events, mine))
        # who gives a slot up is in the queue by then: nobody who is due later goes first
        self.release(given)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self.release(events)
            raise

    def release(self, events: int = 1) -> None:
        """Give what becomes free to whoever is due first."""
        self._taken -= events
        while self._waiting and self._has_room():
            _, _, wanted, next_one = heapq.heappop(self._waiting)
            if not next_one.done():
                self._taken += wanted
                next_one.set_result(None)

    def _has_room(self) -> bool:
        most = URGENT_EVENTS_AT_ONCE if self._urgent() else EVENTS_AT_ONCE
        return self._taken < min(most, self._at_once)

    def is_due_before(self, due: float) -> bool:
        """Whether work waits that goes before what is due at ``due``."""
        return bool(self._waiting) and self._waiting[0][0] < due


class TimeSlot:
    """The loop, for a while. Call :meth:`pause` between two events."""

    def __init__(self, scheduler: Scheduler, due: float, events: int = 1) -> None:
        self._scheduler = scheduler
        self._due = due
        self._events = events
        self._until = time.perf_counter() + scheduler.slice_seconds
        #: False where it was given up in a pause, and that was cancelled.
        self.held = True

    async def pause(self) -> None:
        """Let others run once the slice is used up; work that is due earlier goes first."""
        if time.perf_counter() < self._until:
            return
        if self._scheduler.is_due_before(self._due):
            self.held = False
            await self._scheduler.give_way(self._due, self._events)
            self.held = True
        else:
            await asyncio.sleep(0)
        self._until = time.perf_counter() + self._scheduler.slice_seconds
