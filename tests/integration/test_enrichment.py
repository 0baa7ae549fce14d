"""What a stage adds to an event: conditions, templates, API and MCP see it; the payload stays."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.mcp.test_mcp import client, use
from tests.support.stack import Stack, eventually, own_stages

STAGES = """
from dataclasses import replace

from hookstream import Event, app


@app.stage(after="dedupe")
async def add_geo(event: Event) -> Event | None:
    payload = event.data()
    if not isinstance(payload, dict) or "ip" not in payload:
        return event
    return event.enrich(geo={"country": "DE" if payload["ip"] == "10.0.0.1" else "FR"})


@app.stage(after="route")
async def rewrite(event: Event) -> Event | None:
    if event.tool_id.startswith("rewritten"):
        event = replace(event, payload=b'{"title": "another one"}')
    if event.tool_id.startswith("huge"):
        event = event.enrich(huge="x" * 20_000)
    return event


@app.stage(after="render")
async def rewrite_late(event: Event) -> Event | None:
    if event.tool_id.startswith("late"):
        event = replace(event, payload=b'{"title": "a late one"}')
    return event
"""
BODY = {"ip": "10.0.0.1", "title": "a door", "rest": "0123456789" * 50}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("enrichment")
    with Stack(
        folder,
        **own_stages(folder, "enriching_stages", STAGES),
        HOOKSTREAM_RETRY_MAX_ATTEMPTS="1",
    ) as running:
        yield running


async def recorded(stack: Stack, event_id: str) -> dict[str, Any]:
    """The event, once its record says what became of it."""
    found: dict[str, Any] = {}

    async def settled() -> bool:
        found.update(await stack.get(f"/events/{event_id}"))
        return found["status"] != "accepted"

    await eventually(settled, "it is recorded and delivered")
    return found


async def test_what_a_stage_adds_is_seen_everywhere(own: Stack) -> None:
    where = 'enrichment.geo.country == "DE"'
    template = "{{ payload.title }} from {{ enrichment.geo.country }}"
    said = {"provider": "none", "types": "*", "template": template}
    await own.put("/templates/geo", said)
    await own.context("geo", {"provider": "none"}, where=where)
    german = await own.hook("geo", json.dumps(BODY).encode())
    french = await own.hook("geo", json.dumps({**BODY, "ip": "10.0.0.2"}).encode())
    [update] = await own.updates("geo", 1)
    assert (update["event_id"], update["summary"]) == (german, "a door from DE")
    assert (await recorded(own, french))["status"] == "unrouted", "its condition is false"

    event = await recorded(own, german)
    assert event["enrichment"] == {"geo": {"country": "DE"}}
    assert event["payload"] == BODY
    assert event["payload_bytes"] == len(json.dumps(BODY))
    assert event["payload_changed"] is False
    async with client(own) as agent:
        shown = await use(agent, "get_event", event_id=german)
    assert (shown["enrichment"], shown["payload"]) == ({"geo": {"country": "DE"}}, BODY)
    assert "enrichment" not in (await own.get("/events", tool="geo"))["events"][0]

    async with own.session() as session:
        tried = {"tool": "geo", "types": ["*"], "where": where}
        async with session.post("/api/v1/subscriptions/dry-run", json=tried) as answer:
            matched = (await answer.json())["events"]
        async with session.post("/api/v1/templates/preview", json=said) as answer:
            previewed = (await answer.json())["events"]
    assert [event["event_id"] for event in matched] == [german]
    assert {e["event_id"]: e["summary"] for e in previewed} == {
        german: "a door from DE",
        french: "a door from FR",
    }


@pytest.mark.parametrize(("tool", "title"), [("rewritten", "another one"), ("late", "a late one")])
async def test_a_payload_that_a_stage_replaced_is_said_to_be(
    own: Stack, tool: str, title: str
) -> None:
    await own.context(tool, {"provider": "none"})
    event_id = await own.hook(tool, json.dumps(BODY).encode())
    [update] = await own.updates(tool, 1)
    assert update["data"]["title"] == title
    event = await recorded(own, event_id)
    assert event["payload_changed"] is True
    assert (event["payload"], event["payload_bytes"]) == (BODY, len(json.dumps(BODY)))
    assert event["enrichment"] == {"geo": {"country": "DE"}}


async def test_too_much_is_that_events_failure_and_says_what_to_do(own: Stack) -> None:
    await own.context("huge", {"provider": "none"})
    event_id = await own.hook("huge", b"{}")
    event = await recorded(own, event_id)
    assert event["status"] == "dead"
    assert event["error"].startswith("ValueError: enrich(huge): ")
    assert "16384 at most" in event["error"]
    assert event["enrichment"] == {}


async def test_an_event_that_no_stage_touches_has_none(own: Stack) -> None:
    await own.context("plain", {"provider": "none"})
    event_id = await own.hook("plain", b"[1, 2]")
    await own.updates("plain", 1)
    event = await recorded(own, event_id)
    assert (event["enrichment"], event["payload_changed"]) == ({}, False)
