"""What a client meets on its socket: 100 Continue, long heads, and the end of the connection."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from hookstream.app.errors import LimitError, NotFoundError
from hookstream.app.web.body import read_body
from hookstream.app.web.expectations import close_unread
from hookstream.app.web.malformed import MAX_FIELD_BYTES, MAX_HEAD_BYTES, MAX_LINE_BYTES
from hookstream.app.web.problem import problems
from hookstream.app.web.request_log import log_requests
from hookstream.app.web.server import make_runner

LIMIT = 1000
EXPECT = b"Expect: 100-continue\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Where an application listens that reads bodies as ours does."""

    async def hook(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name == "nobody":
            raise NotFoundError("there is no tool")
        if name == "busy":
            raise LimitError("too many", 1)
        if name == "bodiless":
            return web.Response(text="who needs it")
        body = await read_body(request, LIMIT, 5.0)
        return web.Response(body=body)

    async def large(request: web.Request) -> web.Response:
        await asyncio.sleep(float(request.query["pause"]))
        return web.Response(text=str(len(await read_body(request, 1 << 22, 5.0))))

    async def page(request: web.Request) -> web.Response:
        return web.json_response(await request.json())

    async def upload(request: web.Request) -> web.Response:
        return web.json_response({name: str(text) for name, text in (await request.post()).items()})

    app = web.Application()
    log_requests(app)
    app.middlewares.append(problems)
    app.on_response_prepare.append(close_unread)
    app.router.add_post("/hooks/{name}", hook)
    app.router.add_post("/large", large)
    app.router.add_post("/page", page)
    app.router.add_post("/upload", upload)
    runner = make_runner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield int(runner.addresses[0][1])
    await runner.cleanup()


class Client:
    """A socket's end, by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next one."""
        async with asyncio.timeout(5):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            status = int(head[0].split()[1])
            headers = dict(line.split(": ", 1) for line in head[1:] if line)
            length = int(headers.get("Content-Length", "0"))
            return status, headers, await self.reader.readexactly(length)

    async def ended(self) -> bytes:
        """What comes until the other side closes."""
        async with asyncio.timeout(5):
            return await self.reader.read()


async def connect(port: int) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", port))


def head(path: str, *lines: bytes, method: str = "POST") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: a\r\n".encode() + b"".join(lines) + b"\r\n"


def length(size: int) -> bytes:
    return b"Content-Length: %d\r\n" % size


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("/hooks/nobody", 10, 404),
        ("/hooks/busy", 10, 429),
        ("/hooks/a", LIMIT + 1, 413),
        ("/hooks/a/b", 10, 404),
        ("/nothing", 10, 404),
        ("/hooks/bodiless", 10, 200),
    ],
)
async def test_who_is_refused_is_so_without_having_sent_the_body(
    port: int, path: str, size: int, status: int
) -> None:
    client = await connect(port)
    await client.send(head(path, EXPECT, length(size)))
    found, headers, body = await client.answer()
    assert found == status
    assert headers["Connection"] == "close"
    if status >= 400:
        assert headers["Content-Type"] == "application/problem+json"
        assert json.loads(body)["status"] == status
    # what the client sends all the same is no next request
    await client.send(head("/hooks/smuggled", length(0)))
    assert await client.ended() == b""


async def test_a_wrong_method_is_refused_at_once(port: int) -> None:
    client = await connect(port)
    await client.send(head("/hooks/a", EXPECT, length(5), method="PUT"))
    assert (await client.answer())[0] == 405
    assert await client.ended() == b""


@pytest.mark.parametrize("expect", [b"100-continue", b"100-Continue", b" 100-CONTINUE "])
async def test_who_is_not_refused_is_told_to_go_on_once(port: int, expect: bytes) -> None:
    client = await connect(port)
    for _ in range(2):
        await client.send(head("/hooks/a", b"Expect: " + expect + b"\r\n", length(5)))
        assert await client.reader.readexactly(len(CONTINUE)) == CONTINUE
        await client.send(b"hello")
        status, headers, body = await client.answer()
        assert (status, body) == (200, b"hello")
        assert "Connection" not in headers
    client.writer.close()


async def test_a_chunked_body_is_asked_for_too(port: int) -> None:
    client = await connect(port)
    await client.send(head("/hooks/a", EXPECT, b"Transfer-Encoding: chunked\r\n"))
    assert await client.reader.readexactly(len(CONTINUE)) == CONTINUE
    await client.send(b"5\r\nhello\r\n0\r\n\r\n")
    assert (await client.answer())[2] == b"hello"
    client.writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        # it has not waited
        head("/hooks/a", EXPECT, length(5)) + b"hello",
        # there is nothing to wait for
        head("/hooks/a", EXPECT, length(0)),
        # it cannot know what 100 is
        b"POST /hooks/a HTTP/1.0\r\n" + EXPECT + length(5) + b"\r\nhello",
        # something that need not be known
        head("/hooks/a", b"Expect: 200-ok\r\n", length(5)) + b"hello",
    ],
)
async def test_no_word_is_said_where_nobody_waits_for_it(port: int, sent: bytes) -> None:
    client = await connect(port)
    await client.send(sent)
    status, _, body = await client.answer()
    assert status == 200
    assert body in (b"hello", b"")
    client.writer.close()


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/page", b"application/json", b'{"a": "b"}'),
        ("/upload", b"application/x-www-form-urlencoded", b"a=b"),
        (
            "/upload",
            b"multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
        ),
    ],
)
async def test_pages_that_read_bodies_their_own_way_ask_for_them(
    port: int, path: str, kind: bytes, body: bytes
) -> None:
    client = await connect(port)
    await client.send(head(path, EXPECT, b"Content-Type: " + kind + b"\r\n", length(len(body))))
    assert await client.reader.readexactly(len(CONTINUE)) == CONTINUE
    await client.send(body)
    status, _, answer = await client.answer()
    assert (status, json.loads(answer)) == (200, {"a": "b"})
    client.writer.close()


async def test_a_refused_body_that_comes_all_the_same_is_dropped_within_bounds(port: int) -> None:
    client = await connect(port)
    await client.send(head("/hooks/a", length(1 << 40)))
    assert (await client.answer())[0] == 413
    loop = asyncio.get_running_loop()
    begun = loop.time()

    async def go_on() -> None:
        while True:
            await client.send(b"x" * 65536)

    with pytest.raises(ConnectionError):
        await go_on()
    # as long as it lingers, and then no more
    assert loop.time() - begun < 4


TOO_LONG: dict[str, tuple[int, bytes]] = {
    "a header": (431, head("/", b"A: " + b"x" * (MAX_FIELD_BYTES + 1) + b"\r\n")),
    "a header without an end": (431, head("/")[:-2] + b"A: " + b"x" * 500_000),
    "many headers": (431, head("/", b"A: b\r\n" * 200)),
    "all headers": (431, head("/", (b"A: " + b"x" * 8000 + b"\r\n") * 9)),
    "headers without an end": (431, head("/")[:-2] + (b"A: " + b"x" * 8000 + b"\r\n") * 60),
    "an address": (414, head("/" + "x" * MAX_LINE_BYTES)),
    "an address without an end": (414, b"GET /" + b"x" * 500_000),
    "an address and a body": (414, head("/" + "x" * 9000, length(9)) + b"x" * 500_000),
}


@pytest.mark.parametrize("kind", TOO_LONG)
async def test_what_is_too_long_is_told_so_while_it_is_still_sent(port: int, kind: str) -> None:
    status, sent = TOO_LONG[kind]
    client = await connect(port)
    # all of it is sent before anything is read: the answer must not be reset away
    await client.send(sent)
    found, headers, body = await client.answer()
    problem = json.loads(body)
    assert (found, problem["status"]) == (status, status)
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Connection"] == "close"
    assert b"xxxx" not in body
    assert await client.ended() == b""
    client.writer.close()


async def test_what_is_just_short_enough_is_taken(port: int) -> None:
    client = await connect(port)
    field = b"B" + b": " + b"x" * (MAX_FIELD_BYTES - 1)
    await client.send(head("/hooks/a?" + "x" * (MAX_LINE_BYTES - 9), field + b"\r\n", length(0)))
    assert (await client.answer())[0] == 200
    lines = b"".join(b"A: %s\r\n" % (b"x" * 8000) for _ in range(4))
    assert MAX_HEAD_BYTES - 1500 < len(lines) < MAX_HEAD_BYTES
    # by pieces, with a body, and one behind the other: the bound is of each
    for _ in range(3):
        sent = head("/hooks/a", lines, length(900)) + b"y" * 900
        for at in range(0, len(sent), 5000):
            await client.send(sent[at : at + 5000])
        assert (await client.answer())[2] == b"y" * 900
    client.writer.close()


async def test_a_large_body_is_no_part_of_a_head(port: int) -> None:
    body = b"x" * 2_000_000
    client = await connect(port)
    for framing in (length(len(body)), b"Transfer-Encoding: chunked\r\n"):
        sent = body if b"Length" in framing else b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        for pause in (0, 0.2):
            # its end comes by itself, while its reader has begun or has not
            await client.send(head(f"/large?pause={pause}", framing) + sent[:-100_000])
            await asyncio.sleep(pause / 2)
            await client.send(sent[-100_000:])
            assert (await client.answer())[::2] == (200, b"2000000")
    client.writer.close()


async def test_what_comes_before_something_malformed_is_answered_first(port: int) -> None:
    client = await connect(port)
    await client.send(head("/hooks/a", EXPECT, length(2)))
    assert await client.reader.readexactly(len(CONTINUE)) == CONTINUE
    await client.send(b"ok")
    for _ in range(3):
        await client.send(b"garbage\r\n\r\n")
    assert (await client.answer())[2] == b"ok"
    assert (await client.answer())[0] == 400
    # one answer, however much of it there is
    assert await client.ended() == b""


@pytest.mark.parametrize("rest", [b"zz\r\n", b"\r\nzz\r\n", b"\r\n0\r\nA\r\n\r\n"])
async def test_a_body_that_goes_on_as_garbage_is_refused_at_once(port: int, rest: bytes) -> None:
    client = await connect(port)
    await client.send(head("/hooks/a", EXPECT, b"Transfer-Encoding: chunked\r\n"))
    assert await client.reader.readexactly(len(CONTINUE)) == CONTINUE
    await client.send(b"5\r\nhello")
    begun = asyncio.get_running_loop().time()
    await client.send(rest)
    status, headers, body = await client.answer()
    assert (status, headers["Connection"]) == (400, "close")
    assert "could not be read" in json.loads(body)["detail"]
    assert asyncio.get_running_loop().time() - begun < 2
    assert await client.ended() == b""


SMUGGLED: dict[str, bytes] = {
    "both lengths": head("/hooks/a", length(5), b"Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n",
    "two lengths": head("/hooks/a", length(5), length(6)) + b"hello!",
    "two equal lengths": head("/hooks/a", length(5), length(5)) + b"hello",
    "a list of lengths": head("/hooks/a", b"Content-Length: 5, 5\r\n") + b"hello",
    "a signed length": head("/hooks/a", b"Content-Length: +5\r\n") + b"hello",
    "a length with a space": head("/hooks/a", b"Content-Length : 5\r\n") + b"hello",
    "a length in hex": head("/hooks/a", b"Content-Length: 0x5\r\n") + b"hello",
    "chunked is not last": head("/hooks/a", b"Transfer-Encoding: chunked, x\r\n") + b"0\r\n\r\n",
    "chunked twice": head("/hooks/a", b"Transfer-Encoding: chunked\r\n" * 2) + b"0\r\n\r\n",
    "a folded header": head("/hooks/a", b"A: b\r\n Content-Length: 5\r\n") + b"hello",
    "a bare line feed": head("/hooks/a", b"A: b\nContent-Length: 5\r\n") + b"hello",
    "a bare carriage return": head("/hooks/a", b"A: b\rContent-Length: 5\r\n") + b"hello",
    "a vertical tab": head("/hooks/a", b"Transfer-Encoding: \x0bchunked\r\n") + b"0\r\n\r\n",
    "two hosts": head("/hooks/a", b"Host: b\r\n", length(0)),
    "a chunk in hex with 0x": head("/hooks/a", b"Transfer-Encoding: chunked\r\n") + b"0x5\r\nhello",
    "a chunk of no size": head("/hooks/a", b"Transfer-Encoding: chunked\r\n") + b"\r\nhello\r\n",
}


@pytest.mark.parametrize("kind", SMUGGLED)
async def test_a_request_that_two_could_read_in_two_ways_is_refused(port: int, kind: str) -> None:
    client = await connect(port)
    await client.send(SMUGGLED[kind] + head("/hooks/smuggled", length(8)) + b"SMUGGLED")
    status, _, _ = await client.answer()
    assert status == 400
    # nothing behind it is taken for a request
    assert b"SMUGGLED" not in await client.ended()


async def test_a_request_that_is_followed_by_silence_within_its_head_costs_little(
    port: int,
) -> None:
    clients: list[Any] = [await connect(port) for _ in range(50)]
    for client in clients:
        await client.send(head("/hooks/a")[:-2] + b"A: " + b"x" * 8000 + b"\r\n")
    other = await connect(port)
    await other.send(head("/hooks/a", length(2)) + b"ok")
    assert (await other.answer())[2] == b"ok"
    for client in clients:
        client.writer.close()
