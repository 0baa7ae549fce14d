"""What is known of a partition's failed events: what they hold up, and breakers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from mode.utils.logging import get_logger

from hookstream.app.circuit_breaker import Breaker, BreakerState
from hookstream.app.redis import keys
from hookstream.app.settings import Settings
from hookstream.app.streams.partition import CountedLock, OpenState, Partition, decoded

__all__ = ["FailureState", "opens_failures"]

logger = get_logger(__name__)


@dataclass(slots=True, eq=False)
class FailureState:
    """What makes events wait, as Redis has it.

    ``blocked``: ordering keys that are blocked, with the failed event that blocks each ("" while
    what waited is let go); ``pins``: failed events whose outputs may have been sent already, with
    the entry that they were sent for; ``breakers``: of tools that have failed.
    """

    blocked: dict[str, str] = field(default_factory=dict)
    pins: dict[str, str] = field(default_factory=dict)
    breakers: dict[str, Breaker] = field(default_factory=dict)
    #: Tools whose breaker is closed, and that may have parked events: those come first.
    draining: set[str] = field(default_factory=set)
    #: Held by whoever decides about failed events and commits that: the commit stage, or the retry
    #: scheduler.
    lock: CountedLock = field(default_factory=CountedLock)

    def released(self) -> list[str]:
        """Ordering keys whose holder is resolved: what waited behind it comes next."""
        return [key for key, holder in self.blocked.items() if not holder]

    def follow(self, breakers: Mapping[str, Breaker]) -> None:
        """Take over breakers that a commit has changed; what was parked for one comes now."""
        for tool_id, breaker in breakers.items():
            before = self.breakers.get(tool_id)
            self.breakers[tool_id] = breaker
            was_open = before is not None and before.state is not BreakerState.CLOSED
            if breaker.state is not BreakerState.CLOSED:
                self.draining.discard(tool_id)
                if not was_open:
                    logger.warning(
                        "the circuit breaker of tool %s has opened after %d failures in a row: its "
                        "events are parked, and one is tried after %.0f s",
                        tool_id,
                        breaker.failures,
                        breaker.wait_ms / 1000,
                    )
            elif was_open:
                self.draining.add(tool_id)
                logger.warning("the circuit breaker of tool %s has closed", tool_id)

    def close(self) -> None:
        """Nothing is open."""

    def wipe(self) -> None:
        """There is no table."""


def opens_failures(redis: Any, settings: Settings) -> OpenState:
    """Reads a partition's holds, pins and breakers."""

    def breaker(kept: bytes) -> Breaker:
        return Breaker.from_dict(
            orjson.loads(kept),
            threshold=settings.breaker_failures,
            wait_ms=int(settings.breaker_wait_seconds * 1000),
        )

    async def open_state(partition: Partition, lease: Mapping[bytes, bytes]) -> None:
        number = partition.number
        pipe = redis.pipeline(transaction=False)
        for key in (keys.blocked_keys, keys.pins, keys.breakers):
            pipe.hgetall(key(number))
        blocked, pins, breakers = await pipe.execute()
        kept = decoded(keys.breakers(number), breakers, bytes.decode, breaker)
        closed = {name for name, each in kept.items() if each.state is BreakerState.CLOSED}
        partition.add(
            FailureState(
                decoded(keys.blocked_keys(number), blocked, bytes.decode, bytes.decode),
                decoded(keys.pins(number), pins, bytes.decode, bytes.decode),
                kept,
                closed,
            )
        )

    return open_state
