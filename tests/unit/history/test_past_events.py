"""A line of a history is the event that it would have been at its tool's door."""

from dataclasses import replace
from typing import Any

from hookstream.app.history.past_events import PastEvent, past_events, place_in_archive
from hookstream.app.history.records import HistoryRecord, read_record, write_record
from hookstream.app.ids import event_time_ms, partition_of_event
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.routing.catalog import Tool

AT = 1_767_225_600_123
BODY = b'{"key":"a","ref":"refs/heads/main","before":"0","after":"1","commits":[],"sender":{}}'
OPENED = b'{"action":"opened","number":1,"pull_request":{},"sender":{},"key":"a"}'
TOOL = Tool(
    tool_id="test",
    tenant="default",
    provider="github",
    secrets=(),
    options=SignatureOptions(),
    strategy="delivery",
    fields=(),
    window_ms=86_400_000,
    order_by="field",
    order_field="key",
)


def made(record: HistoryRecord, tool: Tool = TOOL, **more: Any) -> list[PastEvent]:
    given: dict[str, Any] = {"partitions": 8, "max_batch": 100, "functions": {}, **more}
    return list(past_events(record, tool, registry_version=1, registry_token=0, **given))


def one(record: HistoryRecord, tool: Tool = TOOL, **more: Any) -> PastEvent:
    [found] = made(record, tool, **more)
    return found


PUSH = HistoryRecord(received_at_ms=AT, payload=BODY, sent_as="push", delivery_id="d-1")


def test_type_and_delivery_id_are_as_at_the_door() -> None:
    event = one(PUSH).event
    assert (event.type, event.delivery_id) == ("push", "d-1")
    assert event.headers["x-github-event"] == "push"
    opened = replace(PUSH, sent_as="pull_request", payload=OPENED)
    assert one(opened).event.type == "pull_request.opened"
    assert one(replace(PUSH, type="of.old")).event.type == "of.old"


def test_the_same_line_is_the_same_event_and_its_id_says_when_it_came() -> None:
    event = one(PUSH).event
    assert one(PUSH).event == event
    assert event_time_ms(event.event_id) == event.received_at_ms == AT
    assert partition_of_event(event.event_id) == one(PUSH).partition
    others = (
        replace(PUSH, source_id="7"),
        replace(PUSH, payload=b'{"key":"a","n":1}'),
        replace(PUSH, received_at_ms=AT + 1),
        replace(PUSH, delivery_id="d-2"),
    )
    ids = {event.event_id, *(one(other).event.event_id for other in others)}
    assert len(ids) == 5
    elsewhere = replace(TOOL, tool_id="acme/test", tenant="acme")
    assert one(PUSH, elsewhere).event.event_id not in ids


def test_what_was_exported_keeps_its_id_and_another_installation_s_partition_is_its_own() -> None:
    past = one(PUSH)
    row = {"status": "unrouted", "duplicate_of": None, "enrichment": ""}
    again = read_record(write_record(past.event, row))
    assert one(again).event == past.event
    other = one(again, partitions=7)
    assert other.event.event_id[-17:] == past.event.event_id[-17:]
    assert partition_of_event(other.event.event_id) == other.partition
    # where it is somebody else's here it gets another, always the same
    taken = one(again, taken=True).event.event_id
    assert taken != past.event.event_id
    assert taken == one(again, taken=True).event.event_id


def test_what_was_masked_is_known_by_what_was_sent() -> None:
    sent = one(PUSH).event
    line = replace(
        read_record(b'{"received_at":%d,"payload":{}}' % AT),
        event_id=sent.event_id,
        message_id=f"elsewhere/tool:push:{'a' * 64}",
        kept_masked=True,
        blocked_by="card",
    )
    event = one(line).event
    assert event.message_id == f"test:push:{'a' * 64}"
    assert (event.kept_masked, event.blocked_by) == (True, "card")


def test_a_batch_of_its_provider_s_is_several_events_and_an_exported_one_is_not() -> None:
    tool = replace(TOOL, provider="sendgrid", order_by="tool", order_field="")
    body = b'[{"event":"open","sg_event_id":"a"},{"event":"click","sg_event_id":"b"}]'
    record = HistoryRecord(received_at_ms=AT, payload=body)
    found = made(record, tool)
    assert [past.event.type for past in found] == ["open", "click"]
    assert len({past.event.event_id for past in found}) == 2
    assert made(record, tool) == found
    exported = replace(record, event_id=found[0].event.event_id, type="open")
    assert len(made(exported, tool)) == 1


def test_places_are_in_the_order_of_time_and_below_all_entries() -> None:
    places = []
    for ms in (1_000, 1_999, 2_000, 1_767_225_600_123, 253_402_300_799_999):
        place = place_in_archive(one(replace(PUSH, received_at_ms=ms)).event, 3)
        first, second = map(int, place.entry_id.split("-"))
        assert 0 <= second < 1 << 63
        # Redis counts milliseconds: of its entries none is older than Redis itself
        assert first < 1_200_000_000_000
        places.append((first, second))
    assert places == sorted(places)


def test_a_dedup_function_that_fails_makes_no_duplicate() -> None:
    def fails(event: Any) -> str:
        raise ValueError("x")

    tool = replace(TOOL, strategy="custom", function="f", order_by="tool", order_field="")
    event = one(PUSH, tool, functions={"f": fails}).event
    assert event.message_id.startswith("test:push:")
    assert (event.dedup_window_ms, event.dedup_function) == (0, "")
