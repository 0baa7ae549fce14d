"""What one key or one tool may take: refused with the truth, and nobody else pays for it."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from mcp import Client

from tests.integration.mcp.test_mcp import client, failure, use
from tests.integration.web.test_agent_keys import call, make
from tests.support.stack import Stack, eventually, fresh, own_stages

STUCK = "urgent-and-slow"
STAGES = f"""
import asyncio
from pathlib import Path
from hookstream import app

@app.stage(after="dedupe")
async def wait_for_gate(event):
    if event.tool_id == "{STUCK}" and event.replay_id:
        while not Path("GATE").exists():
            await asyncio.sleep(0.05)
    return event
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Small limits, and a stage that keeps replays of one tool until a file is there."""
    folder = tmp_path_factory.mktemp("limits")
    source = STAGES.replace("GATE", str(folder / "gate"))
    settings = {
        **own_stages(folder, "slow_replays", source),
        "HOOKSTREAM_TOOL_WEBHOOKS_PER_SECOND": "2",
        "HOOKSTREAM_MCP_SESSIONS_PER_KEY": "3",
        "HOOKSTREAM_KEY_CALLS_PER_SECOND": "20",
        "HOOKSTREAM_KEY_REPLAYS_PER_MINUTE": "6",
        "HOOKSTREAM_RUNNING_REPLAYS_PER_CONTEXT": "3",
        "HOOKSTREAM_MAX_TOOLS": "24",
        "HOOKSTREAM_MAX_CONTEXTS": "24",
        "HOOKSTREAM_MAX_KEYS": "24",
        "HOOKSTREAM_MAX_SUBSCRIPTIONS": "24",
        "HOOKSTREAM_MAX_SUBSCRIPTIONS_PER_CONTEXT": "4",
    }
    with Stack(folder, **settings) as running:
        yield running


async def limited(stack: Stack, limit: str) -> float:
    """How many requests that limit has refused."""
    async with stack.session() as session, fresh(session, "/metrics") as answer:
        for line in (await answer.text()).splitlines():
            if line.startswith(f'hookstream_limited_total{{limit="{limit}"}}'):
                return float(line.split()[-1])
    return 0.0


async def delivered(stack: Stack, event_id: str) -> None:
    async def recorded() -> bool:
        async with stack.session() as session, session.get(f"/api/v1/events/{event_id}") as answer:
            return answer.status == 200 and bool((await answer.json()).get("deliveries"))

    await eventually(recorded, "the delivery is recorded")


async def test_one_event_is_replayed_once_at_a_time_and_a_context_has_so_many(
    stack: Stack,
) -> None:
    await stack.context(STUCK, {"provider": "none"})
    await stack.put("/contexts/elsewhere", {})
    events = [await stack.hook(STUCK, b'{"n": %d}' % n) for n in range(4)]
    await stack.updates(STUCK, 4)
    for event_id in events:
        await delivered(stack, event_id)
    one = {"event_id": events[0], "context_id": STUCK}
    answers = await asyncio.gather(
        *(call(stack, stack.key, "POST", "/replays", **one) for _ in range(12))
    )
    assert Counter(status for status, _ in answers) == {202: 1, 409: 11}
    said = next(body["detail"] for status, body in answers if status == 409)
    assert f"a replay of this event to context {STUCK} runs" in said
    first = next(body["replay_id"] for status, body in answers if status == 202)
    # another context is another replay
    status, _ = await call(
        stack, stack.key, "POST", "/replays", event_id=events[0], context_id="elsewhere"
    )
    assert status == 202
    more = await asyncio.gather(
        *(
            call(stack, stack.key, "POST", "/replays", event_id=event_id, context_id=STUCK)
            for event_id in events[1:]
        )
    )
    assert Counter(status for status, _ in more) == {202: 2, 429: 1}
    [refused] = [body["detail"] for status, body in more if status == 429]
    assert "HOOKSTREAM_RUNNING_REPLAYS_PER_CONTEXT" in refused
    # one by filter counts, too
    status, body = await call(stack, stack.key, "POST", "/replays", tool=STUCK, context_id=STUCK)
    assert (status, "3 replays" in body["detail"]) == (429, True)
    assert await limited(stack, "running_replays_per_context") == 2
    (stack.state_dir / "gate").touch()

    async def through() -> bool:
        return bool((await stack.get(f"/replays/{first}"))["status"] == "done")

    await eventually(through, "the replay is through")
    assert (await call(stack, stack.key, "POST", "/replays", **one))[0] == 202
    assert len(await stack.updates(STUCK, 3, after=4)) == 3


async def test_a_key_begins_so_many_replays_a_minute_and_others_are_not_kept_waiting(
    stack: Stack, name: str
) -> None:
    await stack.context(name, {"provider": "none"})
    event_id = await stack.hook(name, b"{}")
    await stack.updates(name, 1)
    await delivered(stack, event_id)
    mine, other = [(await make(stack, name))["key"] for _ in range(2)]

    async def replay_once(agent: Client) -> str:
        return await failure_or_nothing(agent, event_id, name)

    async with client(stack, mine) as agent:
        said = [await replay_once(agent) for _ in range(8)]
        assert all(not text or "a replay of this event" in text for text in said[:6]), said
        assert all("HOOKSTREAM_KEY_REPLAYS_PER_MINUTE" in text for text in said[6:]), said
        again = await failure(agent, "replay_event", event_id=event_id, context_id=name)
        assert "6 replays a minute" in again

    async def all_done() -> bool:
        found = await stack.get("/replays")
        return all(replay["status"] != "running" for replay in found["replays"])

    # while one of the event runs, another is refused, and counts
    await eventually(all_done, "the first key's replays are through")
    async with client(stack, other) as agent:
        assert not await replay_once(agent)
        await use(agent, "list_contexts")


async def failure_or_nothing(agent: Client, event_id: str, context_id: str) -> str:
    arguments = {"event_id": event_id, "context_id": context_id}
    result = await agent.call_tool("replay_event", arguments)
    return str(result.content[0].text) if result.is_error else ""  # type: ignore[union-attr]


async def test_door_refuses_one_tool_says_when_and_lets_others_in(stack: Stack, name: str) -> None:
    loud, quiet = f"{name}-loud", f"{name}-quiet"
    for tool in (loud, quiet):
        await stack.context(tool, {"provider": "none"})
    async with aiohttp.ClientSession(stack.url) as session:

        async def post(tool: str, body: bytes) -> tuple[int, str | None, dict[str, Any]]:
            async with session.post(f"/hooks/{tool}", data=body) as answer:
                said = json.loads(await answer.text())
                return answer.status, answer.headers.get("Retry-After"), said

        answers = [await post(loud, b'{"n": %d}' % n) for n in range(40)]
        taken = sum(status == 202 for status, *_ in answers)
        assert 20 <= taken < 40
        status, wait, problem = next(answer for answer in answers if answer[0] != 202)
        assert (status, wait, problem["type"].rpartition("/")[2]) == (429, "1", "too-many")
        assert "HOOKSTREAM_TOOL_WEBHOOKS_PER_SECOND" in problem["detail"]
        assert (await post(quiet, b"{}"))[0] == 202
        assert await limited(stack, "tool_webhooks_per_second") == 40 - taken
        await asyncio.sleep(float(wait))  # what it says is true
        assert (await post(loud, b'{"n": "late"}'))[0] == 202

    async def kept() -> Any:
        return (await stack.get(f"/tools/{loud}/refusals"))["refusals"]

    refusals = await eventually(kept, "refusals are kept")
    assert {one["reason"] for one in refusals} == {"too-many"}
    assert len(await stack.updates(loud, taken + 1)) == taken + 1


async def test_who_cannot_sign_uses_up_nothing_of_a_tool(stack: Stack, name: str) -> None:
    secret = "It's a Secret to Everybody"
    await stack.put(f"/tools/{name}", {"provider": "github", "secrets": [secret]})
    async with aiohttp.ClientSession(stack.url) as session:
        for _ in range(60):
            headers = {"X-GitHub-Event": "ping", "X-Hub-Signature-256": "sha256=" + "0" * 64}
            async with session.post(f"/hooks/{name}", data=b"{}", headers=headers) as answer:
                assert answer.status == 401


async def test_a_key_makes_so_many_calls_a_second_and_the_admin_any(
    stack: Stack, name: str
) -> None:
    await stack.context(name, {"provider": "none"})
    mine, other = [(await make(stack, name))["key"] for _ in range(2)]
    path = f"/api/v1/contexts/{name}"

    async def statuses(key: str, count: int) -> Counter[int]:
        headers = {"Authorization": f"Bearer {key}"}
        async with aiohttp.ClientSession(stack.url, headers=headers) as session:

            async def one() -> int:
                async with session.get(path) as answer:
                    if answer.status == 429:
                        assert int(answer.headers["Retry-After"]) >= 1
                        detail = (await answer.json())["detail"]
                        assert "HOOKSTREAM_KEY_CALLS_PER_SECOND" in detail
                    return answer.status

            return Counter(await asyncio.gather(*(one() for _ in range(count))))

    seen = await statuses(mine, 600)
    assert seen[200] >= 200
    assert seen[429] > 0
    assert seen.total() == seen[200] + seen[429]
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    headers = {"Authorization": f"Bearer {mine}"}
    async with aiohttp.ClientSession(stack.url, headers=headers) as session:
        answers = []
        for _ in range(60):
            async with session.post("/mcp", json=body) as answer:
                answers.append(answer.status)
        assert 429 in answers
    assert await statuses(other, 10) == {200: 10}
    assert await statuses(stack.key, 600) == {200: 600}


async def test_a_new_mcp_session_ends_the_idlest_of_its_own_key(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    mine, other = [(await make(stack, name))["key"] for _ in range(2)]
    begin = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "x", "version": "1"},
    }
    async with aiohttp.ClientSession(stack.url) as session:

        async def post(key: str, session_id: str, method: str, params: Any) -> tuple[int, str]:
            headers = {
                "Authorization": f"Bearer {key}",
                "Accept": "application/json, text/event-stream",
            }
            if session_id:
                headers["Mcp-Session-Id"] = session_id
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            async with session.post("/mcp", json=body, headers=headers) as answer:
                await answer.read()
                return answer.status, answer.headers.get("Mcp-Session-Id", "")

        async def opens(key: str) -> str:
            status, session_id = await post(key, "", "initialize", begin)
            assert (status, bool(session_id)) == (200, True)
            return session_id

        async def status_of(key: str, session_id: str) -> int:
            return (await post(key, session_id, "ping", {}))[0]

        strangers = [await opens(other) for _ in range(3)]
        sessions = [await opens(mine) for _ in range(3)]
        assert await status_of(mine, sessions[0]) == 200
        sessions.append(await opens(mine))

        async def gone() -> bool:
            return await status_of(mine, sessions[1]) == 404

        await eventually(gone, "the idlest one is ended")
        for kept in (sessions[0], *sessions[2:]):
            assert await status_of(mine, kept) == 200
        for kept in strangers:
            assert await status_of(other, kept) == 200


async def test_a_tool_may_have_a_rate_of_its_own(stack: Stack, name: str) -> None:
    rates = {f"{name}-slow": 1.0, f"{name}-any": 0.0, f"{name}-as-others": None}
    for tool, rate in rates.items():
        await stack.put(f"/tools/{tool}", {"provider": "none", "webhooks_per_second": rate})
        assert (await stack.get(f"/tools/{tool}"))["webhooks_per_second"] == rate
    async with aiohttp.ClientSession(stack.url) as session:

        async def taken(tool: str) -> tuple[int, str]:
            count, said = 0, ""
            for number in range(40):
                async with session.post(f"/hooks/{tool}", data=b"%d" % number) as answer:
                    count += answer.status == 202
                    said = said or (await answer.json()).get("detail", "")
            return count, said

        count, said = await taken(f"{name}-slow")
        assert 10 <= count < 20
        assert "faster than 1 a second (the tool's webhooks_per_second)" in said
        assert await taken(f"{name}-any") == (40, "")
        count, said = await taken(f"{name}-as-others")
        assert 20 <= count < 40
        assert "HOOKSTREAM_TOOL_WEBHOOKS_PER_SECOND" in said
        # set anew it holds at once, and what was taken before counts
        await stack.put(f"/tools/{name}-slow", {"provider": "none", "webhooks_per_second": 0})
        assert await taken(f"{name}-slow") == (40, "")
        status, body = await call(
            stack, stack.key, "PUT", f"/tools/{name}-any", provider="none", webhooks_per_second=-1
        )
        assert (status, "webhooks_per_second" in body["detail"]) == (400, True)


async def test_no_more_than_a_quota_whoever_comes_at_once(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    counted = []
    for kind, prefix, body in (
        ("tools", f"/tools/{name}-", {"provider": "none"}),
        ("contexts", f"/contexts/{name}-", {"name": name}),
        ("subscriptions_per_context", f"/contexts/{name}/subscriptions/s-", {"tool": "*"}),
        ("keys", "", {"name": name, "contexts": [name]}),
    ):
        quotas = {one["name"]: one for one in (await stack.get("/quotas"))["quotas"]}
        quota = quotas[kind]
        most, used = quota["most"], quota["used"]
        if kind == "subscriptions_per_context":
            used = 1
        made = await asyncio.gather(
            *(
                call(stack, stack.key, "PUT", f"{prefix}{number}", **body)
                if prefix
                else call(stack, stack.key, "POST", "/keys", **body)
                for number in range(most + 4)
            )
        )
        assert Counter(status for status, _ in made) == {201: most - used, 409: used + 4}, kind
        [said] = {answer["detail"] for status, answer in made if status == 409}
        assert quota["setting"] in said
        assert {answer["type"].rpartition("/")[2] for s, answer in made if s == 409} == {"quota"}
        counted.append((quota["setting"][11:].lower(), used + 4))
        for number, (status, answer) in enumerate(made):
            if status != 201:
                continue
            path = f"{prefix}{number}" if prefix else f"/keys/{answer['key_id']}"
            if prefix:  # what is there may be changed
                assert (await call(stack, stack.key, "PUT", path, **body))[0] == 200
            assert (await call(stack, stack.key, "DELETE", path))[0] == 204
    for limit, count in counted:

        async def shown(limit: str = limit, count: int = count) -> bool:
            return await limited(stack, limit) == count

        await eventually(shown, f"{limit} is counted")
    # all of a tenant's together
    for context in range(6):
        await stack.put(f"/contexts/{name}-{context}", {})
    made = await asyncio.gather(
        *(
            call(stack, stack.key, "PUT", f"/contexts/{name}-{at % 6}/subscriptions/{at}", tool="*")
            for at in range(24)
        )
    )
    assert {status for status, _ in made} == {201, 409}
    assert {"HOOKSTREAM_MAX_SUBSCRIPTIONS)" in a["detail"] for s, a in made if s == 409} == {True}
    quotas = {one["name"]: one for one in (await stack.get("/quotas"))["quotas"]}
    assert quotas["subscriptions"]["used"] == 24
    for context in range(6):
        assert (await call(stack, stack.key, "DELETE", f"/contexts/{name}-{context}"))[0] == 204


async def test_what_answers_429_says_so_in_the_openapi_document(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    key = (await make(stack, name))["key"]
    described = await stack.get("/openapi.json")
    operations = [
        (method.upper(), path, operation)
        for path, item in described["paths"].items()
        for method, operation in item.items()
    ]
    assert len(operations) > 40
    async with aiohttp.ClientSession(
        stack.url, headers={"Authorization": f"Bearer {key}"}
    ) as session:

        async def ask(method: str, path: str) -> tuple[int, bool]:
            filled = re.sub(r"{\w+}", "x", path)
            async with session.request(method, filled, json={}) as answer:
                return answer.status, "Retry-After" in answer.headers

        await asyncio.gather(*(ask("GET", "/api/v1/tools") for _ in range(260)))
        for method, path, operation in operations:
            if not path.startswith("/hooks/"):  # they have a limit of their own, seen above
                answers = [await ask(method, path) for _ in range(3)]
                while (429, True) not in answers:
                    answers = await asyncio.gather(*(ask(method, path) for _ in range(40)))
            header = operation["responses"]["429"]["headers"]["Retry-After"]
            assert (header["required"], header["schema"]["minimum"]) == (True, 1), path
