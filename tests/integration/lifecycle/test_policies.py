"""Policies on real servers: what goes in which tier, what holds keep, and the proof of it."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from hookstream.app.ids import new_event_id
from hookstream.app.lifecycle.policies import PolicyMover
from hookstream.app.postgres.pool import Postgres
from hookstream.app.routing.catalog import Ttl
from hookstream.app.stores.holds import Hold
from hookstream.app.stores.retention_policies import Policy, PolicyStore
from hookstream.app.stores.tiers import GONE, Tiers
from hookstream.codecs.envelope import decode_event
from hookstream.testing import make_event
from tests.integration.lifecycle.test_cold import HOUR, ColdHouse, cold_house
from tests.integration.lifecycle.test_warm import NOW, NUMBER, tool

PAYLOAD = b'{"text": "card 4111 1111 1111 1111, order 7"}'


class PolicyHouse(ColdHouse):
    """One with policies."""

    store: PolicyStore

    async def event(self, tool_id: str, n: int, payload: bytes = PAYLOAD, **fields: Any) -> str:
        """An event that comes now, with an id of now."""
        event_id = new_event_id(self.now_ms, NUMBER, n)
        event = make_event(
            payload, number=n, tool_id=tool_id, event_id=event_id, received_at_ms=self.now_ms,
            **fields,
        )  # fmt: skip
        data = self.payloads.encode(event)
        await self.redis.xadd(f"{{hs:{NUMBER}}}:events", {"d": data}, id=f"{self.now_ms}-{n}")
        return event_id

    async def enforce(self, *holds: Hold) -> int:
        mover = PolicyMover(
            self.redis, self.scripts, self.archive, self.payloads, self.store,
            now_ms=lambda: self.now_ms,
        )  # fmt: skip
        return await mover.enforce({NUMBER: self.partition}, lambda *_: True, holds)


@pytest.fixture
async def house(redis_client: Any, postgres_url: str, tmp_path: Path) -> AsyncIterator[PolicyHouse]:
    async with (
        Postgres(postgres_url) as postgres,
        cold_house(redis_client, postgres_url, tmp_path / "archive") as made,
    ):
        made.__class__ = PolicyHouse
        assert isinstance(made, PolicyHouse)
        await postgres.execute("DELETE FROM retention_policies")
        made.store = PolicyStore(postgres)
        yield made


async def in_tiers(house: PolicyHouse) -> list[str]:
    """Three events of the tool a, of an hour each: cold, warm, hot; all 30 hours old and more."""
    house.now_ms = NOW // HOUR * HOUR
    house.tools["a"] = tool("a", Ttl(HOUR, 2 * HOUR, 300 * HOUR))
    ids = [await house.event("a", 1), await house.event("a", 2, b'{"text": "order 8"}')]
    await house.work_off()
    house.now_ms += 2 * HOUR
    assert await house.move() == 2
    house.now_ms += 2 * HOUR
    assert await house.archived() == 2
    ids += [await house.event("a", 3)]
    await house.work_off()
    house.now_ms += 2 * HOUR
    assert await house.move() == 1
    ids += [await house.event("a", 4), await house.event("b", 5)]
    await house.work_off()
    house.now_ms += 30 * HOUR
    return ids


async def left(house: PolicyHouse) -> set[str]:
    """Ids of what there is in any tier."""
    found = {
        decode_event(fields[b"d"]).event_id
        for _, fields in await house.redis.xrange(f"{{hs:{NUMBER}}}:events")
    }
    for tenant, tool_id in (("default", "a"), ("default", "b")):
        async for some in house.archive.scan(tenant, tool_id, 0, 1 << 50):
            found |= {decode_event(one.envelope).event_id for one in some}
    from hookstream.app.redis import keys
    from hookstream.app.stores.tiers import warm_entry
    from hookstream.codecs.warm_block import read_block

    for member in await house.redis.zrange(keys.warm_index(NUMBER, "default", "a"), 0, -1):
        name = keys.warm_block(NUMBER, "default", "a", warm_entry(member).last)
        found |= {
            decode_event(one.envelope).event_id for one in read_block(await house.redis.get(name))
        }
    return found


async def test_a_policy_deletes_in_every_tier_and_proves_it(house: PolicyHouse) -> None:
    ids = await in_tiers(house)
    assert await left(house) == set(ids)
    await house.store.put(Policy("default", "p", "a", delete_after_seconds=24 * 3600))
    assert await house.enforce() == 4
    assert await left(house) == {ids[4]}
    assert await house.enforce() == 0
    proof = {one.tier: one for one in await house.store.proof("default", "p", None, 10)}
    assert {tier: one.deleted for tier, one in proof.items()} == {"cold": 2, "warm": 1, "hot": 1}
    cold = proof["cold"]
    assert (cold.first_event, cold.last_event) == (ids[0], ids[1])
    hashed = hashlib.sha256(b"".join(UUID(one).bytes for one in sorted(ids[:2]))).hexdigest()
    assert (cold.ids_sha256, cold.tool_id) == (hashed, "a")
    assert cold.rule["delete_after_seconds"] == 24 * 3600
    # append-only
    postgres = house.store._postgres
    with pytest.raises(asyncpg.PostgresError, match="append-only"):
        await postgres.execute("UPDATE retention_proof SET deleted = 0")


async def test_a_class_deletes_only_what_has_such_data(house: PolicyHouse) -> None:
    ids = await in_tiers(house)
    await house.store.put(
        Policy("default", "cards", data_class="payment", delete_after_seconds=24 * 3600)
    )
    assert await house.enforce() == 4
    assert await left(house) == {ids[1]}


async def test_holds_keep_what_a_policy_would_delete(house: PolicyHouse) -> None:
    ids = await in_tiers(house)
    await house.store.put(Policy("default", "p", delete_after_seconds=24 * 3600))
    held = Hold("h", "default", "a", first_event=UUID(ids[0]), last_event=UUID(ids[0]))
    assert await house.enforce(held, Hold("h2", "default", "b")) == 3
    assert await left(house) == {ids[0], ids[4]}
    # a hold of another tenant's tool of the same name is none of ours
    assert await house.enforce(Hold("h3", "another", "a")) == 2
    assert await left(house) == set()


async def test_holds_keep_objects_of_the_archive_from_expiring(house: PolicyHouse) -> None:
    ids = await in_tiers(house)
    house.now_ms += 1000 * HOUR
    held = Hold("h", "default", "a", first_event=UUID(ids[1]), last_event=UUID(ids[1]))
    assert await house.cold.expire(lambda *_: True, [held]) == 0
    assert ids[1] in await left(house)
    assert await house.cold.expire(lambda *_: True, [Hold("h", "default", "b")]) == 2
    assert ids[1] not in await left(house)


async def test_what_is_rewritten_is_not_remembered_as_it_was(house: PolicyHouse) -> None:
    """A process that has read a block must not show what has left it."""
    await in_tiers(house)
    tiers = Tiers(house.redis, house.scripts, house.archive)
    from hookstream.app.archive.rows import Place

    place = Place("default", "a", NUMBER, f"{NOW // HOUR * HOUR + 4 * HOUR}-3")
    [before] = await tiers.envelopes([place])
    assert before is not None
    await house.store.put(Policy("default", "p", "a", delete_after_seconds=24 * 3600))
    await house.enforce()
    assert await tiers.envelopes([place]) == [None]
    assert (await tiers.tiers([place]))[0] == GONE
