"""What is known of a partition's failed events: what they hold up, and breakers."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from hookstream.app.circuit_breaker import Breaker
from hookstream.app.redis import keys
from hookstream.app.settings import Settings
from hookstream.app.streams.partition import OpenState, Partition, decoded

__all__ = ["FailureState", "opens_failures"]


@dataclass(slots=True, eq=False)
class FailureState:
    """What makes events wait, as Redis has it.

    ``blocked``: ordering keys that are blocked, with the failed event that blocks each ("" while
    what
    waited is let go); ``pins``: failed events whose outputs may have been sent already, with the
    entry that they were sent for; ``breakers``: of tools that have failed.
    """

    blocked: dict[str, str] = field(default_factory=dict)
    pins: dict[str, str] = field(default_factory=dict)
    breakers: dict[str, Breaker] = field(default_factory=dict)
    #: Held by whoever decides about failed events and commits that: the commit stage, or the retry
    #: scheduler.
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def released(self) -> list[str]:
        """Ordering keys whose holder is resolved: what waited behind it comes next."""
        return [key for key, holder in self.blocked.items() if not holder]

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
        partition.add(
            FailureState(
                decoded(keys.blocked_keys(number), blocked, bytes.decode, bytes.decode),
                decoded(keys.pins(number), pins, bytes.decode, bytes.decode),
                decoded(keys.breakers(number), breakers, bytes.decode, breaker),
            )
        )

    return open_state
