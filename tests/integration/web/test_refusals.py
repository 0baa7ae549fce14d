"""Refused webhooks: shown without secrets, and accepted after all once the tool is right."""

import asyncio
import gzip
import json
from collections.abc import Mapping
from typing import Any

import aiohttp

from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.signatures.options import SignatureOptions
from tests.support.senders import WHSEC
from tests.support.stack import Stack, eventually, fresh

RIGHT, WRONG = "the secret as the sender has it", "a secret that was typed wrongly"


async def post(
    stack: Stack, tool: str, body: bytes, headers: Mapping[str, str] | None = None, query: str = ""
) -> int:
    async with (
        aiohttp.ClientSession(stack.url) as session,
        session.post(f"/hooks/{tool}{query}", data=body, headers=headers) as response,
    ):
        return response.status


async def refusals(stack: Stack, path: str, count: int) -> list[dict[str, Any]]:
    """The refusals below a path, once there are so many."""

    async def enough() -> Any:
        found = (await stack.get(f"{path}/refusals"))["refusals"]
        return len(found) >= count and found

    found: list[dict[str, Any]] = await eventually(enough, f"{count} refusals of {path}")
    return found


async def replay(stack: Stack, path: str, refusal_id: str) -> tuple[int, dict[str, Any]]:
    async with (
        stack.session() as session,
        session.post(f"/api/v1{path}/refusals/{refusal_id}/replay") as response,
    ):
        return response.status, await response.json()


def signed(
    provider: str, body: bytes, secret: str, now: float = 0.0, url: str = ""
) -> dict[str, str]:
    return PROVIDERS[provider].sign(
        body, secret, SignatureOptions(), now=now, event_type="push", delivery_id="d1", url=url
    )


async def test_refused_webhook_is_shown_without_secrets_and_replayed_once_the_secret_is_right(
    stack: Stack, name: str
) -> None:
    await stack.context(name, {"provider": "github", "secrets": [WRONG]})
    body = gzip.compress(b'{"n": 1}')
    secret_headers = {
        "Authorization": "Bearer topsecret",
        "Cookie": "session=topsecret",
        "X-Api-Key": "topsecret",
        "Content-Encoding": "gzip",
        "Content-Type": "application/json",
        "X-Odd": "d\u00e9",
    }
    headers = {**signed("github", body, RIGHT), **secret_headers}
    assert await post(stack, name, body, headers, "?token=topsecret&n") == 401
    path = f"/tools/{name}"
    [refusal] = await refusals(stack, path, 1)
    assert refusal["status"] == 401
    assert refusal["reason"] == "bad-signature"
    assert refusal["address"] == "127.0.0.1"
    assert refusal["path"] == f"/hooks/{name}?token=…&n=…"
    assert refusal["headers"]["x-github-event"] == "push"
    assert refusal["headers"]["content-encoding"] == "gzip"
    assert refusal["headers"]["authorization"] == "… (16 characters)"
    assert refusal["body_bytes"] == refusal["kept_bytes"] == len(body)
    assert refusal["replayable"]
    assert "body" not in refusal
    shown = await stack.get(f"{path}/refusals/{refusal['refusal_id']}")
    assert shown["body_encoding"] == "base64"
    for secret in ("topsecret", headers["X-Hub-Signature-256"], RIGHT, WRONG):
        assert secret not in json.dumps([refusal, shown], ensure_ascii=False)

    status, answer = await replay(stack, path, refusal["refusal_id"])
    assert (status, answer["title"]) == (409, "Conflict")
    assert "bad-signature" in answer["detail"]
    await stack.put(path, {"provider": "github", "secrets": [RIGHT]})
    status, answer = await replay(stack, path, refusal["refusal_id"])
    assert status == 202, answer
    [update] = await stack.updates(name, 1)
    assert update["event_id"] == answer["event_id"]
    event = await stack.get(f"/events/{answer['event_id']}")
    assert event["payload"] == {"n": 1}
    assert (await replay(stack, path, refusal["refusal_id"]))[0] == 404
    assert (await stack.get(f"{path}/refusals"))["refusals"] == []


async def test_a_signature_that_is_old_by_now_is_no_reason_against_a_replay(
    stack: Stack, name: str
) -> None:
    await stack.context(name, {"provider": "standard", "secrets": [WHSEC]})
    headers = signed("standard", b"{}", WHSEC, now=1_600_000_000)
    assert await post(stack, name, b"{}", headers) == 401
    forged = {**headers, "webhook-timestamp": "1600000001"}
    assert await post(stack, name, b"{}", forged) == 401
    changed, old = await refusals(stack, f"/tools/{name}", 2)
    assert "behind this server's clock" in old["detail"]
    assert (await replay(stack, f"/tools/{name}", changed["refusal_id"]))[0] == 409
    assert (await replay(stack, f"/tools/{name}", old["refusal_id"]))[0] == 202
    await stack.updates(name, 1)


async def test_what_came_before_its_tool_was_made_is_replayed_when_it_is_there(
    stack: Stack, name: str
) -> None:
    headers = signed("github", b'{"n": 2}', RIGHT)
    assert await post(stack, name, b'{"n": 2}', headers) == 404

    async def kept() -> Any:
        found = (await stack.get("/unknown-tools/refusals"))["refusals"]
        return [refusal for refusal in found if refusal["tool_id"] == name]

    [refusal] = await eventually(kept, "the refusal is kept")
    assert (refusal["status"], refusal["reason"]) == (404, "not-found")
    shown = await stack.get(f"/unknown-tools/refusals/{refusal['refusal_id']}")
    assert shown["body"] == '{"n": 2}'
    path = "/unknown-tools"
    assert (await replay(stack, path, refusal["refusal_id"]))[0] == 404
    await stack.context(name, {"provider": "github", "secrets": [RIGHT]})
    assert (await replay(stack, path, refusal["refusal_id"]))[0] == 202
    await stack.updates(name, 1)
    await stack.get("/tools/nobody-has-this/refusals", expect=404)


async def test_bodies_that_were_refused_are_bounded_and_what_is_cut_is_not_replayed(
    stack: Stack, name: str
) -> None:
    await stack.put(f"/tools/{name}", {"provider": "github", "secrets": [WRONG]})
    large = b"x" * 200_000
    bomb = gzip.compress(b"\0" * (64 << 20))
    await stack.put(f"/tools/{name}-none", {"provider": "none"})
    assert await post(stack, name, large, signed("github", large, RIGHT)) == 401
    assert await post(stack, f"{name}-none", bomb, {"Content-Encoding": "gzip"}) == 413
    [cut] = await refusals(stack, f"/tools/{name}", 1)
    assert (cut["body_bytes"], cut["kept_bytes"], cut["replayable"]) == (200_000, 65536, False)
    [kept] = await refusals(stack, f"/tools/{name}-none", 1)
    assert kept["reason"] == "too-large"
    assert kept["kept_bytes"] <= 65536
    await stack.put(f"/tools/{name}", {"provider": "github", "secrets": [RIGHT]})
    status, answer = await replay(stack, f"/tools/{name}", cut["refusal_id"])
    assert status == 409
    assert "65536 of 200000 bytes" in answer["detail"]


async def test_trial_of_the_address_is_no_event(stack: Stack, name: str) -> None:
    await stack.put(f"/tools/{name}", {"provider": "slack", "secrets": [WRONG]})
    body = b'{"type": "url_verification", "challenge": "c"}'
    assert await post(stack, name, body, signed("slack", body, RIGHT, now=1_600_000_000)) == 401
    await stack.put(f"/tools/{name}", {"provider": "slack", "secrets": [RIGHT]})
    [refusal] = await refusals(stack, f"/tools/{name}", 1)
    status, answer = await replay(stack, f"/tools/{name}", refusal["refusal_id"])
    assert status == 409
    assert "tries out" in answer["detail"]


async def test_a_sender_s_text_does_no_harm(stack: Stack, name: str) -> None:
    await stack.put(f"/tools/{name}", {"provider": "github", "secrets": [WRONG]})
    odd = "%1b[31m%00"
    assert await post(stack, f"{name}{odd}", b"{}") == 404
    assert await post(stack, name, b"\0\xff", {"User-Agent": "e\u0301\u202e"}, f"?{odd}") == 401
    [refusal] = await refusals(stack, f"/tools/{name}", 1)
    assert all(value.isprintable() for value in refusal["headers"].values())
    await stack.get("/unknown-tools/refusals")


async def test_refusals_are_counted_listed_in_pages_and_for_operators_only(
    stack: Stack, name: str
) -> None:
    await stack.put(f"/tools/{name}", {"provider": "github", "secrets": [WRONG]})
    for _ in range(3):
        assert await post(stack, name, b"{}") == 401
    await refusals(stack, f"/tools/{name}", 3)
    path = f"/tools/{name}/refusals"
    first = await stack.get(path, limit="2")
    second = await stack.get(path, limit="2", cursor=first["cursor"])
    assert [len(first["refusals"]), len(second["refusals"]), second["cursor"]] == [2, 1, None]
    for wrong in ({"limit": "0"}, {"cursor": "x"}, {"other": "1"}):
        await stack.get(path, expect=400, **wrong)
    await stack.get(f"{path}/x", expect=400)
    await stack.get(f"{path}/1-1", expect=404)
    # with a key: where others have made tenants here, nobody else is told names
    async with stack.session() as session, fresh(session, "/metrics") as response:
        lines = (await response.text()).splitlines()
    async with (
        aiohttp.ClientSession(stack.url) as session,
        session.get(f"/api/v1{path}") as response,
    ):
        assert response.status == 401
    counted = [line for line in lines if line.startswith("hookstream_refusals_total{")]
    told = f'hookstream_refusals_total{{reason="bad-signature",tool="{name}"}} 3.0'
    assert [line for line in counted if name in line] == [told], counted
    await stack.put(f"/contexts/{name}", {"name": name})
    async with stack.session() as session:
        async with session.post("/api/v1/keys", json={"contexts": [name]}) as response:
            key = (await response.json())["key"]
        headers = {"Authorization": f"Bearer {key}"}
        async with session.get(f"/api/v1{path}", headers=headers) as response:
            assert response.status == 403

    async def said() -> bool:
        return "webhooks were refused (" in stack.log.read_text()

    await eventually(said, "the log says so")


async def test_what_meets_no_route_or_is_no_request_is_kept_too(stack: Stack, name: str) -> None:
    """A sender that was given the wrong URL, or speaks https to this port."""
    await stack.context(name, {"provider": "github", "secrets": [RIGHT]})
    body = b'{"n": 1}'
    assert await post(stack, f"{name}/more", body, signed("github", body, RIGHT)) == 404
    path = f"/tools/{name}"
    [refusal] = await refusals(stack, path, 1)
    assert (refusal["reason"], refusal["path"]) == ("wrong-path", f"/hooks/{name}/more")
    assert "with nothing behind it" in refusal["detail"]
    status, answer = await replay(stack, path, refusal["refusal_id"])
    assert status == 202, answer
    before = await stack.get("/unknown-tools/refusals")
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
    writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    assert (await reader.read(12)).endswith(b" 400")
    writer.close()

    async def kept() -> Any:
        found = (await stack.get("/unknown-tools/refusals"))["refusals"]
        new = [item for item in found if item not in before["refusals"]]
        return [item for item in new if item["reason"] == "malformed"]

    [found] = await eventually(kept, "it is kept")
    assert "https sent to this port" in found["detail"]
    assert found["address"] == "127.0.0.1"
    assert not found["replayable"]
