"""What is mirrored: lines of an outbox, and the records that become of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.failures.failed_events import is_first
from hookstream.app.ids import DEFAULT_TENANT
from hookstream.app.kafka.mirror import MirroredEvents, MirroredUpdates
from hookstream.app.kafka.outbox import (
    EVENTS,
    UPDATES,
    EventLine,
    UpdateLine,
    write_events,
    write_updates,
)
from hookstream.app.kafka.producing import BATCH_BYTES, Record, RecordProducer
from hookstream.app.kafka.wire import json_value, protobuf_value
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.redis import keys
from hookstream.app.routing.catalog import Catalog, Tool
from hookstream.app.routing.event_keys import key_name_of
from hookstream.app.settings import Settings
from hookstream.app.streams.batch import Entry
from hookstream.app.streams.commit import Writes
from hookstream.app.streams.outcome import ERASED, Dropped, Duplicate, Failed, Outcome
from hookstream.app.testing import make_event
from hookstream.codecs.envelope import Event
from hookstream.proto.envelope_pb2 import Envelope

TOOL = Tool(
    *("t", DEFAULT_TENANT, "none", (), SignatureOptions(), "none", ()), *(0, "field", "key")
)


def an_event(**payload: Any) -> Event:
    return replace(make_event(payload), tool_id="t", tenant=DEFAULT_TENANT)


@pytest.mark.parametrize(
    ("outcome", "written"),
    [
        (None, True),
        (Failed("route", "boom"), True),
        (Dropped("stage"), True),
        (Dropped(ERASED), False),
        (Duplicate("other"), False),
    ],
)
def test_every_event_but_duplicates_has_a_line(outcome: Outcome | None, written: bool) -> None:
    made, writes = an_event(n=1), Writes()
    entry = Entry("5-0", b"", made, outcome) if outcome else Entry("5-0", b"", made)
    write_events(writes, 3, [entry], first=is_first)
    line = EventLine(made.event_id, "5-0", made.tenant, made.tool_id)
    wanted = [("XADD", keys.mirror(3, EVENTS), ("*", "d", line.encode()))] if written else []
    assert [(c, k, a) for c, k, a in _commands(writes)] == wanted
    assert EventLine.decode(line.encode()) == line


def test_replays_and_what_was_decided_before_have_none() -> None:
    writes = Writes()
    write_events(writes, 3, [Entry("5-0", b"", replace(an_event(), replay_id="r"))], first=is_first)
    write_events(writes, 3, [Entry("5-0", b"", an_event())], first=lambda _: False)
    assert not _commands(writes)


def test_updates_have_lines_in_their_order() -> None:
    writes = Writes()
    write_updates(writes, 2, [("acme", "a", 1), ("acme", "ü b", 7)])
    lines = [UpdateLine.decode(a[2]) for _, k, a in _commands(writes)]
    assert lines == [UpdateLine("acme", "a", 1), UpdateLine("acme", "ü b", 7)]
    assert {k for _, k, _ in _commands(writes)} == {keys.mirror(2, UPDATES)}


def _commands(writes: Writes) -> list[tuple[str, str, tuple[Any, ...]]]:
    return [(c, k, tuple(a)) for c, k, a in writes.commands]


class Store:
    """The event store, as far as it is asked here."""

    def __init__(self, found: Sequence[Event | None]) -> None:
        self.found = found

    async def readable(self, places: Sequence[Any]) -> list[Event | None]:
        return list(self.found)

    async def event(self, tenant: str, event_id: str) -> Event | None:
        return None


async def test_a_record_of_an_event_is_its_envelope_by_its_ordering_key() -> None:
    made = an_event(key="k", n=1)
    store: Any = Store([made, None])
    events = MirroredEvents(store, lambda: Catalog(tools={"t": TOOL}))
    lines = [
        (b"1-0", EventLine(made.event_id, "5-0", made.tenant, "t").encode()),
        (b"2-0", EventLine("gone", "6-0", made.tenant, "t").encode()),
    ]
    found, gone = await events.records(7, 3, lines)
    assert (gone.record, gone.why, gone.entry_id) == (None, "gone", b"2-0")
    record = found.record
    assert record is not None
    assert record.key.decode() == key_name_of(TOOL, made)
    assert dict(record.headers)["hookstream_event_id"] == made.event_id.encode()
    assert record.at_ms == made.received_at_ms
    assert record.value[:6] == b"\0\0\0\0\x07\0"
    assert Envelope.FromString(record.value[6:]).payload == made.payload


async def test_of_a_tool_that_is_gone_the_tool_is_the_key() -> None:
    made = an_event(key="k")
    store: Any = Store([made])
    events = MirroredEvents(store, Catalog)
    line = EventLine(made.event_id, "5-0", made.tenant, "t").encode()
    [found] = await events.records(7, 3, [(b"1-0", line)])
    assert found.record is not None


async def test_a_record_of_an_update_is_what_clients_get() -> None:
    async def read(wanted: Sequence[tuple[str, str, int]]) -> list[bytes | None]:
        assert wanted == [("acme", "c", 4), ("acme", "c", 5)]
        return [orjson.dumps({"seq": 4}), None]

    lines = [(b"1-0", UpdateLine("acme", "c", 4).encode()), (b"2-0", b'["acme","c",5]')]
    found, gone = await MirroredUpdates(read).records(9, 3, lines)
    assert gone.why == "gone"
    assert found.record is not None
    assert found.record.key == b"acme/c"
    assert dict(found.record.headers)["hookstream_update_id"] == b"acme/c/4"
    assert found.record.value == b'\0\0\0\0\x09{"seq":4}'


def test_confluent_s_wire_format() -> None:
    assert json_value(258, b"{}") == b"\0\0\0\x01\x02{}"
    assert protobuf_value(1, b"x") == b"\0\0\0\0\x01\0x"


@given(st.lists(st.integers(0, BATCH_BYTES * 2), max_size=40))
def test_batches_keep_the_order_and_their_bounds(sizes: list[int]) -> None:
    producer = RecordProducer(Settings(kafka_url="kafka://a"), "t")
    records = [Record(b"k", b"x" * size, (), None, at) for at, size in enumerate(sizes)]
    made = producer._batches(records)
    assert [record for batch in made for record in batch] == records
    for batch in made:
        assert batch
        assert len(batch) == 1 or sum(len(each.value) for each in batch) <= BATCH_BYTES
