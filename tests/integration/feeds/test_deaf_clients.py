"""No client stays connected and deaf: it is sent what comes, or closed so that it resumes."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
import redis
from mcp import MCPError

from tests.integration.mcp.test_mcp import client
from tests.support.servers import Node
from tests.support.stack import Stack, eventually, fresh

#: What Redis does within: each raises an error that does not say "away" while it lasts.
BUSY_SECONDS = 4

#: Makes reading feeds misbehave as a file says; the watchdog looks often, not to wait for it long.
SITE = """
import asyncio
from pathlib import Path
from hookstream.app.feeds.feed import Feeds
from redis.exceptions import NoPermissionError
from hookstream.app.feeds import followers
from hookstream.app.feeds.followers import Followers

followers.FAILING_SECONDS = 1.0
Followers.__init__.__kwdefaults__["check_seconds"] = 0.3

def sabotaged(method):
    async def call(self, *args, **kwargs):
        how = Path({file!r}).read_text() if Path({file!r}).exists() else ""
        if how == "hang":
            await asyncio.Event().wait()
        elif how == "raise":
            raise AttributeError("'NoneType' object has no attribute 'name'")
        elif how == "refuse":
            raise NoPermissionError("no right to run this command")
        elif how == "cancel":
            raise asyncio.CancelledError
        return await method(self, *args, **kwargs)
    return call

Feeds.read = sabotaged(Feeds.read)
Feeds.last_seq = sabotaged(Feeds.last_seq)
"""


class Heard:
    """What a client on a WebSocket has got, and the code it was closed with."""

    def __init__(self) -> None:
        self.seqs: list[int] = []
        self.code: int | None = None

    async def follow(self, stack: Stack, context: str, after: int = 0) -> None:
        async with (
            stack.session() as session,
            session.ws_connect(f"/contexts/{context}/updates?after={after}") as socket,
        ):
            async for message in socket:
                self.seqs.append(json.loads(message.data)["seq"])
            self.code = socket.close_code

    async def reach(self, count: int) -> None:
        async def reached() -> bool:
            return len(self.seqs) >= count

        await eventually(reached, f"{count} updates have come")


@asynccontextmanager
async def following(stack: Stack, context: str) -> AsyncIterator[Heard]:
    heard = Heard()
    task = asyncio.create_task(heard.follow(stack, context))
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def sockets(stack: Stack) -> dict[str, Any]:
    """What /health says of sockets; {} where it is silent for a while."""
    async with asyncio.timeout(30):
        return dict((await stack.health())["parts"]["sockets"])


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("redis"), "--busy-reply-threshold", "300").start()
    node.ask().execute_command("ACL", "SETUSER", "hs", "on", ">pw", "~*", "&*", "+@all")
    yield node
    node.kill()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, node: Node) -> Iterator[Stack]:
    url = f"redis://hs:pw@127.0.0.1:{node.port}"
    with Stack(tmp_path_factory.mktemp("deaf"), HOOKSTREAM_REDIS_URL=url) as running:
        yield running


def be_busy(node: Node, context: str) -> Callable[[], None]:
    spin = (
        "local t=redis.call('TIME')[1]+tonumber(ARGV[1]) "
        "while redis.call('TIME')[1]+0<t do end return 1"
    )
    asyncio.get_running_loop().run_in_executor(
        None, lambda: redis.Redis(port=node.port, socket_timeout=60).eval(spin, 0, BUSY_SECONDS)
    )
    return lambda: None


def forbid(node: Node, context: str) -> Callable[[], None]:
    ask = node.ask()
    ask.execute_command("ACL", "SETUSER", "hs", "-xrange", "-hget")
    return lambda: ask.execute_command("ACL", "SETUSER", "hs", "+@all")


def be_another_type(node: Node, context: str) -> Callable[[], None]:
    ask = node.ask()
    [feed] = ask.scan_iter(match=f"*:feed:default/{context}")
    ask.rename(feed, f"{feed}.kept")
    ask.set(feed, "x")

    def heal() -> None:
        ask.delete(feed)
        ask.rename(f"{feed}.kept", feed)

    return heal


@pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")
@pytest.mark.parametrize("break_it", [be_busy, forbid, be_another_type])
async def test_what_redis_refuses_for_a_while_reaches_who_stayed_connected(
    stack: Stack, node: Node, name: str, break_it: Callable[[Node, str], Callable[[], None]]
) -> None:
    await stack.context(name, {"provider": "none"})
    uri = f"hookstream://contexts/{name}"
    told = asyncio.Event()

    async def on_message(message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            told.set()

    async with (
        following(stack, name) as heard,
        client(stack) as agent,
        client(stack, mode="legacy", message_handler=on_message) as older,
        agent.listen(resource_subscriptions=[uri]) as listening,
    ):
        await older.subscribe_resource(uri)
        await stack.hook(name, b"{}")
        await heard.reach(1)
        async with asyncio.timeout(30):
            await anext(listening)
            await told.wait()
        told.clear()
        heal = break_it(node, name)

        async def failing() -> bool:
            return bool((await sockets(stack))["failing"])

        await eventually(failing, "/health says that feeds cannot be read")
        heal()

        async def well() -> bool:
            return not (await sockets(stack))["failing"]

        await eventually(well, "feeds are read again")
        for n in (2, 3, 4):
            await stack.hook(name, b'{"n": %d}' % n)
        await heard.reach(4)
        assert heard.seqs == [1, 2, 3, 4]
        assert heard.code is None, "and its connection was never closed"
        async with asyncio.timeout(30):
            await anext(listening)
            await told.wait()


async def test_an_acknowledgement_that_redis_refuses_is_said_and_closes_nothing(
    stack: Stack, node: Node, name: str
) -> None:
    await stack.context(name, {"provider": "none"})
    await stack.hook(name, b"{}")
    async with (
        stack.session() as session,
        session.ws_connect(f"/contexts/{name}/updates?after=0") as socket,
    ):
        assert (await socket.receive_json(timeout=30))["seq"] == 1
        ask = node.ask()
        ask.execute_command("ACL", "SETUSER", "hs", "-evalsha", "-eval")
        await socket.send_json({"type": "ack", "seq": 1})
        assert "could not be kept" in (await socket.receive_json(timeout=30))["detail"]
        ask.execute_command("ACL", "SETUSER", "hs", "+@all")
        await socket.send_json({"type": "ack", "seq": 1})

        async def kept() -> bool:
            return bool((await stack.get(f"/contexts/{name}"))["acknowledged_seq"] == 1)

        await eventually(kept, "it is kept once Redis takes it")


async def worker_parts(stack: Stack) -> dict[str, Any]:
    address = f"http://127.0.0.1:{stack.worker_port}/health"
    async with stack.session() as session, session.get(address) as answer:
        return dict((await answer.json())["parts"])


@pytest.mark.parametrize(
    ("rights", "part", "told"),
    [
        (("-evalsha", "-eval"), "redis", "NOPERM"),
        (("resetchannels",), "sockets", "NOPERM"),
    ],
)
async def test_what_redis_refuses_is_in_health_while_it_lasts(
    stack: Stack, node: Node, name: str, rights: tuple[str, ...], part: str, told: str
) -> None:
    await stack.context(name, {"provider": "none"})
    ask = node.ask()
    async with (
        stack.session() as session,
        session.ws_connect(f"/contexts/{name}/updates?after=0") as socket,
    ):
        ask.execute_command("ACL", "SETUSER", "hs", *rights)
        # who is subscribed already keeps that until its connection ends
        ask.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        where = worker_parts if part == "redis" else all_parts

        async def says() -> bool:
            found = (await where(stack))[part]
            return found["status"] == "degraded" and told in json.dumps(found)

        try:
            await eventually(says, "health names it", 15)
        finally:
            ask.execute_command("ACL", "SETUSER", "hs", "+@all", "allchannels")

        async def well() -> bool:
            return bool((await where(stack))[part]["status"] == "ok")

        await eventually(well, "and says no more")
        await stack.hook(name, b"{}")
        assert (await socket.receive_json(timeout=30))["seq"] == 1


async def all_parts(stack: Stack) -> dict[str, Any]:
    return dict((await stack.health())["parts"])


class Sabotaged(Stack):
    """A system in which the reading of feeds misbehaves as :attr:`file` says."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "sabotage"
        site = folder / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(SITE.format(file=str(self.file)))
        super().__init__(folder, PYTHONPATH=f"{site}:{Path.cwd()}")


@pytest.fixture(scope="module")
def sabotaged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sabotaged]:
    with Sabotaged(tmp_path_factory.mktemp("sabotaged")) as running:
        yield running


@pytest.fixture
def sabotage(sabotaged: Sabotaged) -> Iterator[Callable[[str], None]]:
    yield sabotaged.file.write_text  # type: ignore[misc]
    sabotaged.file.unlink(missing_ok=True)


@pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")
@pytest.mark.parametrize(
    ("how", "code", "reason"),
    [
        ("hang", 4009, "stalled"),
        ("raise", 1011, "failed"),
        ("cancel", 1011, "failed"),
        ("refuse", 1013, "unreadable"),
    ],
)
async def test_who_gets_nothing_whatever_the_reason_is_closed_and_resumes(
    sabotaged: Sabotaged, name: str, sabotage: Callable[[str], None],
    how: str, code: int, reason: str,
) -> None:  # fmt: skip
    stack = sabotaged
    await stack.context(name, {"provider": "none"})
    uri = f"hookstream://contexts/{name}"
    async with (
        following(stack, name) as heard,
        client(stack) as agent,
        client(stack, mode="legacy") as older,
    ):
        async with agent.listen(resource_subscriptions=[uri]) as listening:
            await older.subscribe_resource(uri)
            await stack.hook(name, b"{}")
            await heard.reach(1)
            async with asyncio.timeout(30):
                await anext(listening)
            sabotage(how)

            async def closed() -> bool:
                return heard.code is not None

            if how == "hang":
                # until there is something to send nobody is deaf
                await stack.hook(name, b'{"n": 2}')
            await eventually(closed, "the socket is closed")
            assert heard.code == code
            async with asyncio.timeout(30):
                async for _ in listening:  # it ends: an older hint may come before that
                    pass

        async def ended() -> bool:
            try:
                await older.list_tools(cache_mode="bypass")
            except MCPError:
                return True
            return False

        # one that waits for Redis goes on by itself: no other process has its session
        if how != "refuse":
            await eventually(ended, "the older client's session is ended")
        if how != "hang":
            tasks = (await stack.health())["parts"]["tasks"]
            assert tasks["status"] == "degraded"
            assert "UpdateSocket.send" in {failure["task"] for failure in tasks["failing"]}
            assert "traceback" in tasks["detail"]
        state = await sockets(stack)
        assert state["status"] == "degraded"
        assert state["closed_lately"][reason] >= (2 if how == "refuse" else 3)
        async with stack.session() as session, fresh(session, "/metrics") as response:
            metrics = await response.text()
        for kind in ("websocket", "mcp"):
            assert f'sockets_closed_total{{kind="{kind}",reason="{reason}"}}' in metrics
        sabotage("")
        seen = await stack.updates(name, 1, after=heard.seqs[-1] - 1)
        assert seen[0]["seq"] == heard.seqs[-1]


async def test_loops_of_every_kind_go_on_after_an_error_of_any_kind(
    sabotaged: Sabotaged, name: str, sabotage: Callable[[str], None]
) -> None:
    """What a client that comes back finds is a system that works, with no process ended."""
    stack = sabotaged
    await stack.context(name, {"provider": "none"})
    before = {process.pid for process in stack.processes()}
    async with following(stack, name) as heard:
        await stack.hook(name, b"{}")
        await heard.reach(1)
        sabotage("raise")

        async def closed() -> bool:
            return heard.code is not None

        await eventually(closed, "the socket is closed")
    sabotage("")
    async with following(stack, name) as heard:
        await stack.hook(name, b'{"n": 2}')
        await heard.reach(2)
    assert {process.pid for process in stack.processes()} == before
