"""How events are put into requests, and what the predecessor's workers are given."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.failures.failed_events import is_first
from hookstream.app.ids import DEFAULT_TENANT
from hookstream.app.providers import PROVIDERS
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.redis import keys
from hookstream.app.routing.catalog import Catalog, Tool
from hookstream.app.routing.event_keys import key_name_of
from hookstream.app.routing.queues import Queue, SqsSource, SqsTarget
from hookstream.app.sqs.client import AT_ONCE, Message, Outgoing
from hookstream.app.sqs.forwarder import BATCH_BYTES, Ready, batches
from hookstream.app.sqs.messages import pack, unpack
from hookstream.app.sqs.outbox import Line, write_outbox
from hookstream.app.streams.batch import Entry
from hookstream.app.streams.commit import Writes
from hookstream.app.streams.outcome import ERASED, Dropped, Duplicate, Failed, Outcome
from hookstream.app.testing import make_event
from hookstream.codecs.envelope import Event

QUEUE = Queue("https://sqs.eu-west-1.amazonaws.com/1/q")
LINE = Line("e", "1-0")


def tool(order_by: str = "tool", **more: Any) -> Tool:
    return Tool(
        *("t", DEFAULT_TENANT, "none", (), SignatureOptions(), "none", ()),
        *(0, order_by, "key" if order_by == "field" else ""),
        **more,
    )


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, BATCH_BYTES * 2)), max_size=60),
    st.booleans(),
)
def test_requests_keep_the_order_of_groups_and_sqs_s_bounds(
    given_: list[tuple[str, int]], fifo: bool
) -> None:
    ready = [
        Ready(b"%d-0" % at, LINE, Outgoing("x" * size, group))
        for at, (group, size) in enumerate(given_)
    ]
    made = batches(ready, fifo=fifo)
    assert sorted(each.entry_id for batch in made for each in batch) == sorted(
        each.entry_id for each in ready
    )
    for batch in made:
        assert 0 < len(batch) <= AT_ONCE
        messages = [each.message for each in batch if each.message]
        assert len(messages) == 1 or sum(message.size for message in messages) <= BATCH_BYTES
        if fifo:
            assert len({message.group for message in messages}) == len(messages)
    sent = [each for batch in made for each in batch]
    for group in {group for group, _ in given_}:
        own = [each.entry_id for each in sent if each.message and each.message.group == group]
        assert own == [
            each.entry_id for each in ready if each.message and each.message.group == group
        ]
    if not fifo:
        assert sent == ready


def event(payload: bytes, **more: Any) -> Event:
    return replace(make_event({}), payload=payload, **more)


@pytest.mark.parametrize(
    "payload",
    [
        '{"action":"opened","id": 12345678901234567890.10}',
        '{"text": "größer 😊 \\ud83d \ufffe\uffff"}',
        "[1, 2]",
    ],
)
def test_what_is_copied_is_what_the_other_end_reads(payload: str) -> None:
    made = event(payload.encode(), type="order.paid", delivery_id="d-1")
    body = pack(made, {})
    assert "\ufffe" not in body
    found = unpack(Message("m", "h", body), SqsSource(QUEUE, "predecessor"))
    assert json.loads(found.hook.decoded) == json.loads(payload)
    row = found.row(PROVIDERS["none"])
    assert row.event_type(found.hook, SignatureOptions()) == "order.paid"
    assert row.delivery_id(found.hook, SignatureOptions()) == "d-1"


def test_the_predecessor_s_members_come_out_of_github_s_payload() -> None:
    payload = {
        "action": "opened",
        "repository": {"full_name": "acme/app"},
        "sender": {"login": "ada"},
        "installation": {"id": 7},
    }
    made = event(
        json.dumps(payload).encode(),
        type="pull_request.opened",
        headers={"x-github-event": "pull_request"},
        delivery_id="d-1",
    )
    context = {"tenant_id": "acme", "principal_id": "p", "principal_type": "installation"}
    assert json.loads(pack(made, context)) == {
        "delivery_id": "d-1",
        "event_type": "pull_request",
        "repo_name": "acme/app",
        "sender_name": "ada",
        "payload": payload,
        "auth_context": {**context, "installation_id": 7},
    }
    assert "auth_context" not in json.loads(pack(made, {}))


@pytest.mark.parametrize("payload", [b"a=1&b=2", b"", b"\xff\x00", b"[NaN]"])
def test_what_is_no_json_is_a_text(payload: bytes) -> None:
    found = json.loads(pack(event(payload, delivery_id=""), {}))
    assert found["payload"] == payload.decode(errors="replace")
    assert found["delivery_id"] == event(payload).event_id


def test_a_group_is_an_ordering_key_and_names_nobody() -> None:
    one, other = (event(json.dumps({"key": key}).encode()) for key in ("ada@x.org", "bob@x.org"))
    by_field = tool("field")
    assert key_name_of(by_field, one) == key_name_of(by_field, replace(one, message_id="another"))
    assert key_name_of(by_field, one) != key_name_of(by_field, other)
    assert key_name_of(tool(), one) == key_name_of(tool(), other)
    assert len(key_name_of(by_field, one)) == 24
    assert "ada" not in key_name_of(by_field, one)


@pytest.mark.parametrize(
    ("outcome", "copied"),
    [
        (Duplicate("another"), False),
        (Dropped(ERASED), False),
        (Dropped(), True),
        (Dropped("my_stage"), True),
        (Failed("render", "boom"), True),
        (Failed("mask", "boom", final=True), True),
    ],
)
def test_every_event_is_copied_but_copies_and_what_was_erased(
    outcome: Outcome, copied: bool
) -> None:
    made = replace(make_event({}), tool_id="t")
    catalog = Catalog(tools={"t": tool(forward=SqsTarget(QUEUE))})
    writes = Writes()
    write_outbox(writes, 3, [Entry("5-0", b"", made, outcome)], catalog, modes={}, first=is_first)
    wanted = [
        ("XADD", keys.outbox(3, "t"), ("*", "d", f"{made.event_id} 5-0".encode())),
        ("HSET", keys.outboxes(3), ("t", "")),
    ]
    assert writes.commands == (wanted if copied else [])


def test_replays_and_tools_without_a_queue_are_not_copied() -> None:
    made = replace(make_event({}), tool_id="t")
    for catalog, each in (
        (Catalog(tools={"t": tool()}), made),
        (Catalog(), made),
        (Catalog(tools={"t": tool(forward=SqsTarget(QUEUE))}), replace(made, replay_id="r")),
    ):
        writes = Writes()
        write_outbox(writes, 3, [Entry("5-0", b"", each)], catalog, modes={}, first=is_first)
        assert writes.commands == []


def test_a_line_reads_as_it_was_written() -> None:
    assert Line.decode(LINE.encode()) == LINE
