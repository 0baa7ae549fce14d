"""A slow client costs neither its neighbours nor the server's memory anything."""

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hookstream.app import embedded
from hookstream.app.feeds.wakeups import POLL_SECONDS
from hookstream.app.redis.client import connect
from tests.support.stack import Stack, eventually, fresh

#: With a small buffer at the client, far more than all buffers between it and the server hold.
MANY = 4000
CLIENT_BUFFER_BYTES = 64 * 1024
TITLE = "a title that is long enough to fill buffers " * 6


@pytest.fixture(scope="module")
async def quick(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("slow")
    limits = {
        "HOOKSTREAM_WEBSOCKET_SEND_TIMEOUT_SECONDS": "1",
        "HOOKSTREAM_WRITE_TIMEOUT_SECONDS": "1",
    }
    with Stack(folder, **limits) as running:
        yield running


async def fill(stack: Stack, name: str, count: int) -> None:
    """A context with that many updates."""
    await stack.context(name, {"provider": "none", "ordering": {"by": "none"}})
    numbers = iter(range(count))
    async with aiohttp.ClientSession(stack.url) as session:

        async def send() -> None:
            for n in numbers:
                body = json.dumps({"n": n, "title": TITLE}).encode()
                async with session.post(f"/hooks/{name}", data=body) as response:
                    assert response.status == 202

        await asyncio.gather(*(send() for _ in range(32)))

    async def delivered() -> bool:
        return bool((await stack.get(f"/contexts/{name}"))["last_seq"] == count)

    await eventually(delivered, "everything is delivered")


def small_socket(address: Any) -> socket.socket:
    """A socket whose receive buffer does not grow."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CLIENT_BUFFER_BYTES)
    return made


async def test_client_that_takes_nothing_is_closed_and_hurts_nobody(
    quick: Stack, name: str
) -> None:
    await fill(quick, name, MANY)
    receiver = quick.find("receive")
    before = receiver.memory_info().rss
    connector = aiohttp.TCPConnector(socket_factory=small_socket)
    async with aiohttp.ClientSession(
        quick.url, headers=quick.headers, connector=connector
    ) as session:
        # never read from: what the client's own buffers hold is all that it takes
        stuck = await session.ws_connect(f"/contexts/{name}/updates?after=0", max_msg_size=0)
        begun = time.monotonic()
        updates = await quick.updates(name, MANY)
        assert [update["seq"] for update in updates] == list(range(1, MANY + 1))
        neighbour_seconds = time.monotonic() - begun

        async def closed() -> bool:
            async with quick.session() as other, fresh(other, "/metrics") as response:
                return "hookstream_websockets_too_slow_total 1.0" in await response.text()

        await eventually(closed, "the one that takes nothing is closed")
        assert neighbour_seconds < 30
        assert receiver.memory_info().rss - before < 64 << 20
        # it reads at last: what was on its way, then why it was closed, then it comes back
        seqs = []
        while (message := await stuck.receive(timeout=10)).type is aiohttp.WSMsgType.TEXT:
            seqs.append(json.loads(message.data)["seq"])
        assert seqs == list(range(1, len(seqs) + 1))
        assert len(seqs) < MANY
        assert stuck.close_code == 4008
    [update] = await quick.updates(name, 1, after=seqs[-1])
    assert update["seq"] == seqs[-1] + 1


async def test_clients_that_drop_their_connection_are_nobodys_fault(
    quick: Stack, name: str
) -> None:
    """In the middle of a frame that they do not take, or before they are answered at all."""
    await fill(quick, name, 1500)
    key = quick.headers["Authorization"]
    ask = (
        f"GET /contexts/{name}/updates?after=0 HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nAuthorization: {key}\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    async def drop(at: int) -> None:
        connection = small_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", None))
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, ("127.0.0.1", quick.port))
        await loop.sock_sendall(connection, ask.encode())
        if at % 2:
            # it has begun to send, and waits for the client to take what it sent
            await loop.sock_recv(connection, 1000)
            await asyncio.sleep(0.2)
        # so that the other side is reset, not told
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    await asyncio.gather(*(drop(at) for at in range(60)))

    async def gone() -> bool:
        async with quick.session() as other, fresh(other, "/metrics") as response:
            return "hookstream_websockets 0.0" in await response.text()

    await eventually(gone, "all are gone")
    async with quick.session() as other, fresh(other, "/health") as response:
        tasks = (await response.json())["parts"]["tasks"]
    assert tasks["status"] == "ok", tasks
    log = quick.log.read_text()
    assert "ConnectionResetError" not in log
    assert "updates failed" not in log


async def test_backlog_is_folded_for_who_asks(quick: Stack, name: str) -> None:
    await fill(quick, name, 50)
    await quick.put(f"/contexts/{name}", {"token_budget": 200})
    async with (
        quick.session() as session,
        session.ws_connect(f"/contexts/{name}/updates?after=10&fold=20") as client,
    ):
        digest = await client.receive_json(timeout=10)
        assert (digest["type"], digest["from_seq"], digest["seq"]) == ("digest", 11, 50)
        assert digest["updates"] == 40
        assert digest["tokens"] <= 200
        await quick.hook(name, b'{"n": "next"}')
        update = await client.receive_json(timeout=10)
        assert (update["type"], update["seq"]) == ("update", 51)
    async with (
        quick.session() as session,
        session.ws_connect(f"/contexts/{name}/updates?after=40&fold=20") as client,
    ):
        assert (await client.receive_json(timeout=10))["type"] == "update"


async def _metric(stack: Stack, name: str) -> float:
    async with stack.session() as session, fresh(session, "/metrics") as response:
        for line in (await response.text()).splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
    return 0.0


async def _large_event(stack: Stack, name: str) -> tuple[str, bytes]:
    """The id of an event whose answer is larger than all buffers, and lines that ask for it."""
    await stack.context(name, {"provider": "none"})
    body = json.dumps({"name": name, "d": "x" * 4_000_000}).encode()
    async with (
        aiohttp.ClientSession(stack.url) as session,
        session.post(f"/hooks/{name}", data=body) as response,
    ):
        event_id = str((await response.json())["event_id"])

    async def known() -> bool:
        return bool((await stack.get(f"/events/{event_id}"))["status"] == "delivered")

    await eventually(known, "it is delivered")
    path = f"/api/v1/events/{event_id}"
    key = stack.headers["Authorization"]
    return event_id, f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\n\r\n".encode()


async def test_who_takes_nothing_of_an_answer_is_cut_off(quick: Stack, name: str) -> None:
    _, asked = await _large_event(quick, name)
    before = await _metric(quick, "hookstream_clients_cut_off_total")
    family = socket.AF_INET
    with small_socket((family, socket.SOCK_STREAM, 0, "", "")) as stuck:
        stuck.connect(("127.0.0.1", int(quick.url.rsplit(":", 1)[1])))
        stuck.sendall(asked * 3)

        async def cut_off() -> bool:
            return await _metric(quick, "hookstream_clients_cut_off_total") == before + 1

        await eventually(cut_off, "it is cut off")


async def test_who_is_slow_and_goes_on_gets_all_of_it(quick: Stack, name: str) -> None:
    _, asked = await _large_event(quick, name)
    before = await _metric(quick, "hookstream_clients_cut_off_total")
    loop = asyncio.get_running_loop()
    with small_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", "")) as slow:
        slow.setblocking(False)
        await loop.sock_connect(slow, ("127.0.0.1", int(quick.url.rsplit(":", 1)[1])))
        await loop.sock_sendall(slow, asked)
        got, begun = 0, time.monotonic()
        while got < 4_000_000:
            part = await loop.sock_recv(slow, 65_536)
            assert part, f"cut off after {got} bytes"
            got += len(part)
            # what is behind this takes longer than the write timeout and a WebSocket's, together
            await asyncio.sleep(0.13)
        assert time.monotonic() - begun > 7
    assert await _metric(quick, "hookstream_clients_cut_off_total") == before


async def test_sockets_that_wait_read_nothing(quick: Stack, name: str) -> None:
    """However many there are: one question a second for each context."""
    await fill(quick, name, 1)
    url = embedded.find_valkey(quick.state_dir / "state")
    assert url is not None
    client = connect(url, timeout_seconds=5)

    async def calls(command: str) -> int:
        stats = await client.info("commandstats")
        return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))

    async with quick.session() as session:
        waiting = [await session.ws_connect(f"/contexts/{name}/updates?after=1") for _ in range(40)]
        # each has looked once by then
        first = await session.ws_connect(f"/contexts/{name}/updates?after=0")
        assert json.loads(await first.receive_str())["seq"] == 1
        loop = asyncio.get_running_loop()
        await asyncio.sleep(1.5)  # for what was told while they came
        read, begun = await calls("xrange"), loop.time()
        await asyncio.sleep(4 * POLL_SECONDS)
        read, seconds = await calls("xrange") - read, loop.time() - begun
        assert read < 40 * seconds / 4, "as many as there are, each second, would be 160"
        # and each hears what comes
        async with aiohttp.ClientSession(quick.url) as sender:
            body = json.dumps({"title": "new", "name": name}).encode()
            async with sender.post(f"/hooks/{name}", data=body) as response:
                assert response.status == 202
        for each in waiting:
            assert json.loads(await each.receive_str())["seq"] == 2
            await each.close()
        await first.close()
    await client.aclose()
