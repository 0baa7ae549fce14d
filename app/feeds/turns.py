"""Turns that go round by key: who has many waiting makes nobody else wait for all of them."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

__all__ = ["FairTurns"]


class FairTurns:
    """At most so many at a time; whoever waits is served key by key, one of each in a round.

    That is fair queueing as in J. Nagle, "On Packet Switches with Infinite Storage" (RFC 970): a
    queue a source, served round robin.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._queues: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, key: Hashable) -> AsyncIterator[None]:
        """Wait for a turn of ``key``, and have it within."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(key)
        try:
            yield
        finally:
            self._next()

    def waiting(self, key: Hashable) -> int:
        """How many wait for a turn of ``key``."""
        return len(self._queues.get(key, ()))

    async def _wait(self, key: Hashable) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(key, deque()).append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                # it was our turn already: somebody else's now
                self._next()
            raise

    def _next(self) -> None:
        while self._queues:
            key, queue = self._queues.popitem(last=False)
            mine = queue.popleft()
            if queue:
                self._queues[key] = queue
            # who was cancelled meanwhile does not need it
            if not mine.done():
                mine.set_result(None)
                return
        self._free += 1
