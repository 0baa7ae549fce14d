"""The API and the WebSocket, as an agent builder and an operator use them."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from hookstream.app.ids import new_event_id
from hookstream.app.web.access import TENANT_HEADER
from tests.support.stack import Stack, eventually, fresh


async def call(stack: Stack, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and JSON; an error is checked to be a problem document."""
    async with stack.session() as session, session.request(method, path, json=body) as response:
        text = await response.text()
        if response.status >= 400:
            assert response.content_type == "application/problem+json", text
        return response.status, json.loads(text) if text else None


@pytest.mark.parametrize("credentials", [None, "", "Bearer", "Bearer wrong", "Basic dGVzdA=="])
@pytest.mark.parametrize("path", ["/api/v1/events", "/api/v1/openapi.json", "/contexts/x/updates"])
async def test_nothing_is_shown_without_the_key(
    stack: Stack, path: str, credentials: str | None
) -> None:
    headers = {} if credentials is None else {"Authorization": credentials}
    async with (
        aiohttp.ClientSession(stack.url) as session,
        session.get(path, headers=headers) as response,
    ):
        assert response.status == 401
        assert response.content_type == "application/problem+json"


async def test_tool_is_made_changed_shown_and_deleted(stack: Stack, name: str) -> None:
    path = f"/api/v1/tools/{name}"
    body = {"provider": "stripe", "secrets": ["whsec_x"], "dedup": {"window": "100h"}}
    status, made = await call(stack, "PUT", path, body)
    assert (status, made["secret_count"]) == (201, 1)
    assert made["dedup"] == {
        "strategy": "delivery",
        "fields": [],
        "window": "100h",
        "name": None,
        "history": None,
    }
    assert "whsec_x" not in json.dumps(made)
    assert (await call(stack, "PUT", path, body))[0] == 200
    assert (await call(stack, "GET", path))[1]["provider"] == "stripe"
    assert (await call(stack, "DELETE", path))[0] == 204
    assert (await call(stack, "GET", path))[0] == 404
    assert (await call(stack, "DELETE", path))[0] == 404


@pytest.mark.parametrize(
    ("path", "body", "hint"),
    [
        ("tools/x", {}, "provider"),
        ("tools/x", {"provider": "githup"}, "did you mean github"),
        ("tools/x", {"provider": "github"}, "secret"),
        ("tools/x", {"provider": "none", "sekrets": []}, "sekrets"),
        ("tools/x", {"provider": "none", "dedup": {"window": "1w"}}, "dedup.window"),
        ("tools/x", {"provider": "none", "dedup": {"window": "99d"}}, "31d"),
        ("tools/x", {"provider": "none", "dedup": {"strategy": "fields"}}, "dedup.fields"),
        ("tools/x", {"provider": "none", "dedup": {"strategy": "custom"}}, "which function"),
        (
            "tools/x",
            {"provider": "none", "dedup": {"strategy": "custom", "name": "nobody"}},
            "no dedup function 'nobody' (there are: none yet",
        ),
        ("tools/x", {"provider": "none", "dedup": {"name": "x"}}, "dedup.name"),
        ("tools/x", {"provider": "none", "dedup": {"history": "8d"}}, "at most 7d"),
        ("tools/x", {"provider": "none", "dedup": {"history": "10m"}}, "longer than the window"),
        (
            "tools/x",
            {"provider": "none", "dedup": {"strategy": "none", "history": "2d"}},
            "no duplicates",
        ),
        ("tools/x", {"provider": "none", "ordering": {"by": "field"}}, "ordering.field"),
        ("tools/x", {"provider": "none", "options": {"nope": 1}}, "nope"),
        ("tools/x%20y", {"provider": "none"}, "tool_id"),
        ("contexts/x", {"priority": "urgent"}, "priority"),
        ("contexts/x", {"rate": {"updates_per_second": 0}}, "rate"),
        ("contexts/x/subscriptions/s", {"tool": "t", "types": []}, "types"),
        ("contexts/x/subscriptions/s", {"tool": "t", "types": ["push "]}, "'push ' begins or ends"),
        ("contexts/x/subscriptions/s", {"tool": "t", "where": "payload."}, "CEL"),
        ("contexts/x/subscriptions/s", {"tool": "t", "where": "event.typ == 'a'"}, "event.type?"),
        ("contexts/x/subscriptions/s", {"tool": "t", "follow": "OPS-7"}, "ticket:OPS-7"),
        ("contexts/x/subscriptions/s", {"tool": "t", "type": "a"}, "did you mean types?"),
        ("tools/x", {"provider": "none", "secret": "a"}, "secret: there is no such field"),
    ],
)
async def test_bad_configuration_is_refused_with_the_reason(
    stack: Stack, path: str, body: dict[str, Any], hint: str
) -> None:
    status, problem = await call(stack, "PUT", f"/api/v1/{path}", body)
    assert status == 400
    assert hint in problem["detail"]


async def test_body_that_is_not_json_is_refused(stack: Stack) -> None:
    for body in (b"", b"{", b"\xff", b"[" * 100_000, b"null"):
        async with (
            stack.session() as session,
            session.put("/api/v1/contexts/x", data=body) as response,
        ):
            assert response.status == 400


async def test_subscriptions_decide_who_gets_what(stack: Stack, name: str) -> None:
    await stack.context(f"{name}-all", {"provider": "none"})
    await stack.put(f"/contexts/{name}", {"priority": "high"})
    tool = f"{name}-all"
    await stack.put(
        f"/contexts/{name}/subscriptions/s",
        {"tool": tool, "types": ["unk*"], "where": "payload.n > 1 && payload.to.deep == true"},
    )
    assert await stack.context(f"{name}-other", {"provider": "none"}) is None
    bodies = [
        b'{"n": 1, "to": {"deep": true}}',
        b'{"n": 2, "to": {"deep": true}}',
        b'{"n": 3, "to": null}',
        # a payload cannot choose its context
        b'{"n": 0, "context_id": "%s-other", "tenant": "x"}' % name.encode(),
    ]
    ids = [await stack.hook(tool, body) for body in bodies]
    assert [u["event_id"] for u in await stack.updates(tool, 4)] == ids
    [update] = await stack.updates(name, 1)
    assert (update["event_id"], update["priority"]) == (ids[1], "high")
    await stack.put(f"/contexts/{name}/subscriptions/s", {"tool": tool, "priority": "low"})
    last = await stack.hook(tool, b'{"n": 9}')
    [changed] = await stack.updates(name, 1, after=1)
    assert (changed["event_id"], changed["priority"], changed["seq"]) == (last, "low", 2)
    assert (await stack.get(f"/contexts/{name}-other"))["last_seq"] == 0
    async with stack.session() as session, fresh(session, "/metrics") as response:
        assert response.status == 200


async def test_events_are_searched_and_paged(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    ids = [await stack.hook(name, b"%d" % number) for number in range(7)]

    async def recorded() -> bool:
        found = await stack.get("/events", tool=name, status="delivered", type="unk*")
        return len(found["events"]) == 7

    await eventually(recorded, "seven delivered events")
    seen: list[str] = []
    query = {"tool": name, "limit": "3", "context": name}
    while True:
        page = await stack.get("/events", **query)
        seen += [event["event_id"] for event in page["events"]]
        if page["cursor"] is None:
            break
        query["cursor"] = page["cursor"]
    # newest first by id; within one millisecond the order is any
    assert seen == sorted(ids, reverse=True)
    assert (await stack.get("/events", tool=name, type="x_*"))["events"] == []
    assert (await stack.get("/events", tool=name, since="2999-01-01T00:00:00Z"))["events"] == []
    for bad in (
        {"limit": "0"},
        {"limit": "x"},
        {"cursor": "x"},
        {"since": "x"},
        {"status": "x"},
        {"x": "y"},
        {"tool": "\0"},
        {"cursor": ""},
    ):
        async with stack.session() as session, session.get("/api/v1/events", params=bad) as answer:
            assert answer.status == 400, bad


async def test_unknown_and_malformed_ids(stack: Stack) -> None:
    nowhere = new_event_id(1_000, 3, 5)
    for path, status in ((nowhere, 404), ("x", 400), (nowhere.upper(), 400), ("0" * 36, 400)):
        assert (await call(stack, "GET", f"/api/v1/events/{path}"))[0] == status
    replay = {"event_id": nowhere}
    assert (await call(stack, "POST", "/api/v1/replays", replay))[0] == 404
    assert (await call(stack, "GET", f"/api/v1/replays/{nowhere}"))[0] == 404


async def test_replay_is_marked_and_is_no_new_event(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    await stack.put(f"/contexts/{name}-2", {})
    event_id = await stack.hook(name, b'{"title": "once"}')
    await stack.updates(name, 1)
    for body, context, after in (
        ({"event_id": event_id}, name, 1),
        ({"event_id": event_id, "context_id": f"{name}-2"}, f"{name}-2", 0),
    ):
        status, replay = await call(stack, "POST", "/api/v1/replays", body)
        assert status == 202
        [update] = await stack.updates(context, 1, after=after)
        assert update["event_id"] == event_id
        assert update["replay_id"] == replay["replay_id"]

        async def done(path: str = f"/replays/{replay['replay_id']}") -> bool:
            shown = await stack.get(path)
            return (shown["status"], shown["deliveries"]) == ("done", 1)

        await eventually(done, "the replay is done")
    found = await stack.get("/events", tool=name)
    assert [event["event_id"] for event in found["events"]] == [event_id]
    event = await stack.get(f"/events/{event_id}")
    assert event["status"] == "delivered"
    assert len(event["deliveries"]) == 3


async def test_feed_resumes_after_what_was_acknowledged(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    for number in range(5):
        await stack.hook(name, b"%d" % number)
    await stack.updates(name, 5)
    path = f"/contexts/{name}/updates"
    async with aiohttp.ClientSession(stack.url) as session:
        protocols = ("hookstream", f"hookstream.key.{stack.key}")
        async with session.ws_connect(path, protocols=protocols) as socket:
            assert (await socket.receive_json())["seq"] == 1
            for message, seq in (('{"type": "ack", "seq": 3}', 3), ('{"type":"ack","seq":2}', 3)):
                await socket.send_str(message)

                async def kept(seq: int = seq) -> bool:
                    return (await stack.get(f"/contexts/{name}"))["acknowledged_seq"] == seq

                await eventually(kept, f"{seq} is acknowledged")
            nonsense = ("x", "{}", '{"type": "ack", "seq": "1"}', '{"type":"ack","seq":-1}')
            for text in (*nonsense, '{"type":"ack","seq":6}'):
                await socket.send_str(text)
            errors = []
            while len(errors) < 5:
                frame = await socket.receive_json()
                errors += [frame["detail"]] if frame["type"] == "error" else []
            assert "there is no update 6 here: the feed ends at 5" in errors[-1]
    async with stack.session() as session:
        async with session.post(f"/api/v1{path[:-8]}/ack", json={"seq": 99_999_999}) as answer:
            assert answer.status == 409
            assert "the feed ends at 5" in (await answer.json())["detail"]
        async with session.ws_connect(path) as socket:
            # nothing of that counts as read
            assert (await socket.receive_json())["seq"] == 4
    async with stack.session() as session:
        for query in ("?after=x", "?after=-1", "?after=1.5", "?aftr=1"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(path + query)
            assert refused.value.status == 400
        async with session.get(path) as response:
            assert response.status == 400


async def test_slow_client_slows_nobody_and_fills_no_memory(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    receiver = stack.find("receive")
    async with (
        stack.session() as session,
        session.ws_connect(f"/contexts/{name}/updates", max_msg_size=0) as slow,
    ):
        before = receiver.memory_info().rss
        title = "y" * 290
        limit = asyncio.Semaphore(50)

        async def one(http: aiohttp.ClientSession, number: int) -> None:
            async with (
                limit,
                http.post(
                    f"/hooks/{name}", data=b'{"title": "%d%s"}' % (number, title.encode())
                ) as response,
            ):
                assert response.status == 202

        async with aiohttp.ClientSession(stack.url) as http:
            await asyncio.gather(*(one(http, number) for number in range(3000)))
        updates = await stack.updates(name, 3000)
        assert [update["seq"] for update in updates] == list(range(1, 3001))
        assert receiver.memory_info().rss - before < 64 << 20
        assert (await slow.receive_json())["seq"] == 1


async def test_fuzzer_over_the_openapi_document_finds_no_server_error(
    stack: Stack, name: str
) -> None:
    # here: half a second for each process that collects tests
    import schemathesis

    # it holds, erases and deletes all that there is, of a tenant of its own: others share this
    async with (
        stack.session() as session,
        session.post("/api/v1/tenants", json={"tenant_id": name}) as response,
    ):
        assert response.status == 201, await response.text()

    schema = schemathesis.openapi.from_url(
        f"{stack.url}/api/v1/openapi.json", headers=stack.headers
    )
    headers = {**stack.headers, TENANT_HEADER: name}
    called = sum(fuzzed(operation.ok(), headers) for operation in schema.get_all_operations())
    assert called > 200


def fuzzed(operation: Any, headers: dict[str, str]) -> int:
    """Call one operation with generated input; returns how often."""
    calls = 0

    @settings(
        max_examples=25,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def fuzz(case: Any) -> None:
        nonlocal calls
        calls += 1
        response = case.call(headers=headers, timeout=30)
        assert response.status_code < 500, (case.method, case.path, response.text)

    fuzz()
    return calls


@pytest.mark.browser
async def test_console_is_served_with_a_strict_policy(stack: Stack) -> None:
    async with aiohttp.ClientSession(stack.url) as session:
        for path, kind in (
            ("/", "text/html"),
            ("/console.js", "text/javascript"),
            ("/console/session.js", "text/javascript"),
            ("/console/style.css", "text/css"),
            ("/console/erasures", "text/html"),
            ("/console/erasures.js", "text/javascript"),
            ("/console/migration", "text/html"),
            ("/console/migration.js", "text/javascript"),
        ):
            async with session.get(path) as response:
                assert (response.status, response.content_type) == (200, kind)
                assert "script-src 'self'" in response.headers["Content-Security-Policy"]
                assert "unsafe" not in response.headers["Content-Security-Policy"]
