"""What moves when: pure functions of a tool's ``ttl``, Redis's memory and the time."""

from enum import IntEnum

from hookstream.app.routing.catalog import Catalog, Ttl

__all__ = ["MARKS", "Pressure", "gather_ms", "hot_ms", "pressure_of", "ttl_of", "warm_ms"]

#: Shares of ``maxmemory`` above which each pressure begins.
MARKS = (0.7, 0.8, 0.9)
#: A pressure ends this far below its mark, so that it does not come and go with each look.
EASES = 0.05
#: What is left of the time in a tier above the first mark.
EARLY_SHARE = 4
#: Longest that an event waits for others to be packed with, once it is due.
GATHER_MS = 300_000


class Pressure(IntEnum):
    """How full Redis is: which of :data:`MARKS` its memory is above."""

    NONE = 0
    #: Tiers are left earlier.
    EARLY = 1
    #: All that is done goes straight to the archive.
    STRAIGHT = 2
    #: And receivers spool.
    SPOOL = 3


def pressure_of(used: int, most: int, before: Pressure = Pressure.NONE) -> Pressure:
    """The pressure of a server that uses ``used`` of ``most`` bytes (0: it has no limit).

    >>> pressure_of(75, 100), pressure_of(66, 100, Pressure.EARLY), pressure_of(64, 100)
    (<Pressure.EARLY: 1>, <Pressure.EARLY: 1>, <Pressure.NONE: 0>)
    """
    if most <= 0:
        return Pressure.NONE
    share = used / most
    return Pressure(
        sum(share >= mark - (EASES if before > at else 0.0) for at, mark in enumerate(MARKS))
    )


def ttl_of(catalog: Catalog, tool_id: str) -> Ttl | None:
    """How long a tool's events stay where; None where that cannot be said at the moment.

    A tool that was deleted has left its events the defaults.
    """
    if tool_id in catalog.unreadable_tools:
        return None
    tool = catalog.tools.get(tool_id)
    return tool.ttl if tool else Ttl()


def hot_ms(ttl: Ttl, pressure: Pressure) -> int:
    """For how long an event stays hot."""
    return _shortened(ttl.hot_ms, pressure)


def warm_ms(ttl: Ttl, pressure: Pressure) -> int:
    """For how long it is warm afterwards."""
    return _shortened(ttl.warm_ms, pressure)


def _shortened(ms: int, pressure: Pressure) -> int:
    if pressure >= Pressure.STRAIGHT:
        return 0
    return ms // EARLY_SHARE if pressure else ms


def gather_ms(ttl: Ttl, pressure: Pressure) -> int:
    """For how long an event that is due waits for others: never more than a quarter of its time."""
    return min(GATHER_MS, hot_ms(ttl, pressure) // 4)
