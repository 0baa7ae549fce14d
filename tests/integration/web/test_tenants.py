"""Tenants over HTTP, on one installation of their own: what strangers see changes with them."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import aiohttp
import asyncpg
import pytest

from hookstream.app import embedded
from tests.support.stack import Stack, eventually

ALL = {"types": ["*"]}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("tenants")) as running:
        yield running


async def call(
    town: Stack, method: str, path: str, body: Any = None, *, tenant: str = "", key: str = ""
) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {key or town.key}"}
    if tenant:
        headers["Hookstream-Tenant"] = tenant
    async with (
        aiohttp.ClientSession(town.url, headers=headers) as session,
        session.request(method, f"/api/v1{path}", json=body) as response,
    ):
        text = await response.text()
        return response.status, json.loads(text) if text.startswith(("{", "[")) else text


async def make(town: Stack, name: str, **quotas: Any) -> None:
    """A tenant with a tool ``hooks`` and a context ``all`` that is told of it."""
    status, answer = await call(town, "POST", "/tenants", {"tenant_id": name, "quotas": quotas})
    assert status == 201, answer
    for path, body in (
        ("/tools/hooks", {"provider": "none"}),
        ("/contexts/all", {"name": "x"}),
        ("/contexts/all/subscriptions/all", {"tool": "hooks", **ALL}),
    ):
        status, answer = await call(town, "PUT", path, body, tenant=name)
        assert status == 201, answer


async def post(town: Stack, tool: str, n: int) -> tuple[int, Any, str]:
    """What a webhook is answered: status, body, Retry-After."""
    async with (
        aiohttp.ClientSession(town.url) as session,
        session.post(f"/hooks/{tool}", data=b'{"n": %d}' % n) as response,
    ):
        return response.status, await response.json(), response.headers.get("Retry-After", "")


async def updates(town: Stack, context: str, tenant: str, count: int) -> list[dict[str, Any]]:
    headers = {**town.headers, "Hookstream-Tenant": tenant}
    async with (
        aiohttp.ClientSession(town.url, headers=headers) as session,
        session.ws_connect(f"/contexts/{context}/updates?after=0") as socket,
    ):
        return [await socket.receive_json(timeout=20) for _ in range(count)]


async def test_two_tenants_have_tools_of_one_name_and_see_nothing_of_each_other(
    town: Stack, name: str
) -> None:
    acme, other = f"{name}-a", f"{name}-b"
    for tenant in (acme, other):
        await make(town, tenant)
    await town.context("hooks", {"provider": "none"})
    sent = {
        tenant: (await post(town, path, n))[1]["event_id"]
        for n, (tenant, path) in enumerate(
            ((acme, f"{acme}/hooks"), (other, f"{other}/hooks/"), ("default", "default/hooks"))
        )
    }
    [mine] = await updates(town, "all", acme, 1)
    assert (mine["event_id"], mine["tool_id"]) == (sent[acme], "hooks")
    assert "hooks" in mine["summary"]
    assert acme not in json.dumps(mine)
    [theirs] = await updates(town, "all", other, 1)
    assert theirs["event_id"] == sent[other]
    [ours] = await updates(town, "hooks", "default", 1)
    assert ours["event_id"] == sent["default"]

    made = (await call(town, "POST", "/keys", {"contexts": ["all"]}, tenant=acme))[1]
    for given in ({"tenant": acme}, {"key": made["key"]}):

        async def found(given: dict[str, str] = given) -> Any:
            answer = (await call(town, "GET", "/events?tool=hooks&context=all", **given))[1]
            return answer["events"]

        [event] = await eventually(found, "it is recorded")
        assert (event["event_id"], event["tool_id"]) == (sent[acme], "hooks")
        for tenant in (other, "default"):
            path = f"/events/{sent[tenant]}"
            assert (await call(town, "GET", path, **given))[0] == 404
    _, tools = await call(town, "GET", "/tools?limit=1", tenant=acme)
    [shown] = tools["tools"]
    assert (shown["tool_id"], shown["path"]) == ("hooks", f"/hooks/{acme}/hooks")
    _, tools = await call(town, "GET", f"/tools?cursor={tools['cursor']}", tenant=acme)
    assert tools["tools"] == []
    [subscription] = (await call(town, "GET", "/contexts/all/subscriptions", tenant=acme))[1][
        "subscriptions"
    ]
    assert subscription["tool"] == "hooks"
    dry = {"tool": "hooks", **ALL, "where": 'event.tool_id == "hooks"'}
    _, tried = await call(town, "POST", "/subscriptions/dry-run", dry, tenant=acme)
    assert (tried["matched"], tried["events"][0]["tool_id"]) == (1, "hooks")
    _, replay = await call(town, "POST", "/replays", {"tool": "hooks"}, tenant=acme)
    assert (replay["matched"], replay["filter"]["tool"]) == (1, "hooks")

    # a key is of its tenant, whatever its holder says
    for path in ("/tenants", f"/tenants/{other}", "/partitions", "/lifecycle"):
        assert (await call(town, "GET", path, key=made["key"]))[0] == 403
    assert (await call(town, "GET", "/contexts/all", key=made["key"], tenant=other))[0] == 403
    assert (await call(town, "GET", "/tools", tenant=f"{name}-none"))[0] == 404
    # neither a tenant nor a tool with something behind it
    assert (await post(town, f"{name}-none/hooks", 1))[0] == 404
    assert (await post(town, f"{acme}/none", 1))[0] == 404


async def test_quotas_are_refused_with_a_sentence_and_counted(town: Stack, name: str) -> None:
    await make(town, name, events_per_second=0.1, tools=1, contexts=1, sockets=1, replays=1)
    first, second = await post(town, f"{name}/hooks", 1), await post(town, f"{name}/hooks", 2)
    assert (first[0], second[0]) == (202, 429)
    assert "events_per_second" in second[1]["detail"]
    assert name in second[1]["detail"]
    assert 1 <= int(second[2]) <= 10
    # a flood is answered as the first one is, though not all of it is kept
    flood = [await post(town, f"{name}/hooks", n) for n in range(40)]
    assert {(status, told["type"], 1 <= int(wait) <= 10) for status, told, wait in flood} == {
        (429, second[1]["type"], True)
    }
    assert {told["detail"] for _, told, _ in flood} == {second[1]["detail"]}
    for path, quota in (("/tools/more", "tools"), ("/contexts/more", "contexts")):
        body = {"provider": "none"} if quota == "tools" else {}
        status, problem = await call(town, "PUT", path, body, tenant=name)
        assert (status, problem["type"].rpartition("/")[2]) == (409, "quota")
        assert f"quota {quota}" in problem["detail"]
    headers = {**town.headers, "Hookstream-Tenant": name}
    async with (
        aiohttp.ClientSession(town.url, headers=headers) as session,
        session.ws_connect("/contexts/all/updates"),
    ):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect("/contexts/all/updates")
        assert refused.value.status == 429
    status, changed = await call(
        town, "PATCH", f"/tenants/{name}", {"quotas": {"events_per_second": None, "tools": 2}}
    )
    assert changed["quotas"] == {"tools": 2, "contexts": 1, "sockets": 1, "replays": 1}
    for n in range(3, 9):
        assert (await post(town, f"{name}/hooks", n))[0] == 202
    assert (await call(town, "PUT", "/tools/more", {"provider": "none"}, tenant=name))[0] == 201

    async def recorded() -> bool:
        return len((await call(town, "GET", "/events", tenant=name))[1]["events"]) == 7

    await eventually(recorded, "events are recorded")
    slow = {"tool": "hooks", "rate": 0.1}
    status, begun = await call(town, "POST", "/replays", slow, tenant=name)
    assert status == 202, begun
    status, problem = await call(town, "POST", "/replays", slow, tenant=name)
    assert status == 429, problem
    assert "replays" in problem["detail"]

    status, found = await call(town, "GET", f"/tenants/{name}/metrics")
    refused = {"events_per_second", "tools", "contexts", "sockets", "replays"}
    assert set(found["today"]["refused"]) == refused
    assert found["today"]["refused"]["events_per_second"] == 41
    assert (found["today"]["events"], found["today"]["bytes"]) == (7, 56)
    used = {one["name"]: (one["used"], one["most"]) for one in found["quotas"]}
    assert (used["tools"], used["replays"]) == ((2, 2), (1, 1))
    status, text = await call(town, "GET", f"/tenants/{name}/metrics?format=prometheus")
    assert 'hookstream_tenant_refused_today{quota="tools"} 1' in text

    async def kept() -> Any:
        return (await call(town, "GET", "/tools/hooks/refusals", tenant=name))[1]["refusals"]

    refusal, *_ = await eventually(kept, "it is kept")
    assert (refusal["reason"], refusal["tool_id"]) == ("too-many", "hooks")
    await call(town, "POST", f"/replays/{begun['replay_id']}/cancel", tenant=name)


async def test_a_suspended_tenant_is_shut_out_and_loses_nothing(town: Stack, name: str) -> None:
    await make(town, name)
    key = (await call(town, "POST", "/keys", {"contexts": ["all"]}, tenant=name))[1]["key"]
    assert (await post(town, f"{name}/hooks", 1))[0] == 202
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(town.url, headers=headers) as session:
        async with session.ws_connect("/contexts/all/updates?after=0") as socket:
            assert (await socket.receive_json(timeout=20))["seq"] == 1
            told = {"reason": "unpaid"}
            status, shown = await call(town, "POST", f"/tenants/{name}/suspend", told)
            assert (status, shown["state"]) == (200, "suspended")
            closing = await socket.receive(timeout=5)
            assert (closing.type, closing.data) == (aiohttp.WSMsgType.CLOSE, 4003)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect("/contexts/all/updates")
        assert refused.value.status == 403
    status, problem, _ = await post(town, f"{name}/hooks", 2)
    assert (status, problem["type"].rpartition("/")[2]) == (403, "suspended")
    assert "unpaid" in problem["detail"]
    # a flood is answered as the first one is
    flood = [await post(town, f"{name}/hooks", n) for n in range(40)]
    assert all(one == (403, problem, "") for one in flood)
    status, problem = await call(town, "GET", "/contexts/all", key=key)
    assert (status, problem["type"].rpartition("/")[2]) == (403, "suspended")
    # the operator reads on
    assert (await call(town, "GET", "/contexts/all", tenant=name))[1]["last_seq"] == 1
    status, shown = await call(town, "POST", f"/tenants/{name}/resume")
    assert (status, shown["state"], shown["reason"]) == (200, "active", "")
    assert (await post(town, f"{name}/hooks", 3))[0] == 202
    assert [one["seq"] for one in await updates(town, "all", name, 2)] == [1, 2]
    for what in ("suspend", "resume"):
        assert (await call(town, "POST", f"/tenants/default/{what}", {}))[0] == 409
        assert (await call(town, "POST", f"/tenants/{name}-none/{what}", {}))[0] == 404


async def test_strangers_are_told_no_names(town: Stack, name: str) -> None:
    await make(town, name)
    assert (await post(town, f"{name}/hooks", 1))[0] == 202
    await updates(town, "all", name, 1)

    async def said(path: str, key: str) -> str:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with (
            aiohttp.ClientSession(town.url, headers=headers) as session,
            session.get(path) as response,
        ):
            assert response.status == 200
            return await response.text()

    async def counted() -> bool:
        return f'hookstream_tenant_events_total{{process="receiver",tenant="{name}"}} 1.0' in (
            await said("/metrics?processes=all", town.key)
        )

    await eventually(counted, "the operator sees it")
    for query in ("", "?processes=own", "?processes=all"):
        for key in ("", "wrong"):
            text = await said(f"/metrics{query}", key)
            assert "hookstream_requests_total" in text
            assert name not in text
            assert 'tool="' not in text
            assert name not in await said(f"/health{query}", key)
    health = json.loads(await said("/health", ""))
    assert health["parts"]["redis"]["status"] == "ok"
    held = (await town.health())["parts"]["postgres"]
    assert held["row_security"] == "on"


async def test_a_deleted_tenant_leaves_only_what_the_operators_trail_says(
    town: Stack, name: str
) -> None:
    await make(town, name)
    for n in range(5):
        assert (await post(town, f"{name}/hooks", n))[0] == 202
    await updates(town, "all", name, 5)
    key = (await call(town, "POST", "/keys", {"contexts": ["all"]}, tenant=name))[1]["key"]
    path = f"/tenants/{name}"
    for query in ("", "?confirm=", "?confirm=default"):
        status, problem = await call(town, "DELETE", path + query)
        assert (status, f"confirm={name}" in problem["detail"]) == (400, True)
    assert (await call(town, "DELETE", "/tenants/default?confirm=default"))[0] == 409
    status, shown = await call(town, "DELETE", f"{path}?confirm={name}")
    assert (status, shown["state"]) == (202, "deleting"), shown
    assert (await post(town, f"{name}/hooks", 9))[0] == 403
    assert (await call(town, "POST", "/tenants", {"tenant_id": name}))[0] == 409
    assert (await call(town, "POST", f"{path}/resume"))[0] == 409

    async def gone() -> Any:
        found = (await call(town, "GET", path))[1]
        return found if found["state"] == "deleted" else None

    done = (await eventually(gone, "it is deleted", 60))["deletion"]
    assert done["finished_at"]
    assert (done["deleted"]["contexts"], done["deleted"]["tools"]) == (1, 1)
    assert done["deleted"]["events"] == 5
    assert (await call(town, "GET", "/contexts/all", key=key))[0] == 401
    assert (await post(town, f"{name}/hooks", 9))[0] == 404
    record = [row["record"] for row in (await town.get("/audit", object=name))["rows"]]
    assert [one["action"] for one in record] == ["tenant.deleted", "tenant.changed", "tenant.made"]
    assert record[1]["actor"]["id"] == "admin"

    state = town.state_dir / "state"
    connection = await asyncpg.connect(str(embedded.find_postgres(state)))
    tables = await connection.fetch(
        "SELECT c.relname FROM pg_class AS c INNER JOIN pg_attribute AS a ON a.attrelid = c.oid "
        "WHERE c.relkind = 'r' AND a.attname = 'tenant' AND NOT a.attisdropped "
        "AND c.relname NOT LIKE 'audit%'"
    )
    assert len(tables) > 10
    for [table] in tables:
        assert not await connection.fetch(f"SELECT FROM {table} WHERE tenant = $1", name), table
    await connection.close()
    assert (await call(town, "POST", "/tenants", {"tenant_id": name}))[0] == 201


async def test_the_command_does_what_the_api_does(town: Stack, name: str) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = town.command("tenants", *arguments)
        return subprocess.run(command, env=town.environment(), capture_output=True, text=True)

    made = await asyncio.to_thread(run, "make", name, "tools=3", "--name", "Somebody")
    assert (made.returncode, "tools=3" in made.stdout) == (0, True), made.stderr
    shown = await asyncio.to_thread(run, "show", name)
    assert "tools  " in shown.stdout, shown
    assert "Somebody" in shown.stdout
