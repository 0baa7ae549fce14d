"""Whatever Redis or PostgreSQL answers: no process ends, nothing is lost, and /health says so."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import asyncpg
import pytest
import redis

from hookstream.app.redis import keys
from tests.support.servers import Node
from tests.support.stack import Stack, eventually, free_port

PARTITIONS = 2
ROLE = "hooks"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("redis") / "node"
    server = Node(folder, "--enable-protected-configs", "yes").start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def database(postgres_url: str) -> str:
    """A database of a role that is no superuser."""

    async def make() -> None:
        admin = await asyncpg.connect(postgres_url)
        await admin.execute(f"CREATE ROLE {ROLE} LOGIN")
        await admin.execute(f"CREATE DATABASE {ROLE} OWNER {ROLE}")
        await admin.close()

    asyncio.run(make())
    return postgres_url.replace("postgres@", f"{ROLE}@").replace("/hookstream?", f"/{ROLE}?")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, node: Node, database: str) -> Iterator[Stack]:
    with Stack(
        tmp_path_factory.mktemp("trouble"),
        HOOKSTREAM_REDIS_URL=node.url,
        HOOKSTREAM_POSTGRES_URL=database,
        HOOKSTREAM_PARTITIONS=str(PARTITIONS),
        HOOKSTREAM_RETRY_MAX_ATTEMPTS="2",
        HOOKSTREAM_RETRY_BASE_SECONDS="0.1",
    ) as stack:
        yield stack


def acl(node: Node) -> Iterator[None]:
    node.ask().execute_command("ACL SETUSER default -xadd -eval -evalsha")
    yield
    node.ask().execute_command("ACL SETUSER default +@all")


def busy(node: Node) -> Iterator[None]:
    node.ask().config_set("busy-reply-threshold", 50)

    def loop() -> None:
        with contextlib.suppress(redis.RedisError):
            redis.Redis(port=node.port).eval("while true do end", 0)

    thread = threading.Thread(target=loop)
    thread.start()
    yield
    node.ask().script_kill()
    thread.join(10)


def wrong_type(node: Node) -> Iterator[None]:
    names = [keys.events(number) for number in range(PARTITIONS)]
    for name in names:
        with contextlib.suppress(redis.ResponseError):
            node.ask().rename(name, f"{name}:aside")
        node.ask().set(name, "planted")
    yield
    for name in names:
        # at one stroke: into a gap between two commands a receiver appends, and loses it again
        try:
            node.ask().rename(f"{name}:aside", name)
        except redis.ResponseError:
            node.ask().delete(name)


def full(node: Node) -> Iterator[None]:
    node.ask().config_set("maxmemory", 1)
    yield
    node.ask().config_set("maxmemory", 0)


def misconf(node: Node) -> Iterator[None]:
    # a snapshot cannot take the place of a folder
    (node.folder / "taken" / "x").mkdir(parents=True, exist_ok=True)
    node.ask().config_set("dbfilename", "taken")
    node.ask().config_set("save", "3600 1000000")
    node.ask().bgsave()
    while node.ask().info("persistence")["rdb_last_bgsave_status"] != "err":
        pass
    yield
    node.ask().config_set("save", "")


def read_only(node: Node) -> Iterator[None]:
    node.ask().replicaof("127.0.0.1", free_port())
    yield
    node.ask().replicaof("NO", "ONE")


REDIS = {
    "NOPERM": acl,
    "BUSY": busy,
    "WRONGTYPE": wrong_type,
    "OOM": full,
    "MISCONF": misconf,
    "READONLY": read_only,
}
#: What is done to the role or its database, how it is undone, and what another session holds.
POSTGRES = {
    "nologin": (f"ALTER ROLE {ROLE} NOLOGIN", f"ALTER ROLE {ROLE} LOGIN", ""),
    "read-only": (
        f"ALTER DATABASE {ROLE} SET default_transaction_read_only = on",
        f"ALTER DATABASE {ROLE} RESET default_transaction_read_only",
        "",
    ),
    "lock_timeout": (
        f"ALTER ROLE {ROLE} SET lock_timeout = '50ms'",
        f"ALTER ROLE {ROLE} RESET lock_timeout",
        "LOCK TABLE events, tools, registry_version IN ACCESS EXCLUSIVE MODE",
    ),
    "statement_timeout": (
        f"ALTER ROLE {ROLE} SET statement_timeout = '1ms'",
        f"ALTER ROLE {ROLE} RESET statement_timeout",
        "LOCK TABLE events, tools, registry_version IN ACCESS EXCLUSIVE MODE",
    ),
    "no connections": (
        f"ALTER DATABASE {ROLE} ALLOW_CONNECTIONS false",
        f"ALTER DATABASE {ROLE} ALLOW_CONNECTIONS true",
        "",
    ),
    "too many connections": (
        f"ALTER ROLE {ROLE} CONNECTION LIMIT 0",
        f"ALTER ROLE {ROLE} CONNECTION LIMIT -1",
        "",
    ),
    "no right": (
        "ALTER TABLE events OWNER TO postgres; ALTER TABLE tools OWNER TO postgres",
        f"ALTER TABLE events OWNER TO {ROLE}; ALTER TABLE tools OWNER TO {ROLE}",
        "",
    ),
}


@asynccontextmanager
async def postgres_fault(admin_url: str, kind: str) -> AsyncIterator[None]:
    do, undo, hold = POSTGRES[kind]
    admin = await asyncpg.connect(admin_url)
    # who may connect is asked when a session begins only
    holder = await asyncpg.connect(admin_url.replace("/hookstream?", f"/{ROLE}?"))
    inside = holder if "TABLE" in do else admin
    try:
        await inside.execute(do)
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", ROLE
        )
        held = holder.transaction()
        await held.start()
        if hold:
            await holder.execute(hold)
        try:
            yield
        finally:
            await held.rollback()
            await inside.execute(undo)
            # sessions keep the settings that they began with
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", ROLE
            )
    finally:
        await holder.close()
        await admin.close()


async def post(stack: Stack, tool: str, numbers: range) -> list[str]:
    """Post in order; each of them must be accepted. Returns the event ids."""
    found = []
    async with aiohttp.ClientSession(stack.url) as session:
        for number in numbers:
            async with session.post(f"/hooks/{tool}", json={"n": number}) as response:
                assert response.status == 202, (number, await response.text())
                found.append((await response.json())["event_id"])
    return found


async def seen(stack: Stack, context: str, count: int) -> list[str]:
    return [update["event_id"] for update in await stack.updates(context, count)]


def pids(stack: Stack) -> list[int]:
    return [stack.find("receive").pid, stack.find("worker").pid]


async def api(stack: Stack, tool: str) -> None:
    """The API answers, or says 503 and when to come again; it has no 500."""
    async with stack.session() as session:
        for path in (f"/api/v1/tools/{tool}", "/api/v1/events?limit=1", "/api/v1/dead-letters"):
            async with session.get(path) as response:
                assert response.status in (200, 503), (path, await response.text())
                assert response.status == 200 or response.headers["Retry-After"]


@pytest.mark.parametrize("kind", REDIS)
async def test_trouble_of_redis_is_waited_out(
    running: Stack, node: Node, kind: str, name: str
) -> None:
    await running.context(name, {"provider": "none"})
    sent = await post(running, name, range(5))
    assert await seen(running, name, 5) == sent
    before = pids(running)
    fault = REDIS[kind](node)
    next(fault)
    try:
        sent += await post(running, name, range(5, 15))
        parts: dict[str, Any] = (await running.health())["parts"]
        told = json.dumps([parts["redis"], parts["spool"]])
        assert kind in told, told
        await api(running, name)
    finally:
        next(fault, None)
    sent += await post(running, name, range(15, 20))
    assert await seen(running, name, 20) == sent
    assert pids(running) == before
    assert (await running.get("/dead-letters"))["letters"] == []

    async def well() -> bool:
        parts = (await running.health())["parts"]
        return parts["redis"]["status"] in ("ok", "degraded") and parts["spool"]["status"] == "ok"

    await eventually(well, "health is well again")


@pytest.mark.parametrize("kind", POSTGRES)
async def test_trouble_of_postgresql_is_waited_out(
    running: Stack, postgres_url: str, kind: str, name: str
) -> None:
    await running.context(name, {"provider": "none"})
    sent = await post(running, name, range(5))
    assert await seen(running, name, 5) == sent
    before = pids(running)

    async def told() -> bool:
        return bool((await running.health())["parts"]["postgres"]["status"] != "ok")

    async with postgres_fault(postgres_url, kind):
        # receiving and delivery go on
        sent += await post(running, name, range(5, 15))
        assert await seen(running, name, 15) == sent
        await api(running, name)
        await eventually(told, "health tells of it")
        event_id = await running.hook(name, b'{"n": 15}')
    assert pids(running) == before

    async def recorded() -> bool:
        async with (
            running.session() as session,
            session.get(f"/api/v1/events/{event_id}") as response,
        ):
            return response.status == 200 and (await response.json())["status"] == "delivered"

    await eventually(recorded, "the record catches up", 60)
    assert (await running.get("/dead-letters"))["letters"] == []
