"""Lag, pending and oldest pending age of every stream, as Redis knows them."""

import time
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from hookstream.app import keys

__all__ = ["StreamLag", "measure_lag"]

STREAMS = ("events", "updates", "audit")


@dataclass(frozen=True, slots=True)
class StreamLag:
    """Of one channel over all partitions: entries not read yet, and read but not committed.

    ``lag`` is None where Redis cannot tell (it says so after deletions from a stream's middle).
    ``oldest_pending_seconds``: how long ago the oldest uncommitted entry was appended.
    """

    lag: int | None
    pending: int
    oldest_pending_seconds: float


async def measure_lag(redis: Redis, partitions: int) -> dict[str, StreamLag]:
    """Ask Redis about every stream in one pipeline."""
    pipe = redis.pipeline(transaction=False)
    for name in STREAMS:
        for number in range(partitions):
            pipe.xinfo_groups(keys.stream(name, number))
            pipe.xpending(keys.stream(name, number), keys.GROUP)
    pipe.time()
    *replies, now = await pipe.execute(raise_on_error=False)
    now_ms = now[0] * 1000 + now[1] // 1000 if isinstance(now, tuple) else time.time() * 1000
    found: dict[str, StreamLag] = {}
    for name in STREAMS:
        mine, replies = replies[: partitions * 2], replies[partitions * 2 :]
        found[name] = _add_up(mine, now_ms)
    return found


def _add_up(replies: list[object], now_ms: float) -> StreamLag:
    lag: int | None = 0
    pending = 0
    oldest_ms = now_ms
    for groups, summary in zip(replies[::2], replies[1::2], strict=True):
        for reply in (groups, summary):
            # a stream that nobody has written to or read from yet is not there
            if isinstance(reply, Exception) and not isinstance(reply, ResponseError):
                raise reply
        if isinstance(groups, list):
            for group in groups:
                if group["name"] == keys.GROUP.encode():
                    part = group.get("lag")
                    lag = None if lag is None or part is None else lag + part
        if isinstance(summary, dict) and summary["pending"]:
            pending += summary["pending"]
            oldest_ms = min(oldest_ms, int(summary["min"].partition(b"-")[0]))
    return StreamLag(lag, pending, max(0.0, (now_ms - oldest_ms) / 1000) if pending else 0.0)
