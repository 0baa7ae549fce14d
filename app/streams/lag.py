"""Lag, pending and oldest pending age of every stream, as Redis knows them, and who owns what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hookstream.app.clock import RedisClock
from hookstream.app.priority import DEFERRABLE, channel_name
from hookstream.app.redis import keys
from hookstream.app.redis.errors import is_missing
from hookstream.app.streams.rendezvous import WorkerNote

__all__ = [
    "STREAMS",
    "Assignment",
    "DeadLetters",
    "StreamLag",
    "measure_assignment",
    "measure_dead_letters",
    "measure_lag",
    "measure_partitions",
    "measure_quarantined",
]

#: What a worker has not said again for so long does not hold any more.
NOTE_MS = 60_000
#: Dead letters are said to be more and more by how many came within this time.
LATELY_MS = 600_000
#: The pipeline's own streams.
DEFERRED = tuple(channel_name(name) for name in DEFERRABLE)
STREAMS = ("events", "updates", *DEFERRED, "audit")


@dataclass(frozen=True, slots=True)
class StreamLag:
    """Of a channel: entries not read yet, and read but not committed.

    ``lag`` is None where Redis cannot tell: after deletions from a stream's middle, and where
    nobody has read a stream yet. Of streams of deferred updates, out of whose middle what is taken
    along is deleted, it is then what there is and is not pending: trimmed as they are, that is up
    to a node of the stream more.
    ``oldest_pending_seconds``: how long ago the oldest entry was appended that was read and is not
    committed; ``oldest_seconds``: the oldest of all that is not, read or not.
    """

    lag: int | None
    pending: int
    oldest_pending_seconds: float
    oldest_seconds: float


async def measure_lag(
    redis: Any, clock: RedisClock, partitions: int, streams: Sequence[str] = STREAMS
) -> dict[str, StreamLag]:
    """Every channel's lag over all partitions: one pipeline."""
    by_partition = await _measure(redis, clock, range(partitions), streams)
    return {name: _sum([lags[name] for lags in by_partition]) for name in streams}


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


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """How many there are, and how many of them died within :data:`LATELY_MS`."""

    total: int
    lately: int


async def measure_dead_letters(redis: Any, clock: RedisClock, partitions: int) -> DeadLetters:
    """Those of all partitions: one pipeline."""
    since = clock.now_ms() - LATELY_MS
    pipe = redis.pipeline(transaction=False)
    for number in range(partitions):
        pipe.zcard(keys.dead(number))
        pipe.zcount(keys.dead(number), since, "+inf")
    counts = await pipe.execute()
    return DeadLetters(sum(counts[::2]), sum(counts[1::2]))


async def measure_partitions(
    redis: Any, clock: RedisClock, partitions: int, streams: Sequence[str] = STREAMS
) -> dict[str, Any]:
    """Workers that are alive; owner, epoch, lease and lag of every partition."""
    lags = await _measure(redis, clock, range(partitions), streams)
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
                        "oldest_seconds": lag.oldest_seconds,
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
    redis: Any, clock: RedisClock, partitions: Sequence[int], streams: Sequence[str]
) -> list[dict[str, StreamLag]]:
    """One pipeline, and one more where anything has not been read yet."""
    names = [(name, number) for number in partitions for name in streams]
    pipe = redis.pipeline(transaction=False)
    for name, number in names:
        pipe.xinfo_groups(keys.stream(name, number))
        pipe.xpending(keys.stream(name, number), keys.GROUP)
    replies = await pipe.execute(raise_on_error=False)
    states = [_state(*pair) for pair in zip(replies[::2], replies[1::2], strict=True)]
    pipe = redis.pipeline(transaction=False)
    unread = [at for at, state in enumerate(states) if state.lag != 0]
    for at in unread:
        after = states[at].read_to
        start = f"({after}" if after else "-"
        pipe.xrange(keys.stream(*names[at]), start, count=1)
        pipe.xlen(keys.stream(*names[at]))
    found = await pipe.execute() if unread else []
    first = dict(zip(unread, found[::2], strict=True))
    for at, length in zip(unread, found[1::2], strict=True):
        if names[at][0] in DEFERRED and states[at].read_to:
            states[at] = states[at].with_tombstones(length if first[at] else 0)
    now_ms = clock.now_ms()
    lags = iter(
        _lag(state, first[at][0][0] if first.get(at) else b"", now_ms)
        for at, state in enumerate(states)
    )
    return [{name: next(lags) for name in streams} for _ in partitions]


@dataclass(frozen=True, slots=True)
class _State:
    """Of a stream: its lag, how far it was read ("": nobody has), what is not committed."""

    lag: int | None
    read_to: str
    pending: int
    oldest_pending: bytes

    def with_tombstones(self, length: int) -> "_State":
        """Of a stream from which unread entries are deleted, with the ``length`` that it has, or 0
        where none is left: by then Redis may count deleted ones as unread, or not at all.
        """
        most = max(0, length - self.pending)
        return replace(self, lag=most if self.lag is None else min(self.lag, most))


def _state(groups: Any, summary: Any) -> _State:
    for reply in (groups, summary):
        # a stream that nobody has written to or read from yet is not there
        if isinstance(reply, Exception) and not is_missing(reply):
            raise reply
    lag: int | None = 0
    read_to = ""
    if isinstance(groups, list):
        # a stream that has no group is read by nobody yet
        ours = [group for group in groups if group["name"] == keys.GROUP.encode()]
        lag = ours[0].get("lag") if ours else None
        read_to = ours[0]["last-delivered-id"].decode() if ours else ""
    if not isinstance(summary, dict) or not summary["pending"]:
        return _State(lag, read_to, 0, b"")
    return _State(lag, read_to, summary["pending"], summary["min"])


def _lag(state: _State, first_unread: bytes, now_ms: int) -> StreamLag:
    pending = _age(state.oldest_pending, now_ms)
    return StreamLag(state.lag, state.pending, pending, max(pending, _age(first_unread, now_ms)))


def _age(entry_id: bytes, now_ms: int) -> float:
    """How long ago an entry was appended, in seconds; 0 for none."""
    return max(0.0, (now_ms - int(entry_id.partition(b"-")[0])) / 1000) if entry_id else 0.0


def _sum(lags: Sequence[StreamLag]) -> StreamLag:
    known = [lag.lag for lag in lags]
    return StreamLag(
        None if None in known else sum(lag or 0 for lag in known),
        sum(lag.pending for lag in lags),
        max(lag.oldest_pending_seconds for lag in lags),
        max(lag.oldest_seconds for lag in lags),
    )
