"""Shares: a tenant's work is due behind its own that came before, not behind another tenant's.

Who has work waiting in all partitions would else be served before whoever comes a moment later
with one event: the scheduler goes by time. Start-time fair queueing, in seconds of estimated work
(Goyal, Vin, Cheng: Start-time Fair Queueing, SIGCOMM 1996); a tenant has the same share whatever it
sends. Pure: the clock comes in.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["BEHIND_SECONDS", "EVENT_SECONDS", "Shares"]

#: What an event takes in a stage: a batch counts as due later the more events it has, and the more
#: of its tenant's are before it.
EVENT_SECONDS: Final = 0.0002
#: Own work that came before makes no work due later than this: priorities differ by as much, and
#: nothing waits for ever.
BEHIND_SECONDS: Final = 0.8


@dataclass(slots=True)
class _Share:
    """What a tenant has with the scheduler, of one priority: events, and when the last are due."""

    events: int = 0
    since: float = 0.0


class Shares:
    """Counts what each tenant has waiting and in flight, by priority."""

    def __init__(self) -> None:
        self._shares: dict[tuple[str, str], _Share] = {}

    def take(self, owners: Mapping[str, int], priority: str, now: float) -> float:
        """From when on work is due: now, or later where its tenant's own is before it.

        ``owners``: how many events are whose. Work of several tenants goes with the one that is due
        first, and counts for each. Give it back when it is done: :meth:`give_back`.
        """
        found = now + BEHIND_SECONDS
        for tenant, events in owners.items():
            share = self._shares.setdefault((tenant, priority), _Share())
            # as much later as what is before it, and not before that
            own = max(share.since, now + share.events * EVENT_SECONDS)
            share.since = min(own, now + BEHIND_SECONDS)
            share.events += events
            found = min(found, share.since)
        return found if owners else now

    def give_back(self, owners: Mapping[str, int], priority: str) -> None:
        """The work is done, or given up."""
        for tenant, events in owners.items():
            share = self._shares[tenant, priority]
            share.events -= events
            if not share.events:
                del self._shares[tenant, priority]
