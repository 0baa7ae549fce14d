"""A tenant is deleted in every place where it has anything, and nobody else's is."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hookstream.app.archive.rows import Place
from hookstream.app.failures.dead_letters import DeadLetters
from hookstream.app.ids import full_tool_id, new_event_id
from hookstream.app.ingest.refusals import Refusals
from hookstream.app.ingest.tenant_use import TenantUse
from hookstream.app.lifecycle.tenant_deletion import TenantDeletion
from hookstream.app.payloads.dictionaries import Dictionaries
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.redis import keys
from hookstream.app.routing.catalog import Catalog, Ttl
from hookstream.app.stores.tiers import COLD, GONE, HOT, WARM
from hookstream.codecs.envelope import encode_event, take_out_payload
from hookstream.testing import make_event
from tests.integration.lifecycle.test_cold import HOUR, ColdHouse, cold_house
from tests.integration.lifecycle.test_warm import MINUTE, NOW, NUMBER, tool

ACME = full_tool_id("acme", "a")
PARTITIONS = NUMBER + 1


class Town:
    """A partition with events of two tenants in all tiers, rows, letters, and who deletes one."""

    def __init__(self, house: ColdHouse, postgres: Postgres) -> None:
        self.house = house
        self.postgres = postgres
        self.holds: list[str] = []
        self.deletions = [self.deletion() for _ in range(2)]

    def deletion(self) -> TenantDeletion:
        house, redis = self.house, self.house.redis
        nothing: Any = None
        catalog = Catalog()
        made = TenantDeletion(
            redis,
            house.scripts,
            self.postgres,
            house.archive,
            dead_letters=DeadLetters(redis, house.scripts, PARTITIONS, nothing),
            refusals=Refusals(redis, house.scripts, nothing),
            dictionaries=Dictionaries(redis, self.postgres, nothing, enabled=False),
            use=TenantUse(redis, lambda: catalog, lambda: NOW, "one"),
            partitions=PARTITIONS,
            catalog=lambda: catalog,
            held_by=self.held_by,
        )
        made.rest_seconds = 0
        return made

    async def held_by(self, tenant: str) -> Sequence[str]:
        return self.holds if tenant == "acme" else ()

    async def add(self, n: int, *, blob: bool = False) -> Place:
        """An event of acme's, beside one of the default tenant's tool of that name."""
        house, stream = self.house, keys.events(NUMBER)
        await house.add("a", 2 * n)
        event = make_event(b'{"n": %d}' % n, number=2 * n + 1, tool_id=ACME, tenant="acme")
        data = house.payloads.encode(event)
        if blob:
            data, name, content = take_out_payload(data, lambda e: keys.blob(stream, e))
            await house.redis.set(name, content)
        entry = await house.redis.xadd(stream, {"d": data}, id=f"{house.now_ms}-{2 * n + 1}")
        return Place("acme", ACME, NUMBER, entry.decode())

    async def letter(self, tenant: str, name: str, *, dead: bool) -> None:
        """A failed event."""
        where = keys.dead if dead else keys.retries
        await self.house.redis.zadd(where(NUMBER), {name: NOW})
        fields = {"tenant": tenant, "tool_id": ACME, "last_failed_ms": NOW}
        await self.house.redis.hset(keys.failed_event(NUMBER, name), mapping=fields)

    async def tiers(self, places: Sequence[Place]) -> list[str]:
        return await self.house.tiers.tiers(places)

    async def state(self) -> dict[str, Any]:
        row = await self.postgres.fetchrow(statement("tenant_deletion"), "acme")
        return dict(row or {})


@pytest.fixture
async def town(redis_client: Any, postgres_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    async with cold_house(redis_client, postgres_url, tmp_path / "archive") as house:
        ttl = Ttl(10 * MINUTE, 5 * HOUR, 100 * HOUR)
        house.tools[ACME] = replace(tool(ACME, ttl), tenant="acme")
        async with Postgres(postgres_url) as postgres:
            await postgres.execute("DELETE FROM tenant_deletions")
            await postgres.execute("INSERT INTO tenants (tenant_id) VALUES ('acme')")
            yield Town(house, postgres)
            await postgres.execute("DELETE FROM tenants WHERE tenant_id = 'acme'")
            for table in ("events", "tools", "api_keys", "contexts", "deleted_contexts"):
                await postgres.execute(f"DELETE FROM {table} WHERE tenant IN ('acme', 'default')")


async def rows(town: Town, tenant: str) -> None:
    """A row of each kind."""
    tool_id = full_tool_id(tenant, "a")
    await town.postgres.execute(
        "INSERT INTO tools (tool_id, tenant, provider, dedup, ordering, ttl) "
        "VALUES ($1, $2, 'none', '{}', '{}', '{}')",
        *(tool_id, tenant),
    )
    await town.postgres.execute(
        "INSERT INTO api_keys (key_id, tenant, name, hash, contexts) VALUES ($1, $2, '', $3, '{}')",
        *(f"key-{tenant}", tenant, tenant.encode()),
    )
    await town.postgres.execute(
        "INSERT INTO events (event_id, tenant, tool_id, provider, type, status, message_id, "
        "delivery_id, received_at, partition, entry_id, payload_bytes) SELECT gen_random_uuid(), "
        "$1, $2, 'none', 't', 'delivered', '', '', now(), 0, '1-0', 1 FROM generate_series(1, 7)",
        *(tenant, tool_id),
    )


async def test_all_tiers_rows_and_letters_of_one_tenant_go_and_no_others(town: Town) -> None:
    house = town.house
    cold = [await town.add(n) for n in range(1, 81)]
    await house.work_off()
    house.now_ms += 2 * HOUR
    await house.move()
    house.now_ms += 5 * HOUR
    assert await house.archived() > 0
    warm = [await town.add(n) for n in range(101, 181)]
    await house.work_off()
    house.now_ms += 20 * MINUTE
    await house.move()
    hot = [await town.add(n, blob=True) for n in range(201, 206)]
    await house.work_off()
    mine = [*cold, *warm, *hot]
    assert await town.tiers(mine) == [COLD] * 80 + [WARM] * 80 + [HOT] * 5
    theirs = list(house.sent)
    before = await town.tiers(theirs)
    await rows(town, "acme")
    await rows(town, "default")
    mine_dead, waits, theirs_dead = (new_event_id(NOW, NUMBER, n) for n in range(3))
    await town.letter("acme", mine_dead, dead=True)
    await town.letter("acme", waits, dead=False)
    await town.letter("default", theirs_dead, dead=True)
    await house.redis.hset(keys.DICTIONARIES, mapping={ACME: 1, "a": 2})

    assert await town.postgres.fetchrow(statement("delete_tenant"), "acme")
    one, two = town.deletions
    assert await one.work()
    assert not await two.work(), "one process at a time"
    # what waits for its retry is not gone by itself
    assert (await town.state())["deleted"]["waiting for retries"] == 1
    assert await house.redis.zscore(keys.retries(NUMBER), waits) == 0
    await house.redis.zrem(keys.retries(NUMBER), waits)
    await house.redis.delete(keys.failed_event(NUMBER, waits))
    for _ in range(3):
        await one.work()

    state = await town.state()
    assert state["finished_at"], state
    assert state["deleted"]["events"] == 5
    assert state["deleted"]["archived events"] == 80
    assert state["deleted"]["rows of events"] == 7
    assert state["deleted"]["dead letters"] == 1
    assert set(await town.tiers(mine)) == {GONE}
    assert await town.tiers(theirs) == before
    assert set(await house.check()) == set(before)
    left = [key for key in await house.redis.keys("*") if b"acme" in key or b":blob:" in key]
    assert left == []
    assert await house.redis.hgetall(keys.DICTIONARIES) == {b"a": b"2"}
    assert await house.redis.zrange(keys.dead(NUMBER), 0, -1) == [theirs_dead.encode()]
    for table in ("tools", "api_keys", "events"):
        # the server is other tests', too
        found = await town.postgres.fetch(
            f"SELECT DISTINCT tenant FROM {table} WHERE tenant IN ('acme', 'default')"
        )
        assert [row["tenant"] for row in found] == ["default"], table
    assert await town.postgres.fetchrow(statement("tenant"), "acme") is None
    trail = await town.postgres.fetch(
        "SELECT action FROM audit_trail "
        "WHERE tenant = 'default' AND object_id = 'acme' ORDER BY seq"
    )
    assert [row["action"] for row in trail][-2:] == ["tenant.changed", "tenant.deleted"]


async def test_what_is_worked_on_is_waited_for_and_another_process_goes_on(town: Town) -> None:
    await town.add(1)
    await town.house.redis.xreadgroup(keys.GROUP, "w", {keys.events(NUMBER): ">"})
    await town.postgres.fetchrow(statement("delete_tenant"), "acme")
    one, two = town.deletions
    for _ in range(3):
        await one.work()
    state = await town.state()
    assert not state["finished_at"]
    assert state["deleted"]["waiting for events"] == 3
    # the first one dies: its time runs out
    await town.postgres.execute("UPDATE tenant_deletions SET lease_until = now()")
    entries = await town.house.redis.xrange(keys.events(NUMBER))
    await town.house.redis.xack(keys.events(NUMBER), keys.GROUP, *(name for name, _ in entries))
    for _ in range(3):
        await two.work()
    assert (await town.state())["finished_at"]
    assert await town.house.redis.xlen(keys.events(NUMBER)) == 1


async def test_what_is_held_is_not_deleted(town: Town) -> None:
    place = await town.add(1)
    await town.house.work_off()
    await town.postgres.fetchrow(statement("delete_tenant"), "acme")
    town.holds = ["case-7"]
    one, _ = town.deletions
    for _ in range(3):
        await one.work()
    state = await town.state()
    assert "case-7" in state["error"]
    assert await town.tiers([place]) == [HOT]
    town.holds = []
    for _ in range(3):
        await one.work()
    assert (await town.state())["finished_at"]
    assert await town.tiers([place]) == [GONE]


async def test_a_deleted_tenant_can_be_made_again(town: Town) -> None:
    make = statement("make_tenant")
    await town.postgres.fetchrow(statement("delete_tenant"), "acme")
    assert await town.postgres.fetchrow(make, "acme", "", {}) is None
    one, _ = town.deletions
    for _ in range(2):
        await one.work()
    assert await town.postgres.fetchrow(make, "acme", "again", {})
    assert not await one.work()


def test_the_stream_of_another_codec_is_passed_over() -> None:
    """What is no envelope is nobody's: it is not deleted with anybody."""
    event = make_event(b"{}", tenant="acme", tool_id=ACME)
    page = [(b"1-0", {b"d": encode_event(event)}), (b"2-0", {b"d": b"x"}), (b"3-0", {})]
    gone, waiting = TenantDeletion._of_tenant("acme", keys.events(0), page, (2, 0))
    assert ([name for name, _ in gone], waiting) == (["1-0"], 0)
    gone, waiting = TenantDeletion._of_tenant("acme", keys.events(0), page, (0, 0))
    assert (gone, waiting) == ([], 1)
