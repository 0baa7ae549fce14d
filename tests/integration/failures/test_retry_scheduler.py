"""The retry scheduler, on a real Redis and one partition by itself."""

from types import SimpleNamespace
from typing import Any

import pytest
import redis.asyncio

from hookstream.app.circuit_breaker import Breaker, BreakerState
from hookstream.app.failures.retry_scheduler import RetryScheduler
from hookstream.app.failures.state import FailureState
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.settings import Settings
from hookstream.app.streams.commit import Writes
from hookstream.app.streams.partition import Partition

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
