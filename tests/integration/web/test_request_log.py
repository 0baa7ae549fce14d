"""A line a request without what the client sent, an id for each, and no traceback for garbage."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from hookstream.app import metrics
from hookstream.app.web.body import read_body
from hookstream.app.web.malformed import Fault
from hookstream.app.web.problem import problems
from hookstream.app.web.request_log import DOOR, log_requests
from hookstream.app.web.server import make_runner
from tests.support.stack import eventually

NAME = "hookstream.app.web.request_log"
#: A request has come to its handler.
BEGUN = web.AppKey("begun", asyncio.Event)
HEAD = b"POST /hooks/s3cret HTTP/1.1\r\nHost: a\r\n"

#: What is no request, each with words that must not be logged.
MALFORMED = {
    "a long header": HEAD + b"Authorization: Bearer s3cret" + b"x" * 9000 + b"\r\n\r\n",
    "a long header without an end": HEAD + b"Authorization: Bearer s3cret" + b"x" * 90_000,
    "a long request line": b"GET /s3cret" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n",
    "no request line": b"Bearer s3cret\r\n\r\n",
    "a method of its own": b"S3CRET /hooks/a HTTP/1.1\r\nHost: a\r\n\r\n",
    "a header without a colon": HEAD + b"Authorization s3cret\r\n\r\n",
    "a header with a NUL": HEAD + b"Authorization: s3cret\x00\r\n\r\n",
    "a length that is none": HEAD + b"Content-Length: s3cret\r\n\r\n",
    "chunks that are none": HEAD + b"Transfer-Encoding: chunked\r\n\r\ns3cret\r\n",
    "two hosts": HEAD + b"Host: s3cret\r\n\r\n",
    "no URL": b"GET http://s3cret[:x/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "no version": b"GET / HTTP/s3cret\r\nHost: a\r\n\r\n",
    "a long name of a header": HEAD + b"S3cret" * 2000 + b": 1\r\n\r\n",
    "an address like a header": HEAD + b"X: /s3cret?" + b"x" * 9000 + b"\r\n\r\n",
    "much in headers": HEAD + b"".join(b"A%d: s3cret%s\r\n" % (n, b"x" * 900) for n in range(100)),
    "much in headers, without an end": HEAD + b"A: s3cret\r\nB: %s\r\n" % (b"x" * 8000) * 9,
    "many headers": HEAD + b"A: s3cret\r\n" * 300 + b"\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03s3cret",
}

#: What is no 400.
STATUSES = {
    "a long header": 431,
    "a long header without an end": 431,
    "a long name of a header": 431,
    "an address like a header": 431,
    "much in headers": 431,
    "much in headers, without an end": 431,
    "many headers": 431,
    "a long request line": 414,
}
SLUGS = {400: "malformed", 414: "uri-too-long", 431: "headers-too-long"}


class Kept:
    """What the door hears of."""

    def __init__(self) -> None:
        self.found: list[tuple[Any, ...]] = []

    def malformed(self, fault: Fault, address: str) -> None:
        self.found.append((fault.kind, address))

    def missed(self, request: web.Request, status: int, detail: str) -> None:
        self.found.append((request.path, status, detail))


KEPT = web.AppKey("kept", Kept)


class Connection(asyncio.Transport):
    """A client's end, without a socket."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.answered = b""
        self._closed = False
        self.protocol = protocol
        protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.answered += bytes(data)

    def close(self) -> None:
        self._closed = True

    def is_closing(self) -> bool:
        return self._closed

    def can_write_eof(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.7", 1234) if name == "peername" else default

    async def send(self, data: bytes) -> bytes:
        """Send, and return the answer."""
        self.protocol.data_received(data)
        for _ in range(1000):
            if self.answered:
                break
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        self.protocol.connection_lost(None)
        return self.answered


@pytest.fixture
async def runner() -> AsyncIterator[web.AppRunner]:
    async def hook(request: web.Request) -> web.Response:
        await read_body(request, 1000, 1.0)
        if request.match_info["tool_id"] == "broken":
            raise RuntimeError("out of order")
        return web.Response(text="ok")

    app = web.Application()
    app[KEPT] = app[DOOR] = Kept()
    app[BEGUN] = begun = asyncio.Event()
    log_requests(app)
    app.middlewares.append(problems)

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        begun.set()
        await asyncio.Event().wait()
        return response

    async def never(request: web.Request) -> web.StreamResponse:
        begun.set()
        await asyncio.Event().wait()
        return web.Response()

    app.router.add_post("/hooks/{tool_id}", hook)
    app.router.add_get("/streams/{name}", stream)
    app.router.add_get("/never/{name}", never)
    running = make_runner(app)
    await running.setup()
    yield running
    await running.cleanup()


def connect(runner: web.AppRunner) -> Connection:
    server: Any = runner.server
    return Connection(server())


def counted() -> float:
    return sum(
        sample.value
        for metric in metrics.MALFORMED_REQUESTS.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    )


@pytest.mark.parametrize("kind", MALFORMED)
async def test_what_is_no_request_is_counted_and_none_of_it_is_logged(
    runner: web.AppRunner, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    sent = MALFORMED[kind]
    before = counted()
    with caplog.at_level(logging.DEBUG):
        answer = await connect(runner).send(sent)
    status = STATUSES.get(kind, 400)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.0 %d" % status, b"HTTP/1.1 %d" % status))
    assert b"Content-Type: application/problem+json" in head
    assert b"Connection: close" in head or head.startswith(b"HTTP/1.0")
    problem = json.loads(body)
    assert problem["status"] == status
    assert problem["type"].rpartition("/")[2] == SLUGS[status]
    assert counted() == before + 1
    [record] = [record for record in caplog.records if record.name == NAME]
    assert record.getMessage().startswith("a malformed request was refused: ")
    assert (record.levelname, record.exc_info) == ("INFO", None)
    assert record.__dict__["remote"] == "192.0.2.7"
    [kept] = runner.app[KEPT].found
    assert kept == (record.getMessage().rpartition(" ")[2], "192.0.2.7")
    assert "s3cret" not in caplog.text.lower()
    assert "Traceback" not in caplog.text


async def test_an_error_of_ours_keeps_its_traceback(
    runner: web.AppRunner, caplog: pytest.LogCaptureFixture
) -> None:
    await connect(runner).send(b"POST /hooks/broken HTTP/1.1\r\nHost: a\r\n\r\n")
    assert "RuntimeError: out of order" in caplog.text
    assert "POST /hooks/{tool_id} failed" in caplog.text


@pytest.mark.parametrize(
    ("request_line", "status", "method", "route"),
    [
        (b"POST /hooks/s3cret?key=s3cret", 413, "POST", "/hooks/{tool_id}"),
        (b"GET /s3cret", 404, "GET", "(none)"),
        (b"GET /hooks/s3cret", 405, "GET", "(none)"),
    ],
)
async def test_a_request_that_is_refused_is_a_line_with_its_route(
    runner: web.AppRunner,
    caplog: pytest.LogCaptureFixture,
    request_line: bytes,
    status: int,
    method: str,
    route: str,
) -> None:
    with caplog.at_level(logging.INFO):
        answer = await connect(runner).send(
            request_line + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n"
        )
    assert answer.startswith(f"HTTP/1.1 {status}".encode())
    [record] = [record for record in caplog.records if record.name == NAME]
    assert record.getMessage() == f"{method} {route} {status}"
    fields = record.__dict__
    assert (fields["method"], fields["route"], fields["status"]) == (method, route, status)
    assert fields["remote"] == "192.0.2.7"
    assert fields["duration_ms"] >= 0
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (b"GET /hooks/a", ("/hooks/a", 405)),
        (b"POST /hooks/a/", ("/hooks/a/", 404)),
        (b"POST /hooks", ("/hooks", 404)),
        (b"POST /hook/a", None),
        (b"POST /hooks/broken", None),
    ],
)
async def test_a_webhook_that_meets_no_route_is_kept_and_told_where_to_go(
    runner: web.AppRunner, line: bytes, kept: tuple[str, int] | None
) -> None:
    answer = await connect(runner).send(line + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [found[:2] for found in runner.app[KEPT].found] == ([kept] if kept else [])
    assert (b"by POST to /hooks/TOOL" in answer) == bool(kept)


async def test_a_request_that_goes_well_is_a_line_at_debug_only(
    runner: web.AppRunner, caplog: pytest.LogCaptureFixture
) -> None:
    for level, expected in ((logging.INFO, []), (logging.DEBUG, ["POST /hooks/{tool_id} 200"])):
        caplog.clear()
        with caplog.at_level(level, NAME):
            await connect(runner).send(HEAD + b"\r\n")
        assert [r.getMessage() for r in caplog.records if r.name == NAME] == expected


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/streams/slow", "GET /streams/{name} 200"),
        ("/never/slow", "GET /never/{name} 499"),
    ],
)
async def test_who_goes_away_within_an_answer_has_had_it(
    runner: web.AppRunner, caplog: pytest.LogCaptureFixture, path: str, line: str
) -> None:
    with caplog.at_level(logging.DEBUG, NAME):
        connection = connect(runner)
        connection.protocol.data_received(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        await asyncio.wait_for(runner.app[BEGUN].wait(), 5)
        connection.protocol.connection_lost(None)

        async def said() -> bool:
            return any(r.name == NAME for r in caplog.records)

        await eventually(said, "its line is there")
    assert [r.getMessage() for r in caplog.records if r.name == NAME] == [line]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (b"a-Client.s_own-1", True),
        (b"x" * 64, True),
        (b"x" * 65, False),
        (b'quote"d', False),
        (b"s p a c e", False),
        (b"\xc3\xa4", False),
        (b"", False),
    ],
)
async def test_a_harmless_request_id_is_kept_and_answered(
    runner: web.AppRunner, given: bytes, kept: bool
) -> None:
    ids = []
    for line in (HEAD, b"GET /nothing HTTP/1.1\r\nHost: a\r\n"):
        answer = await connect(runner).send(line + b"X-Request-Id: " + given + b"\r\n\r\n")
        [found] = [
            line.partition(b": ")[2]
            for line in answer.split(b"\r\n")
            if line.startswith(b"X-Request-Id: ")
        ]
        ids.append(found)
    if kept:
        assert ids == [given, given]
    else:
        assert all(len(found) == 16 and found != given for found in ids)
        assert ids[0] != ids[1]
