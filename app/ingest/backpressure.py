"""Back-pressure: which streams of events have as much waiting as they may.

Receivers ask Redis once a second how much of each stream its workers have not done yet. What is new
for a stream that is full goes to the receiver's spool, and to Redis when workers have caught up: a
sender that sends more than is delivered fills a disk's folder of a known size, not Redis's memory.
So does everything that is not urgent while Redis is nearly full (``app/redis/memory.py``).
"""

from collections.abc import Collection, Iterable
from typing import Any

from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.redis.memory import MemoryWatch, Pressure

__all__ = ["Backlog"]

logger = get_logger(__name__)

LOOK_SECONDS = 1.0
#: A full stream takes entries again when less than this share of the most it may have waits.
RESUME_SHARE = 0.8
#: Urgent events are held up by a backlog so many times as large only.
URGENT_TIMES = 4


class Backlog(Service):
    """How much waits in the streams that this process appends to."""

    mundane_level = "debug"

    def __init__(
        self, redis: Any, most: int, memory: MemoryWatch | None = None, **kwargs: object
    ) -> None:
        """``most``: entries of one stream that may wait; 0 for any number.

        ``memory``: how full Redis is; without one it never is.
        """
        super().__init__(**kwargs)
        self._redis = redis
        self._memory = memory
        self._most = most
        #: Of streams that were appended to: what Redis said, and what this process has added since.
        self._waiting: dict[str, int] = {}
        self.full: set[str] = set()

    def holds(self, key: str, *, urgent: bool) -> bool:
        """Whether an event for a stream has to wait elsewhere: it has so much waiting, or Redis has
        no memory to spare. What is urgent, and little, goes on for longer.
        """
        if self._is_memory_short() and not urgent:
            return True
        if key not in self.full:
            return False
        return not urgent or self._waiting[key] >= self._most * URGENT_TIMES

    def held(self, streams: Iterable[str]) -> set[str]:
        """Those of some streams that take nothing now but what is urgent."""
        return set(streams) if self._is_memory_short() else self.full.intersection(streams)

    def _is_memory_short(self) -> bool:
        return self._memory is not None and self._memory.pressure >= Pressure.SPOOL

    def added(self, key: str, entries: int = 1) -> None:
        """Note what was appended; that counts as waiting until Redis has been asked again."""
        if not self._most:
            return
        waiting = self._waiting[key] = self._waiting.get(key, 0) + entries
        if waiting >= self._most and key not in self.full:
            self._set_full(self.full | {key})

    @tasks.loop
    async def _look_forever(self) -> None:
        while self._most and not self.should_stop:
            await self.sleep(LOOK_SECONDS)
            try:
                await self._look(list(self._waiting))
            except REDIS_ERRORS:
                continue  # what is full stays so: Redis takes nothing now anyhow

    async def _look(self, names: Collection[str]) -> None:
        if not names:
            return
        pipe = self._redis.pipeline(transaction=False)
        for name in names:
            pipe.xlen(name)
            pipe.xinfo_groups(name)
        replies = iter(await pipe.execute(raise_on_error=False))
        full = set(self.full)
        for name in names:
            waiting = _waiting(next(replies), next(replies))
            if waiting >= self._most:
                full.add(name)
            elif waiting < self._most * RESUME_SHARE:
                full.discard(name)
            if name in full or waiting:
                self._waiting[name] = waiting
            else:
                # nothing is added to it either: it is asked for no more
                del self._waiting[name]
        self._set_full(full)

    def _set_full(self, full: set[str]) -> None:
        for name in full - self.full:
            logger.warning(
                "%s has %d entries waiting (HOOKSTREAM_BACKLOG_MAX_EVENTS): new ones go to the "
                "spool until workers have caught up",
                name,
                self._waiting[name],
            )
        for name in self.full - full:
            logger.info("%s takes new entries again", name)
        self.full = full
        metrics.FULL_STREAMS.set(len(full))


def _waiting(length: Any, groups: Any) -> int:
    """Entries that the workers have not done, from XLEN and XINFO GROUPS."""
    for reply in (length, groups):
        if isinstance(reply, Exception):
            return 0  # no stream (yet), or something else of that name: appending will tell
    for group in groups:
        if group["name"] == keys.GROUP.encode():
            # a server that cannot tell (Redis 6, or after deletions) holds nothing up
            return int(group.get("lag") or 0) + int(group["pending"])
    return int(length)
