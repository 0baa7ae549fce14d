"""What was read of the archive and may be read again, within a bound of bytes."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

from hookstream.app import metrics, tasks

__all__ = ["ReadCache"]


class ReadCache:
    """Least recently used goes first. Who asks for what somebody reads already waits for that.

    A value larger than all of it is given, and not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._reading: dict[Hashable, asyncio.Task[Any]] = {}

    async def get(
        self, kind: str, key: Hashable, read: Callable[[], Awaitable[tuple[Any, int]]]
    ) -> Any:
        """The value of ``key``, else what ``read`` gives: a value, and its size in bytes.

        Errors of ``read`` are raised to all who wait, and not kept.
        """
        if key in self._kept:
            self._kept.move_to_end(key)
            metrics.ARCHIVE_READS.labels(kind, "hit").inc()
            return self._kept[key][0]
        reading = self._reading.get(key)
        metrics.ARCHIVE_READS.labels(kind, "shared" if reading else "miss").inc()
        if reading is None:
            reading = tasks.awaited("ReadCache.read", self._read(key, read))
            # where all who waited have gone, nobody else hears of its error
            reading.add_done_callback(_heard)
            self._reading[key] = reading
        # whoever gives up waiting takes nothing from the others
        return await asyncio.shield(reading)

    def clear(self) -> None:
        """Forget everything: some of it may not be read any more."""
        self._kept.clear()
        self.bytes = 0
        metrics.ARCHIVE_CACHE_BYTES.set(0)

    async def _read(self, key: Hashable, read: Callable[[], Awaitable[tuple[Any, int]]]) -> Any:
        try:
            value, size = await read()
            self._keep(key, value, size)
            return value
        finally:
            self._reading.pop(key, None)

    def _keep(self, key: Hashable, value: Any, size: int) -> None:
        if size > self.max_bytes:
            return
        self._kept[key] = value, size
        self.bytes += size
        while self.bytes > self.max_bytes:
            _, (_, gone) = self._kept.popitem(last=False)
            self.bytes -= gone
        metrics.ARCHIVE_CACHE_BYTES.set(self.bytes)


def _heard(reading: "asyncio.Task[Any]") -> None:
    if not reading.cancelled():
        reading.exception()
