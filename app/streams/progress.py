"""How far a stream has come, and how far the pipeline's group has worked it off."""

from typing import Any

from redis.exceptions import ResponseError

from hookstream.app.ids import entry_order
from hookstream.app.redis import keys

__all__ = ["is_worked_off", "last_entry", "pending_from"]


async def pending_from(redis: Any, stream: str) -> str | None:
    """Where what is not worked off begins, as XRANGE takes it.

    None when there is no such stream. Raises what Redis says.
    """
    pipe = redis.pipeline(transaction=False)
    pipe.xinfo_groups(stream)
    pipe.xpending(stream, keys.GROUP)
    groups, pending = await pipe.execute(raise_on_error=False)
    if isinstance(groups, ResponseError) and "no such key" in str(groups):
        return None
    if isinstance(groups, Exception):
        raise groups
    if isinstance(pending, Exception):
        if "NOGROUP" not in str(pending):
            raise pending
        return "-"
    if pending["pending"]:
        return str(pending["min"].decode())
    [read] = [g["last-delivered-id"] for g in groups if g["name"] == keys.GROUP.encode()]
    return f"({read.decode()}"


async def last_entry(redis: Any, stream: str) -> str:
    """The newest entry that a stream has or had; 0-0 where there is none."""
    try:
        info = await redis.xinfo_stream(stream)
    except ResponseError as error:
        if "no such key" not in str(error):
            raise
        return "0-0"
    return str(info["last-generated-id"].decode())


async def is_worked_off(redis: Any, stream: str, end: str) -> bool:
    """Whether all of a stream up to an entry is worked off."""
    start = await pending_from(redis, stream)
    if start is None:
        return True
    if start == "-":
        return end == "0-0"
    if start.startswith("("):
        return entry_order(start[1:]) >= entry_order(end)
    return entry_order(start) > entry_order(end)
