"""Rules of a tenant, and what is masked before anything is kept of it, on the running system."""

import asyncio
import json
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import redis.asyncio

from hookstream.app import embedded
from hookstream.codecs.envelope import Event, decode_event
from hookstream.codecs.errors import CodecError
from tests.integration.web.test_tenants import call, make, post, updates
from tests.support.stack import Stack, eventually

CARD, MAIL = "4111 1111 1111 1111", "jane.whitfield@example.com"
BODY = {"title": f"pay with {CARD}", "from": MAIL, "amount": 42}
HIDDEN, IBAN = "•••• •••• •••• 1111", "DE89370400440532013000"


async def webhook(stack: Stack, path: str, body: Any) -> str:
    async with (
        aiohttp.ClientSession(stack.url) as session,
        session.post(f"/hooks/{path}", json=body) as response,
    ):
        answer = await response.json()
        assert response.status == 202, answer
        return str(answer["event_id"])


async def settled(stack: Stack, event_id: str, tenant: str = "") -> dict[str, Any]:
    """The event, once its record says what became of it."""

    async def found() -> Any:
        status, event = await call(stack, "GET", f"/events/{event_id}", tenant=tenant)
        return event if status == 200 and event["status"] != "accepted" else None

    event: dict[str, Any] = await eventually(found, "it is recorded")
    return event


async def in_streams(stack: Stack, tool: str) -> list[Event]:
    """A tool's events as their streams have them, unpacked."""
    client = redis.asyncio.Redis.from_url(
        str(embedded.find_valkey(stack.state_dir / "state")), protocol=2
    )
    try:
        found = []
        async for key in client.scan_iter(match="{hs:*}:events"):
            for _, fields in await client.xrange(key):
                # others put into streams what is no event
                with suppress(CodecError, KeyError):
                    event = decode_event(fields[b"d"])
                    found += [event] if event.tool_id == tool else []
        return found
    finally:
        await client.aclose()


async def test_a_tenants_rules_hold_for_all_its_tools_and_its_owner_sets_them(
    stack: Stack, name: str, tmp_path: Path
) -> None:
    await make(stack, name)
    keys = {}
    for role in ("owner", "operator", "developer"):
        status, made = await call(stack, "POST", "/api-keys", {"role": role}, tenant=name)
        assert status == 201, made
        keys[role] = made["key"]
    mine = f"/tenants/{name}/masking"
    rules = {"agents": {"email": "mask", "card": "drop"}, "fields": {"note": "drop"}}
    assert (await call(stack, "GET", mine, key=keys["developer"]))[1]["masking"] is None
    assert (await call(stack, "PUT", mine, rules, key=keys["developer"]))[0] == 403
    assert (await call(stack, "PUT", "/tenants/default/masking", rules, key=keys["owner"]))[
        0
    ] == 404
    for key in ("operator", "owner"):
        status, shown = await call(stack, "PUT", mine, rules, key=keys[key])
        assert (status, shown["masking"]["agents"]) == (200, rules["agents"])
    for wrong, told in (
        ({"agents": {"emial": "mask"}}, "agents: there is no kind 'emial'"),
        ({"agents": {"email": "pseudonym"}}, "HOOKSTREAM_PSEUDONYM_KEY"),
        ({"agents": {"*": "pass"}, "keep": "masked"}, "hide nothing"),
        ({"agents": {}, "more": 1}, "there is no such field"),
    ):
        status, problem = await call(stack, "PUT", mine, wrong, key=keys["owner"])
        assert (status, told in problem["detail"]) == (400, True), problem

    # a tool that says nothing has them; one that does has its own before them, kind by kind
    own = {"provider": "none", "masking": {"agents": {"card": "mask"}, "fields": {"note": "pass"}}}
    for path, body in (
        ("/tools/own", own),
        ("/contexts/own", {}),
        ("/contexts/own/subscriptions/all", {"tool": "own", "types": ["*"]}),
    ):
        assert (await call(stack, "PUT", path, body, key=keys["developer"]))[0] == 201
    body = {**BODY, "note": "as it is"}
    sent = {tool: await webhook(stack, f"{name}/{tool}", body) for tool in ("hooks", "own")}
    told = {
        tool: json.dumps(await updates(stack, context, name, 1), ensure_ascii=False)
        for tool, context in (("hooks", "all"), ("own", "own"))
    }
    assert not any(CARD in text or MAIL in text for text in told.values())
    for event_id in sent.values():
        await settled(stack, event_id, name)
    shown = {
        tool: (await call(stack, "GET", f"/events/{event_id}", key=keys["developer"]))[1]["payload"]
        for tool, event_id in sent.items()
    }
    assert shown["hooks"] == {"from": "j•••@e•••.com", "amount": 42}
    assert shown["own"] == {
        "title": f"pay with {HIDDEN}",
        "from": "j•••@e•••.com",
        "amount": 42,
        "note": "as it is",
    }

    # who did it is in the tenant's own trail
    _, trail = await call(stack, "GET", "/audit?kind=masking", key=keys["owner"])
    actions = [(row["record"]["action"], row["record"]["role"]) for row in trail["rows"]]
    assert actions == [("masking.changed", "owner"), ("masking.made", "operator")]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = stack.command("tenants", "masking", name, *arguments)
        return subprocess.run(command, env=stack.environment(), capture_output=True, text=True)

    file = tmp_path / "rules.json"
    file.write_text('{"agents": {"phone": "mask"}}')
    done = await asyncio.to_thread(run, "--rules", str(file))
    assert (done.returncode, "agents  phone  mask" in done.stdout) == (0, True), done
    done = await asyncio.to_thread(run, "--no-rules")
    assert (done.returncode, done.stdout.strip()) == (0, f"{name}  no rules of its own"), done
    assert (await call(stack, "DELETE", mine, key=keys["owner"]))[0] == 404


async def test_what_is_masked_before_it_is_kept_is_nowhere_as_it_was_sent(
    stack: Stack, name: str
) -> None:
    schema = {"type": "object", "properties": {"amount": {"type": "integer"}}}
    async with stack.session() as session:
        registered = {"schemaType": "JSON", "schema": json.dumps(schema)}
        async with session.post(f"/registry/subjects/{name}/versions", json=registered) as answer:
            assert answer.status == 200
    masking = {
        "keep": "masked",
        "agents": {"email": "drop", "iban": "block"},
        "fields": {"amount": "mask"},
    }
    tool = {
        "provider": "none",
        "masking": masking,
        "schema": {"subject": name, "on_violation": "mark"},
    }
    await stack.context(name, tool)
    event_id = await stack.hook(name, json.dumps(BODY).encode())
    kept = {"title": f"pay with {HIDDEN}", "amount": "•••"}
    [update] = await stack.updates(name, 1)
    assert update["event_id"] == event_id
    event = await settled(stack, event_id)
    # for who has the admin key, too; its schema was measured by what was sent
    assert (event["payload"], event["payload_kept"]) == (kept, "masked")
    assert event["schema_errors"] == []
    [stored] = await in_streams(stack, name)
    assert (json.loads(stored.payload), stored.kept_masked) == (kept, True)
    # the same webhook again is the same event, though nobody has what was sent
    again = await stack.hook(name, json.dumps(BODY).encode())
    assert (await settled(stack, again))["duplicate_of"] == event_id
    # another one that looks the same once it is masked is another one
    other = {**BODY, "amount": 43}
    await stack.hook(name, json.dumps(other).encode())
    assert len(await stack.updates(name, 2)) == 2

    # a replay is of what was kept
    status, replay = await call(stack, "POST", "/replays", {"event_id": event_id})
    assert status < 300, replay
    replayed = (await stack.updates(name, 3))[2]
    assert not any(text in json.dumps(replayed) for text in (CARD, MAIL))

    # what does not fit, and what is blocked
    broken = await settled(stack, await stack.hook(name, b'{"amount": "4111 1111 1111 1111"}'))
    assert broken["schema_errors"] == ["/amount breaks #/properties/amount/type"]
    account = json.dumps({"account": IBAN}).encode()
    blocked = await settled(stack, await stack.hook(name, account))
    assert (blocked["status"], blocked["stage"]) == ("dead", "mask")
    letter = await stack.get(f"/dead-letters/{blocked['event_id']}")
    assert letter["payload"] == {"account": "DE••••••••••••••••3000"}
    text = json.dumps([letter, await stack.get(f"/events/{blocked['event_id']}")])
    assert IBAN not in text
    async with stack.session() as session:
        path = f"/api/v1/dead-letters/{blocked['event_id']}/retry"
        async with session.post(path) as answer:
            assert answer.status < 300

    async def dead_again() -> bool:
        status, found = await call(stack, "GET", f"/dead-letters/{blocked['event_id']}")
        return status == 200 and found["last_failed_at"] > letter["last_failed_at"]

    await eventually(dead_again, "it is blocked again, though nothing shows why")


async def test_a_refused_webhook_of_such_a_tool_leaves_nothing_of_what_was_sent(
    stack: Stack, name: str
) -> None:
    signed = {"provider": "github", "secrets": ["x" * 40], "masking": {"keep": "masked"}}
    await stack.put(f"/tools/{name}", signed)
    async with (
        aiohttp.ClientSession(stack.url) as session,
        session.post(f"/hooks/{name}?token={CARD}", json=BODY) as response,
    ):
        assert response.status == 401

    async def kept() -> Any:
        return (await stack.get(f"/tools/{name}/refusals"))["refusals"]

    [refusal] = await eventually(kept, "a refusal")
    shown = await stack.get(f"/tools/{name}/refusals/{refusal['refusal_id']}")
    assert (shown["reason"], shown["replayable"], shown["kept_bytes"]) == (
        "bad-signature",
        False,
        0,
    )
    assert (shown["body"], shown["headers"], shown["path"]) == ("", {}, f"/hooks/{name}")
    assert shown["body_bytes"] > 0


async def test_a_tenant_that_keeps_nothing_keeps_nothing_of_any_tool(
    stack: Stack, name: str
) -> None:
    await make(stack, name)
    mine = f"/tenants/{name}/masking"
    assert (await call(stack, "PUT", mine, {"keep": "masked"}))[0] == 200
    # what hides nothing would keep all of it
    tool = {"provider": "none", "masking": {"agents": {"*": "pass"}}}
    status, problem = await call(stack, "PUT", "/tools/hooks", tool, tenant=name)
    assert (status, "hide nothing" in problem["detail"]) == (400, True), problem
    tool = {"provider": "none", "masking": {"agents": {"email": "mask"}, "keep": "original"}}
    assert (await call(stack, "PUT", "/tools/hooks", tool, tenant=name))[0] == 200
    event_id = await webhook(stack, f"{name}/hooks", BODY)
    event = await settled(stack, event_id, name)
    assert event["payload_kept"] == "masked"
    assert event["payload"] == {**BODY, "title": f"pay with {HIDDEN}", "from": "j•••@e•••.com"}
    # what is sent to a tool that there is not is not kept either
    assert (await post(stack, f"{name}/none", 1))[0] == 404

    async def kept() -> Any:
        found = (await stack.get("/unknown-tools/refusals", limit="1000"))["refusals"]
        return [one for one in found if one["tool_id"] == f"{name}/none"]

    [refusal] = await eventually(kept, "a refusal")
    assert (refusal["kept_bytes"], refusal["replayable"]) == (0, False)
    # with rules of its own that hide nothing its tenant's make no sense
    assert (await call(stack, "DELETE", mine))[0] == 204
    tool = {"provider": "none", "masking": {"agents": {"*": "pass"}}}
    assert (await call(stack, "PUT", "/tools/hooks", tool, tenant=name))[0] == 200
    status, problem = await call(stack, "PUT", mine, {"keep": "masked"})
    assert (status, "the tool hooks" in problem["detail"]) == (400, True), problem
