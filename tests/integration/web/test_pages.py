"""Every list of the API has pages: a request costs as much as it asks for, at a most."""

import re
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from redis.asyncio.client import Monitor

from hookstream.app import embedded
from hookstream.app.ids import event_time_ms, new_event_id, partition_of_event
from hookstream.app.redis import keys
from tests.integration.mcp.test_mcp import client, failure, use
from tests.integration.web.test_agent_keys import call, make
from tests.support.stack import Stack, eventually

#: Lists in what shows one thing, and what bounds them.
BOUNDED = {
    "quota_list": "five quotas",
    "event_get": "a hundred deliveries, and deliveries_more",
    "event_history": "a hundred deliveries, two hundred rows of the audit trail, and more",
    "audit_verify": "what is wrong with two thousand rows, and next",
    "erasure_get": "some thirty places",
    "policy_list": "two hundred policies",
    "data_key_list": "one for each month, and those that were destroyed",
    "letter_get": "as many attempts as there may be",
    "comparison_get": "so many hours, and two hundred causes with a limit of events each",
    "migration_get": "fifty modes, a hundred hand-overs, and waiting_keys",
    "context_digest": "its budget of tokens",
    "health_partitions": "one for each partition, of which an installation has a fixed number",
    "tenant_metrics": "nine quotas, and the first thousand contexts",
}


def lists_in(document: dict[str, Any], operation: dict[str, Any]) -> list[str]:
    """Fields of an answer that are lists of objects."""
    content = operation["responses"]["200"].get("content", {}).get("application/json")
    if content is None:
        return []
    name = content["schema"]["$ref"].rpartition("/")[2]
    fields = document["components"]["schemas"][name]["properties"]
    return [
        field
        for field, schema in fields.items()
        for one in (schema, *schema.get("anyOf", ()))
        if one.get("type") == "array" and "$ref" in one.get("items", {})
    ]


async def test_every_list_of_the_api_has_a_limit_with_a_most_and_says_where_to_go_on(
    stack: Stack, name: str
) -> None:
    await stack.context(name, {"provider": "none"})
    await stack.put(f"/templates/{name}", {"provider": "none", "template": "x"})
    document = await stack.get("/openapi.json")
    paged, bounded = {}, set()
    for path, operations in document["paths"].items():
        operation = operations.get("get")
        if operation is None or not lists_in(document, operation):
            continue
        given = {one["name"]: one["schema"] for one in operation.get("parameters", ())}
        if operation["operationId"] in BOUNDED:
            bounded.add(operation["operationId"])
            continue
        paged[path] = operation["operationId"]
        limit = given.get("limit", {})
        assert 1 <= limit.get("default", 0) <= limit.get("maximum", 0) <= 1000, path
        gives = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
        answer = document["components"]["schemas"][gives.rpartition("/")[2]]["properties"]
        if "cursor" in given:
            assert "cursor" in answer, path
        else:
            # numbers of a feed, and places in a digest, are where to go on
            assert "after" in given, path
    assert bounded == set(BOUNDED)
    assert {"tool_list", "context_list", "key_list", "template_list", "template_get"} <= set(
        paged.values()
    )
    # and what it says is so
    for path in paged:
        asked = re.sub(r"{\w+}", name, path.replace("{seq}", "1"))
        most = 101 if path.endswith(("/keys", "/replays")) else 1001
        for limit in ("0", str(most), "x"):
            problem = await stack.get(asked.removeprefix("/api/v1"), 400, limit=limit)
            # whose updates are lost is asked for first
            assert "limit" in problem["detail"] or path.endswith("/deliveries"), path


async def walk(stack: Stack, path: str, field: str, name: str, limit: int) -> list[str]:
    """Names of all that a list has, page by page."""
    found: list[str] = []
    query = {"limit": str(limit)}
    while True:
        page = await stack.get(path, **query)
        assert len(page[field]) <= limit
        found += [str(one[name]) for one in page[field]]
        if page["cursor"] is None:
            return found
        query["cursor"] = page["cursor"]


async def test_pages_have_each_one_once_and_in_order(stack: Stack, name: str) -> None:
    names = [f"{name}-{number}" for number in range(5)]
    for number, one in enumerate(names):
        await stack.put(f"/tools/{one}", {"provider": "none"})
        await stack.put(f"/contexts/{one}", {})
        await stack.put(f"/contexts/{name}-0/subscriptions/{one}", {"tool": name + "-0"})
        await stack.put(f"/templates/{one}", {"provider": "none", "template": "x"})
        # one template has as many versions
        body = {"provider": "none", "template": f"{number}"}
        await stack.put(f"/templates/{name}-0", body)
    keys = [(await make(stack, one))["key_id"] for one in names]
    try:
        for path, field, column in (
            ("/tools", "tools", "tool_id"),
            ("/contexts", "contexts", "context_id"),
            ("/templates", "templates", "name"),
        ):
            for limit in (3, 1000):
                found = await walk(stack, path, field, column, limit)
                assert found == sorted(set(found)), path
                assert [one for one in found if one in names] == names
        found = await walk(stack, f"/contexts/{name}-0/subscriptions", "subscriptions", "name", 2)
        assert found == names
        found = await walk(stack, "/keys", "keys", "key_id", 2)
        assert len(found) == len(set(found))
        assert [one for one in found if one in keys] == keys
        versions = await walk(stack, f"/templates/{name}-0", "versions", "version", 2)
        assert versions == [str(number) for number in range(len(versions), 0, -1)]
        assert len(versions) == 6
        page = await stack.get(f"/templates/{name}-0", limit="1", cursor="3")
        # the template itself is the newest version, whichever page is shown
        assert (page["version"], page["versions"][0]["version"]) == (6, 2)
        for path in ("/keys", "/replays", f"/templates/{name}-0", f"/contexts/{name}-0/daily"):
            for cursor in ("x", "1.", ".x", "12x.y"):
                problem = await stack.get(path, 400, cursor=cursor)
                assert "cursor" in problem["detail"]
    finally:
        for one in names:
            await call(stack, stack.key, "DELETE", f"/templates/{one}")


async def test_replays_are_paged(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    event = await stack.hook(name, b"{}")
    await stack.updates(name, 1)
    begun = []
    for _ in range(3):
        status, made = await call(stack, stack.key, "POST", "/replays", tool=name)
        assert status == 202
        assert made["matched_more"] is False
        begun.append(made["replay_id"])
    found = await walk(stack, "/replays", "replays", "replay_id", 2)
    assert [one for one in found if one in begun] == begun[::-1]
    assert len(found) == len(set(found))
    assert event


async def test_contexts_over_mcp_come_in_pages(stack: Stack, name: str) -> None:
    names = [f"{name}-{number}" for number in range(5)]
    for one in names:
        await stack.context(one, {"provider": "none"})
        await stack.hook(one, b"{}")
        await stack.updates(one, 1)
    made = await make(stack, *names)
    async with client(stack, made["key"]) as agent:
        found: list[dict[str, Any]] = []
        cursor = None
        while True:
            page = await use(agent, "list_contexts", limit=2, cursor=cursor)
            found += page["contexts"]
            cursor = page["cursor"]
            if cursor is None:
                break
        assert [one["context_id"] for one in found] == names
        assert {(one["last_seq"], one["unread"]) for one in found} == {(1, 1)}
        assert "limit" in await failure(agent, "list_contexts", limit=101)


async def test_an_event_that_an_agent_makes_up_has_no_stream_read(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    event_id = await stack.hook(name, b"{}")
    await stack.updates(name, 1)
    made = await make(stack, name)

    async def recorded() -> bool:
        return (await call(stack, made["key"], "GET", f"/events/{event_id}"))[0] == 200

    await eventually(recorded, "the event is recorded")
    # as one that was accepted a moment ago
    unknown = new_event_id(event_time_ms(event_id), int(event_id[15:18], 16), 7)
    stream = keys.events(partition_of_event(unknown))
    url = str(embedded.find_valkey(stack.state_dir / "state"))
    redis: Redis = Redis.from_url(url)

    async def reads(seen: Monitor) -> int:
        """How often that stream was looked through since the last time."""
        end, count = str(uuid4()), 0
        await redis.echo(end)
        while (command := (await seen.next_command())["command"]) != f"ECHO {end}":
            count += command.startswith((f"XRANGE {stream} ", f"XREVRANGE {stream} "))
        return count

    try:
        async with client(stack, made["key"]) as agent, redis.monitor() as seen:
            assert (await call(stack, made["key"], "GET", f"/events/{unknown}"))[0] == 404
            said = await failure(agent, "get_event", event_id=unknown)
            assert "there is no event" in said
            said = await failure(agent, "replay_event", event_id=unknown, context_id=name)
            assert "there is no event" in said
            with pytest.raises(Exception, match="there is no event"):
                await agent.read_resource(f"hookstream://events/{unknown}")
            assert await reads(seen) == 0
            # the admin key's is looked for
            assert (await call(stack, stack.key, "GET", f"/events/{unknown}"))[0] == 404
            assert await reads(seen) > 0
    finally:
        await redis.aclose()
