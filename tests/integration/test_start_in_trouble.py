"""A process that starts while a server has trouble comes up, tells, and goes on when it is over."""

import asyncio
import json
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from tests.integration.test_server_trouble import REDIS
from tests.support.servers import Node
from tests.support.stack import Stack, eventually, free_port


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("redis") / "node"
    server = Node(folder, "--enable-protected-configs", "yes").start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def database(postgres_url: str) -> str:
    """One of its own: what others remember there of partitions is of another Redis."""

    async def make() -> None:
        admin = await asyncpg.connect(postgres_url)
        await admin.execute("CREATE DATABASE start_in_trouble")
        await admin.close()

    asyncio.run(make())
    return postgres_url.replace("/hookstream?", "/start_in_trouble?")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, node: Node, database: str) -> Iterator[Stack]:
    """A receiver and a worker that began well; others are started beside them."""
    with Stack(
        tmp_path_factory.mktemp("start"),
        HOOKSTREAM_REDIS_URL=node.url,
        HOOKSTREAM_POSTGRES_URL=database,
        HOOKSTREAM_PARTITIONS="2",
    ) as stack:
        yield stack


class Other:
    """One more process, with a port and a state folder of its own."""

    def __init__(self, stack: Stack, folder: Path, command: str, **settings: str) -> None:
        self.port = free_port()
        self.log = folder / "process.log"
        folder.mkdir(exist_ok=True)
        settings = {"HOOKSTREAM_WEB_PORT": str(self.port), **settings}
        self.process = stack.another(folder, *command.split(), **settings)

    async def post(self, tool: str) -> tuple[int, dict[str, Any], str]:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://127.0.0.1:{self.port}/hooks/{tool}", data=b"{}") as response,
        ):
            text = await response.text()
            return response.status, json.loads(text), response.headers.get("Retry-After", "")

    def ask(self, path: str) -> Any:
        """What a page of /health says; None while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as found:
                return json.loads(found.read())
        except urllib.error.HTTPError as error:
            return json.loads(error.read())
        except OSError:
            return None

    async def listens(self) -> dict[str, Any]:
        """Wait until it does; what /health says then."""

        async def answers() -> Any:
            assert self.process.poll() is None, self.log.read_text()
            return await asyncio.to_thread(self.ask, "/health")

        return dict(await eventually(answers, "it listens", 60))


@contextmanager
def other(stack: Stack, folder: Path, command: str, **settings: str) -> Iterator[Other]:
    found = Other(stack, folder, command, **settings)
    try:
        yield found
    finally:
        found.process.terminate()
        found.process.wait(30)


@pytest.mark.parametrize("kind", REDIS)
async def test_a_receiver_listens_and_accepts_whatever_redis_says(
    running: Stack, node: Node, kind: str, name: str, tmp_path: Path
) -> None:
    await running.context(name, {"provider": "none"})
    fault = REDIS[kind](node)
    next(fault)
    try:
        with other(running, tmp_path / "receiver", "receive") as receiver:
            await receiver.listens()
            status, body, _ = await receiver.post(name)
            assert (status, body["status"]) == (202, "accepted"), body

            async def told() -> bool:
                health = await asyncio.to_thread(receiver.ask, "/health")
                parts = health["parts"]
                told = kind in json.dumps([parts["redis"], parts["spool"]])
                return told and health["status"] == "degraded"

            await eventually(told, "health tells of it")
            next(fault, None)
            [update] = await running.updates(name, 1)
            assert "event_id" in update, update
            assert update["event_id"] == body["event_id"]
    finally:
        next(fault, None)


@pytest.mark.parametrize("kind", ["NOPERM", "BUSY", "OOM", "READONLY"])
async def test_a_worker_starts_waits_and_goes_on(
    running: Stack, node: Node, kind: str, name: str, tmp_path: Path
) -> None:
    fault = REDIS[kind](node)
    next(fault)
    try:
        with other(running, tmp_path / "worker", "worker") as worker:
            health = await worker.listens()
            assert health["parts"]["redis"]["status"] != "ok" or kind == "NOPERM"
            next(fault, None)

            async def works() -> bool:
                health = await asyncio.to_thread(worker.ask, "/health")
                return len(health["parts"]["partitions"]["workers"]) == 2

            await eventually(works, "it takes its share")
            await eventually_ready(worker)
    finally:
        next(fault, None)


async def eventually_ready(process: Other) -> None:
    async def ready() -> bool:
        found = await asyncio.to_thread(process.ask, "/health/ready")
        return bool(found["status"] == "ok")

    await eventually(ready, "it is ready")


async def test_postgresql_is_away_at_the_start(running: Stack, name: str, tmp_path: Path) -> None:
    await running.context(name, {"provider": "none"})
    away = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    folder = tmp_path / "receiver"
    # one that has never known a tool cannot tell a webhook from anything else
    with other(running, folder, "receive", HOOKSTREAM_POSTGRES_URL=away) as receiver:
        health = await receiver.listens()
        assert health["parts"]["catalog"]["status"] == "down"
        status, _, retry_after = await receiver.post(name)
        assert (status, bool(retry_after)) == (503, True)
    shutil.copy(running.state_dir / "state" / "registry.json", folder)
    with other(running, folder, "receive", HOOKSTREAM_POSTGRES_URL=away) as receiver:
        health = await receiver.listens()
        catalog = health["parts"]["catalog"]
        assert (catalog["status"], catalog["from_disk"]) == ("degraded", True)
        assert catalog["age_seconds"] >= 0
        status, body, _ = await receiver.post(name)
        assert status == 202
        [update] = await running.updates(name, 1)
        assert "event_id" in update, update
        assert update["event_id"] == body["event_id"]
        # it may have been made since
        assert (await receiver.post("unknown"))[0] == 503


async def test_a_worker_that_knows_no_tools_takes_no_partitions(
    running: Stack, name: str, tmp_path: Path, postgres_url: str
) -> None:
    """Its database is not there: what is in its partitions would stand still."""
    await running.context(name, {"provider": "none", "ordering": {"by": "none"}})
    absent = postgres_url.replace("/hookstream?", "/made_later?")
    with other(running, tmp_path / "second", "worker", HOOKSTREAM_POSTGRES_URL=absent) as second:

        async def says_why() -> Any:
            found = (await running.health())["parts"]["workers"]
            notes = [note["why"] for note in found["troubles"].values()]
            return notes and (notes, found)

        notes, found = await eventually(says_why, "/health says why it takes nothing", 60)
        assert "tools and subscriptions are not known: InvalidCatalogNameError" in notes[0]
        assert len(found["alive"]) == 1
        assert not found["unowned_partitions"]
        sent = [await running.hook(name, b'{"n": %d}' % n) for n in range(10)]
        assert {update["event_id"] for update in await running.updates(name, 10)} == set(sent)
        admin = await asyncpg.connect(postgres_url)
        await admin.execute("CREATE DATABASE made_later")
        await admin.close()

        async def joins() -> bool:
            return len((await running.health())["parts"]["workers"]["alive"]) == 2

        await eventually(joins, "it joins once it can", 60)
        assert second.process.poll() is None


async def test_credentials_that_once_worked_do_not_keep_a_receiver_from_listening(
    running: Stack, node: Node, name: str, tmp_path: Path
) -> None:
    await running.context(name, {"provider": "none"})
    folder = tmp_path / "receiver"
    folder.mkdir()
    shutil.copy(running.state_dir / "state" / "registry.json", folder)
    wrong = node.url.replace("redis://", "redis://somebody:wrong@")
    with other(running, folder, "receive", HOOKSTREAM_REDIS_URL=wrong) as receiver:
        health = await receiver.listens()
        assert health["parts"]["redis"]["detail"] == "AuthenticationError"
        assert (await receiver.post(name))[0] == 202


async def test_another_number_of_partitions_ends_a_receiver_also_when_it_shows_late(
    running: Stack, node: Node, tmp_path: Path
) -> None:
    fault = REDIS["NOPERM"](node)
    node.ask().execute_command("ACL SETUSER default -info")
    next(fault)
    try:
        started = Other(running, tmp_path / "r", "receive", HOOKSTREAM_PARTITIONS="3")
        await started.listens()
        next(fault, None)
        assert await asyncio.to_thread(started.process.wait, 30) == 78
        assert "HOOKSTREAM_PARTITIONS" in started.log.read_text()
    finally:
        next(fault, None)
        if started.process.poll() is None:
            started.process.kill()


async def test_a_process_starts_though_it_cannot_write_where_it_is(
    running: Stack, name: str, tmp_path: Path
) -> None:
    """As on a full disk. Commands on its machine will not find it, and that is all."""
    await running.context(name, {"provider": "none"})
    folder = tmp_path / "receiver"
    (folder / "address").mkdir(parents=True)
    with other(running, folder, "receive --with-api") as receiver:
        await receiver.listens()
        assert (await receiver.post(name))[0] == 202
        assert "will not find this process" in receiver.log.read_text()


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [("maxmemory-policy", "allkeys-lru", "noeviction"), ("appendonly", "no", "appendonly yes")],
)
async def test_a_server_that_may_lose_events_is_refused_unless_allowed(
    running: Stack, node: Node, tmp_path: Path, setting: str, value: str, said: str
) -> None:
    before = node.ask().config_get(setting)[setting]
    node.ask().config_set(setting, value)
    try:
        for command in ("receive", "worker"):
            refused = Other(running, tmp_path / command, command)
            assert await asyncio.to_thread(refused.process.wait, 60) == 78
            assert said in refused.log.read_text()
        allowed = {"HOOKSTREAM_REDIS_ALLOW_UNSAFE": "1"}
        with other(running, tmp_path / "allowed", "receive", **allowed) as receiver:
            redis = (await receiver.listens())["parts"]["redis"]
            assert redis["status"] == "degraded"
            assert said in json.dumps(redis["settings"])
    finally:
        node.ask().config_set(setting, before)


def test_nothing_of_these_tests_is_left(running: Stack) -> None:
    """Both processes of the beginning are still the same ones."""
    assert isinstance(running.process, subprocess.Popen)
    assert "starting it again" not in running.log.read_text()
