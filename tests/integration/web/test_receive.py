"""The receiver under hostile input, over real sockets."""

import asyncio
import contextlib
import gzip
import json
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import brotli
import pytest
import zstandard

from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.signatures.options import SignatureOptions
from tests.support.stack import Stack, eventually, fresh

SECRET = "the-tool's-own-secret"
LIMIT = 5 * 1024 * 1024


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A system with short time limits."""
    with Stack(
        tmp_path_factory.mktemp("strict"),
        HOOKSTREAM_HEADER_TIMEOUT_SECONDS="1",
        HOOKSTREAM_BODY_TIMEOUT_SECONDS="1",
        HOOKSTREAM_LOG_REPEATS_PER_MINUTE="0",
    ) as running:
        yield running


@pytest.fixture
async def github(stack: Stack, name: str) -> str:
    await stack.put(f"/tools/{name}", {"provider": "github", "secrets": [SECRET]})
    return name


@pytest.fixture
async def plain(stack: Stack, name: str) -> str:
    await stack.put(f"/tools/{name}", {"provider": "none"})
    return name


@pytest.fixture
async def http(stack: Stack) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(stack.url) as session:
        yield session


def sign(body: bytes, secret: str = SECRET) -> dict[str, str]:
    return PROVIDERS["github"].sign(
        body, secret, SignatureOptions(), now=0, event_type="push", delivery_id="d", url=""
    )


async def post(
    http: aiohttp.ClientSession, tool: str, body: Any, headers: Any = None
) -> tuple[int, dict[str, Any]]:
    """Status and JSON of a post; a problem is checked to be one."""
    async with http.post(f"/hooks/{tool}", data=body, headers=headers) as response:
        text = await response.text()
        answer = json.loads(text)
        if response.status >= 400:
            assert response.content_type == "application/problem+json"
            assert set(answer) == {"type", "title", "status", "detail"}
            assert answer["status"] == response.status
            assert SECRET not in text
            assert "Traceback" not in text
        return response.status, answer


GOOD = sign(b"{}")["X-Hub-Signature-256"]


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        "sha256=",
        "sha256=" + "0" * 64,
        GOOD[:-1],
        GOOD + "0",
        GOOD.upper(),
        GOOD[7:],
        "sha1=" + GOOD[7:47],
        "sha256=" + "é" * 64,
        "sha256=" + "z" * 64,
        "x" * 7000,
        "sha256",
        sign(b"{}", "another")["X-Hub-Signature-256"],
    ],
)
async def test_signature_that_does_not_verify_is_refused(
    http: aiohttp.ClientSession, github: str, signature: str | None
) -> None:
    headers = {"X-GitHub-Event": "push"}
    if signature is not None:
        headers["X-Hub-Signature-256"] = signature
    status, answer = await post(http, github, b"{}", headers)
    assert status == 401
    assert answer["type"].endswith("/bad-signature")


async def test_repeated_signature_is_refused(http: aiohttp.ClientSession, github: str) -> None:
    headers = [*sign(b"{}").items(), ("X-Hub-Signature-256", "sha256=" + "0" * 64)]
    assert (await post(http, github, b"{}", headers))[0] == 401


async def test_tampered_body_is_refused(http: aiohttp.ClientSession, github: str) -> None:
    assert (await post(http, github, b"{} ", sign(b"{}")))[0] == 401


async def test_unknown_tool_and_method(http: aiohttp.ClientSession, plain: str) -> None:
    assert (await post(http, "nobody", b"{}"))[0] == 404
    async with http.get(f"/hooks/{plain}") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "POST"
        assert response.content_type == "application/problem+json"


async def chunks(total: int) -> AsyncIterator[bytes]:
    for _ in range(total // 65536):
        yield b"x" * 65536


async def test_body_over_the_limit_is_refused(http: aiohttp.ClientSession, plain: str) -> None:
    for body in (b"x" * (LIMIT + 1), chunks(LIMIT + 10 * 65536)):
        # the server may answer and close while the client still writes
        with contextlib.suppress(aiohttp.ClientConnectionError):
            assert (await post(http, plain, body))[0] == 413
    assert (await post(http, plain, b"x" * LIMIT))[0] == 202


async def test_github_s_own_limit_is_larger_and_what_is_too_much_to_parse_is_kept(
    stack: Stack, http: aiohttp.ClientSession, github: str
) -> None:
    large = b'{"files":["' + b'","'.join([b"x" * 20] * 1_000_000) + b'"]}'
    assert 20 * 1024 * 1024 < len(large) <= 25 * 1024 * 1024
    status, answer = await post(http, github, large, sign(large))
    assert status == 202

    async def recorded() -> Any:
        found = await stack.get(f"/events/{answer['event_id']}")
        return found if found["status"] == "unrouted" else None

    event = await eventually(recorded, "it is kept")
    assert (event["payload_bytes"], event["unparsed"]) == (len(large), True)
    assert event["payload"] == large.decode()
    with contextlib.suppress(aiohttp.ClientConnectionError):
        assert (await post(http, github, b"x" * (25 * 1024 * 1024 + 1)))[0] == 413


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "br"])
async def test_compressed_body_is_verified_as_sent_and_kept_decoded(
    stack: Stack, http: aiohttp.ClientSession, github: str, encoding: str
) -> None:
    pack: Any = {
        "gzip": gzip.compress,
        "deflate": zlib.compress,
        "zstd": zstandard.compress,
        "br": brotli.compress,
    }
    body = pack[encoding](b'{"packed": true}')
    headers = {**sign(body), "Content-Type": "application/json", "Content-Encoding": encoding}
    status, answer = await post(http, github, body, headers)
    assert status == 202, answer
    event = await stack.get(f"/events/{answer['event_id']}")
    assert event["payload"] == {"packed": True}


async def test_bombs_and_broken_compression_are_refused_in_bounded_memory(
    stack: Stack, http: aiohttp.ClientSession, plain: str
) -> None:
    receiver = stack.find("receive")
    before = receiver.memory_info().rss
    zeros = b"\0" * (64 << 20)
    many = gzip.compress(b"\0" * 65536) * 2000
    for body, encoding, expected in (
        (gzip.compress(zeros), "gzip", 413),
        (many, "gzip", 413),
        (zlib.compress(zeros), "deflate", 413),
        (zstandard.compress(zeros), "zstd", 413),
        (gzip.compress(b"{}")[:-4], "gzip", 400),
        (b"not gzip", "gzip", 400),
        (brotli.compress(zeros), "br", 413),
        (brotli.compress(brotli.compress(zeros)), "br, br", 413),
        (b"{}", "br", 400),
        (b"{}", "compress", 415),
        (gzip.compress(b"{}"), "aes128gcm, gzip", 415),
    ):
        assert (await post(http, plain, body, {"Content-Encoding": encoding}))[0] == expected
    assert receiver.memory_info().rss - before < 60 << 20


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\0",
        b'{"a": "\\u0000"}',
        b"\xff\xfe",
        b"NaN",
        b"[1e999]",
        b'"\\ud800"',
        b"9" * 5000,
        b"[" * 100_000,
        b"[" * 500 + b"]" * 500,
        b'{"a":1,"a":2}',
        b"a=1&b=%00",
    ],
)
async def test_odd_body_is_kept_or_refused_and_never_an_error_of_ours(
    stack: Stack, http: aiohttp.ClientSession, name: str, body: bytes
) -> None:
    await stack.context(name, {"provider": "none"})
    await stack.put(f"/tools/{name}-gh", {"provider": "github", "secrets": [SECRET]})
    status, answer = await post(http, name, body)
    assert status == 202
    shown = await stack.get(f"/events/{answer['event_id']}")
    assert shown["payload_bytes"] == len(body)
    [update] = await stack.updates(name, 1)
    assert update["event_id"] == answer["event_id"]
    assert (await post(http, f"{name}-gh", body, sign(body)))[0] in (202, 400)

    async def recorded() -> bool:
        found = await stack.get("/events", tool=name)
        return [event["status"] for event in found["events"]] == ["delivered"]

    await eventually(recorded, "the event is recorded")


async def test_headers_with_odd_bytes_are_kept_clean_and_secrets_are_not_kept(
    stack: Stack, http: aiohttp.ClientSession, github: str
) -> None:
    headers = {
        **sign(b"{}"),
        "X-GitHub-Delivery": "d\u00e9-\u200b",
        "Authorization": "Bearer topsecret",
        "Cookie": "a=b",
    }
    status, answer = await post(http, github, b"{}", headers)
    assert status == 202
    event = await stack.get(f"/events/{answer['event_id']}")
    assert set(event["headers"]) <= {"x-github-event", "x-github-delivery", "user-agent"}
    assert event["delivery_id"].isprintable()
    everything = json.dumps([event, await stack.get(f"/tools/{github}"), await stack.health()])
    assert SECRET not in everything
    assert "topsecret" not in everything


@pytest.mark.parametrize(
    ("provider", "body", "status", "content_type", "shown"),
    [
        ("linear", b'{"type": "Issue", "action": "create"}', 200, "application/json", None),
        ("slack", b"command=%2Fdeploy&text=prod&trigger_id=1.2", 200, "text/plain", ""),
        ("slack", b"payload=%7B%22type%22%3A%22view_submission%22%7D", 200, "text/plain", ""),
        ("slack", b'{"type": "event_callback"}', 200, "text/plain", ""),
        (
            "twilio",
            b"MessageSid=SM1&SmsStatus=received&Body=hi",
            200,
            "text/xml",
            '<?xml version="1.0" encoding="UTF-8"?><Response/>',
        ),
        ("github", b"{}", 202, "application/json", None),
    ],
)
async def test_provider_gets_the_answer_that_it_wants(
    stack: Stack,
    http: aiohttp.ClientSession,
    name: str,
    provider: str,
    body: bytes,
    status: int,
    content_type: str,
    shown: str | None,
) -> None:
    await stack.context(name, {"provider": provider, "secrets": [SECRET]})
    kind, now = PROVIDERS[provider], time.time()
    body = kind.stamp(body, now) if kind.stamp else body
    url = f"{stack.url}/hooks/{name}"
    headers = kind.sign(
        body, SECRET, SignatureOptions(), now=now, event_type="", delivery_id="d", url=url
    )
    async with http.post(url, data=body, headers=headers) as response:
        text = await response.text()
        assert (response.status, response.content_type) == (status, content_type), text
    [update] = await stack.updates(name, 1)
    if shown is None:
        assert json.loads(text) == {"event_id": update["event_id"], "status": "accepted"}
    else:
        assert text == shown
    # who is refused is told so in the same way, whoever it is
    assert (await post(http, name, body, {}))[0] == 401


async def test_concurrent_posts_share_flushes(
    stack: Stack, http: aiohttp.ClientSession, plain: str
) -> None:
    async def flushes() -> float:
        async with fresh(http, "/metrics") as response:
            for line in (await response.text()).splitlines():
                if line.startswith("hookstream_append_batch_requests_count"):
                    return float(line.split()[1])
        raise AssertionError("no such metric")

    before = await flushes()
    bodies = [b"%d" % number for number in range(300)]
    answers = await asyncio.gather(*(post(http, plain, body) for body in bodies))
    assert {status for status, _ in answers} == {202}
    assert len({answer["event_id"] for _, answer in answers}) == 300
    assert await flushes() - before < 250


async def raw(stack: Stack, request: bytes) -> bytes:
    """Send bytes and read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
    try:
        writer.write(request)
        await writer.drain()
        async with asyncio.timeout(15):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("request_", [b"", b"POST /hooks/x HTTP/1.1\r\nHost: a\r\nX-Half: "])
async def test_connection_that_sends_no_request_is_closed(strict: Stack, request_: bytes) -> None:
    await raw(strict, request_)


async def test_slow_body_is_refused(strict: Stack) -> None:
    await strict.put("/tools/slow", {"provider": "none"})
    head = (
        b"POST /hooks/slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 9\r\n\r\n{"
    )
    answer = await raw(strict, head)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"slow-body" in answer


async def test_client_that_breaks_off_harms_nobody(strict: Stack) -> None:
    await strict.put("/tools/broken", {"provider": "none"})
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", strict.port)
        writer.write(b"POST /hooks/broken HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n{")
        await writer.drain()
        writer.transport.abort()
    await strict.hook("broken", b"{}")


async def test_client_that_goes_away_is_counted_as_gone_and_not_as_an_error_of_ours(
    strict: Stack,
) -> None:
    # a provider that nothing else here posts to
    await strict.put("/tools/gone", {"provider": "bearer", "secrets": [SECRET]})
    for _ in range(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", strict.port)
        writer.write(
            b"POST /hooks/gone HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
            b"Content-Length: 99\r\n\r\n"
        )
        # the server has begun, and waits for the body
        assert (await reader.readline()).startswith(b"HTTP/1.1 100")
        writer.transport.abort()

    async def counted() -> dict[str, float] | None:
        async with (
            aiohttp.ClientSession(strict.url) as session,
            fresh(session, "/metrics") as response,
        ):
            text = await response.text()
        mark = 'hookstream_requests_total{provider="bearer",status="'
        lines = [line for line in text.splitlines() if line.startswith(mark)]
        found = {line[len(mark) :][:3]: float(line.rpartition(" ")[2]) for line in lines}
        return found if sum(found.values()) == 20 else None

    assert await eventually(counted, "all of them are counted") == {"499": 20}
    assert (await strict.get("/tools/gone/refusals"))["refusals"] == []


BROKEN_OFF = {
    "POST": ("/mcp", "/api/v1/replays", "/registry/subjects/a/versions"),
    "PUT": ("/api/v1/tools/off", "/api/v1/contexts/off"),
}
BEGUN = {
    "by length": b'Content-Length: 99\r\n\r\n{"a":',
    "by chunks": b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\n',
    "within a chunk": b'Transfer-Encoding: chunked\r\n\r\n50\r\n{"a":',
    "asked first": b"Expect: 100-continue\r\nContent-Length: 99\r\n\r\n",
}


@pytest.mark.parametrize("how", ["reset", "close", "half"])
async def test_who_breaks_off_a_body_is_gone_on_every_path(
    strict: Stack, name: str, how: str
) -> None:
    # a provider that nothing else here posts to
    await strict.put(f"/tools/{name}", {"provider": "basic", "secrets": [f"user:{SECRET}"]})
    mark = 'hookstream_requests_total{provider="basic",status="'
    before = strict.log.read_text()
    paths = [("POST", f"/hooks/{name}")]
    paths += [(method, path) for method in BROKEN_OFF for path in BROKEN_OFF[method]]
    for method, path in paths:
        for begun in BEGUN.values():
            reader, writer = await asyncio.open_connection("127.0.0.1", strict.port)
            head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nX-Request-Id: {name}\r\n"
            head += f"Authorization: {strict.headers['Authorization']}\r\n"
            writer.write(head.encode() + begun)
            await writer.drain()
            await asyncio.sleep(0.02)  # it has begun to read, or has not: both may be
            if how == "reset":
                writer.transport.abort()
            elif how == "close":
                writer.close()
            else:
                writer.write_eof()
                assert b" 50" not in await asyncio.wait_for(reader.read(), 5)

    async def told() -> bool:
        lines = strict.log.read_text()[len(before) :].splitlines()
        return sum(name in line for line in lines) >= len(paths) * len(BEGUN)

    await eventually(told, "a line of each")
    lines = [line for line in strict.log.read_text()[len(before) :].splitlines() if name in line]
    assert {json.loads(line)["status"] for line in lines} == {499}
    async with (
        aiohttp.ClientSession(strict.url) as session,
        fresh(session, "/metrics") as response,
    ):
        text = await response.text()
    found = {line[len(mark) :][:3] for line in text.splitlines() if line.startswith(mark)}
    assert found == {"499"}


async def test_posts_to_a_frozen_redis_are_spooled_and_delivered_in_order(tmp_path: Path) -> None:
    with Stack(tmp_path) as own:
        await own.context("cold", {"provider": "none"})
        [valkey] = [p for p in own.processes() if "valkey-server" in p.name()]
        accepted = [await own.hook("cold", b"0")]
        valkey.suspend()
        try:
            for body in (b"1", b"2"):
                accepted.append(await own.hook("cold", body))
        finally:
            valkey.resume()
        accepted.append(await own.hook("cold", b"3"))
        updates = await own.updates("cold", len(accepted))
        assert [update["event_id"] for update in updates] == accepted


async def recorded(stack: Stack, event_id: str) -> dict[str, Any]:
    """An event once it has been decided."""
    event: dict[str, Any] = {}

    async def decided() -> bool:
        event.update(await stack.get(f"/events/{event_id}"))
        return event["status"] != "accepted"

    await eventually(decided, f"{event_id} is recorded")
    return event


async def test_a_captured_webhook_is_neither_another_event_nor_of_another_type(
    stack: Stack, name: str
) -> None:
    """A stranger has one webhook of GitHub's with its signature, and no secret."""
    await stack.context(
        name,
        {"provider": "github", "secrets": [SECRET]},
        types=["security_advisory.*", "deployment*", "pull_request.*"],
        priority="critical",
    )
    body = b'{"action": "opened", "pull_request": {"title": "t"}, "sender": {"login": "x"}}'
    signed = sign(body)
    types = ["pull_request", "pull_request", "security_advisory.x0", "issues", "deployment_status"]
    sent = [
        await stack.hook(
            name, body, {**signed, "X-GitHub-Event": kind, "X-GitHub-Delivery": str(number)}
        )
        for number, kind in enumerate(types)
    ]
    last = await stack.hook(name, body + b" ", {**sign(body + b" "), "X-GitHub-Event": types[0]})
    updates = await stack.updates(name, 2)
    assert [(update["event_id"], update["event_type"]) for update in updates] == [
        (sent[0], "pull_request.opened"),
        (last, "pull_request.opened"),
    ]
    events = [await recorded(stack, event_id) for event_id in sent]
    assert [(event["status"], event["duplicate_of"]) for event in events] == [
        ("delivered", None),
        ("duplicate", sent[0]),
        ("unrouted", None),
        ("duplicate", sent[2]),
        ("duplicate", sent[2]),
    ]
    assert events[2]["type"] == "unverified.security_advisory.x0.opened"
    assert events[2]["headers"]["x-github-event"] == "security_advisory.x0"
    # three of them came, and who repeats a captured webhook could send thousands
    assert stack.log.read_text().count(f"tool {name}: an event of type unverified.") == 1


async def test_numbers_beyond_64_bits_and_doubles_tell_events_apart(
    stack: Stack, name: str
) -> None:
    dedup = {"strategy": "fields", "fields": ["id"]}
    await stack.context(name, {"provider": "none", "dedup": dedup})
    numbers = [b"18446744073709551617", b"18446744073709551618", b"0.1", b"0.1000000000000000055"]
    sent = [await stack.hook(name, b'{"id": %s, "n": 1}' % number) for number in numbers]
    again = await stack.hook(name, b'{"id": %s, "n": 2}' % numbers[0])
    last = await stack.hook(name, b'{"id": "last"}')
    updates = await stack.updates(name, 5)
    assert [update["event_id"] for update in updates] == [*sent, last]
    assert (await recorded(stack, again))["duplicate_of"] == sent[0]
    for event_id, number in zip(sent, numbers, strict=True):
        async with (
            stack.session() as session,
            session.get(f"/api/v1/events/{event_id}") as response,
        ):
            assert b'"payload":{"id":%s,"n":1}' % number in await response.read()
