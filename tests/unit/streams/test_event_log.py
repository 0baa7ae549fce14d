"""What the event log is told of an event that a stage has changed."""

import time
from dataclasses import replace

import pytest

from hookstream.app.keyring.error_texts import ErrorTexts
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.event_log import audit
from hookstream.app.streams.partition import Partition
from hookstream.app.testing import make_event
from hookstream.codecs.envelope import Event, decode_event, encode_event
from hookstream.codecs.payload import Packing
from hookstream.codecs.sealed import month_of
from hookstream.proto.pipeline_pb2 import EventAudit
from tests.support.data_keys import new_key, sealing

BODY = b'{"text": "' + b"0123456789" * 100 + b'"}'


def received(*, packed: bool) -> bytes:
    event = make_event(BODY)
    return encode_event(event, Packing().pack(BODY, None) if packed else None)


def recorded(raw: bytes, value: Event) -> EventAudit:
    entry = Entry("1-1", raw, value, changed=True)
    [event] = audit(Batch("events", Partition(0, 1, "w"), [entry], lambda *_: None)).events
    return event


@pytest.mark.parametrize("packed", [False, True])
def test_the_size_is_that_of_what_was_received(packed: bool) -> None:
    raw = received(packed=packed)
    event = decode_event(raw)
    added = recorded(raw, event.enrich(team="red"))
    assert (added.payload_bytes, added.payload_changed) == (len(BODY), False)
    assert added.enrichment == b'{"team":"red"}'
    replaced = recorded(raw, replace(event, payload=b"{}"))
    assert (replaced.payload_bytes, replaced.payload_changed) == (len(BODY), True)
    assert replaced.enrichment == b""


def test_what_no_stage_has_changed_is_not_read_again() -> None:
    event = make_event(BODY)
    entry = Entry("1-1", b"nobody decodes this", event)
    [seen] = audit(Batch("events", Partition(0, 1, "w"), [entry], lambda *_: None)).events
    assert (seen.payload_bytes, seen.payload_changed) == (len(BODY), False)


async def test_what_is_said_of_a_failure_is_sealed_where_payloads_are(name: str) -> None:
    now_ms = time.time_ns() // 1_000_000
    errors = ErrorTexts(sealing(now_ms))
    new_key(name, month_of(now_ms))
    event = make_event(BODY, tenant=name, schema_errors=("/text: jane is no number", "/b: odd"))
    entry = Entry("1-1", b"", event)
    entry.fail("render", ValueError("no customer jane"))
    batch = Batch("events", Partition(0, 1, "w"), [entry], lambda *_: None)
    [seen] = audit(batch, errors).events
    kept = [seen.error, *seen.schema_errors]
    assert not any("jane" in text for text in kept)
    assert await errors.opened(name, kept) == [
        "ValueError: no customer jane",
        *event.schema_errors,
    ]
    [seen] = audit(batch).events
    assert [seen.error, *seen.schema_errors] == [
        "ValueError: no customer jane",
        *event.schema_errors,
    ]
