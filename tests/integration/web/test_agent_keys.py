"""Keys of agents: their own contexts, and nothing else."""

import json
from typing import Any

import aiohttp
import pytest

from tests.support.stack import Stack, eventually, fresh


async def call(
    stack: Stack, key: str, method: str, path: str, **body: Any
) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        aiohttp.ClientSession(stack.url, headers=headers) as session,
        session.request(method, f"/api/v1{path}", json=body or None) as response,
    ):
        text = await response.text()
        return response.status, json.loads(text) if text else {}


async def make(stack: Stack, *contexts: str) -> dict[str, Any]:
    status, made = await call(stack, stack.key, "POST", "/keys", name="agent", contexts=contexts)
    assert status == 201
    return made


@pytest.fixture
async def two(stack: Stack, name: str) -> tuple[str, str, str, str]:
    """Two contexts and an event of each."""
    mine, other = f"{name}-mine", f"{name}-other"
    for context in (mine, other):
        await stack.context(context, {"provider": "none"})
    events = [await stack.hook(context, b'{"n": 1}') for context in (mine, other)]
    await stack.updates(mine, 1)
    await stack.updates(other, 1)
    return mine, other, *events


async def test_key_reads_its_own_contexts_only(
    stack: Stack, two: tuple[str, str, str, str]
) -> None:
    mine, other, my_event, other_event = two
    made = await make(stack, mine)
    key = made["key"]
    for path in ("", "/digest", "/updates"):
        assert (await call(stack, key, "GET", f"/contexts/{mine}{path}"))[0] == 200
        for context in (other, "not-even-there"):
            status, problem = await call(stack, key, "GET", f"/contexts/{context}{path}")
            assert (status, problem["type"].rpartition("/")[2]) == (403, "forbidden")

    async def status_of(event_id: str) -> int:
        return (await call(stack, key, "GET", f"/events/{event_id}"))[0]

    async def recorded() -> bool:
        return await status_of(my_event) == 200

    await eventually(recorded, "the delivery is recorded")
    assert await status_of(other_event) == 404
    status, found = await call(stack, key, "GET", f"/events?context={mine}")
    assert (status, [event["event_id"] for event in found["events"]]) == (200, [my_event])
    assert (await call(stack, key, "GET", f"/events?context={other}"))[0] == 403
    assert (await call(stack, key, "GET", "/events"))[0] == 403


async def test_key_changes_nothing(stack: Stack, two: tuple[str, str, str, str]) -> None:
    mine, _, my_event, _ = two
    key = (await make(stack, mine))["key"]
    for method, path, body in (
        ("PUT", f"/contexts/{mine}", {"name": "x"}),
        ("DELETE", f"/contexts/{mine}", {}),
        ("PUT", f"/contexts/{mine}/subscriptions/s", {"tool": mine}),
        ("GET", f"/contexts/{mine}/subscriptions", {}),
        ("GET", "/contexts", {}),
        ("GET", "/tools", {}),
        ("PUT", "/tools/t", {"provider": "none"}),
        ("POST", "/replays", {"event_id": my_event}),
        ("GET", "/dead-letters", {}),
        ("GET", "/partitions", {}),
        ("GET", "/templates", {}),
        ("POST", "/keys", {"contexts": [mine]}),
        ("GET", "/keys", {}),
        ("GET", "/openapi.json", {}),
    ):
        assert (await call(stack, key, method, path, **body))[0] == 403, (method, path)


async def test_websocket_is_for_the_key_s_contexts_and_ends_with_the_key(
    stack: Stack, two: tuple[str, str, str, str]
) -> None:
    mine, other, *_ = two
    made = await make(stack, mine)
    headers = {"Authorization": f"Bearer {made['key']}"}
    async with aiohttp.ClientSession(stack.url, headers=headers) as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"/contexts/{other}/updates")
        assert refused.value.status == 403
        async with session.ws_connect(f"/contexts/{mine}/updates?after=0") as socket:
            assert (await socket.receive_json(timeout=10))["seq"] == 1
            await socket.send_json({"type": "ack", "seq": 1})
            status, _ = await call(stack, stack.key, "DELETE", f"/keys/{made['key_id']}")
            assert status == 204
            await stack.hook(mine, b'{"n": 2}')
            closing = await socket.receive(timeout=10)
            assert (closing.type, closing.data) == (aiohttp.WSMsgType.CLOSE, 1008)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"/contexts/{mine}/updates")
        assert refused.value.status == 401
    assert (await call(stack, stack.key, "DELETE", f"/keys/{made['key_id']}"))[0] == 404


async def test_key_is_shown_once_and_kept_as_a_hash(stack: Stack, name: str) -> None:
    made = await make(stack, name, name)
    assert made["key"].startswith("hsa_")
    assert made["contexts"] == [name]
    status, listed = await call(stack, stack.key, "GET", "/keys?limit=100")
    assert status == 200
    [mine] = [key for key in listed["keys"] if key["key_id"] == made["key_id"]]
    assert "key" not in mine
    assert made["key"] not in json.dumps(listed)
    for wrong in (made["key"][:-1], "", "hsa_", made["key"] + "x"):
        assert (await call(stack, wrong, "GET", f"/contexts/{name}"))[0] == 401
    assert (await call(stack, stack.key, "POST", "/keys", contexts=[]))[0] == 400


async def test_a_context_that_is_made_again_is_not_for_the_old_key(
    stack: Stack, two: tuple[str, str, str, str]
) -> None:
    mine, other, *_ = two
    only, both = await make(stack, mine), await make(stack, mine, other)
    headers = {"Authorization": f"Bearer {only['key']}"}
    async with (
        aiohttp.ClientSession(stack.url, headers=headers) as session,
        session.ws_connect(f"/contexts/{mine}/updates?after=1") as socket,
    ):
        ended = await call(stack, stack.key, "DELETE", f"/contexts/{mine}")
        assert ended[0] == 204, ended
        # at once, as somebody who wants a clean context would
        await stack.put(f"/contexts/{mine}", {})
        await stack.put(f"/contexts/{mine}/subscriptions/all", {"tool": mine})
        await stack.hook(mine, b'{"for": "the new one"}')
        message = await socket.receive(timeout=30)
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED), message
    assert (await call(stack, only["key"], "GET", f"/contexts/{mine}"))[0] == 401
    assert (await call(stack, both["key"], "GET", f"/contexts/{mine}"))[0] == 403
    assert (await call(stack, both["key"], "GET", f"/contexts/{other}"))[0] == 200
    keys = (await stack.get("/keys", limit="100"))["keys"]
    assert only["key_id"] not in {key["key_id"] for key in keys}
    [left] = [key for key in keys if key["key_id"] == both["key_id"]]
    assert left["contexts"] == [other]


async def test_an_agent_sends_nothing_long(stack: Stack, name: str) -> None:
    """What is wrong with 200,000 fields took the process 7 s to say."""
    await stack.context(name, {"provider": "none"})
    key = (await make(stack, name))["key"]
    for count, status in ((300, 400), (200_000, 413)):
        body = {f"a{number}": 1 for number in range(count)}
        assert (await call(stack, key, "POST", f"/contexts/{name}/ack", **body))[0] == status


async def test_a_key_has_so_many_websockets_and_no_other_key_pays_for_them(
    stack: Stack, name: str
) -> None:
    await stack.context(name, {"provider": "none"})
    mine, other = [(await make(stack, name))["key"] for _ in range(2)]
    path = f"/contexts/{name}/updates?after=0"

    def headers(key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"}

    async with aiohttp.ClientSession(stack.url) as session:
        sockets = [await session.ws_connect(path, headers=headers(mine)) for _ in range(64)]
        async with session.get(path, headers=headers(mine)) as refused:
            # it is no upgrade at all: that is said first, and counts as nothing
            assert refused.status == 400
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(path, headers=headers(mine))
        assert caught.value.status == 429
        assert caught.value.headers is not None
        assert int(caught.value.headers["Retry-After"]) > 0
        async with stack.session() as own, fresh(own, "/metrics") as metrics:
            # others of this process may have been refused before
            assert 'hookstream_limited_total{limit="websockets_per_key"} ' in await metrics.text()
        for key in (other, stack.key):
            await (await session.ws_connect(path, headers=headers(key))).close()
        await sockets.pop().close()

        async def has_room() -> bool:
            try:
                sockets.append(await session.ws_connect(path, headers=headers(mine)))
            except aiohttp.WSServerHandshakeError:
                return False
            return True

        await eventually(has_room, "what one socket has left, another may take")
        for socket in sockets:
            await socket.close()
