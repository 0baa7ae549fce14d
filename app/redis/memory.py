"""Memory pressure: how full the fullest Redis server is, looked at every few seconds."""

import contextlib
from enum import IntEnum
from typing import Any

from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.redis.client import info_by_node
from hookstream.app.redis.errors import REDIS_ERRORS

__all__ = ["MARKS", "SAYS", "MemoryWatch", "Pressure", "pressure_of"]

logger = get_logger(__name__)

LOOK_SECONDS = 2.0
#: Shares of ``maxmemory`` above which each pressure begins.
MARKS = (0.7, 0.8, 0.9)
#: A pressure ends this far below its mark, so that it does not come and go with each look.
EASES = 0.05


class Pressure(IntEnum):
    """How full Redis is: which of :data:`MARKS` its memory is above."""

    NONE = 0
    #: Tiers are left earlier.
    EARLY = 1
    #: All that is done goes straight to the archive.
    STRAIGHT = 2
    #: And receivers spool.
    SPOOL = 3


#: What each pressure means, for people.
SAYS = {
    Pressure.NONE: "below its marks: all as set",
    Pressure.EARLY: "above 70 %: events leave their tiers earlier",
    Pressure.STRAIGHT: "above 80 %: events go straight to the archive",
    Pressure.SPOOL: "above 90 %: receivers spool what is new, too",
}


def pressure_of(used: int, most: int, before: Pressure = Pressure.NONE) -> Pressure:
    """The pressure of a server that uses ``used`` of ``most`` bytes (0: it has no limit).

    >>> pressure_of(75, 100), pressure_of(66, 100, Pressure.EARLY), pressure_of(64, 100)
    (<Pressure.EARLY: 1>, <Pressure.EARLY: 1>, <Pressure.NONE: 0>)
    """
    if most <= 0:
        return Pressure.NONE
    share = used / most
    marks = (mark - (EASES if before > at else 0.0) for at, mark in enumerate(MARKS))
    return Pressure(sum(share >= mark for mark in marks))


class MemoryWatch(Service):
    """Looks how much of its memory each server uses; the fullest one counts."""

    mundane_level = "debug"

    def __init__(self, redis: Any, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self._redis = redis
        self.pressure = Pressure.NONE
        #: Of the fullest server: bytes used, and at most.
        self.used = self.most = 0

    async def look(self) -> None:
        """Ask now. Raises RedisError where a server does not answer."""
        nodes = (await info_by_node(self._redis, "memory", "primaries")).values()
        found = [(int(node.get("used_memory", 0)), int(node.get("maxmemory", 0))) for node in nodes]
        self.used, self.most = max(found, key=lambda one: one[0] / (one[1] or 1 << 60))
        before, self.pressure = self.pressure, pressure_of(self.used, self.most, self.pressure)
        metrics.MEMORY_PRESSURE.set(self.pressure)
        if before is not self.pressure:
            say = logger.warning if self.pressure > before else logger.info
            say(
                "Redis uses %d of %d bytes of its memory, %s",
                self.used,
                self.most,
                SAYS[self.pressure],
            )

    @tasks.loop
    async def _look_forever(self) -> None:
        while not self.should_stop:
            # what it was stays so where nobody answers: nothing moves then anyhow
            with contextlib.suppress(*REDIS_ERRORS):
                await self.look()
            await self.sleep(LOOK_SECONDS)
