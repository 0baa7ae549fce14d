"""The MCP server, through the SDK's own client."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import httpx2
import mcp_types as types
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from hookstream.app.mcp.untrusted import MAX_RESULT_BYTES, NOTICE
from tests.integration.web.test_agent_keys import call, make
from tests.support.stack import Stack, eventually
from tests.unit.summaries.test_summaries import INJECTIONS


@asynccontextmanager
async def client(stack: Stack, key: str = "", **options: Any) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {key or stack.key}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(30, read=120)) as http,
        Client(streamable_http_client(f"{stack.url}/mcp", http_client=http), **options) as made,
    ):
        yield made


async def use(made: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """A tool's result, out of its frame."""
    result = await made.call_tool(tool, arguments)
    [content] = result.content
    assert isinstance(content, types.TextContent)
    assert not result.is_error, content.text
    head, text, tail = content.text.split("\n")
    assert (head, tail) == (f'<untrusted notice="{NOTICE}">', "</untrusted>")
    return dict(json.loads(text))


async def failure(made: Client, tool: str, **arguments: Any) -> str:
    result = await made.call_tool(tool, arguments)
    assert result.is_error
    return str(result.content[0].text)  # type: ignore[union-attr]


@pytest.fixture
async def filled(stack: Stack, name: str) -> str:
    """A context with five updates."""
    await stack.context(name, {"provider": "none"})
    for n in range(5):
        await stack.hook(name, json.dumps({"n": n, "title": f"thing {n}"}).encode())
    await stack.updates(name, 5)
    return name


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_tools_read_acknowledge_and_replay(stack: Stack, filled: str, mode: str) -> None:
    async with client(stack, mode=mode) as agent:
        listed = {tool.name: tool for tool in (await agent.list_tools()).tools}
        assert set(listed) >= {
            "search_events", "get_event", "get_digest", "acknowledge", "replay_event",
            "list_contexts",
        }  # fmt: skip
        for tool in listed.values():
            assert tool.annotations is not None
            writes = tool.name in ("acknowledge", "replay_event")
            assert tool.annotations.read_only_hint is not writes
            assert tool.annotations.destructive_hint is False
        # from there on: other tests have contexts, too, on more pages than one
        contexts = (await use(agent, "list_contexts", cursor=filled[:-1]))["contexts"]
        assert next(c for c in contexts if c["context_id"] == filled)["unread"] == 5
        digest = await use(agent, "get_digest", context_id=filled, budget=200)
        assert (digest["updates"], digest["last_seq"]) == (5, 5)
        assert digest["tokens"] <= 200
        page = await use(agent, "get_updates", context_id=filled, after=2, limit=2)
        assert [update["seq"] for update in page["updates"]] == [3, 4]
        event_id = page["updates"][0]["event_id"]
        assert page["updates"][0]["provenance"]["signature"] == "none"

        async def recorded() -> Any:
            found = await use(agent, "search_events", context_id=filled, limit=3)
            return len(found["events"]) == 3 and found["cursor"]

        await eventually(recorded, "the events are recorded")
        event = await use(agent, "get_event", event_id=event_id)
        assert event["payload"]["n"] == 2
        kept = await use(agent, "acknowledge", context_id=filled, seq=4)
        assert kept["acknowledged_seq"] == 4
        assert (await use(agent, "get_digest", context_id=filled))["updates"] == 1
        replay = await use(agent, "replay_event", context_id=filled, event_id=event_id)
        [update] = await stack.updates(filled, 1, after=5)
        assert (update["event_id"], update["replay_id"]) == (event_id, replay["replay_id"])


async def test_resources_and_what_was_missed(stack: Stack, filled: str) -> None:
    async with client(stack) as agent:
        resources: list[types.Resource] = []
        cursor = None
        while True:
            page = await agent.list_resources(cursor=cursor)
            resources += page.resources
            cursor = page.next_cursor
            if cursor is None:
                break
        uri = f"hookstream://contexts/{filled}"
        assert uri in [str(resource.uri) for resource in resources]
        templates = (await agent.list_resource_templates()).resource_templates
        assert {template.name for template in templates} == {"updates", "event"}
        value = await read(agent, uri)
        assert (value["notice"], value["last_seq"], len(value["updates"])) == (NOTICE, 5, 5)
        assert "summary" in value["updates"][0]["untrusted"]
        missed = await read(agent, f"{uri}/updates/3")
        assert [update["seq"] for update in missed["updates"]] == [4, 5]
        assert missed["next_after"] == 5
        event = await read(agent, f"hookstream://events/{missed['updates'][0]['event_id']}")
        assert (event["payload"]["n"], event["untrusted"]) == (3, ["payload"])
        for wrong in (
            "hookstream://contexts/not-there",
            "hookstream://contexts/a%2fb",
            "hookstream://events/1",
            "hookstream://events/01890000-0000-7000-8000-000000000000",
            "file:///etc/passwd",
        ):
            with pytest.raises(MCPError):
                await agent.read_resource(wrong)


async def read(agent: Client, uri: str) -> dict[str, Any]:
    [content] = (await agent.read_resource(uri, cache_mode="bypass")).contents
    assert isinstance(content, types.TextResourceContents)
    return dict(json.loads(content.text))


async def test_listeners_hear_of_their_own_contexts_several_at_once(
    stack: Stack, name: str
) -> None:
    names = [f"{name}-{number}" for number in range(3)]
    for one in names:
        await stack.context(one, {"provider": "none"})
    keys = [(await make(stack, one))["key"] for one in names]

    async def follow(key: str, one: str) -> list[int]:
        """As an agent does: hear, then read what is new, by the feed's own cursor."""
        seen: list[int] = []
        async with client(stack, key) as agent:
            uri = f"hookstream://contexts/{one}"
            async with agent.listen(resource_subscriptions=[uri]) as heard:
                started.release()
                async for event in heard:
                    assert str(event.uri) == uri
                    after = seen[-1] if seen else 0
                    page = await use(agent, "get_updates", context_id=one, after=after, limit=100)
                    seen += [update["seq"] for update in page["updates"]]
                    if len(seen) == 20:
                        return seen
        return seen

    started = asyncio.Semaphore(0)
    agents = [asyncio.create_task(follow(key, one)) for key, one in zip(keys, names, strict=True)]
    for _ in names:
        await asyncio.wait_for(started.acquire(), 20)
    for n in range(20):
        await asyncio.gather(*(stack.hook(one, b'{"n": %d}' % n) for one in names))
    async with asyncio.timeout(30):
        for seen in await asyncio.gather(*agents):
            assert seen == list(range(1, 21))


@pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")
async def test_older_clients_subscribe_on_their_session(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    uri = f"hookstream://contexts/{name}"
    heard = asyncio.Event()

    async def on_message(message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            assert str(message.params.uri) == uri
            heard.set()

    async with client(stack, mode="legacy", message_handler=on_message) as agent:
        await agent.subscribe_resource(uri)
        await stack.hook(name, b"{}")
        async with asyncio.timeout(20):
            await heard.wait()
        await agent.unsubscribe_resource(uri)
        with pytest.raises(MCPError):
            await agent.subscribe_resource("hookstream://contexts/not-there")


async def test_key_is_limited_to_its_contexts(stack: Stack, filled: str, name: str) -> None:
    mine = f"{name}-mine"
    await stack.context(mine, {"provider": "none"})
    my_event = await stack.hook(mine, b"{}")
    [other] = await stack.updates(filled, 1)
    await stack.updates(mine, 1)
    made = await make(stack, mine)
    async with client(stack, made["key"]) as agent:
        contexts = (await use(agent, "list_contexts"))["contexts"]
        assert [context["context_id"] for context in contexts] == [mine]
        for tool, arguments in (
            ("get_digest", {"context_id": filled}),
            ("get_updates", {"context_id": filled}),
            ("search_events", {"context_id": filled}),
            ("acknowledge", {"context_id": filled, "seq": 5}),
            ("replay_event", {"context_id": filled, "event_id": my_event}),
        ):
            assert "does not name" in await failure(agent, tool, **arguments)

        async def recorded() -> bool:
            return bool((await use(agent, "search_events"))["events"])

        await eventually(recorded, "the event is recorded")
        for tool, more in (("get_event", {}), ("replay_event", {"context_id": mine})):
            said = await failure(agent, tool, event_id=other["event_id"], **more)
            assert "there is no event" in said
        for uri in (f"hookstream://contexts/{filled}", f"hookstream://events/{other['event_id']}"):
            with pytest.raises(MCPError):
                await agent.read_resource(uri)
        with pytest.raises(MCPError):
            async with agent.listen(resource_subscriptions=[f"hookstream://contexts/{filled}"]):
                pass
        # a listener ends with its key
        async with agent.listen(resource_subscriptions=[f"hookstream://contexts/{mine}"]) as heard:
            status, _ = await call(stack, stack.key, "DELETE", f"/keys/{made['key_id']}")
            assert status == 204
            async with asyncio.timeout(20):
                assert [event async for event in heard] == []


async def test_a_key_has_so_many_streams_and_each_hears_a_context_once(
    stack: Stack, name: str
) -> None:
    await stack.context(name, {"provider": "none"})
    mine, other = [(await make(stack, name))["key"] for _ in range(2)]
    uri = f"hookstream://contexts/{name}"
    async with client(stack, mine) as agent, AsyncExitStack() as streams:
        uris = [uri, *(f"{uri}/updates/{n}" for n in range(50))]
        first = await streams.enter_async_context(agent.listen(resource_subscriptions=uris))

        async def followers() -> int:
            url = stack.url.rstrip("/") + "/health"
            headers = {"Authorization": f"Bearer {stack.key}"}
            async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as got:
                return int((await got.json())["parts"]["sockets"]["mcp"])

        assert await followers() == 1
        await stack.hook(name, b"{}")
        async with asyncio.timeout(20):
            assert {str((await anext(first)).uri) for _ in uris} == set(uris)
        for _ in range(63):
            await streams.enter_async_context(agent.listen(resource_subscriptions=[uri]))
        with pytest.raises(MCPError, match="64 streams"):
            async with agent.listen(resource_subscriptions=[uri]):
                pass
        for key in (other, stack.key):
            async with client(stack, key) as theirs, theirs.listen(resource_subscriptions=[uri]):
                pass


async def test_wrong_arguments_say_what_to_do(stack: Stack, filled: str) -> None:
    async with client(stack) as agent:
        for tool, arguments, said in (
            ("get_digest", {"context_id": filled, "budget": 1}, "budget: "),
            ("get_digest", {}, "context_id: Field required"),
            ("get_updates", {"context_id": "a/b"}, "context_id: "),
            ("get_updates", {"context_id": filled, "limit": 10**9}, "limit: "),
            ("get_event", {"event_id": "no"}, "event_id is not a UUIDv7"),
            ("search_events", {"since": "yesterday"}, "since: a time such as"),
            ("search_events", {"type": "a\0b"}, "text without NUL"),
            ("get_event", {f"a{n}": n for n in range(10_000)}, "no tool has more than 32"),
            ("search_events", {"sql": "x"}, "sql: Extra inputs"),
            ("acknowledge", {"context_id": filled, "seq": -1}, "seq: "),
            ("acknowledge", {"context_id": filled, "seq": 99_999_999}, "the feed ends at "),
        ):
            assert said in await failure(agent, tool, **arguments)
        with pytest.raises(MCPError):
            await agent.call_tool("drop_tables", {})


async def test_strangers_text_stays_in_its_frame(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    sent = {}
    for number, text in enumerate(INJECTIONS):
        body = json.dumps({"title": text, "text": text, "n": number}).encode()
        sent[await stack.hook(name, body)] = text
    await stack.updates(name, len(sent))
    async with client(stack) as agent:
        for event_id, text in sent.items():
            result = await agent.call_tool("get_event", {"event_id": event_id})
            whole = str(result.content[0].text)  # type: ignore[union-attr]
            inside = whole.split("\n")[1]
            assert not set("<>&") & set(inside)
            assert "```" not in inside
            payload = json.loads(inside)["payload"]
            assert payload["n"] == list(sent).index(event_id)
            assert all(char.isprintable() or char in "\n\t" for char in payload["text"])
            if text.isascii() and text.isprintable():
                assert payload["text"] == text
        await use(agent, "get_digest", context_id=name)


async def test_long_payloads_are_cut(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    event_id = await stack.hook(name, json.dumps({"text": "long " * 20_000}).encode())
    await stack.updates(name, 1)
    async with client(stack) as agent:
        event = await use(agent, "get_event", event_id=event_id)
    assert event["payload_cut"] is True
    assert event["payload_bytes"] > 100_000
    assert len(event["payload"]) <= MAX_RESULT_BYTES


async def test_only_with_a_key_and_not_from_another_site(stack: Stack) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    headers = {"Accept": "application/json, text/event-stream"}
    own = {**headers, **stack.headers}
    async with aiohttp.ClientSession(stack.url) as session:
        for wrong in (headers, {**headers, "Authorization": "Bearer nobody"}):
            async with session.post("/mcp", json=body, headers=wrong) as response:
                assert response.status == 401
                assert response.headers["WWW-Authenticate"] == "Bearer"
        for origin, status in (("https://evil.example", 403), ("null", 403)):
            async with session.post(
                "/mcp", json=body, headers={**own, "Origin": origin}
            ) as response:
                assert response.status == status
        for hostile in (b"", b"{", b"[" * 100_000, b"[]", b"\xff", b'{"jsonrpc": 1}', b"1" * 9999):
            async with session.post(
                "/mcp", data=hostile, headers={**own, "Content-Type": "application/json"}
            ) as response:
                assert 400 <= response.status < 500, hostile[:20]
        async with session.post("/mcp", data=b" " * 300_000, headers=own) as response:
            assert response.status == 413
