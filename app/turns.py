"""Turns: long work on the event loop's one core, a slice at a time, the most urgent first.

A stage that works on hundreds of events without a pause delays everything else in its process. It
asks for a turn instead, and pauses between events: others run meanwhile, and work that is due
earlier takes the turn over.
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hookstream.app.priority import rank

__all__ = ["Turn", "Turns", "due"]

#: How long one piece of work runs before others are looked after.
SLICE_SECONDS = 0.001
#: A batch counts as due later the more events it has: few ones do not wait behind many.
EVENT_SECONDS = 0.0002
#: How much later work is due, by its priority. Bounded, so that nothing waits for ever.
PRIORITY_SECONDS = (0.0, 0.01, 0.05, 0.2)


def due(now: float, events: int, priority: str = "critical") -> float:
    """When a batch is due (seconds, on the clock of ``now``): earliest deadline first decides."""
    return now + events * EVENT_SECONDS + PRIORITY_SECONDS[rank(priority)]


class Turns:
    """Lends the loop to one long piece of work at a time."""

    def __init__(self, slice_seconds: float = SLICE_SECONDS) -> None:
        self.slice_seconds = slice_seconds
        self._taken = False
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    @asynccontextmanager
    async def turn(self, due: float) -> AsyncIterator["Turn"]:
        """Wait for the turn of work that is due at ``due``, and have it until the block ends."""
        await self.take(due)
        try:
            yield Turn(self, due)
        finally:
            self.release()

    async def take(self, due: float) -> None:
        """Wait until it is this work's turn."""
        if not self._taken:
            self._taken = True
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
        """Give the turn to whoever is due first."""
        while self._waiting:
            _, _, next_one = heapq.heappop(self._waiting)
            if not next_one.done():
                next_one.set_result(None)
                return
        self._taken = False

    def is_due_before(self, due: float) -> bool:
        """Whether work waits that goes before what is due at ``due``."""
        return bool(self._waiting) and self._waiting[0][0] < due


class Turn:
    """The loop, for a while. Call :meth:`pause` between two events."""

    def __init__(self, turns: Turns, due: float) -> None:
        self._turns = turns
        self._due = due
        self._until = time.perf_counter() + turns.slice_seconds

    async def pause(self) -> None:
        """Let others run once the slice is used up; work that is due earlier goes first."""
        if time.perf_counter() < self._until:
            return
        if self._turns.is_due_before(self._due):
            self._turns.release()
            await self._turns.take(self._due)
        else:
            await asyncio.sleep(0)
        self._until = time.perf_counter() + self._turns.slice_seconds
