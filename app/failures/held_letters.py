"""Whether a failed event is under a legal hold."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from hookstream.app.stores.holds import ALL_EVENTS, Hold, hold_against

__all__ = ["held_letter"]


async def held_letter(redis: Any, key: str, holds: Iterable[Hold]) -> Hold | None:
    """The hold that keeps the failed event under ``key``; None where it may go.

    Raises:
        redis.exceptions.RedisError: Redis does not answer.
    """
    tenant, tool_id, event_id = (
        (value or b"").decode() for value in await redis.hmget(key, "tenant", "tool_id", "event_id")
    )
    if not tenant:
        return None
    events = (UUID(event_id), UUID(event_id)) if event_id else ALL_EVENTS
    return hold_against(holds, tenant, tool_id=tool_id, events=events)
