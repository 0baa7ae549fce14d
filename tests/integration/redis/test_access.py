"""Redis behind TLS and an ACL user, and what `HOOKSTREAM_DURABILITY=fsync` waits for."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.exceptions

from hookstream.app.errors import SettingsError, UnconfirmedError
from hookstream.app.redis import keys
from hookstream.app.redis.client import connect
from hookstream.app.redis.durability import Durability
from hookstream.app.services import check_partition_count
from tests.support.servers import Node, TlsFront
from tests.support.stack import Stack

#: As docs/operations.md gives it.
ACL = (
    "user hookstream on >s3cret ~{hs:* ~hs:* &hs:* +@all -@admin -@dangerous +info\n"
    "user default off\n"
)


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[TlsFront]:
    """A server with one ACL user, behind TLS."""
    folder = tmp_path / "redis"
    folder.mkdir()
    (folder / "users.acl").write_text(ACL)
    node = Node(folder, "--aclfile", str(folder / "users.acl"))
    node.credentials = {"username": "hookstream", "password": "s3cret"}
    node.start()
    front = TlsFront(tmp_path, node.port)
    yield front
    front.stop()
    node.kill()


def url_of(front: TlsFront, password: str = "s3cret", ca: bool = True) -> str:
    query = f"?ssl_ca_certs={front.ca}" if ca else ""
    return f"rediss://hookstream:{password}@127.0.0.1:{front.port}/0{query}"


async def test_an_event_goes_through_tls_and_an_acl_user(tmp_path: Path, secured: TlsFront) -> None:
    with Stack(tmp_path, HOOKSTREAM_REDIS_URL=url_of(secured)) as stack:
        await stack.context("safe", {"provider": "none"})
        event_id = await stack.hook("safe", json.dumps({"n": 1}).encode())
        [update] = await stack.updates("safe", 1)
        assert update["event_id"] == event_id
        assert (await stack.health())["parts"]["redis"]["status"] == "ok"
        assert "s3cret" not in stack.log.read_text()


async def test_a_wrong_password_is_said_and_not_shown(tmp_path: Path, secured: TlsFront) -> None:
    stack = Stack(tmp_path, HOOKSTREAM_REDIS_URL=url_of(secured, password="wr0ng"))
    try:
        with pytest.raises(AssertionError, match="refuses the credentials"):
            stack.start()
    finally:
        stack.stop()
    log = stack.log.read_text()
    assert "HOOKSTREAM_REDIS_URL" in log
    assert "wr0ng" not in log


async def test_an_unknown_authority_is_not_trusted(secured: TlsFront) -> None:
    client = connect(url_of(secured, ca=False), timeout_seconds=2)
    with pytest.raises(redis.exceptions.ConnectionError, match=r"(?i)certificate"):
        await client.ping()
    await client.aclose()


@asynccontextmanager
async def durable(node: Node, mode: str) -> AsyncIterator[tuple[Any, Durability]]:
    client = connect(node.url, timeout_seconds=3)
    try:
        yield client, Durability(client, mode)
    finally:
        await client.aclose()
        node.kill()


async def test_fsync_waits_for_the_disk(tmp_path: Path) -> None:
    node = Node(tmp_path / "redis", "--appendfsync", "everysec").start()
    async with durable(node, "fsync") as (client, durability):
        await durability.check()
        [entry_id] = await durability.run([("s", ("XADD", "s", "*", "d", b"1"))])
        # kill -9 cannot lose what the kernel has; the server says itself what is on the disk
        assert await client.execute_command("WAITAOF", 1, 0, 0) == [1, 0]
        node.kill()
        node.start()
        await client.connection_pool.disconnect()
        [(again, _)] = await client.xrange("s")
        assert again == entry_id


async def test_fsync_says_when_the_disk_does_not_confirm(tmp_path: Path) -> None:
    node = Node(tmp_path / "redis", "--appendfsync", "no").start()
    async with durable(node, "fsync") as (client, durability):
        await durability.check()
        # with `appendfsync no` the kernel decides when: nothing confirms within the second
        [reply] = await durability.run([("s", ("XADD", "s", "*", "d", b"1"))])
        assert isinstance(reply, UnconfirmedError)
        assert await client.xlen("s") == 1


async def test_fsync_needs_an_append_only_file(tmp_path: Path) -> None:
    node = Node(tmp_path / "redis").start()
    node.ask().config_set("appendonly", "no")
    async with durable(node, "fsync") as (_, durability):
        with pytest.raises(SettingsError, match="appendonly yes"):
            await durability.check()


async def test_a_replica_is_no_wrong_setting(tmp_path: Path) -> None:
    """It was the master a moment ago, or will be: a failover must not end processes."""
    node = Node(tmp_path / "redis", "--appendfsync", "everysec").start()
    node.ask().execute_command("REPLICAOF", "127.0.0.1", 1)
    async with durable(node, "fsync") as (_, durability):
        with pytest.raises(redis.exceptions.ResponseError, match="replica"):
            await durability.check()
        node.ask().execute_command("REPLICAOF", "NO", "ONE")
        await durability.check()


@pytest.mark.parametrize("policy", ["everysec", "always"])
async def test_an_old_server_can_only_sync_always(tmp_path: Path, policy: str) -> None:
    node = Node(tmp_path / "redis", "--appendfsync", policy)
    # stands for a Redis before 7.2, which has no such command
    node.config.write_text(node.config.read_text() + 'rename-command WAITAOF ""\n')
    node.start()
    async with durable(node, "fsync") as (_, durability):
        if policy == "always":
            await durability.check()
            [reply] = await durability.run([("s", ("XADD", "s", "*", "d", b"1"))])
            assert isinstance(reply, bytes)
        else:
            with pytest.raises(SettingsError, match="appendfsync always"):
                await durability.check()


async def test_a_partition_count_that_cannot_be_read_is_no_wrong_setting(
    redis_client: "redis.asyncio.Redis",
) -> None:
    class Forgetful:
        """A server that loses what it was given between two commands."""

        hget = redis_client.hget

        async def hsetnx(self, *_: Any) -> int:
            return 1

    for lost in ("", "many"):
        if lost:
            await redis_client.hset(keys.META, "partitions", lost)
        with pytest.raises(redis.exceptions.RedisError, match="partition"):
            await check_partition_count(Forgetful(), 8)
    await redis_client.hset(keys.META, "partitions", "4")
    with pytest.raises(SettingsError, match="set it to 4"):
        await check_partition_count(redis_client, 8)


async def test_replicated_is_not_confirmed_without_a_replica(tmp_path: Path) -> None:
    node = Node(tmp_path / "redis").start()
    async with durable(node, "replicated") as (_, durability):
        [reply] = await durability.run([("s", ("XADD", "s", "*", "d", b"1"))])
        assert isinstance(reply, UnconfirmedError)
        assert not await durability.barrier("s:barrier")
