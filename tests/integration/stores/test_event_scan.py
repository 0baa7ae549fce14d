"""Looking through a stream for an event that is not recorded yet: what one request may read."""

from typing import Any, cast

import pytest
from redis.asyncio import Redis

from hookstream.app.errors import UnavailableError
from hookstream.app.ids import new_event_id
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.postgres.pool import Postgres
from hookstream.app.redis import keys
from hookstream.app.stores.events import SCAN_BYTES, SCAN_ENTRIES, SCAN_PAGE, EventStore
from hookstream.app.stores.tiers import Tiers
from hookstream.codecs.envelope import Event, encode_event

AT = 1_764_000_000_000
EVENT = new_event_id(AT, 0, 7)
OTHER = new_event_id(AT, 0, 8)


def envelope(event_id: str) -> bytes:
    event = Event(
        event_id=event_id,
        tenant="default",
        tool_id="t",
        provider="none",
        type="x",
        message_id="m",
        received_at_ms=AT,
        payload=b"{}",
    )
    return encode_event(event)


@pytest.fixture
def store(redis_client: Redis) -> EventStore:
    # only streams are looked through here: neither records nor payloads are asked for
    return EventStore(
        redis_client, cast(Postgres, None), 1, cast(Payloads, None), cast(Tiers, None)
    )


async def fill(redis: Redis, data: bytes, count: int, at_ms: int) -> None:
    pipe = redis.pipeline(transaction=False)
    for number in range(count):
        pipe.xadd(keys.events(0), {"d": data}, id=f"{at_ms}-{number + 1}")
    await pipe.execute()


async def sent_by(redis: Redis, work: Any) -> tuple[int, int]:
    """Pages read, and bytes that the server sent, while ``work`` was refused."""
    before = (await redis.info("stats"))["total_net_output_bytes"]
    await redis.config_resetstat()
    with pytest.raises(UnavailableError, match="more around its time"):
        await work
    stats = await redis.info("commandstats")
    calls = sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in READS)
    after = (await redis.info("stats"))["total_net_output_bytes"]
    return calls, after if after < before else after - before


READS = ("xrange", "xrevrange")


async def test_accepted_event_is_found_between_crowds_on_both_sides(
    redis_client: Redis, store: EventStore
) -> None:
    await fill(redis_client, envelope(OTHER), SCAN_ENTRIES * 2, AT - 3_000)
    await redis_client.xadd(keys.events(0), {"d": envelope(EVENT)}, id=f"{AT + 2}-0")
    await fill(redis_client, envelope(OTHER), SCAN_ENTRIES * 2, AT + 5_000)
    assert await store.find_in_stream("default", EVENT) == envelope(EVENT)
    with pytest.raises(UnavailableError):
        await store.find_in_stream("another", EVENT)


async def test_event_is_found_where_the_clocks_of_receiver_and_redis_differ(
    redis_client: Redis, store: EventStore
) -> None:
    await redis_client.xadd(keys.events(0), {"d": envelope(EVENT)}, id=f"{AT - 4_000}-0")
    await fill(redis_client, envelope(OTHER), 100, AT - 3_000)
    assert await store.find_in_stream("default", EVENT) == envelope(EVENT)


async def test_made_up_id_in_a_quiet_stream_is_not_there(
    redis_client: Redis, store: EventStore
) -> None:
    await fill(redis_client, envelope(OTHER), 3 * SCAN_PAGE, AT)
    assert await store.find_in_stream("default", EVENT) is None


async def test_made_up_id_reads_no_more_than_so_many_entries(
    redis_client: Redis, store: EventStore
) -> None:
    await fill(redis_client, envelope(OTHER), SCAN_ENTRIES * 2, AT - 3_000)
    await fill(redis_client, envelope(OTHER), SCAN_ENTRIES * 2, AT + 3_000)
    calls, _ = await sent_by(redis_client, store.find_in_stream("default", EVENT))
    assert calls == 2 * SCAN_ENTRIES // SCAN_PAGE


async def test_made_up_id_reads_no_more_than_so_many_bytes(
    redis_client: Redis, store: EventStore
) -> None:
    large = b"x" * 250_000
    await fill(redis_client, large, 2 * SCAN_BYTES // len(large), AT)
    _, size = await sent_by(redis_client, store.find_in_stream("default", EVENT))
    assert size < SCAN_BYTES + (SCAN_PAGE + 1) * len(large)
