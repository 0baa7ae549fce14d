"""Keys of programs: made, used, renewed, expired and revoked."""

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from tests.integration.web.test_agent_keys import call
from tests.support.stack import Stack, eventually


async def make(stack: Stack, key: str = "", **wanted: Any) -> dict[str, Any]:
    status, made = await call(stack, key or stack.key, "POST", "/api-keys", **wanted)
    assert status == 201, made
    return made


async def test_a_key_is_made_used_renewed_and_revoked(stack: Stack, name: str) -> None:
    made = await make(stack, role="operator", name=name)
    key_id, key = made["key_id"], made["key"]
    assert key.startswith(made["prefix"])
    assert made["last_used_at"] is None
    assert (await call(stack, key, "GET", "/tools"))[0] == 200
    status, shown = await call(stack, stack.key, "GET", f"/api-keys/{key_id}")
    assert status == 200
    assert shown["last_used_at"] >= made["created_at"]
    assert "key" not in shown
    # both count for a while
    status, renewed = await call(
        stack, stack.key, "POST", f"/api-keys/{key_id}/rotate", grace_seconds=3600
    )
    assert (status, renewed["key_id"], renewed["role"]) == (200, key_id, "operator")
    assert renewed["key"] != key
    for one in (key, renewed["key"]):
        assert (await call(stack, one, "GET", "/tools"))[0] == 200
    # and at the next renewal the first one ends; without a grace time the second, too
    status, last = await call(
        stack, renewed["key"], "POST", f"/api-keys/{key_id}/rotate", grace_seconds=0
    )
    assert status == 200
    statuses = [
        (await call(stack, one, "GET", "/tools"))[0] for one in (key, renewed["key"], last["key"])
    ]
    assert statuses == [401, 401, 200]
    assert (await call(stack, stack.key, "DELETE", f"/api-keys/{key_id}"))[0] == 204
    assert (await call(stack, last["key"], "GET", "/tools"))[0] == 401
    assert (await call(stack, stack.key, "GET", f"/api-keys/{key_id}"))[0] == 404
    rows = (await stack.get("/audit", object=key_id))["rows"]
    records = [row["record"] for row in reversed(rows)]
    assert [one["action"] for one in records] == [
        "key.made", "key.changed", "key.changed", "key.deleted",
    ]  # fmt: skip
    assert records[0]["after"]["role"] == "operator"
    assert records[2]["actor"] == {"kind": "key", "id": key_id, "name": name}
    text = json.dumps(records)
    assert not any(one in text for one in (key, renewed["key"], last["key"]))


async def test_a_key_expires(stack: Stack, name: str) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    made = await make(stack, role="auditor", name=name, expires_at=soon.isoformat())
    assert (await call(stack, made["key"], "GET", "/tools"))[0] == 200

    async def expired() -> bool:
        return (await call(stack, made["key"], "GET", "/tools"))[0] == 401

    await eventually(expired, "the key has expired")
    assert datetime.now(UTC) >= soon
    past = {"role": "auditor", "expires_at": "2020-01-01T00:00:00Z"}
    assert (await call(stack, stack.key, "POST", "/api-keys", **past))[0] == 400


async def test_nobody_gives_more_than_they_have(stack: Stack, name: str) -> None:
    keys = {
        role: await make(stack, role=role, name=name)
        for role in ("owner", "operator", "developer", "auditor")
    }
    operator = keys["operator"]["key"]
    for role in ("operator", "developer", "auditor"):
        made = await make(stack, operator, role=role, name=name)
        path = f"/api-keys/{made['key_id']}"
        assert (await call(stack, operator, "DELETE", path))[0] == 204
    assert (await call(stack, operator, "POST", "/api-keys", role="owner"))[0] == 403
    above = f"/api-keys/{keys['owner']['key_id']}"
    # a key that is renewed is a key in hand
    assert (await call(stack, operator, "POST", f"{above}/rotate", grace_seconds=0))[0] == 403
    assert (await call(stack, operator, "DELETE", above))[0] == 403
    for role in ("developer", "auditor"):
        asked = {"role": "auditor"}
        assert (await call(stack, keys[role]["key"], "POST", "/api-keys", **asked))[0] == 403
    for role in ("operator", "developer", "auditor", "owner"):
        path = f"/api-keys/{keys[role]['key_id']}"
        assert (await call(stack, keys["owner"]["key"], "DELETE", path))[0] == 204
    for role in ("admin", "king", ""):
        assert (await call(stack, stack.key, "POST", "/api-keys", role=role))[0] == 400


async def test_keys_of_agents_are_as_they_were(stack: Stack, name: str) -> None:
    assert (await call(stack, stack.key, "POST", "/api-keys", role="agent"))[0] == 400
    wrong = {"role": "owner", "contexts": [name]}
    assert (await call(stack, stack.key, "POST", "/api-keys", **wrong))[0] == 400
    await stack.put(f"/contexts/{name}", {})
    agent = await make(stack, role="agent", contexts=[name])
    program = await make(stack, role="developer", name=name)
    assert agent["key"].startswith("hsa_")
    assert (await call(stack, agent["key"], "GET", f"/contexts/{name}"))[0] == 200
    assert (await call(stack, agent["key"], "GET", "/contexts"))[0] == 403
    status, me = await call(stack, agent["key"], "GET", "/me")
    assert (status, me["kind"], me["contexts"]) == (200, "agent", [name])
    listed = (await stack.get("/keys", limit="100"))["keys"]
    ids = {key["key_id"] for key in listed}
    assert agent["key_id"] in ids
    assert program["key_id"] not in ids
    # what is for agents' keys revokes no other
    path = f"/keys/{program['key_id']}"
    assert (await call(stack, stack.key, "DELETE", path))[0] == 404
    assert (await call(stack, stack.key, "DELETE", f"/keys/{agent['key_id']}"))[0] == 204


async def test_developers_see_personal_data_masked(stack: Stack, name: str) -> None:
    await stack.put(
        f"/tools/{name}", {"provider": "none", "masking": {"agents": {"email": "mask"}}}
    )
    event = await stack.hook(name, b'{"from": "ada.lovelace@example.com"}')
    shown = {}
    for role in ("operator", "developer"):
        key = (await make(stack, role=role, name=name))["key"]
        # also while it is in its stream alone
        status, found = await call(stack, key, "GET", f"/events/{event}")
        assert status == 200
        shown[role] = found["payload"]["from"]
        status, tried = await call(
            stack, key, "POST", "/subscriptions/dry-run", tool=name, types=["*"]
        )
        assert status == 200
        assert ("ada.lovelace" in json.dumps(tried)) <= (role == "operator")
    assert shown["operator"] == "ada.lovelace@example.com"
    assert "ada.lovelace" not in shown["developer"]


async def test_keys_are_made_and_revoked_from_a_shell(stack: Stack, name: str) -> None:
    def run(*arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            stack.command("api-keys", *arguments),
            env={**os.environ, **stack.environment()},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done.stdout if not status else done.stderr

    made = json.loads(run("make", "--role", "auditor", "--name", name, "--json"))
    async with (
        aiohttp.ClientSession(
            stack.url, headers={"Authorization": f"Bearer {made['key']}"}
        ) as session,
        session.get("/api/v1/audit") as response,
    ):
        assert response.status == 200
    [line] = [line for line in run("list").splitlines() if made["key_id"] in line]
    assert "auditor" in line
    assert name in line
    renewed = run("rotate", made["key_id"], "--grace", "0").splitlines()[-1]
    assert renewed.startswith("hsk_")
    assert run("revoke", made["key_id"]) == f"revoked: {made['key_id']}\n"
    assert "--role" in run("make", status=2)
    assert "has the ids" in run("revoke", status=2)
