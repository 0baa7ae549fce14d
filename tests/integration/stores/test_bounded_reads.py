"""What is read of the event log for one request has a bound, and says where that ended it."""

import dataclasses
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.asyncio import Redis

from hookstream.app.ids import new_event_id, random_bits
from hookstream.app.payloads.dictionaries import Dictionaries
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.postgres.pool import Postgres
from hookstream.app.redis.client import Scripts
from hookstream.app.redis.durability import Durability
from hookstream.app.stores import events as events_module
from hookstream.app.stores import replays as replays_module
from hookstream.app.stores.events import DELIVERIES, EventFilter, EventStore
from hookstream.app.stores.replays import ReplayFilter, ReplayStore
from hookstream.app.stores.tiers import Tiers
from hookstream.codecs.payload import Packing

AT = 1_764_000_000_000
INSERT = """
INSERT INTO events (
    event_id, tenant, tool_id, provider, type, status, message_id, delivery_id, received_at,
    partition, entry_id, payload_bytes
) VALUES ($1, $2, 't', 'none', $3, 'unrouted', 'm', '', $4, 0, '1-1', 2)
"""
DELIVER = """
INSERT INTO deliveries (tenant, context_id, seq, event_id, delivered_at)
SELECT $1, 'c' || n, n, $2, now() FROM generate_series(1, $3::integer) AS n
"""


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[Postgres]:
    pool = Postgres(postgres_url)
    await pool.start()
    yield pool
    await pool.stop()


@pytest.fixture
def events(redis_client: Redis, postgres: Postgres) -> EventStore:
    durability = Durability(redis_client, "local")
    dictionaries = Dictionaries(redis_client, postgres, durability, enabled=False)
    payloads = Payloads(redis_client, dictionaries, Packing(False, 0))
    return EventStore(
        redis_client, postgres, 1, payloads, Tiers(redis_client, Scripts(redis_client))
    )


async def record(postgres: Postgres, tenant: str, number: int, kind: str) -> str:
    """An event of a millisecond of its own."""
    event_id = new_event_id(AT + number, 0, random_bits())
    at = datetime.fromtimestamp((AT + number) / 1000, UTC)
    await postgres.execute(INSERT, event_id, tenant, kind, at)
    return event_id


async def test_deliveries_of_an_event_are_the_first_hundred_or_those_of_a_key(
    events: EventStore, postgres: Postgres, name: str
) -> None:
    event_id = await record(postgres, name, 1, "x")
    await postgres.execute(DELIVER, name, event_id, DELIVERIES + 1)
    found = await events.get(name, event_id)
    assert found is not None
    assert (len(found["deliveries"]), found["deliveries_more"]) == (DELIVERIES, True)
    # those of a key are found, wherever they are
    mine = await events.get(name, event_id, reached=frozenset({f"c{DELIVERIES + 1}", "other"}))
    assert mine is not None
    assert [one["context_id"] for one in mine["deliveries"]] == [f"c{DELIVERIES + 1}"]
    assert mine["deliveries_more"] is False
    assert await events.get(name, event_id, reached=frozenset({"other"})) is None
    assert await events.has_reached(name, event_id, f"c{DELIVERIES + 1}")
    assert not await events.has_reached(name, event_id, "other")


async def test_a_search_looks_at_so_many_events_and_says_where_to_go_on(
    events: EventStore, postgres: Postgres, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "SEARCHED", 10)
    wanted = [await record(postgres, name, 0, "rare")]
    for number in range(1, 31):
        await record(postgres, name, number, "common")
    wanted.append(await record(postgres, name, 31, "rare"))
    asked, found, sizes = EventFilter(type="rare", limit=5), [], []
    while True:
        page, cursor = await events.search(name, asked)
        found += [one["event_id"] for one in page]
        sizes.append(len(page))
        if cursor is None:
            break
        asked = dataclasses.replace(asked, cursor=cursor)
    assert found == wanted[::-1]
    assert sizes == [1, 0, 0, 1]
    # what lies outside of the times is not looked at
    since, until = (datetime.fromtimestamp((AT + ms) / 1000, UTC) for ms in (5, 12))
    page, cursor = await events.search(name, EventFilter(since=since, until=until))
    assert [one["received_at"] for one in page] == [
        datetime.fromtimestamp((AT + ms) / 1000, UTC).isoformat() for ms in range(11, 4, -1)
    ]
    assert cursor is None
    # a page that is full ends where it ends
    page, cursor = await events.search(name, EventFilter(limit=3))
    assert (len(page), cursor) == (3, page[-1]["event_id"])


async def test_a_replay_counts_so_many_events_when_it_begins(
    postgres: Postgres, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays_module, "COUNTED", 10)
    for number in range(12):
        await record(postgres, name, number, "x")
    replays = ReplayStore(postgres)

    async def begun(wanted: ReplayFilter) -> dict[str, Any]:
        shown = await replays.find(name, await replays.create(name, wanted, "", 100.0))
        assert shown is not None
        return shown

    shown = await begun(ReplayFilter(tool="t"))
    assert (shown["matched"], shown["matched_more"]) == (10, True)
    until = datetime.fromtimestamp((AT + 9) / 1000, UTC).isoformat()
    exact = await begun(ReplayFilter(tool="t", until=until))
    assert (exact["matched"], exact["matched_more"]) == (9, False)
    # once all of it is sent, what was sent is what matched
    await postgres.execute(
        "UPDATE replays SET sent = 11, missing = 1, all_sent = true WHERE replay_id = $1",
        shown["replay_id"],
    )
    ended = await replays.find(name, shown["replay_id"])
    assert ended is not None
    assert (ended["matched"], ended["matched_more"]) == (12, False)
    # what has become of them is counted up to a bound, too
    await postgres.execute(
        "INSERT INTO replay_events (replay_id, event_id, status) "
        "SELECT $1, gen_random_uuid(), 'delivered' FROM generate_series(1, 11)",
        shown["replay_id"],
    )
    ended = await replays.find(name, shown["replay_id"])
    assert ended is not None
    assert (ended["processed"], ended["counts_more"]) == (10, True)
    assert (exact["processed"], exact["counts_more"]) == (0, False)
