"""What moves when: pure functions of a tool's ``ttl``, Redis's memory and the time."""

from hookstream.app.redis.memory import Pressure
from hookstream.app.routing.catalog import Catalog, Ttl

__all__ = ["gather_ms", "hot_ms", "ttl_of", "warm_ms"]

#: What is left of the time in a tier above the first mark.
EARLY_SHARE = 4
#: Longest that an event waits for others to be packed with, once it is due.
GATHER_MS = 300_000


def ttl_of(catalog: Catalog, owner: tuple[str, str]) -> Ttl | None:
    """How long events of a tenant's tool stay where; None where that cannot be said at the moment.

    A tool that was deleted has left its events the defaults, also where another tenant has made one
    of its name since.
    """
    tenant, tool_id = owner
    if tool_id in catalog.unreadable_tools:
        return None
    tool = catalog.tools.get(tool_id)
    return tool.ttl if tool and tool.tenant == tenant else Ttl()


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
