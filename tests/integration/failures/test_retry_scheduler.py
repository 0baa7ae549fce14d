"""The retry scheduler, on a real Redis and one partition by itself."""

from types import SimpleNamespace
from typing import Any

import orjson
import pytest
import redis.asyncio

from hookstream.app.circuit_breaker import Breaker, BreakerState
from hookstream.app.failures.blocking import judge
from hookstream.app.failures.failed_events import write_failures
from hookstream.app.failures.released import ReleasedEntries
from hookstream.app.failures.retry_scheduler import RetryScheduler
from hookstream.app.failures.state import FailureState, opens_failures
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.settings import Settings
from hookstream.app.streams.batch import Batch
from hookstream.app.streams.commit import Writes, commit
from hookstream.app.streams.partition import Partition
from hookstream.app.testing import make_event

NOW_MS = 1_800_000_000_000
PARKED = keys.parked(0, "tool")


@pytest.fixture
def retry_scheduler(redis_client: "redis.asyncio.Redis") -> RetryScheduler:
    catalog: Any = SimpleNamespace(tools={})
    return RetryScheduler(
        redis_client,
        Scripts(redis_client),
        Settings(),
        catalog=lambda: catalog,
        now_ms=lambda: NOW_MS,
        owned=dict,
        resume=lambda _: None,
    )


def half_open(probe: str) -> Partition:
    partition = Partition(0, 1, "n")
    breaker = Breaker(state=BreakerState.HALF_OPEN, failures=20, opened=1, probe=probe)
    partition.add(FailureState(breakers={"tool": breaker}))
    return partition


@pytest.mark.parametrize("state", ["held", "held-version", "dead", "parked", ""])
async def test_a_probe_that_says_nothing_is_followed_by_another(
    retry_scheduler: RetryScheduler, redis_client: "redis.asyncio.Redis", state: str
) -> None:
    """It waits for its turn behind what waits for the breaker, say; "": it is gone."""
    if state:
        await redis_client.hset(
            keys.failed_event(0, "first"), mapping={"raw": b"1", "state": state}
        )
    second = {"raw": b"2", "channel": "events", "state": "parked", "attempts": 1}
    await redis_client.hset(keys.failed_event(0, "second"), mapping=second)
    await redis_client.zadd(PARKED, {"second": 2})
    partition, writes = half_open("first"), Writes()
    await retry_scheduler._let_go_parked(writes, partition, NOW_MS)
    assert ("ZREM", PARKED, ("second",)) in writes.commands
    writes.follow([b"1-0"])
    assert partition[FailureState].breakers["tool"].probe == "second"


async def test_a_probe_that_is_under_way_is_waited_for(
    retry_scheduler: RetryScheduler, redis_client: "redis.asyncio.Redis"
) -> None:
    await redis_client.hset(keys.failed_event(0, "first"), mapping={"raw": b"1", "state": "queued"})
    await redis_client.zadd(PARKED, {"second": 2})
    writes = Writes()
    await retry_scheduler._let_go_parked(writes, half_open("first"), NOW_MS)
    assert not writes.commands


async def test_a_parked_letter_that_is_gone_is_no_probe(
    retry_scheduler: RetryScheduler, redis_client: "redis.asyncio.Redis"
) -> None:
    """Else the breaker would wait for ever for what came of it."""
    await redis_client.zadd(PARKED, {"gone": 1})
    partition, writes = half_open("lost"), Writes()
    await retry_scheduler._let_go_parked(writes, partition, NOW_MS)
    assert writes.commands == [("ZREM", PARKED, ("gone",))]
    writes.follow([])
    assert partition[FailureState].breakers["tool"].probe == "lost"


async def park(redis_client: "redis.asyncio.Redis", name: str, n: int, state: str) -> None:
    fields = {"raw": b"%d" % n, "entry_id": f"{n}-0", "state": state, "channel": "events"}
    await redis_client.hset(keys.failed_event(0, name), mapping=fields)
    await redis_client.zadd(PARKED, {name: n})


async def test_what_was_parked_is_taken_in_its_order_until_none_is_left(
    redis_client: "redis.asyncio.Redis",
) -> None:
    """Before what came meanwhile, also for a new owner: it was left by one that was stopped."""
    scripts = Scripts(redis_client)
    await scripts.call("claim", [keys.lease(0)], ["w1", "n", 60_000])
    for n, (name, state) in enumerate(
        [("second", "parked"), ("probe", "queued"), ("third", "parked"), ("fourth", "parked")], 2
    ):
        await park(redis_client, name, n, state)
    await redis_client.zadd(PARKED, {"gone": 1})
    closed = orjson.dumps(Breaker().to_dict())
    await redis_client.hset(keys.breakers(0), "tool", closed)
    partition = Partition(0, 1, "n")
    await opens_failures(redis_client, Settings())(partition, {})
    state = partition[FailureState]
    released = ReleasedEntries(redis_client, scripts)
    assert released.any(partition)
    assert released.first(partition)
    taken = await released.take(partition, 4)
    assert [(entry.failed_event_id, entry.parked) for entry in taken] == [
        ("second", "tool"),
        ("third", "tool"),
    ]
    assert state.pins == {"second": "2-0", "third": "4-0"}
    # what is in its stream, or gone, is nothing to the set any more
    assert await redis_client.zrange(PARKED, 0, -1) == [b"second", b"third", b"fourth"]
    for entry in taken:
        entry.value = make_event({}, tool_id="tool")
    batch = Batch("events", partition, taken, lambda *_: None)
    writes, settings = Writes(), Settings()
    taken[1].fail("stage", ValueError("again"))
    write_failures(writes, batch, judge(batch, settings, NOW_MS), settings, NOW_MS)
    await commit(scripts, partition, "events", writes)
    # delivered, or to be tried again at its time: neither is parked
    assert await redis_client.zrange(PARKED, 0, -1) == [b"fourth"]
    assert not await redis_client.exists(keys.failed_event(0, "second"))
    [last] = await released.take(partition, 3)
    assert last.failed_event_id == "fourth"
    await redis_client.zrem(PARKED, "fourth")
    assert await released.take(partition, 3) == []
    assert not released.any(partition)


def test_a_breaker_that_closes_lets_what_was_parked_come() -> None:
    state = FailureState(breakers={"tool": Breaker(state=BreakerState.HALF_OPEN)})
    state.follow({"other": Breaker(failures=1)})
    assert not state.draining, "it was never open"
    state.follow({"tool": Breaker()})
    assert state.draining == {"tool"}
    state.follow({"tool": Breaker(state=BreakerState.OPEN)})
    assert not state.draining
