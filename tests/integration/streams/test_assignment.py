"""Workers that come and go share the partitions; what stops finishes what it has in flight."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.fragile import Fragile
from tests.support.stack import Stack, eventually, free_port

#: Longer than any hand-off takes, so that one that waited for it shows.
LEASE_SECONDS = 30
CONTEXTS = ("a", "b", "c", "d", "e", "f")


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Stack]:
    with Stack(tmp_path, HOOKSTREAM_LEASE_TTL_SECONDS=str(LEASE_SECONDS)) as stack:
        for name in CONTEXTS:
            await stack.context(name, {"provider": "none"})
        yield stack


@asynccontextmanager
async def sending(stack: Stack) -> AsyncIterator[dict[str, list[str]]]:
    """A sender a tool, in the background; the ids that got a 202, in their order."""
    accepted: dict[str, list[str]] = {name: [] for name in CONTEXTS}
    stop = asyncio.Event()

    async def send(name: str) -> None:
        while not stop.is_set():
            body = json.dumps({"n": len(accepted[name])}).encode()
            accepted[name].append(await stack.hook(name, body))
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(send(name)) for name in CONTEXTS]
    try:
        yield accepted
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def check(stack: Stack, accepted: dict[str, list[str]]) -> None:
    """Everything accepted was delivered, once, in order, without a gap."""
    for name, ids in accepted.items():
        updates = await stack.updates(name, len(ids))
        assert [update["event_id"] for update in updates] == ids
        assert [update["seq"] for update in updates] == list(range(1, len(ids) + 1))
        assert (await stack.get(f"/contexts/{name}"))["last_seq"] == len(ids)


async def owners(stack: Stack) -> dict[int, str]:
    shown = await stack.get("/partitions")
    return {row["partition"]: row["owner"] for row in shown["partitions"]}


async def become(stack: Stack, count: int) -> dict[int, str]:
    """Wait until all partitions are owned, by ``count`` workers."""

    async def settled() -> dict[int, str] | None:
        found = await owners(stack)
        return found if all(found.values()) and len(set(found.values())) == count else None

    return dict(await eventually(settled, f"{count} workers share all partitions"))


async def test_a_worker_comes_and_goes_under_load(shared: Stack, tmp_path: Path) -> None:
    before = await become(shared, 1)
    async with sending(shared) as accepted:
        second = shared.another(tmp_path / "second", "worker", "--web-port", str(free_port()))
        both = await become(shared, 2)
        moved = [number for number in before if both[number] != before[number]]
        assert 0 < len(moved) < len(before)
        await asyncio.sleep(1)
        second.terminate()
        begun = time.monotonic()
        after = await become(shared, 1)
        # handed off, not waited for until the leases lapse
        assert time.monotonic() - begun < LEASE_SECONDS / 2
        assert second.wait(30) == 0
        assert after == before
    await check(shared, accepted)
    epochs = [row["epoch"] for row in (await shared.get("/partitions"))["partitions"]]
    # each moved there and back, or not at all; of some it was seen
    assert set(epochs) == {1, 3}
    assert all(epochs[number] == 3 for number in moved)


async def test_stopped_worker_leaves_nothing_undone(shared: Stack) -> None:
    async with sending(shared) as accepted:
        for _ in range(2):
            await asyncio.sleep(1)
            worker = shared.find("worker")
            worker.terminate()
            await asyncio.to_thread(worker.wait, 30)
            await become(shared, 1)
    await check(shared, accepted)
    log = shared.log.read_text()
    assert "worker ended with status 0" in log
    assert "stay pending" not in log


async def test_another_partition_count_is_refused_with_the_way_out(
    shared: Stack, tmp_path: Path
) -> None:
    for command in ("worker", "receive"):
        folder = tmp_path / command
        other = shared.another(
            folder, command, "--web-port", str(free_port()), HOOKSTREAM_PARTITIONS="16"
        )
        assert await asyncio.to_thread(other.wait, 30) == 78
        said = (folder / "process.log").read_text()
        assert "8 partitions" in said
        assert "set it to 8" in said
        assert "Traceback" not in said


async def ready(port: int) -> int:
    """The status of /health/ready; 0 when nothing listens."""
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/health/ready") as response,
        ):
            return response.status
    except aiohttp.ClientError:
        return 0


class Slow(asyncio.Event):
    """A request whose body ends when the event is set."""

    async def body(self) -> AsyncIterator[bytes]:
        yield b'{"slow": '
        await self.wait()
        yield b"true}"

    async def post(self, url: str) -> tuple[int, dict[str, Any]]:
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=self.body()) as response,
        ):
            return response.status, await response.json()


async def test_stopping_receiver_is_unready_first_and_answers_what_is_under_way(
    shared: Stack, tmp_path: Path
) -> None:
    port = free_port()
    receiver = shared.another(
        tmp_path / "receiver",
        *("receive", "--with-api", "--web-port", str(port)),
        HOOKSTREAM_SHUTDOWN_DELAY_SECONDS="2",
    )
    url = f"http://127.0.0.1:{port}"

    async def is_ready() -> bool:
        return await ready(port) == 200

    await eventually(is_ready, "the receiver is ready")
    slow = Slow()
    under_way = asyncio.create_task(slow.post(f"{url}/hooks/a"))
    async with (
        aiohttp.ClientSession(url, headers=shared.headers) as session,
        session.ws_connect("/contexts/a/updates") as socket,
    ):
        receiver.terminate()

        async def unready() -> bool:
            return await ready(port) == 503

        await eventually(unready, "it says that it is not ready")
        # a load balancer that has not noticed yet loses nothing
        async with session.post("/hooks/a", data=b'{"n": 1}') as response:
            assert response.status == 202
            late = (await response.json())["event_id"]
        assert receiver.poll() is None
        update = await socket.receive_json(timeout=10)
        assert update["event_id"] == late

        async def gone() -> bool:
            return await ready(port) == 0

        await eventually(gone, "it takes no more connections")
        slow.set()
        status, answer = await under_way
        assert status == 202
        closing = await socket.receive(timeout=10)
        if closing.type is aiohttp.WSMsgType.TEXT:  # the update was quicker than the close
            closing = await socket.receive(timeout=10)
        assert (closing.type, closing.data) == (aiohttp.WSMsgType.CLOSE, 1001)
    assert await asyncio.to_thread(receiver.wait, 30) == 0
    updates = await shared.updates("a", 2)
    assert [update["event_id"] for update in updates] == [late, answer["event_id"]]


STUCK = '''
"""A stage that takes longer than a worker has to stop."""
import asyncio
from pathlib import Path
from hookstream.app.main import app

@app.stage(after="dedupe")
async def stuck(event):
    while not Path({folder!r}, "go").exists():
        await asyncio.sleep(0.05)
    return event
'''


async def test_what_is_not_done_in_time_stays_pending(tmp_path: Path) -> None:
    stack = Fragile(tmp_path, HOOKSTREAM_SHUTDOWN_TIMEOUT_SECONDS="1")
    (stack.stages / "stuck.py").write_text(STUCK.format(folder=str(stack.stages)))
    with stack:
        await stack.context("a", {"provider": "none"})
        accepted = [await stack.hook("a", b'{"n": %d}' % n) for n in range(10)]

        async def pending() -> bool:
            return bool((await stack.health())["parts"]["streams"]["events"]["pending"])

        await eventually(pending, "a batch is in hand")
        worker = stack.find("worker")
        worker.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        await asyncio.to_thread(worker.wait, 15)
        assert time.monotonic() - begun < 10
        stack.heal("go")
        updates = await stack.updates("a", 10)
        assert [update["event_id"] for update in updates] == accepted
        assert "stay pending" in stack.log.read_text()
