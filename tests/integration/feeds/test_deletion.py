"""A deleted context leaves nothing behind but how far it had come; made again it is another one."""

import asyncio
import signal
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
import redis

from hookstream.app import embedded
from hookstream.app.errors import UnavailableError
from hookstream.app.feeds import deletion as deletion_module
from hookstream.app.feeds.deletion import ContextDeletion
from hookstream.app.ids import partition_of
from hookstream.app.postgres.pool import Postgres
from hookstream.app.redis import keys
from hookstream.app.routing.catalog import Catalog
from hookstream.app.stores.recorder import Recorder
from hookstream.proto.pipeline_pb2 import AuditBatch
from tests.integration.feeds.test_priority_queues import NAME, NUMBER, REGISTRY, Owner
from tests.integration.feeds.test_priority_queues import owner as owner
from tests.support.stack import Stack, eventually


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("deletion")) as running:
        yield running


async def limited(stack: Stack, name: str) -> None:
    """A context that gets a digest for most of its updates, and a tool for it."""
    await stack.put(f"/tools/{name}", {"provider": "none"})
    await stack.put(f"/contexts/{name}", {"rate": {"updates_per_second": 2, "burst": 1}})
    await stack.put(f"/contexts/{name}/subscriptions/all", {"tool": name, "types": ["*"]})


async def delete(stack: Stack, name: str) -> int:
    async with stack.session() as session, session.delete(f"/api/v1/contexts/{name}") as response:
        return response.status


async def put(stack: Stack, name: str) -> tuple[int, dict[str, Any]]:
    async with (
        stack.session() as session,
        session.put(f"/api/v1/contexts/{name}", json={}) as response,
    ):
        return response.status, await response.json()


def left(stack: Stack, name: str) -> list[str]:
    """Keys of Redis that name the context."""
    url = embedded.find_valkey(stack.state_dir / "state")
    with redis.Redis.from_url(url, protocol=2) as client:
        return [key.decode() for key in client.scan_iter(match=f"*/{name}*", count=1000)]


async def test_nothing_of_a_deleted_context_is_found_by_the_next_one_of_its_name(
    own: Stack, name: str
) -> None:
    await limited(own, name)
    sent = [await own.hook(name, b'{"n": %d}' % n) for n in range(6)]

    async def digested() -> bool:
        page = await own.get(f"/contexts/{name}/updates")
        return "digest" in [update["kind"] for update in page["updates"]]

    await eventually(digested, "a digest has come")
    await own.put(f"/contexts/{name}", {"rate": {"updates_per_second": 0.001, "burst": 1}})
    sent += [await own.hook(name, b'{"more": %d}' % n) for n in range(3)]
    async with (
        own.session() as session,
        session.post(f"/api/v1/contexts/{name}/ack", json={"seq": 1}) as response,
    ):
        assert response.status == 200
    async with (
        own.session() as session,
        session.ws_connect(f"/contexts/{name}/updates?after=1") as client,
    ):
        assert await delete(own, name) == 204
        message = await client.receive(timeout=10)
        while message.type is aiohttp.WSMsgType.TEXT:
            message = await client.receive(timeout=10)
        assert (message.type, client.close_code) == (aiohttp.WSMsgType.CLOSE, 1008)
    assert await delete(own, name) == 404
    # waits for the worker
    status, made = await put(own, name)
    assert status == 201
    assert await asyncio.to_thread(left, own, name) == []
    last = made["last_seq"]
    assert last > 2
    assert made["acknowledged_seq"] == last
    assert (await own.get(f"/contexts/{name}/updates", after="0"))["updates"] == []
    for event_id in sent:
        assert (await own.get(f"/events/{event_id}"))["deliveries"] == []

    await own.put(f"/contexts/{name}/subscriptions/all", {"tool": name, "types": ["*"]})
    again = await own.hook(name, b'{"n": "again"}')
    # a client of the new one; a client of the old one, which is told that it goes on elsewhere
    [update] = await own.updates(name, 1, after=0)
    assert (update["seq"], update["event_id"]) == (last + 1, again)
    reset, update = await own.updates(name, 2, after=last - 1)
    assert (reset["type"], reset["missing_count"]) == ("reset", 0)
    assert (update["seq"], update["event_id"]) == (last + 1, again)


async def test_a_name_is_not_free_before_a_worker_has_deleted_what_it_had(
    own: Stack, name: str
) -> None:
    await own.context(name, {"provider": "none"})
    await own.updates(name, 0)
    event_id = await own.hook(name, b"{}")
    [update] = await own.updates(name, 1)
    assert update["event_id"] == event_id
    worker = own.find("worker")
    worker.send_signal(signal.SIGSTOP)
    try:
        assert await delete(own, name) == 204
        status, problem = await put(own, name)
        assert status == 409
        assert "not deleted yet" in problem["detail"]
    finally:
        worker.send_signal(signal.SIGCONT)

    async def made() -> bool:
        return (await put(own, name))[0] == 201

    await eventually(made, "it is made again")
    assert (await own.get(f"/contexts/{name}/updates"))["updates"] == []


GONE = Catalog(2, most_urgent="critical")


async def test_what_was_routed_before_a_deletion_is_not_delivered_after_it(owner: Owner) -> None:
    async def reload() -> Catalog:
        return found

    owner.delivery._reload = reload
    owner.delivery._catalog = lambda: GONE
    # what routed it knew a context that this worker learns of only now
    found = REGISTRY
    await owner.deliver((1, 1, "critical"))
    found = GONE
    await owner.deliver((2, 1, "critical"))
    assert await owner.feed() == [1]

    async def away() -> Catalog:
        raise UnavailableError("PostgreSQL is away")

    # nobody can say that it is gone
    owner.delivery._reload = away
    await owner.deliver((3, 1, "critical"))
    assert await owner.feed() == [1, 3]


async def test_a_context_that_cannot_be_deleted_is_in_no_other_ones_way(
    owner: Owner, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def reload() -> Catalog:
        return GONE

    names = [("t", f"d{number}") for number in range(3)]
    async with Postgres(postgres_url) as postgres:
        deletion = ContextDeletion(
            owner.redis,
            owner.delivery._scripts,
            postgres,
            1,
            catalog=lambda: GONE,
            reload=reload,
            owned=lambda: {0: owner.partition},
        )
        for name in names:
            await owner.redis.xadd(keys.feed(NUMBER, *name), {"d": b"{}"}, id="1-0")
            await postgres.execute("INSERT INTO deleted_contexts VALUES ($1, $2)", *name)
        # no feed, whoever made it
        broken = keys.feed(NUMBER, *names[1])
        await owner.redis.delete(broken)
        await owner.redis.set(broken, "x")

        async def waiting() -> list[str]:
            rows = await postgres.fetch("SELECT * FROM deleted_contexts WHERE tenant = 't'")
            return [row["context_id"] for row in rows]

        for _ in range(2):
            assert not await deletion.delete()
            assert await waiting() == ["d1"]
        assert await owner.redis.exists(*(keys.feed(NUMBER, *name) for name in names)) == 1
        [said] = [line for line in caplog.messages if "cannot be deleted" in line]
        assert "t/d1" in said
        assert "WRONGTYPE" in said
        await owner.redis.delete(broken)
        assert await deletion.delete()
        assert await waiting() == []


async def test_only_what_was_deleted_is_deleted(owner: Owner, postgres_url: str) -> None:
    """A catalog that is empty (another database, an older copy) says nothing of feeds."""

    async def reload() -> Catalog:
        return GONE

    # so many that its context is of the owner's partition
    partitions = next(n for n in range(NUMBER + 1, 1000) if partition_of(n, *NAME) == NUMBER)
    async with Postgres(postgres_url) as postgres:
        deletion = ContextDeletion(
            owner.redis,
            owner.delivery._scripts,
            postgres,
            partitions,
            catalog=lambda: GONE,
            reload=reload,
            owned=lambda: {NUMBER: owner.partition},
        )
        await owner.deliver((1, 1, "critical"))
        # the audit stage has recorded it
        await owner.redis.xgroup_create(keys.audit(NUMBER), keys.GROUP, id="$")
        await deletion.delete()
        assert await owner.feed() == [1]
        neighbour = keys.feed(NUMBER, NAME[0], NAME[1] + "c")
        await owner.redis.xadd(neighbour, {"d": b"{}"}, id="1-0")
        await postgres.execute("INSERT INTO deleted_contexts VALUES ($1, $2)", *NAME)
        await deletion.delete()
        assert await postgres.fetch("SELECT * FROM deleted_contexts WHERE tenant = 't'") == []
    assert await owner.feed() == []
    assert await owner.redis.xlen(neighbour) == 1
    # numbers go on
    await owner.deliver((2, 1, "critical"))
    [(entry_id, _)] = await owner.redis.xrange(keys.feed(NUMBER, *NAME))
    assert entry_id == b"3-0"


async def test_what_is_recorded_behind_a_deletion_is_forgotten_too(
    owner: Owner, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def reload() -> Catalog:
        return GONE

    monkeypatch.setattr(deletion_module, "RECORDED_SECONDS", 0.05)
    partitions = next(n for n in range(NUMBER + 1, 1000) if partition_of(n, *NAME) == NUMBER)
    async with Postgres(postgres_url) as postgres:
        deletion = ContextDeletion(
            owner.redis,
            owner.delivery._scripts,
            postgres,
            partitions,
            catalog=lambda: GONE,
            reload=reload,
            owned=lambda: {NUMBER: owner.partition},
        )

        async def rows(table: str) -> int:
            query = f"SELECT count(*) FROM {table} WHERE (tenant, context_id) = ($1, $2)"
            row = await postgres.fetchrow(query, *NAME)
            assert row is not None
            return int(row[0])

        await owner.deliver((1, 1, "critical"))
        stream = keys.audit(NUMBER)
        await owner.redis.xgroup_create(stream, keys.GROUP, id="0")
        await postgres.execute("INSERT INTO deleted_contexts VALUES ($1, $2)", *NAME)
        # not read, then read and not written
        assert not await deletion.delete()
        [[_, [(entry_id, fields)]]] = await owner.redis.xreadgroup(keys.GROUP, "w", {stream: ">"})
        assert not await deletion.delete()
        assert await rows("deleted_contexts") == 1
        # the feed is gone, once
        assert await owner.redis.hget(keys.seqs(NUMBER), keys.feed_field(*NAME)) == b"2"
        recorder = Recorder(owner.redis, postgres)
        await recorder.record(owner.partition, [AuditBatch.FromString(fields[b"d"])])
        assert await rows("deliveries") == 1
        await owner.redis.xack(stream, keys.GROUP, entry_id)
        assert await deletion.delete()
        assert await rows("deliveries") == 0
        assert await rows("deleted_contexts") == 0
