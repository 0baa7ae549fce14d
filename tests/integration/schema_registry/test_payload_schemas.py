"""Payloads that break their tool's schema: refused, dead-lettered or marked."""

import json
import time
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from hookstream.app import embedded
from tests.support.stack import Stack, eventually

SCHEMA = {
    "type": "object",
    "required": ["n"],
    "properties": {"n": {"type": "integer"}, "secret": {"maxLength": 3}},
}


async def call(stack: Stack, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async with stack.session() as session, session.request(method, path, json=body) as response:
        text = await response.text()
        return response.status, json.loads(text) if text else None


async def register(stack: Stack, subject: str, schema: Any, kind: str = "JSON") -> None:
    text = schema if isinstance(schema, str) else json.dumps(schema)
    body = {"schemaType": kind, "schema": text}
    status, answer = await call(stack, "POST", f"/registry/subjects/{subject}/versions", body)
    assert status == 200, answer


async def tool(stack: Stack, name: str, on_violation: str) -> None:
    rule = {"subject": name, "on_violation": on_violation}
    await stack.context(name, {"provider": "none", "schema": rule})


async def post(stack: Stack, name: str, body: bytes) -> tuple[int, dict[str, Any]]:
    async with stack.session() as session, session.post(f"/hooks/{name}", data=body) as response:
        return response.status, await response.json(content_type=None)


async def becomes(stack: Stack, event_id: str, status: str) -> dict[str, Any]:
    async def reached() -> Any:
        event = await stack.get(f"/events/{event_id}")
        return event if event["status"] == status else None

    return dict(await eventually(reached, f"{event_id} is {status}"))


async def test_reject_answers_422_and_keeps_nothing(stack: Stack, name: str) -> None:
    await register(stack, name, SCHEMA)
    await tool(stack, name, "reject")
    for body in (b'{"n": "x", "secret": "hidden"}', b"{}", b"not json", b"[]", b""):
        status, problem = await post(stack, name, body)
        assert (status, problem["type"].rsplit("/", 1)[1]) == (422, "schema-violation")
        assert "hidden" not in json.dumps(problem)
    good = await stack.hook(name, b'{"n": 1}')
    [update] = await stack.updates(name, 1)
    assert (update["event_id"], update["seq"]) == (good, 1)
    assert "schema_errors" not in update
    await becomes(stack, good, "delivered")
    events = (await stack.get("/events", tool=name))["events"]
    assert [event["event_id"] for event in events] == [good]


async def test_payload_nested_deeply_or_large_is_refused_like_any_other(
    stack: Stack, name: str
) -> None:
    await register(stack, name, {"type": "array", "items": {"type": "string"}})
    await tool(stack, name, "reject")
    deep = b'{"a":' * 600 + b"1" + b"}" * 600
    status, problem = await post(stack, name, deep)
    assert (status, "too deeply" in problem["detail"]) == (422, True)
    begun = time.monotonic()
    status, problem = await post(stack, name, b"[" + b"1," * 90_000 + b"1]")
    assert (status, problem["detail"]) == (422, "/0 breaks #/items/type")
    assert time.monotonic() - begun < 5
    status, problem = await post(stack, name, b"[" + b"[]," * 100_001 + b"1]")
    assert (status, "too large to parse" in problem["detail"]) == (422, True)
    good = await stack.hook(name, b"[" + b'"x",' * 90_000 + b'"x"]')
    assert [update["event_id"] for update in await stack.updates(name, 1)] == [good]


async def test_schema_that_cannot_be_read_any_more_stops_nothing_else(tmp_path: Path) -> None:
    with Stack(tmp_path) as own:
        await register(own, "spoilt", SCHEMA)
        await tool(own, "spoilt", "mark")
        connection = await asyncpg.connect(str(embedded.find_postgres(tmp_path / "state")))
        await connection.execute("UPDATE schemas SET source = '{' WHERE type = 'JSON'")
        await connection.close()
    with Stack(tmp_path) as own:
        await own.context("other", {"provider": "none"})
        other = await own.hook("other", b"{}")
        assert (await own.updates("other", 1))[0]["event_id"] == other
        assert "payloads are not measured by spoilt" in own.log.read_text()


async def test_dead_letter_says_why_and_is_delivered_once_the_schema_allows_it(
    stack: Stack, name: str
) -> None:
    await register(stack, name, SCHEMA)
    await tool(stack, name, "dead-letter")
    bad = await stack.hook(name, b'{"n": "x"}')
    event = await becomes(stack, bad, "dead")
    assert event["stage"] == "schema"
    failed_event = await stack.get(f"/dead-letters/{bad}")
    assert (failed_event["state"], failed_event["attempts"], failed_event["stage"]) == (
        "dead",
        1,
        "schema",
    )
    assert failed_event["error"] == "SchemaViolationError: /n breaks #/properties/n/type"
    good = await stack.hook(name, b'{"n": 2}')
    assert (await stack.updates(name, 1))[0]["event_id"] == good
    await register(stack, name, {**SCHEMA, "properties": {"n": {"type": ["integer", "string"]}}})
    assert (await call(stack, "POST", f"/api/v1/dead-letters/{bad}/retry"))[0] == 202
    assert [u["event_id"] for u in await stack.updates(name, 2)] == [good, bad]
    await becomes(stack, bad, "delivered")


async def test_bad_payloads_in_a_row_do_not_hold_up_good_ones(stack: Stack, name: str) -> None:
    await register(stack, name, SCHEMA)
    await tool(stack, name, "dead-letter")
    bad = [await stack.hook(name, b'{"n": "%d"}' % n) for n in range(30)]
    await becomes(stack, bad[-1], "dead")
    good = await stack.hook(name, b'{"n": 2}')
    assert (await stack.updates(name, 1))[0]["event_id"] == good


async def test_marked_payload_passes_and_says_where_it_does_not_fit(
    stack: Stack, name: str
) -> None:
    await register(stack, name, SCHEMA)
    await tool(stack, name, "mark")
    body = b'{"n": "x", "secret": "hidden", "title": "as it was"}'
    bad, good = await stack.hook(name, body), await stack.hook(name, b'{"n": 3}')
    marked, plain = await stack.updates(name, 2)
    assert (marked["event_id"], plain["event_id"]) == (bad, good)
    wanted = ["/n breaks #/properties/n/type", "/secret breaks #/properties/secret/maxLength"]
    assert sorted(marked["schema_errors"]) == wanted
    assert {"summary", "data", "schema_errors"} < set(marked["untrusted"])
    assert "schema_errors" not in plain
    event = await becomes(stack, bad, "delivered")
    assert sorted(event["schema_errors"]) == wanted
    assert event["payload"] == json.loads(body)
    assert (await becomes(stack, good, "delivered"))["schema_errors"] == []
    odd = await stack.hook(name, b'{"n": 1, "secret": "long", "\\u0000\\n": 1}')
    assert (await becomes(stack, odd, "delivered"))["schema_errors"]


async def test_protobuf_schema_measures_json_payloads(stack: Stack, name: str) -> None:
    text = 'syntax = "proto3"; message Push { int32 n = 1; repeated string refs = 2; }'
    await register(stack, name, text, "PROTOBUF")
    await tool(stack, name, "reject")
    assert (await post(stack, name, b'{"n": 1, "refs": ["a"], "unknown": {}}'))[0] == 202
    status, problem = await post(stack, name, b'{"n": 1, "refs": [5]}')
    assert status == 422
    assert "refs" in problem["detail"]


@pytest.mark.parametrize("subject", ["nobody-has-this", "", "no-message"])
async def test_schema_that_cannot_be_used_is_refused_when_it_is_set(
    stack: Stack, name: str, subject: str
) -> None:
    await register(stack, "no-message", 'syntax = "proto3"; enum E { A = 0; }', "PROTOBUF")
    body = {"provider": "none", "schema": {"subject": subject, "on_violation": "mark"}}
    status, problem = await call(stack, "PUT", f"/api/v1/tools/{name}", body)
    assert (status, "schema.subject" in problem["detail"]) == (400, True)
    assert (await call(stack, "GET", f"/api/v1/tools/{name}"))[0] == 404


async def test_schemas_are_known_while_postgresql_is_away(tmp_path: Path) -> None:
    with Stack(tmp_path) as own:
        await register(own, "known", SCHEMA)
        await tool(own, "known", "reject")
        path = "/registry/subjects/known/versions/1"
        schema_id = (await call(own, "GET", path))[1]["id"]
        read = await call(own, "GET", f"/registry/schemas/ids/{schema_id}")
        assert read[0] == 200
        servers = [p for p in own.processes() if p.name().startswith("postgres")]
        for process in servers:
            process.suspend()
        try:
            begun = time.monotonic()
            assert await call(own, "GET", f"/registry/schemas/ids/{schema_id}") == read
            assert (await post(own, "known", b"{}"))[0] == 422
            assert (await post(own, "known", b'{"n": 1}'))[0] == 202
            assert time.monotonic() - begun < 3
        finally:
            for process in servers:
                process.resume()
        assert (await call(own, "GET", path))[0] == 200


async def test_subject_that_a_tool_needs_cannot_be_deleted(stack: Stack, name: str) -> None:
    await register(stack, name, SCHEMA)
    await tool(stack, name, "mark")
    shown = await stack.get(f"/tools/{name}")
    assert shown["schema"] == {"subject": name, "on_violation": "mark"}
    status, answer = await call(stack, "DELETE", f"/registry/subjects/{name}")
    assert (status, answer["error_code"]) == (422, 42206)
    assert name in answer["message"]
    await stack.put(f"/tools/{name}", {"provider": "none"})
    assert (await stack.get(f"/tools/{name}"))["schema"] is None
    assert (await call(stack, "DELETE", f"/registry/subjects/{name}"))[0] == 200
