"""Leases are renewed beside a loop that stands still, and never once they were given back."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts, connect
from hookstream.app.stalls import LoopWatch
from hookstream.app.streams.standby import LeaseStandby

LEASE_SECONDS, MOST_SECONDS = 0.6, 2.0
TTL_MS = int(LEASE_SECONDS * 1000)


@pytest.fixture
async def standby(redis_url: str) -> AsyncIterator[LeaseStandby]:
    watch = LoopWatch(10.0)
    made = LeaseStandby(
        lambda: connect(redis_url, timeout_seconds=1.0),
        watch,
        lease_seconds=LEASE_SECONDS,
        most_seconds=MOST_SECONDS,
    )
    watch.start()
    made.start()
    yield made
    await made.stop()
    watch.stop()


async def expires_in(client: "redis.asyncio.Redis", partition: int) -> float:
    """Seconds that a lease has left, by Redis's clock; negative once it has lapsed."""
    seconds, micros = await client.time()
    expires_ms = await client.hget(keys.lease(partition), "expires_ms")
    return float(expires_ms) / 1000 - (seconds + micros / 1e6)


async def test_only_what_is_held_is_renewed_and_only_up_to_the_bound(
    redis_client: "redis.asyncio.Redis", standby: LeaseStandby
) -> None:
    scripts = Scripts(redis_client)
    for number in (0, 1, 2):
        await scripts.call("claim", [keys.lease(number)], ["w", "n", TTL_MS])
    leases = dict.fromkeys((0, 1, 2), (1, "n", TTL_MS))
    leases[2] = (1, "of another", TTL_MS)
    standby.publish(leases)
    time.sleep(2 * LEASE_SECONDS)
    assert await expires_in(redis_client, 0) > 0
    # the fencing token decides, here too
    assert await expires_in(redis_client, 2) < 0
    await standby.withdraw(1)
    await scripts.call("renew", [keys.lease(1)], [1, "n", 0])
    await asyncio.sleep(0.5)
    time.sleep(2 * LEASE_SECONDS)
    assert await expires_in(redis_client, 1) < -LEASE_SECONDS
    assert await expires_in(redis_client, 0) > 0
    await asyncio.sleep(0.5)
    time.sleep(MOST_SECONDS + 2 * LEASE_SECONDS)
    assert await expires_in(redis_client, 0) < 0


async def test_after_its_end_nothing_is_renewed(
    redis_client: "redis.asyncio.Redis", standby: LeaseStandby
) -> None:
    await Scripts(redis_client).call("claim", [keys.lease(0)], ["w", "n", TTL_MS])
    standby.publish({0: (1, "n", TTL_MS)})
    time.sleep(LEASE_SECONDS)
    await standby.stop()
    time.sleep(2 * LEASE_SECONDS)
    assert await expires_in(redis_client, 0) < 0
