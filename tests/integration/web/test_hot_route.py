"""Webhooks pass by the router: nothing of what they are answered differs from the way of others."""

import asyncio
from typing import Any

import aiohttp
import pytest

from hookstream.app.web.receive import EVENT_ID_HEADER
from tests.support.stack import Stack

EVENT_ID = EVENT_ID_HEADER.lower()
#: What differs from request to request.
OWN = {EVENT_ID, "date", "x-request-id"}
TOKEN = "a-token-long-enough-to-be-one-0123456789"


async def post(stack: Stack, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], Any]:
    async with (
        aiohttp.ClientSession(stack.url) as session,
        session.post(path, data=b'{"n":1}', headers=headers) as answer,
    ):
        lower = {name.lower(): value for name, value in answer.headers.items()}
        return answer.status, lower, await answer.json()


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Authorization": f"Bearer {TOKEN}"}, 202), ({"Authorization": "Bearer x"}, 401), ({}, 401)],
)
async def test_what_is_answered_is_the_same_on_both_ways(
    stack: Stack, name: str, headers: dict[str, str], status: int
) -> None:
    tool = {"provider": "bearer", "secrets": [TOKEN], "dedup": {"strategy": "none"}}
    await stack.put(f"/tools/{name}", tool)
    # with a slash at its end it is for the router
    hot = await post(stack, f"/hooks/{name}?a=b", headers)
    cold = await post(stack, f"/hooks/{name}/", headers)
    assert hot[0] == cold[0] == status
    assert hot[1].keys() == cold[1].keys()
    for header in hot[1].keys() - OWN:
        assert hot[1][header] == cold[1][header]
    assert hot[2].keys() == cold[2].keys()
    assert (hot[1].get(EVENT_ID) or None) == hot[2].get("event_id")


async def test_a_request_keeps_the_id_that_it_came_with_on_both_ways(
    stack: Stack, name: str
) -> None:
    await stack.put(f"/tools/{name}", {"provider": "none"})
    for path, status in (
        (f"/hooks/{name}", 202),
        (f"/hooks/{name}/", 202),
        ("/hooks/there-is-none", 404),
    ):
        answer = await post(stack, path, {"X-Request-Id": "given-7"})
        assert (answer[0], answer[1]["x-request-id"]) == (status, "given-7")


@pytest.mark.parametrize(
    ("request_line", "more", "said"),
    [
        ("POST /hooks/{name} HTTP/1.1", "", b""),
        ("POST /hooks/{name} HTTP/1.1", "Connection: close\r\n", b"Connection: close"),
        ("POST /hooks/{name} HTTP/1.0", "", b""),
        ("POST /hooks/{name} HTTP/1.0", "Connection: keep-alive\r\n", b"Connection: keep-alive"),
        ("POST /hooks/%{code} HTTP/1.1", "", b""),
        ("POST http://other.example/hooks/{name} HTTP/1.1", "", b""),
        ("POST /hooks/{name} HTTP/1.1", "Expect: 100-continue\r\n", b""),
    ],
)
async def test_webhooks_are_taken_however_they_are_written(
    stack: Stack, name: str, request_line: str, more: str, said: bytes
) -> None:
    await stack.put(f"/tools/{name}", {"provider": "none", "dedup": {"strategy": "none"}})
    code = f"{ord(name[0]):02x}{name[1:]}"
    line = request_line.format(name=name, code=code)
    host, port = stack.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        head = f"{line}\r\nHost: {host}:{port}\r\nContent-Length: 2\r\n{more}\r\n"
        writer.write(head.encode() + b"{}")
        answer = await reader.readuntil(b"\r\n\r\n")
        if answer.startswith(b"HTTP/1.1 100"):
            answer = await reader.readuntil(b"\r\n\r\n")
        assert b" 202 Accepted\r\n" in answer
        assert said in answer
        length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        assert b'"accepted"' in await reader.readexactly(length)
        if said == b"Connection: close" or ("HTTP/1.0" in line and not more):
            assert await reader.read() == b""
        else:
            # the connection is there for the next one
            writer.write(head.encode() + b"{}")
            assert b" 202 " in await reader.readuntil(b"\r\n\r\n") or more.startswith("Expect")
    finally:
        writer.close()
