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

from tests.support.stack import Stack, eventually

#: With a small buffer at the client, far more than all buffers between it and the server hold.
MANY = 4000
CLIENT_BUFFER_BYTES = 64 * 1024
TITLE = "a title that is long enough to fill buffers " * 6


@pytest.fixture(scope="module")
async def quick(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("slow")
    with Stack(folder, HOOKSTREAM_WEBSOCKET_SEND_TIMEOUT_SECONDS="1") as running:
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
            async with quick.session() as other, other.get("/metrics") as response:
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
        async with quick.session() as other, other.get("/metrics") as response:
            return "hookstream_websockets 0.0" in await response.text()

    await eventually(gone, "all are gone")
    async with quick.session() as other, other.get("/health") as response:
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
