"""Requests that go from their connection to a lane: their order, their ends, and who answers."""

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from aiohttp import web

from hookstream.app.ingest.refusals import TENANT_WRITE_REFUSALS, Refusals
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.providers.signatures.body_hmac import sign_hmac
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.routing.catalog import Catalog, Tool
from hookstream.app.routing.tenants import SUSPENDED, Tenant
from hookstream.app.settings import Settings
from hookstream.app.web.connection import Connection, LaneServer, not_kept
from hookstream.app.web.fast_lane import FastLane
from hookstream.app.web.limits import tool_limit
from hookstream.app.web.server import make_runner
from hookstream.codecs.envelope import decode_event
from hookstream.codecs.payload import Packing
from tests.support.refused import REFUSED

BY_LANE = b"HTTP/1.1 202 Accepted\r\nContent-Length: 4\r\n\r\nlane"


class Lane:
    """Takes what comes to ``/lane``, and lets a test say what becomes of it."""

    def __init__(self) -> None:
        self.taken: asyncio.Queue[Connection] = asyncio.Queue()

    def take(self, landing: Connection, message: Any, payload: Any, peer: Any) -> bool:
        if message.path != "/lane" or not payload.is_eof():
            return False
        self.taken.put_nowait(landing)
        return True


class Place:
    """Where a server listens, its lane, and what its handler has got."""

    def __init__(self, port: int, lane: Lane, server: LaneServer, runner: web.AppRunner) -> None:
        self.port, self.lane, self.server, self.runner = port, lane, server, runner

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        if error := not_kept(request):
            return web.Response(status=503, text=f"{error} {body.decode()}")
        return web.Response(text=f"task {body.decode()}")

    app = web.Application()
    app.router.add_post("/{name}", handle)
    app.router.add_get("/hooks/{name}", handle)
    runner = make_runner(app)
    await runner.setup()
    server = runner.server
    assert isinstance(server, LaneServer)
    server.lane = lane = Lane()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield Place(int(runner.addresses[0][1]), lane, server, runner)
    await runner.cleanup()


def post(path: str, body: bytes = b"x") -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (
        path.encode(),
        len(body),
        body,
    )


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(head.split()[1]), await reader.readexactly(length)


async def next_taken(place: Place) -> Connection:
    async with asyncio.timeout(5):
        return await place.lane.taken.get()


async def test_pipelined_requests_are_answered_in_their_order_whoever_takes_them(
    place: Place,
) -> None:
    reader, writer = await place.connect()
    paths = ["/lane", "/lane", "/task", "/lane"]
    writer.write(b"".join(post(path, b"%d" % at) for at, path in enumerate(paths)))
    for _ in range(2):
        taken = await next_taken(place)
        # one at a time
        assert place.lane.taken.empty()
        assert taken.landed(BY_LANE)
        assert (await answer(reader))[1] == b"lane"
    # what is behind a request of the task's is the task's: it has not gone to sleep
    assert [(await answer(reader))[1] for _ in range(2)] == [b"task 2", b"task 3"]
    writer.write(post("/lane"))
    (await next_taken(place)).landed(BY_LANE)
    assert (await answer(reader))[1] == b"lane"
    writer.close()


async def test_a_body_in_pieces_is_the_tasks(place: Place) -> None:
    reader, writer = await place.connect()
    whole = post("/lane", b"abcdef")
    writer.write(whole[:-3])
    await asyncio.sleep(0.05)
    writer.write(whole[-3:])
    assert await answer(reader) == (200, b"task abcdef")
    # and the next one on the same connection is the lane's again
    writer.write(whole)
    (await next_taken(place)).landed(BY_LANE)
    assert (await answer(reader))[1] == b"lane"
    writer.close()


async def test_what_nobody_keeps_is_answered_by_the_task_with_its_body(place: Place) -> None:
    reader, writer = await place.connect()
    writer.write(post("/lane", b"mine") + post("/task", b"other"))
    (await next_taken(place)).not_landed(ValueError("full"))
    assert await answer(reader) == (503, b"full mine")
    assert await answer(reader) == (200, b"task other")
    writer.close()


async def test_who_has_gone_is_told_nothing(place: Place) -> None:
    _, writer = await place.connect()
    writer.write(post("/lane"))
    taken = await next_taken(place)
    writer.transport.abort()
    async with asyncio.timeout(5):
        while taken.transport is not None:
            await asyncio.sleep(0.01)
    assert not taken.landed(BY_LANE)
    taken.not_landed(ValueError("full"))
    async with asyncio.timeout(5):
        while taken in place.server.connections:
            await asyncio.sleep(0.01)


async def test_a_server_that_stops_waits_for_what_the_lane_has(place: Place) -> None:
    reader, writer = await place.connect()
    writer.write(post("/lane"))
    taken = await next_taken(place)
    begun = asyncio.get_running_loop().time()
    stopping = asyncio.create_task(place.runner.cleanup())
    await asyncio.sleep(0.1)
    assert not stopping.done()
    assert taken.landed(BY_LANE)
    assert await answer(reader) == (202, b"lane")
    async with asyncio.timeout(5):
        await stopping
        assert await reader.read() == b""
    # not only when the time to stop in was over
    assert asyncio.get_running_loop().time() - begun < 4
    writer.close()


async def test_what_is_malformed_behind_it_is_told_after_its_answer(place: Place) -> None:
    reader, writer = await place.connect()
    writer.write(post("/lane"))
    taken = await next_taken(place)
    writer.write(b"no request at all\r\n\r\n")
    async with asyncio.timeout(5):
        while not taken._drains:
            await asyncio.sleep(0.01)
    assert taken.landed(BY_LANE)
    assert await answer(reader) == (202, b"lane")
    assert (await answer(reader))[0] == 400
    writer.close()


async def test_an_idle_connection_is_closed_after_it_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = await place.connect()
    writer.write(post("/lane"))
    taken = await next_taken(place)
    taken._keepalive_timeout = 0.05
    if taken._keepalive_handle is not None:
        taken._keepalive_handle.cancel()
        taken._keepalive_handle = None
    assert taken.landed(BY_LANE)
    await answer(reader)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


async def test_a_port_may_be_without_lane(place: Place) -> None:
    place.server.no_lane = place.port
    reader, writer = await place.connect()
    writer.write(post("/lane"))
    assert await answer(reader) == (200, b"task x")
    writer.close()


SECRET = "a-secret-long-enough-to-be-one"
BODY = b'{"action":"opened","issue":{"number":1},"repository":{"full_name":"a/b"}}'


class Kept:
    """An appender that keeps nothing, and tells so when it is asked to."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, bytes]] = []

    def put(self, key: str, data: bytes, urgent: bool, done: Any) -> None:
        self.entries.append((key, data))
        asyncio.get_running_loop().call_soon(done.set_result, None)


async def by_lane(place: Place, request: bytes, tool: dict[str, Any], **set_: Any) -> list[bytes]:
    """What the lane makes of a request for a tool of GitHub's: its entry, or nothing."""
    kept, values = Kept(), {"allow_from": (), **tool}
    made = Tool(
        *("t", "default", "github", (SECRET,), SignatureOptions()),
        *("payload", (), 60_000, "tool", ""),
        **values,
    )
    settings = Settings(**set_)
    nothing: Any = None
    place.server.lane = FastLane(
        settings=settings,
        catalog=cast(Any, SimpleNamespace(current=Catalog(1, 1, {"t": made}))),
        payloads=Payloads(nothing, cast(Any, SimpleNamespace(current=lambda _: None)), Packing()),
        appender=cast(Any, kept),
        limit=tool_limit(settings),
    )
    reader, writer = await place.connect()
    writer.write(request)
    status, body = await answer(reader)
    await asyncio.sleep(0)
    writer.close()
    assert status == (202 if kept.entries else 405), body
    if kept.entries:
        event = decode_event(kept.entries[0][1])
        assert orjson.loads(body) == {"event_id": event.event_id, "status": "accepted"}
        assert (event.type, event.payload) == ("issues.opened", BODY)
    return [entry for _, entry in kept.entries]


def signed(
    *lines: str, path: str = "/hooks/t", version: str = "1.1", secret: str = SECRET
) -> bytes:
    digest = sign_hmac(BODY, secret)
    head = [
        *(f"POST {path} HTTP/1.1", "Host: a.example", f"Content-Length: {len(BODY)}"),
        *("X-GitHub-Event: issues", f"X-Hub-Signature-256: sha256={digest}", *lines),
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + BODY


async def test_a_genuine_webhook_goes_by_the_lane(place: Place) -> None:
    assert await by_lane(place, signed(), {})
    assert await by_lane(place, signed("X-Forwarded-For: 1.2.3.4"), {})


@pytest.mark.parametrize(
    "request_",
    [
        signed(secret="another-secret-long-enough"),
        signed(path="/hooks/t?a=b"),
        signed(path="/hooks/%74"),
        signed(path="/hooks/nobody"),
        signed("Content-Encoding: identity"),
        signed("Connection: close"),
        signed("Origin: https://a.example"),
        signed("X-GitHub-Event: push"),
    ],
)
async def test_what_is_out_of_the_ordinary_does_not(place: Place, request_: bytes) -> None:
    assert not await by_lane(place, request_, {})


async def test_nor_does_what_is_above_its_tools_limit(place: Place) -> None:
    # each has a bucket of its own, and the second has room for one
    tool = {"webhooks_per_second": 0.01}
    entries = await by_lane(place, signed() * 2, tool)
    assert len(entries) == 1


async def test_where_it_comes_from_is_seen_through_trusted_proxies(place: Place) -> None:
    tool = {"allow_from": (ip_network("1.2.3.0/24"),)}
    forwarded = signed("X-Forwarded-For: 1.2.3.4")
    assert not await by_lane(place, forwarded, tool)
    assert await by_lane(place, forwarded, tool, trusted_proxies="127.0.0.0/8")
    assert not await by_lane(place, signed(), tool, trusted_proxies="127.0.0.0/8")


@pytest.mark.parametrize(
    ("values", "state", "status", "kind"),
    [
        pytest.param({"webhooks_per_second": 0.01}, "active", 429, "too-many", id="limit"),
        # its webhooks are not the lane's, and what is refused of it is
        pytest.param(
            {"webhooks_per_second": 0.01, "order_by": "field"}, "active", 429, "too-many", id="odd"
        ),
        pytest.param({}, SUSPENDED, 403, "suspended", id="suspended"),
    ],
)
async def test_what_is_not_taken_anyhow_is_answered_once_enough_of_it_is_kept(
    place: Place, values: dict[str, Any], state: str, status: int, kind: str
) -> None:
    order = values.get("order_by", "tool")
    made = Tool(
        *("t", "default", "github", (SECRET,), SignatureOptions()),
        *("payload", (), 60_000, order, ""),
        allow_from=(),
        webhooks_per_second=values.get("webhooks_per_second"),
    )
    tenants = {"default": Tenant("default", state=state, reason="unpaid")}
    cache = cast(Any, SimpleNamespace(current=Catalog(1, 1, {"t": made}, tenants=tenants)))
    settings, nothing = Settings(), cast(Any, None)
    limit, refusals = tool_limit(settings), Refusals(nothing, nothing, cache)
    limit.take_of(made, 1000)
    place.server.lane = FastLane(
        settings=settings,
        catalog=cache,
        payloads=nothing,
        appender=nothing,
        limit=limit,
        refusals=refusals,
    )
    reader, writer = await place.connect()
    writer.write(signed())
    # others keep the first few
    assert (await answer(reader))[0] == 405
    for _ in range(TENANT_WRITE_REFUSALS):
        refusals.keep(made, REFUSED)
    for request in (signed(), signed("Content-Encoding: gzip"), signed("Origin: https://a.b")):
        writer.write(request)
        found, body = await answer(reader)
        problem = orjson.loads(body)
        assert (found, problem["status"]) == (status, status)
        assert problem["type"].endswith(f"/{kind}")
        assert problem["detail"]
    writer.close()
