"""Redis loses data: nothing new is hidden from clients, and they are told what is gone."""

import asyncio
import contextlib
import json
import shutil
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.servers import Node
from tests.support.stack import Stack, eventually, free_port

SOURCES = ("loss-a", "loss-b", "loss-c")
PAUSE_SECONDS = 0.03


class Client:
    """Follows a context, and goes on where it was; ``aware`` of generations, or from before."""

    def __init__(self, stack: Stack, context: str, *, aware: bool) -> None:
        self.stack = stack
        self.context = context
        self.aware = aware
        self.after = self.generation = 0
        self.updates: list[dict[str, Any]] = []
        self.resets: list[dict[str, Any]] = []
        self.hellos: list[dict[str, Any]] = []
        self._task: asyncio.Task[None] | None = None

    def connect(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._follow())

    async def leave(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                path = f"/contexts/{self.context}/updates?after={self.after}"
                if self.aware:
                    path += f"&generation={self.generation}"
                async with self.stack.session() as session, session.ws_connect(path) as socket:
                    async for message in socket:
                        self._take(json.loads(message.data))
            await asyncio.sleep(0.1)

    def _take(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "update":
            self.updates.append(frame)
            self.after, self.generation = frame["seq"], frame["generation"]
        elif frame["type"] == "reset":
            self.resets.append(frame)
            if self.aware:
                self.after, self.generation = frame["after"], frame["generation"]
        else:
            assert frame["type"] == "hello"
            assert self.aware
            self.hellos.append(frame)

    def seen(self) -> Counter[str]:
        return Counter(update["event_id"] for update in self.updates)

    def check_numbers(self) -> None:
        """No number for two events; in a generation they rise without gaps."""
        by_number: dict[int, str] = {}
        for before, now in zip([None, *self.updates], self.updates, strict=False):
            assert by_number.setdefault(now["seq"], now["event_id"]) == now["event_id"]
            if before and before["generation"] == now["generation"]:
                assert now["seq"] == before["seq"] + 1, (self.context, before, now)


class World:
    """A system on a Redis that may lose data; senders; three clients a context."""

    def __init__(self, stack: Stack, node: Node) -> None:
        self.stack = stack
        self.node = node
        #: When each post was begun, and the event that its 202 named.
        self.accepted: dict[str, list[tuple[float, str]]] = {name: [] for name in SOURCES}
        self.clients = {
            (name, kind): Client(stack, name, aware=kind != "plain")
            for name in SOURCES
            for kind in ("plain", "aware", "away")
        }
        self._senders: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        for name in SOURCES:
            await self.stack.context(name, {"provider": "none"})
        for client in self.clients.values():
            client.connect()
        self.send()
        await self.flows()

    def send(self) -> None:
        self._senders = [asyncio.create_task(self._send(name)) for name in SOURCES]

    async def rest(self) -> None:
        for sender in self._senders:
            sender.cancel()
        await asyncio.gather(*self._senders, return_exceptions=True)

    async def _send(self, name: str) -> None:
        async with aiohttp.ClientSession(self.stack.url) as session:
            for n in range(10**6):
                body = json.dumps({"source": name, "n": n, "at": str(id(session))}).encode()
                begun = time.monotonic()
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.post(f"/hooks/{name}", data=body) as response:
                        if response.status == 202:
                            event_id = (await response.json())["event_id"]
                            self.accepted[name].append((begun, event_id))
                await asyncio.sleep(PAUSE_SECONDS)

    def posted(self, name: str, since: float) -> set[str]:
        """What was accepted of what was posted since then."""
        return {event_id for begun, event_id in self.accepted[name] if begun > since}

    async def flows(self, count: int = 20, seconds: float = 30.0) -> None:
        """Wait until every connected client has seen what was posted after now."""
        begun = time.monotonic()

        async def all_seen() -> bool:
            return all(
                len(self.posted(name, begun) & set(client.seen())) >= count
                for (name, kind), client in self.clients.items()
                if kind != "away"
            )

        await eventually(all_seen, "updates come again", seconds)

    async def send_away(self) -> None:
        for (_, kind), client in self.clients.items():
            if kind == "away":
                await client.leave()

    async def finish(self, since: float = 0.0) -> None:
        """All are back; what was posted and accepted since then is seen by each exactly once."""
        for (_, kind), client in self.clients.items():
            if kind == "away":
                client.connect()
        await self.rest()

        async def all_seen() -> bool:
            return all(
                self.posted(name, since) <= set(client.seen())
                for (name, _), client in self.clients.items()
            )

        with contextlib.suppress(AssertionError):
            await eventually(all_seen, "everything is delivered")
        for client in self.clients.values():
            await client.leave()
        for (name, kind), client in self.clients.items():
            seen = client.seen()
            after = self.posted(name, since)
            hidden = [event_id for event_id in after if event_id not in seen]
            assert not hidden, f"{len(hidden)} of {len(after)} are hidden from {name}, {kind}"
            assert all(seen[event_id] == 1 for event_id in after)
            client.check_numbers()

    def check_resets(self) -> None:
        """Each was told once, and what it says is missing was there and did not come."""
        for (name, kind), client in self.clients.items():
            assert len(client.resets) == 1, (name, kind, client.resets)
            [reset] = client.resets
            assert reset["context_id"] == name
            assert reset["generation"] > reset["previous_generation"]
            assert client.updates[-1]["generation"] == reset["generation"]
            assert reset["missing_count"] >= len(reset["missing"])
            online = self.clients[name, "plain"]
            for missing in reset["missing"]:
                assert missing["event_id"] in online.seen()
                # unless Redis came back with it still to be delivered: then it has a new number
                later = [u for u in client.updates if u["event_id"] == missing["event_id"]]
                assert all(update["seq"] > reset["after"] for update in later)


@asynccontextmanager
async def world(folder: Path, *options: str) -> AsyncIterator[World]:
    node = Node(folder / "redis", *options).start()
    unsafe = {"HOOKSTREAM_REDIS_ALLOW_UNSAFE": "true"} if "no" in options else {}
    stack = Stack(folder, HOOKSTREAM_REDIS_URL=node.url, **unsafe)
    try:
        await asyncio.to_thread(stack.start)
        running = World(stack, node)
        await running.begin()
        yield running
    finally:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.to_thread(stack.stop)
        node.kill()


async def flush(world: World) -> None:
    """everything is deleted while it runs"""
    world.node.ask().flushall()


async def restart_empty(world: World) -> None:
    """it is killed, and kept nothing"""
    world.node.kill()
    await asyncio.to_thread(world.node.start)


async def restore(world: World) -> None:
    """it is started on a copy of its files that is older"""
    copy = world.node.folder.parent / "copy"
    shutil.copytree(world.node.folder / "appendonlydir", copy)
    await world.flows()
    world.node.kill()
    shutil.rmtree(world.node.folder / "appendonlydir")
    shutil.copytree(copy, world.node.folder / "appendonlydir")
    await asyncio.to_thread(world.node.start)


async def doctor(world: World) -> tuple[int, dict[str, Any]]:
    """What `hookstream doctor --loss --json` ends with, and says of contexts."""
    process = await asyncio.create_subprocess_exec(
        *world.stack.command("doctor", "--loss", "--json"),
        env=world.stack.environment(),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    said = json.loads(output)
    assert said["complete"]
    assert process.returncode in (0, 1)
    return process.returncode, said["contexts"]


async def check_doctor(world: World) -> None:
    """What it lists was seen by whoever was connected, and can be read by nobody any more."""
    status, contexts = await doctor(world)
    assert status == 1
    for name in SOURCES:
        lost = contexts[name][name]
        assert lost["count"] == len(lost["event_ids"]) == len(set(lost["event_ids"])) > 0
        assert lost["first_received_at"] <= lost["last_received_at"]
        assert set(lost["event_ids"]) <= set(world.clients[name, "plain"].seen())
        there: set[str] = set()
        after = 0
        while page := await world.stack.get(f"/contexts/{name}/updates", after=str(after)):
            there |= {update["event_id"] for update in page["updates"]}
            after = page["next_after"]
            if not page["updates"]:
                break
        assert not there & set(lost["event_ids"])


async def check_pages(world: World) -> None:
    """Who asks instead of listening is told the same, and must not acknowledge what is gone."""
    name = SOURCES[0]
    updates = world.clients[name, "plain"].updates
    new = updates[-1]["generation"]
    before = [update for update in updates if update["generation"] < new]
    after, old = before[-1]["seq"], before[-1]["generation"]
    for generation in ("", str(old)):
        page = await world.stack.get(
            f"/contexts/{name}/updates", after=str(after - 3), generation=generation or "0"
        )
        assert page["reset"]["previous_generation"] == old
        assert page["reset"]["generation"] == page["generation"] == new
        assert page["reset"]["missing_count"] <= 3
        assert page["updates"][0]["seq"] == page["reset"]["after"] + 1
        assert page["next_after"] == page["updates"][-1]["seq"]
    page = await world.stack.get(
        f"/contexts/{name}/updates", after=str(page["reset"]["after"]), generation=str(new)
    )
    assert "reset" not in page
    async with world.stack.session() as session:
        for seq, generation, status in ((after, old, 409), (updates[-1]["seq"], new, 200)):
            path = f"/api/v1/contexts/{name}/ack"
            async with session.post(path, json={"seq": seq, "generation": generation}) as response:
                assert response.status == status, await response.text()
    digest = await world.stack.get(f"/contexts/{name}/digest", after="0")
    assert digest["skipped"] == 0
    assert digest["generation"] == new


LOSSES: dict[str, tuple[Callable[[World], Awaitable[None]], tuple[str, ...]]] = {
    "flush": (flush, ()),
    "no-persistence": (restart_empty, ("--appendonly", "no")),
    "older-copy": (restore, ()),
}


@pytest.mark.parametrize("name", LOSSES)
async def test_nothing_new_is_hidden_and_a_reset_tells_what_is_missing(
    tmp_path: Path, name: str
) -> None:
    lose, options = LOSSES[name]
    async with world(tmp_path, *options) as here:
        await here.send_away()
        await here.flows()
        await lose(here)
        since = time.monotonic()
        await here.flows(seconds=30)
        await here.finish(since)
        here.check_resets()
        for source in SOURCES:
            [reset] = here.clients[source, "away"].resets
            assert reset["missing_count"] > 0
        await check_doctor(here)
        if name == "flush":
            await check_pages(here)
        parts = (await here.stack.health())["parts"]
        assert parts["generations"]["status"] == "degraded"
        assert parts["generations"]["lost"]


async def test_without_a_loss_there_is_no_reset(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        second = here.stack.another(tmp_path / "second", "worker", "--web-port", str(free_port()))
        try:
            await here.flows(60)  # and partitions go over meanwhile
            here.stack.find("worker").send_signal(signal.SIGTERM)
            await here.flows()
            # the one that has taken the first one's place
            await asyncio.to_thread(here.stack.wait_ready)
            here.stack.find("worker").kill()
            await here.flows()
            here.node.kill()
            await asyncio.to_thread(here.node.start)
            await here.flows()
        finally:
            second.terminate()
            second.wait(60)
        await here.flows()
        await here.finish()
        for client in here.clients.values():
            assert client.resets == []
            assert client.updates[0]["seq"] == 1
            assert len({update["generation"] for update in client.updates}) == 1
            if client.aware:
                # 0: it came before anybody had owned the partition
                known = {0, client.updates[0]["generation"]}
                assert {hello["generation"] for hello in client.hellos} <= known
        assert (await here.stack.health())["parts"]["generations"]["status"] == "ok"
        assert (await doctor(here)) == (0, {})
