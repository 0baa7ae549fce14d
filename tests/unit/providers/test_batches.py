"""Batches taken to pieces: what a piece is, and what nobody can make of a batch."""

import json
from typing import Any

import pytest

from hookstream.app.errors import BadRequestError
from hookstream.app.ingest.events import incoming, make_events
from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.routing.catalog import Tool
from hookstream.codecs.envelope import Event, decode_event, encode_event
from hookstream.codecs.json_payload import limits
from tests.support.senders import request

JSON = {"Content-Type": "application/json"}
LINES = {"Content-Type": "application/x-ndjson"}


def events(
    name: str, body: bytes, headers: Any = JSON, most: int = 100, **tool: Any
) -> list[tuple[Event, int]]:
    row = PROVIDERS[name]
    fields: dict[str, Any] = {
        "strategy": row.dedup_strategy,
        "fields": (),
        "window_ms": 60_000,
        "order_by": "tool",
        "order_field": "",
    }
    options = SignatureOptions(**tool.pop("options", {}))
    source = Tool("t", "default", name, (), options, **fields | tool)
    functions = {"n": lambda event: str(event.data()["n"])}
    made = make_events(
        incoming(request(headers, body), row, most, options),
        source,
        partitions=64,
        registry_version=1,
        now_ms=1_700_000_000_000,
        random_bits=(1 << 62) - 1,
        functions=functions,
    )
    return list(made)


def payloads(*arguments: Any, **named: Any) -> list[bytes]:
    return [event.payload for event, _ in events(*arguments, **named)]


def test_lines_are_events_where_the_sender_sends_such_and_a_broken_one_is_one() -> None:
    body = b'{"log_id": "1"}\n\n{"log_id": \r\n {"log_id": "3"} \n'
    assert payloads("auth0", body, LINES) == [b'{"log_id": "1"}', b'{"log_id":', b'{"log_id": "3"}']
    assert [event.delivery_id for event, _ in events("auth0", body, LINES)] == ["1", "", "3"]
    [(bulk, _)] = events("auth0", b'{"data": {"type": "fp"}}\n' * 101, LINES)
    assert bulk.enrichment == {"batch": {"events": 101, "kinds": {"fp": 101}}}


def test_no_header_changes_where_the_events_of_a_signed_body_are() -> None:
    body = b'[\n {"event": "open"},\n {"event": "click"}\n]'
    wanted = [event.message_id for event, _ in events("sendgrid", body)]
    assert len(wanted) == 2
    for kind in ("application/x-ndjson", "application/json; charset=utf-16", "text/xml", ""):
        found = events("sendgrid", body, {"Content-Type": kind})
        assert [event.message_id for event, _ in found] == wanted


def test_characters_are_those_that_were_sent() -> None:
    text = json.dumps([{"n": "é"}, {"n": "e"}], ensure_ascii=False)
    latin = {"Content-Type": "application/json; charset=iso-8859-1"}
    one, two = (event for event, _ in events("hubspot", text.encode("latin-1"), latin))
    assert (one.payload, one.data()) == ('{"n": "é"}'.encode("latin-1"), {"n": "é"})
    assert (two.payload, two.content_type) == (b'{"n": "e"}', "application/json")
    with_mark = b"\xef\xbb\xbf" + text.encode()
    assert payloads("hubspot", with_mark)[0] == '{"n": "é"}'.encode()
    # half a pair of surrogates, and more digits than a double has
    odd = b'[{"a": "\\ud83d"}, {"a": 1.10000000000000000001}]'
    assert payloads("hubspot", odd) == [b'{"a": "\\ud83d"}', b'{"a": 1.10000000000000000001}']


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b'{"event": "open"},' * 200 + b"{",
        b"[" + b'{"event": "open"},' * 200 + b"1] and more",
        b"[" * 100_000,
        b'{"events": [',
        b"",
    ],
)
def test_what_is_cut_off_is_one_event(body: bytes) -> None:
    [(event, _)] = events("sendgrid", body)
    assert (event.payload, event.enriched, event.batch_id) == (body, b"", "")


def test_items_may_have_more_elements_together_than_are_parsed_of_a_body() -> None:
    items = [{"event": "open", "n": list(range(3000))} for _ in range(90)]
    found = events("sendgrid", json.dumps(items).encode())
    assert limits.elements < 90 * 3000
    assert [event.data() for event, _ in found] == items
    # what would take long to look through is kept as it is
    [(event, _)] = events("sendgrid", json.dumps(items * 2).encode(), most=1000)
    assert event.data() is None


def test_each_event_has_its_own_key_and_its_own_partition() -> None:
    items = [{"objectId": number % 3, "n": number} for number in range(30)]
    found = events("hubspot", json.dumps(items).encode(), order_by="field", order_field="objectId")
    partitions = [partition for _, partition in found]
    assert len(set(partitions)) == 3
    assert partitions == partitions[:3] * 10
    named = events("hubspot", json.dumps(items).encode(), strategy="custom", function="n")
    assert len({event.message_id for event, _ in named}) == 30
    by_fields = events(
        "hubspot", json.dumps(items).encode(), strategy="fields", fields=("objectId",)
    )
    assert len({event.message_id for event, _ in by_fields}) == 3


def test_envelope_keeps_what_came_together() -> None:
    [(one, _), (two, _)] = events("hubspot", b'[{"eventId": 1}, {"eventId": 2}]')
    read = decode_event(encode_event(two))
    assert (read.batch_id, read.batch_index) == (one.event_id, 1)
    assert one.event_id < two.event_id
    [(alone, _)] = events("hubspot", b'[{"eventId": 1}]')
    assert decode_event(encode_event(alone)).batch_id == ""


def test_lists_of_senders_that_send_no_batches_are_one_event() -> None:
    body = b'[{"kind": "created"}, {"kind": "deleted"}]'
    row, options = PROVIDERS["none"], SignatureOptions(type_field="kind")
    hook = request(JSON, body)
    assert incoming(hook, row, 10).requests == [hook]
    assert row.event_type(hook, options) == "batch"
    same = WebhookRequest("POST", "", {}, b"", b'[{"kind": "created"}, {"kind": "created"}]')
    assert row.event_type(same, options) == "created"
    # a CloudEvent in binary mode may have a list for its data
    binary = request({"ce-type": "a.b", "ce-id": "1", **JSON}, body)
    assert incoming(binary, PROVIDERS["cloudevents"], 10).requests == [binary]
    # a group of alerts is one notification
    group = request(JSON, b'{"status": "firing", "alerts": [{}, {}]}')
    assert incoming(group, PROVIDERS["alertmanager"], 10).requests == [group]


@pytest.mark.parametrize("name", ["generic", "bearer", "basic", "none"])
def test_a_tool_says_where_its_events_are(name: str) -> None:
    items = [{"id": "a", "type": "x"}, {"id": "b", "type": "y"}]
    whole = {"batch_field": "[]", "type_field": "type", "delivery_field": "id"}
    body = json.dumps(items).encode()
    found = [event for event, _ in events(name, body, options=whole)]
    assert [event.data() for event in found] == items
    assert [(event.type, event.delivery_id) for event in found] == [("x", "a"), ("y", "b")]
    assert [event.batch_index for event in found] == [0, 1]
    inside = {
        "batch_field": "data.items",
        "type_field": "data.items.0.type",
        "delivery_field": "data.items.0.id",
    }
    body = json.dumps({"of": "shop", "data": {"items": items, "n": 2}}).encode()
    found = [event for event, _ in events(name, body, options=inside)]
    assert [event.data() for event in found] == [
        {"of": "shop", "data": {"items": [item], "n": 2}} for item in items
    ]
    assert [(event.type, event.delivery_id) for event in found] == [("x", "a"), ("y", "b")]
    assert found[0].message_id != found[1].message_id
    for options, text in ((whole, json.dumps(items)), (inside, body.decode())):
        [(bulk, _)] = events(name, text.encode(), most=1, options=options)
        assert (bulk.type, bulk.enrichment) == (
            "batch",
            {"batch": {"events": 2, "kinds": {"x": 1, "y": 1}}},
        )
    # nobody said so, or there is no such list: it stays one
    assert len(events(name, body)) == 1
    for other in (b'{"data": {"items": 5}}', b"[1]", b"a=b", b'{"data": {"items": ['):
        assert payloads(name, other, options=inside) == [other]
    assert events(name, b'{"data": {"items": []}}', options=inside) == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"batch_field": "a..b"}, "batch_field"),
        ({"batch_field": "items[]"}, "batch_field"),
        ({"batch_field": "data.0.items"}, "batch_field"),
        ({"batch_field": "*_events"}, "batch_field"),
        ({"batch_field": ".".join("abcdefghi")}, "batch_field"),
        ({"batch_field": ["a"]}, "batch_field"),
        ({"batch_field": "[]", "delivery_header": "X-Id"}, "delivery_header"),
        ({"batch_field": "a.b", "delivery_field": "id"}, "delivery_field"),
        ({"batch_field": "a", "delivery_field": "a.id"}, "delivery_field"),
    ],
)
def test_what_would_lose_events_or_find_none_is_refused(
    options: dict[str, Any], named: str
) -> None:
    with pytest.raises(BadRequestError, match=rf"options\.{named}: "):
        SignatureOptions(**options)


def test_notifications_of_terraform_are_events() -> None:
    run = {"run_id": "run-1", "notifications": [{"trigger": "run:errored"}]}
    both = run | {"notifications": [{"trigger": "run:errored"}, {"trigger": "run:completed"}]}
    found = [event for event, _ in events("terraform", json.dumps(both).encode())]
    assert [event.type for event in found] == ["run.errored", "run.completed"]
    assert found[0].data() == run
    [(other, _)] = events("terraform", b'{"trigger": "assessment:drifted"}')
    assert other.type == "assessment.drifted"
