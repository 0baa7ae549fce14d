"""The audit trail over HTTP and from a shell: every call that changes something is in it."""

import asyncio
import json
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from hookstream.app import embedded
from hookstream.app.stores import audit_trail
from tests.integration.mcp.test_mcp import client, use
from tests.support.stack import Stack, eventually

#: As a tool has it that copies its events into a queue; nobody is asked for this one.
FORWARD = json.dumps({"sqs": {"queue_url": "http://127.0.0.1:9/1/q", "region": "us-east-1"}})
#: Calls that are no GET and change nothing, or whose time is kept elsewhere; and why.
UNRECORDED = {
    "comparison_report": "what old workers have done is for a comparison, and changes nothing",
    "context_acknowledge": "when updates were acknowledged is kept with the feed",
    "import_page": "its events are the event log's; that it began, and its end, are rows",
    "receive": "webhooks are the event log's",
    "receive_of_tenant": "webhooks are the event log's",
}


async def rows(stack: Stack, **wanted: str) -> list[dict[str, Any]]:
    """Records, the newest first."""
    found = await stack.get("/audit", limit="1000", **wanted)
    return [row["record"] for row in found["rows"]]


async def call(
    stack: Stack, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession(stack.url, headers={**stack.headers, **headers}) as session,
        session.request(method, path, json=body) as response,
    ):
        text = await response.text()
        return response.status, json.loads(text) if text.startswith(("{", "[")) else text


async def dead(stack: Stack, name: str) -> str:
    """An event that has become a dead letter."""
    schema = json.dumps({"type": "object", "required": ["x"]})
    await call(
        stack,
        "POST",
        f"/registry/subjects/{name}/versions",
        {"schemaType": "JSON", "schema": schema},
    )
    rule = {"subject": name, "on_violation": "dead-letter"}
    await stack.put(f"/tools/{name}", {"provider": "none", "schema": rule})
    event = await stack.hook(name, b'{"n": 1}')

    async def is_dead() -> bool:
        return (await call(stack, "GET", f"/api/v1/dead-letters/{event}"))[0] == 200

    await eventually(is_dead, "a dead letter")
    return event


async def refused(stack: Stack, tool: str) -> str:
    """A webhook that was refused, of a tool or of none."""
    async with aiohttp.ClientSession(stack.url) as session:
        await session.post(f"/hooks/{tool}", data=b'{"n": 1}')
    known = tool.endswith("-signed")
    path = f"/tools/{tool}/refusals" if known else "/unknown-tools/refusals"

    async def newest() -> str:
        found = (await stack.get(path, limit="1000"))["refusals"]
        return next((one["refusal_id"] for one in found if one["tool_id"] == tool), "")

    return await eventually(newest, "a refusal")


async def slow_replay(stack: Stack, tool: str) -> str:
    """A replay that is not through for as long as a test takes."""
    await stack.put(f"/tools/{tool}", {"provider": "none"})
    for n in range(12):
        await stack.hook(tool, json.dumps({"n": n}).encode())

    async def recorded() -> bool:
        return len((await stack.get("/events", tool=tool))["events"]) == 12

    await eventually(recorded, "events are recorded")
    asked = {"tool": tool, "rate": 0.1}
    return str((await call(stack, "POST", "/api/v1/replays", asked))[1]["replay_id"])


async def test_every_call_that_changes_something_leaves_a_row(stack: Stack, name: str) -> None:
    """Walks the OpenAPI document: a route that is new is asked for here, or fails this test."""
    await stack.put(f"/tools/{name}", {"provider": "none"})
    await stack.put(f"/contexts/{name}", {"name": name})
    event = await stack.hook(name, b'{"n": 1}')
    key = (await call(stack, "POST", "/api/v1/keys", {"contexts": [name]}))[1]["key_id"]
    program = (await call(stack, "POST", "/api/v1/api-keys", {"role": "auditor"}))[1]["key_id"]
    letters = [await dead(stack, f"{name}-dead{n}") for n in range(4)]
    signed = f"{name}-signed"
    await stack.put(f"/tools/{signed}", {"provider": "github", "secrets": ["x" * 40]})
    refusal = await refused(stack, signed)
    await stack.put(f"/tools/{signed}", {"provider": "none"})
    missing = f"{name}-late"
    unknown = await refused(stack, missing)
    await stack.put(f"/tools/{missing}", {"provider": "none"})
    connection = await asyncpg.connect(str(embedded.find_postgres(stack.state_dir / "state")))
    await connection.execute("UPDATE tools SET learnt_secret = 'x' WHERE tool_id = $1", name)
    moves = f"{name}-moves"
    await stack.put(f"/tools/{moves}", {"provider": "none"})
    await connection.execute("UPDATE tools SET forward = $2 WHERE tool_id = $1", moves, FORWARD)
    await connection.execute(
        "INSERT INTO data_keys VALUES (7, 'default', '2020-02', '\\x00', 'local-of-then')"
    )
    await connection.close()
    template = {"provider": "none", "types": "*", "template": "x"}
    subscription = {"tool": name, "types": ["*"]}
    replay = await slow_replay(stack, f"{name}-replayed")
    held = {"tool": f"{name}-nothing", "reason": "x"}
    hold = (await call(stack, "POST", "/api/v1/holds", held))[1]["hold_id"]
    history = {"tool": name, "source": "before"}
    begun = (await call(stack, "POST", "/api/v1/imports", history))[1]["import_id"]
    done: dict[str, tuple[str, Any]] = {
        "tool_show_learnt_secret": (f"/tools/{name}/learnt-secret", None),
        "tool_put": (f"/tools/{name}", {"provider": "none"}),
        "context_put": (f"/contexts/{name}", {"name": "other"}),
        "context_put_subscription": (f"/contexts/{name}/subscriptions/s", subscription),
        "context_delete_subscription": (f"/contexts/{name}/subscriptions/s", None),
        "context_dry_run": ("/subscriptions/dry-run", subscription),
        "template_preview": ("/templates/preview", template),
        "template_put": (f"/templates/{name}", template),
        "template_delete": (f"/templates/{name}", None),
        "key_post": ("/keys", {"contexts": [name]}),
        "key_delete": (f"/keys/{key}", None),
        "apikey_post": ("/api-keys", {"role": "developer"}),
        "apikey_rotate": (f"/api-keys/{program}/rotate", {"grace_seconds": 60}),
        "apikey_delete": (f"/api-keys/{program}", None),
        "refusal_replay": (f"/tools/{signed}/refusals/{refusal}/replay", None),
        "unknown_tool_refusal_replay": (f"/unknown-tools/refusals/{unknown}/replay", None),
        "replay_post": ("/replays", {"event_id": event}),
        "replay_cancel": (f"/replays/{replay}/cancel", None),
        "import_post": ("/imports", {"tool": name, "source": "x"}),
        "import_stop": (f"/imports/{begun}/stop", {"reason": "its disk is full"}),
        "import_finish": (f"/imports/{begun}/finish", None),
        "letter_retry": (f"/dead-letters/{letters[0]}/retry", None),
        "letter_discard": (f"/dead-letters/{letters[1]}", None),
        "letter_retry_many": ("/dead-letters/retry", {"tool": f"{name}-dead2"}),
        "letter_discard_many": ("/dead-letters/discard", {"tool": f"{name}-dead3"}),
        "migration_put": (f"/tools/{moves}/migration", {"mode": "only"}),
        "migration_confirm": (f"/tools/{moves}/migration/confirm", {"all": True}),
        "migration_end": (f"/tools/{moves}/migration", None),
        "lifecycle_run": ("/lifecycle/run", None),
        "tenant_post": ("/tenants", {"tenant_id": name}),
        "tenant_patch": (f"/tenants/{name}", {"name": "other"}),
        "tenant_suspend": (f"/tenants/{name}/suspend", {}),
        "tenant_resume": (f"/tenants/{name}/resume", None),
        "tenant_masking_put": ("/tenants/default/masking", {"agents": {"ip": "mask"}}),
        "tenant_masking_delete": ("/tenants/default/masking", None),
        "tenant_delete": (f"/tenants/{name}?confirm={name}", None),
        "data_key_shred": ("/data-keys/2020-02?confirm=default/2020-02", None),
        "data_key_rewrap": ("/data-keys/rewrap", None),
        "erasure_post": ("/erasures", {"tool": f"{name}-nothing", "dry_run": True}),
        "hold_post": ("/holds", {"tool": f"{name}-nothing", "reason": "x"}),
        "hold_release": (f"/holds/{hold}/release", {"reason": "x"}),
        "policy_put": (f"/retention-policies/{name}", {"delete_after": "30d", "tool": name}),
        "policy_delete": (f"/retention-policies/{name}", None),
        "context_delete": (f"/contexts/{name}", None),
        "tool_delete": (f"/tools/{name}", None),
    }
    document = await stack.get("/openapi.json")
    changing = {
        operation["operationId"]: method.upper()
        for methods in document["paths"].values()
        for method, operation in methods.items()
        if method not in ("get", "head", "options")
    }
    assert set(changing) - set(UNRECORDED) == set(done)
    for operation, (path, body) in done.items():
        request_id = f"{name}-{operation.replace('_', '-')}"
        headers = {"X-Request-Id": request_id}
        status, answer = await call(stack, changing[operation], f"/api/v1{path}", body, **headers)
        assert status < 300, (operation, answer)
        mine = [one for one in await rows(stack) if one.get("request_id") == request_id]
        assert mine, operation
        assert {one["actor"]["id"] for one in mine} == {"admin"}
        assert {one["address"] for one in mine} == {"127.0.0.1"}
        assert all(one["action"] != "api.called" for one in mine), operation
    [shredded] = await rows(stack, action="data_key.shredded")
    assert shredded["object"] == {"kind": "data_key", "id": "2020-02/7"}
    [retried] = await rows(stack, event=letters[2], action="dead_letter.retried")
    assert retried["after"] == {"changed": 1}
    report = await verified(stack)
    assert report == []


async def verified(stack: Stack, **query: str) -> list[dict[str, Any]]:
    problems, cursor = [], ""
    while cursor is not None:
        given = {**query, "cursor": cursor} if cursor else query
        found = await stack.get("/audit/verify", **given)
        problems += found["problems"]
        cursor = found["next"]
    return problems


async def test_every_route_that_asks_for_a_key_is_recorded_unless_it_says_not(
    stack: Stack, name: str
) -> None:
    """Also those that are in no OpenAPI document: the registry's."""
    schema = {"schemaType": "JSON", "schema": '{"type": "object"}'}
    one = f"/registry/subjects/{name}"
    for method, path, body, action in (
        ("POST", f"{one}/versions", schema, "schema.made"),
        ("POST", one, schema, None),
        ("POST", f"/registry/compatibility/subjects/{name}/versions", schema, None),
        ("PUT", f"/registry/config/{name}", {"compatibility": "NONE"}, "schema_mode.made"),
        ("DELETE", f"/registry/config/{name}", None, "schema_mode.deleted"),
        ("DELETE", f"{one}/versions/1", None, "schema.changed"),
    ):
        before = await rows(stack, action="schema*")
        assert (await call(stack, method, path, body))[0] == 200, path
        new = [found["action"] for found in await rows(stack, action="schema*")]
        assert new[: len(new) - len(before)] == ([action] if action else []), path


async def test_reads_of_payloads_are_rows_one_by_one(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    event = await stack.hook(name, b'{"n": 1}')
    await stack.updates(name, 1)
    made = (await call(stack, "POST", "/api/v1/keys", {"contexts": [name], "name": "my agent"}))[1]
    key = made["key"]

    async def recorded() -> bool:
        headers = {"Authorization": f"Bearer {key}"}
        return (await call(stack, "GET", f"/api/v1/events/{event}", **headers))[0] == 200

    await eventually(recorded, "the delivery is recorded")
    await stack.get(f"/events/{event}")

    async def both() -> list[dict[str, Any]]:
        found = await rows(stack, event=event, action="event.read")
        return found if len(found) == 2 else []

    mine, agents = await eventually(both, "two rows")
    assert mine["actor"]["id"] == "admin"
    assert agents["actor"] == {"kind": "agent", "id": made["key_id"], "name": "my agent"}
    assert agents["role"] == "agent"
    assert key not in json.dumps(await rows(stack))
    # what is not there is no read
    missing = str(uuid.UUID(int=uuid.UUID(event).int + (1 << 90)))
    await stack.get(f"/events/{missing}", expect=404)
    assert await rows(stack, event=missing) == []


async def test_keys_and_secrets_never_get_into_the_trail(stack: Stack, name: str) -> None:
    secret = f"s3cret-{name}-{'x' * 32}"
    await stack.put(f"/tools/{name}", {"provider": "github", "secrets": [secret]})
    await stack.put(f"/tools/{name}", {"provider": "github", "secrets": [secret, secret + "2"]})
    await stack.put(f"/contexts/{name}", {"name": name})
    key = (await call(stack, "POST", "/api/v1/keys", {"contexts": [name]}))[1]["key"]
    found = await rows(stack)
    text = json.dumps(found)
    assert (secret in text, key in text, stack.key in text) == (False, False, False)
    changed = next(
        one for one in found if one["action"] == "tool.changed" and one["object"]["id"] == name
    )
    assert changed["before"]["secrets"] == {"count": 1}
    assert changed["after"]["secrets"] == {"count": 2, "changed": True}


async def test_agents_see_nothing_of_it(stack: Stack, name: str) -> None:
    await stack.put(f"/contexts/{name}", {"name": name})
    key = (await call(stack, "POST", "/api/v1/keys", {"contexts": [name]}))[1]["key"]
    headers = {"Authorization": f"Bearer {key}"}
    for path in ("", "/export", "/verify"):
        assert (await call(stack, "GET", f"/api/v1/audit{path}", **headers))[0] == 403


async def test_a_request_id_of_the_clients_hides_nothing(stack: Stack, name: str) -> None:
    event = await dead(stack, name)
    headers = {"X-Request-Id": name}
    await call(stack, "PUT", f"/api/v1/contexts/{name}", {"name": "x"}, **headers)
    await call(stack, "DELETE", f"/api/v1/dead-letters/{event}", **headers)
    actions = [one["action"] for one in await rows(stack) if one.get("request_id") == name]
    assert actions == ["dead_letter.discarded", "context.made"]


async def test_who_hangs_up_is_recorded_all_the_same(stack: Stack, name: str) -> None:
    event = await dead(stack, name)
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
    writer.write(
        f"DELETE /api/v1/dead-letters/{event} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {stack.key}\r\n\r\n".encode()
    )
    await writer.drain()
    writer.transport.abort()
    del reader

    async def gone() -> bool:
        return (await call(stack, "GET", f"/api/v1/dead-letters/{event}"))[0] == 404

    async def told() -> bool:
        return bool(await rows(stack, event=event, action="dead_letter.discarded"))

    # it was discarded, or it was not: where it was, there is a row
    await asyncio.sleep(1)
    if await gone():
        await eventually(told, "a row")


async def test_searching_by_what_who_when_and_pages(stack: Stack, name: str) -> None:
    for n in range(3):
        await stack.put(f"/contexts/{name}", {"name": f"{n}"})
    newest, *_, oldest = await rows(stack, kind="context", object=name)
    assert (newest["after"]["name"], oldest["action"]) == ("2", "context.made")
    assert await rows(stack, object=name, action="context.made") == [oldest]
    assert await rows(stack, object=name, action="context.*", actor="nobody") == []
    assert await rows(stack, object=name, until=oldest["at"]) == []
    assert len(await rows(stack, object=name, since=oldest["at"])) == 3
    page = await stack.get("/audit", object=name, limit="2")
    rest = await stack.get("/audit", object=name, limit="2", cursor=page["cursor"])
    assert [row["record"]["after"]["name"] for row in page["rows"] + rest["rows"]] == [
        "2",
        "1",
        "0",
    ]
    for wrong in ({"cursor": "x"}, {"event": "x"}, {"since": "x"}, {"what": "x"}):
        await stack.get("/audit", expect=400, **wrong)
    for query in ("cursor=1:x", "expect=1", "expect=x:" + "0" * 64):
        assert (await call(stack, "GET", f"/api/v1/audit/verify?{query}"))[0] == 400


async def test_refused_keys_are_a_row_an_address_and_minute(tmp_path: Path) -> None:
    """Also those of agents who try what is not theirs; however many come."""
    with Stack(tmp_path, HOOKSTREAM_TRUSTED_PROXIES="127.0.0.0/8") as stack:
        await stack.put("/contexts/mine", {})
        made = (await call(stack, "POST", "/api/v1/keys", {"contexts": ["mine"]}))[1]
        wrong = {"Authorization": "Bearer nobody-has-this"}
        for n in range(300):
            given = {**wrong, "X-Forwarded-For": f"2001:db8:{n:x}::{n:x}"}
            assert (await call(stack, "GET", "/api/v1/tools", **given))[0] == 401
        for path in ("/api/v1/audit", "/api/v1/contexts/other/updates"):
            agents = {"Authorization": f"Bearer {made['key']}", "X-Forwarded-For": "192.0.2.9"}
            assert (await call(stack, "GET", path, **agents))[0] == 403
        stack.stop()
        stack.start()

        async def told() -> list[dict[str, Any]]:
            found = await rows(stack, action="key.refused")
            return found if sum(one["after"]["times"] for one in found) == 302 else []

        found = await eventually(told, "all are counted")
        assert len(found) <= audit_trail.MOST_COUNTED + 2
        by_address = {one["address"]: one for one in found}
        assert by_address["192.0.2.9"]["actor"] == {"kind": "agent", "id": made["key_id"]}
        assert by_address["192.0.2.9"]["after"]["reason"] == "forbidden"
        assert by_address["2001:db8:1::/64"]["after"]["times"] == 1
        assert by_address["others"]["after"]["times"] > 200
        assert "nobody-has-this" not in json.dumps(found)
        assert await verified(stack) == []


async def test_an_agents_reads_and_replays_over_mcp_are_in_it(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    event = await stack.hook(name, b'{"n": 1}')
    await stack.updates(name, 1)
    made = (await call(stack, "POST", "/api/v1/keys", {"contexts": [name]}))[1]

    async def replayed() -> bool:
        async with client(stack, made["key"]) as agent:
            asked = {"event_id": event, "context_id": name}
            return not (await agent.call_tool("replay_event", asked)).is_error

    await eventually(replayed, "its delivery is recorded")
    async with client(stack, made["key"]) as agent:
        assert (await use(agent, "get_event", event_id=event))["payload"] == {"n": 1}

    async def both() -> list[dict[str, Any]]:
        found = await rows(stack, event=event, actor=made["key_id"])
        return found if len(found) == 2 else []

    read, begun = await eventually(both, "two rows")
    assert (read["action"], begun["action"]) == ("event.read", "replay.begun")
    assert begun["after"]["context_id"] == name
    assert begun["role"] == read["role"] == "agent"


async def test_the_history_of_an_event_is_in_one_place(stack: Stack, name: str) -> None:
    event = await dead(stack, name)
    await stack.put(f"/contexts/{name}", {})
    await stack.put(f"/contexts/{name}/subscriptions/all", {"tool": name, "types": ["*"]})

    async def decided() -> dict[str, Any]:
        found = await stack.get(f"/events/{event}/history")
        return found if found["steps"][1]["status"] == "dead" else {}

    found = await eventually(decided, "what was decided is recorded")
    steps = [step["step"] for step in found["steps"]]
    assert steps[:3] == ["received", "decided", "failed"]
    assert found["steps"][1]["stage"] == "schema"
    # its tool takes anything now
    await stack.put(f"/tools/{name}", {"provider": "none"})
    assert (await call(stack, "POST", f"/api/v1/dead-letters/{event}/retry"))[0] == 202
    [update] = await stack.updates(name, 1)
    async with (
        aiohttp.ClientSession(stack.url, headers=stack.headers) as session,
        session.post(f"/api/v1/contexts/{name}/ack", json={"seq": update["seq"]}) as response,
    ):
        assert response.status == 200
    await stack.get(f"/events/{event}")
    wanted = ["dead_letter.read", "dead_letter.retried", "delivered", "acknowledged", "event.read"]

    async def whole() -> list[dict[str, Any]]:
        shown = (await stack.get(f"/events/{event}/history"))["steps"]
        done = [step["step"] for step in shown]
        return shown if set(wanted) <= set(done) else []

    shown = await eventually(whole, "all that was done")
    done = [step["step"] for step in shown]
    assert done[0] == "received"
    assert (shown[-1]["step"], shown[-1]["tier"]) == ("kept", "hot")
    assert [step for step in done if step in wanted and step != "dead_letter.read"] == wanted[1:]
    assert done.index("dead_letter.read") < done.index("dead_letter.retried")
    times = [step["at"] for step in shown if step["at"]]
    assert times[1:] == sorted(times[1:])
    second = await stack.hook(name, b'{"n": 1}')

    async def duplicate() -> dict[str, Any]:
        return next(
            (
                step
                for step in (await stack.get(f"/events/{second}/history"))["steps"]
                if step["step"] == "deduplicated"
            ),
            {},
        )

    assert (await eventually(duplicate, "a duplicate"))["duplicate_of"] == event
    assert found["not_recorded"]
    await stack.get(f"/events/{uuid.uuid4()!s}/history", expect=400)


def run(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hookstream.app.cli", "audit", *arguments],
        env=stack.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_the_command_exports_lists_and_verifies(
    stack: Stack, name: str, tmp_path: Path
) -> None:
    await stack.put(f"/contexts/{name}", {"name": name})
    shown = await asyncio.to_thread(run, stack, "list", "--object", name)
    assert re.search(rf"admin +127\.0\.0\.1 +context\.made +context {name}\n", shown.stdout)
    whole = await asyncio.to_thread(run, stack, "verify", "--json")
    assert whole.returncode == 0, whole.stderr
    report = json.loads(whole.stdout)
    assert report["problems"] == []
    file = tmp_path / "audit.jsonl"
    exported = await asyncio.to_thread(run, stack, "export", str(file))
    assert exported.returncode == 0, exported.stderr
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) >= report["looked_at"]
    for expect, status in ((report["head"], 0), (f"{10**9}:{'0' * 64}", 1)):
        for place in ((str(file),), ()):
            found = await asyncio.to_thread(run, stack, "verify", *place, "--expect", expect)
            assert found.returncode == status, found.stdout + found.stderr
    # the file alone: a line that is changed, and one that is gone
    changed = [*lines[:3], lines[3].replace(b'"action"', b'"Action"'), *lines[4:5], *lines[6:]]
    file.write_bytes(b"".join(changed))
    found = await asyncio.to_thread(run, stack, "verify", str(file))
    assert found.returncode == 1
    assert found.stdout.splitlines()[:2] == [
        "changed: row 4 is not what was hashed",
        "missing: row 6 is missing",
    ]


@pytest.mark.parametrize("arguments", [("x",), ("verify", "--expect", "1")])
def test_what_the_command_does_not_know_it_says(stack: Stack, arguments: tuple[str, ...]) -> None:
    found = run(stack, *arguments)
    assert found.returncode == 2
    assert found.stderr.startswith("hookstream: ")
