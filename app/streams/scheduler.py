"""Scheduler: who works on batches on the event loop's one core, the most urgent first.

Every batch that is worked on at once makes each step of all the others longer: with a dozen of them
an urgent one takes half a second for what is done in milliseconds. So a stage asks for a slot, few
have one at a time, and it pauses between events: others run meanwhile, and work that is due earlier
takes the slot over.
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hookstream.app.priority import rank

__all__ = ["Scheduler", "TimeSlot", "due"]

#: How long one piece of work runs before others are looked after.
SLICE_SECONDS = 0.001
#: Pieces of work that are in flight at once: one runs while others wait for Redis.
AT_ONCE = 3
#: A batch counts as due later the more events it has: few ones do not wait behind many.
EVENT_SECONDS = 0.0002
#: How much later work is due, by its priority: more than the queue of an overloaded worker is long.
#: Bounded, so that nothing waits for ever.
PRIORITY_SECONDS = (0.0, 0.2, 1.0, 2.0)


def due(now: float, events: int, priority: str = "critical") -> float:
    """When a batch is due (seconds, on the clock of ``now``): earliest deadline first decides."""
    return now + events * EVENT_SECONDS + PRIORITY_SECONDS[rank(priority)]


class Scheduler:
    """Lends the loop to ``at_once`` long pieces of work at a time."""

    def __init__(self, slice_seconds: float = SLICE_SECONDS, at_once: int = AT_ONCE) -> None:
        self.slice_seconds = slice_seconds
        self._free = at_once
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    @asynccontextmanager
    async def slot(self, due: float) -> AsyncIterator["TimeSlot"]:
        """Wait for a slot for work that is due at ``due``, and have it until the block ends."""
        await self.take(due)
        slot = TimeSlot(self, due)
        try:
            yield slot
        finally:
            if slot.held:
                self.release()

    async def take(self, due: float) -> None:
        """Wait until this work has a slot."""
        if self._free:
            self._free -= 1
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (due, next(self._order), mine))
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Give the slot to whoever is due first."""
        while self._waiting:
            _, _, next_one = heapq.heappop(self._waiting)
            if not next_one.done():
                next_one.set_result(None)
                return
        self._free += 1

    def is_due_before(self, due: float) -> bool:
        """Whether work waits that goes before what is due at ``due``."""
        return bool(self._waiting) and self._waiting[0][0] < due


class TimeSlot:
    """The loop, for a while. Call :meth:`pause` between two events."""

    def __init__(self, scheduler: Scheduler, due: float) -> None:
        self._scheduler = scheduler
        self._due = due
        self._until = time.perf_counter() + scheduler.slice_seconds
        #: False where it was given up in a pause, and that was cancelled.
        self.held = True

    async def pause(self) -> None:
        """Let others run once the slice is used up; work that is due earlier goes first."""
        if time.perf_counter() < self._until:
            return
        if self._scheduler.is_due_before(self._due):
            self._scheduler.release()
            self.held = False
            await self._scheduler.take(self._due)
            self.held = True
        else:
            await asyncio.sleep(0)
        self._until = time.perf_counter() + self._scheduler.slice_seconds
