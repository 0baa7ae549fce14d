"""Lag, pending and oldest pending age of every stream, as Redis knows them, and who owns what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hookstream.app.clock import RedisClock
from hookstream.app.priority import DEFERRABLE, channel_name
from hookstream.app.redis import keys
from hookstream.app.redis.errors import is_missing
from hookstream.app.streams.rendezvous import WorkerNote

__all__ = [
    "Assignment",
    "StreamLag",
    "measure_assignment",
    "measure_lag",
    "measure_partitions",
    "measure_quarantined",
]

#: What a worker has not said again for so long does not hold any more.
NOTE_MS = 60_000
STREAMS = ("events", "updates", *(channel_name(name) for name in DEFERRABLE), "audit")


@dataclass(frozen=True, slots=True)
class StreamLag:
    """Of a channel: entries not read yet, and read but not committed.

    ``lag`` is None where Redis cannot tell: after deletions from a stream's middle, and where
    nobody has read a stream yet.
    ``oldest_pending_seconds``: how long ago the oldest uncommitted entry was appended.
    """

    lag: int | None
    pending: int
    oldest_pending_seconds: float


async def measure_lag(redis: Any, clock: RedisClock, partitions: int) -> dict[str, StreamLag]:
    """Every channel's lag over all partitions: one pipeline."""
    by_partition = await _measure(redis, clock, range(partitions))
    return {name: _sum([lags[name] for lags in by_partition]) for name in STREAMS}


async def measure_quarantined(redis: Any, partitions: int) -> dict[int, int]:
    """By version of the envelope: how many entries wait for a worker that reads it."""
    pipe = redis.pipeline(transaction=False)
    for number in range(partitions):
        pipe.hkeys(keys.quarantines(number))
    places = [
        (number, int(version))
        for number, versions in enumerate(await pipe.execute())
        for version in versions
    ]
    if not places:
        return {}
    pipe = redis.pipeline(transaction=False)
    for place in places:
        pipe.llen(keys.quarantined(*place))
    held: dict[int, int] = {}
    for (_, version), entries in zip(places, await pipe.execute(), strict=True):
        held[version] = held.get(version, 0) + int(entries)
    return held


async def measure_partitions(redis: Any, clock: RedisClock, partitions: int) -> dict[str, Any]:
    """Workers that are alive; owner, epoch, lease and lag of every partition."""
    lags = await _measure(redis, clock, range(partitions))
    pipe = redis.pipeline(transaction=False)
    for number in range(partitions):
        pipe.hmget(keys.lease(number), "owner", "epoch", "expires_ms")
    leases = await pipe.execute()
    now_ms = clock.now_ms()
    workers = await redis.zrangebyscore(keys.WORKERS, now_ms, "+inf")
    rows = []
    for number, (owner, epoch, expires_ms) in enumerate(leases):
        left = (int(expires_ms or 0) - now_ms) / 1000
        rows.append(
            {
                "partition": number,
                "owner": owner.decode() if owner and left > 0 else None,
                "epoch": int(epoch or 0),
                "lease_seconds": round(max(0.0, left), 3),
                "streams": {
                    name: {
                        "lag": lag.lag,
                        "pending": lag.pending,
                        "oldest_pending_seconds": lag.oldest_pending_seconds,
                    }
                    for name, lag in lags[number].items()
                },
            }
        )
    return {"workers": [worker.decode() for worker in workers], "partitions": rows}


@dataclass(frozen=True, slots=True)
class Assignment:
    """Who works: living workers, partitions without an owner, and what workers say they cannot do.

    ``troubles``: by worker, why it takes no partitions, or which it cannot open and why.
    """

    workers: tuple[str, ...]
    unowned: tuple[int, ...]
    troubles: Mapping[str, WorkerNote]


async def measure_assignment(redis: Any, clock: RedisClock, partitions: int) -> Assignment:
    """Living workers, their notes and the leases: one pipeline."""
    pipe = redis.pipeline(transaction=False)
    now_ms = clock.now_ms()
    pipe.zrangebyscore(keys.WORKERS, now_ms, "+inf")
    pipe.hgetall(keys.WORKER_NOTES)
    for number in range(partitions):
        pipe.hget(keys.lease(number), "expires_ms")
    workers, notes, *expiries = await pipe.execute()
    troubles = {}
    for name, note in notes.items():
        at_ms, _, text = note.decode().partition(" ")
        if at_ms.isdecimal() and abs(now_ms - int(at_ms)) < NOTE_MS:
            troubles[name.decode()] = WorkerNote.decode(text)
    return Assignment(
        tuple(worker.decode() for worker in workers),
        tuple(n for n, expires_ms in enumerate(expiries) if int(expires_ms or 0) <= now_ms),
        troubles,
    )


async def _measure(
    redis: Any, clock: RedisClock, partitions: Sequence[int]
) -> list[dict[str, StreamLag]]:
    pipe = redis.pipeline(transaction=False)
    for number in partitions:
        for name in STREAMS:
            pipe.xinfo_groups(keys.stream(name, number))
            pipe.xpending(keys.stream(name, number), keys.GROUP)
    replies = iter(await pipe.execute(raise_on_error=False))
    now_ms = clock.now_ms()
    return [
        {name: _lag(next(replies), next(replies), now_ms) for name in STREAMS} for _ in partitions
    ]


def _lag(groups: Any, summary: Any, now_ms: int) -> StreamLag:
    for reply in (groups, summary):
        # a stream that nobody has written to or read from yet is not there
        if isinstance(reply, Exception) and not is_missing(reply):
            raise reply
    lag: int | None = 0
    if isinstance(groups, list):
        # a stream that has no group is read by nobody yet
        ours = [group for group in groups if group["name"] == keys.GROUP.encode()]
        lag = ours[0].get("lag") if ours else None
    pending = summary["pending"] if isinstance(summary, dict) else 0
    if not pending:
        return StreamLag(lag, 0, 0.0)
    oldest_ms = int(summary["min"].partition(b"-")[0])
    return StreamLag(lag, pending, max(0.0, (now_ms - oldest_ms) / 1000))


def _sum(lags: Sequence[StreamLag]) -> StreamLag:
    known = [lag.lag for lag in lags]
    return StreamLag(
        None if None in known else sum(lag or 0 for lag in known),
        sum(lag.pending for lag in lags),
        max(lag.oldest_pending_seconds for lag in lags),
    )
