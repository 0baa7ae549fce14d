"""What is measured in a child, and by schemas that a child compiles."""

import asyncio
import time
from collections.abc import AsyncIterator

import orjson
import pytest

from hookstream.agents.check import check_batch
from hookstream.app.bounded import BoundedPool
from hookstream.app.errors import OverBudgetError
from hookstream.app.metrics import BOUNDED_BREACHES
from hookstream.app.routing.catalog import DEAD_LETTER, MARK, REJECT
from hookstream.app.routing.payload_check import PayloadCheck
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.partition import Partition
from hookstream.app.testing import make_event
from hookstream.codecs.form import FORM
from hookstream.codecs.schemas import JsonSchema, ProtobufSchema
from tests.unit.routing.test_payload_check import OBJECTS, at_once, catalog

WIDE = 'syntax = "proto3"; message M { repeated M c = 1; ' + "".join(
    f"string field_{number} = {number};" for number in range(2, 1002)
)
MASK = (
    'syntax = "proto3"; import "google/protobuf/field_mask.proto";'
    "message M { google.protobuf.FieldMask mask = 1; int64 id = 2; }"
)


@pytest.fixture
async def pool() -> AsyncIterator[BoundedPool]:
    async with BoundedPool() as pool:
        yield pool


def wide() -> ProtobufSchema:
    return ProtobufSchema.parse(WIDE + "}", {})


def test_what_may_be_expensive_by_a_protobuf_schema_is_not_measured_here() -> None:
    assert at_once(wide(), OBJECTS) is None  # 9.7 s
    assert at_once(wide(), b'{"c":[' + b"{}," * 100 + b"{}]}") is None
    masks = ProtobufSchema.parse(MASK, {})
    # one value, and its characters are gone through: 1.5 s for 5 MB
    assert at_once(masks, b'{"mask":"' + b"," * 50_000 + b'"}') is None
    # what stands for brackets in a form is no bracket
    form = b"payload=" + b"%7B%22c%22%3A%5B" + b"%7B%7D%2C" * 3000 + b"%7B%7D%5D%7D"
    assert at_once(wide(), form, content_type=FORM) is None


def test_what_is_cheap_is_measured_where_it_stands() -> None:
    record = {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}
    lines = {"id": 5, "lines": [{"name": f"n{n}", "text": "t" * 40} for n in range(100)]}
    assert at_once(JsonSchema(record, {}), lines) == []
    assert at_once(JsonSchema(record, {}), {"id": "secret"}) == ["/id breaks #/properties/id/type"]
    masks = ProtobufSchema.parse(MASK, {})
    assert at_once(masks, {"id": 5, "more": ["x"] * 20}) == []
    assert at_once(masks, {"id": "secret"}) == ["Failed to parse id field"]
    # a verdict is cheap here, and to say where it does not fit is not
    assert at_once(JsonSchema({"items": {"type": "string"}}, {}), ["x"] * 2000) == []
    assert at_once(JsonSchema({"items": {"type": "string"}}, {}), [1] * 2000) is None


async def test_a_child_says_what_would_have_been_said_here(pool: BoundedPool) -> None:
    check = PayloadCheck(pool)
    schema = JsonSchema({"items": {"$ref": "s"}}, {"s": {"type": "string"}})
    found = await check.violations(catalog(schema), make_event([1] * 2000), MARK)
    assert found == schema.violations([1] * 2000)
    assert len(found) == 5
    many = make_event(b"[" + b"[]," * 48_000 + b"{}]")
    assert await check.violations(catalog(schema), many, MARK) == found[:1]
    assert await check.violations(catalog(wide()), make_event({"c": [{}] * 50}), MARK) == []
    form = make_event(b'payload={"c":[5]}&' + b"x" * 5000, content_type=FORM)
    assert await check.violations(catalog(wide()), form, MARK) == []
    form = make_event(b'payload={"c":' + b" " * 5000 + b"[5]}", content_type=FORM)
    assert len(await check.violations(catalog(wide()), form, MARK)) == 1


async def test_an_expensive_payload_stops_nobody_and_its_tool_alone_waits(
    pool: BoundedPool,
) -> None:
    check, stalled = PayloadCheck(pool), 0.0

    async def heartbeat() -> None:
        nonlocal stalled
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.01)
            stalled = max(stalled, time.monotonic() - begun)

    of = catalog(wide(), "dear", "other")
    events = [make_event(OBJECTS + b" " * n, tool_id="dear", number=n) for n in range(8)]
    for event in events:
        event.data()  # what that takes is bounded by the number of elements
    beat = asyncio.create_task(heartbeat())
    await asyncio.sleep(0)
    said = await asyncio.gather(
        *(check.violations(of, event, MARK) for event in events), return_exceptions=True
    )
    beat.cancel()
    assert stalled < 1.0
    assert "too expensive to measure" in str(said[0])
    assert isinstance(said[1], OverBudgetError)
    assert isinstance(said[-1], OverBudgetError)
    assert said[-1].reason == "busy"
    assert check.wait_seconds("dear") > 0
    assert check.wait_seconds("other") == 0
    other = make_event({"c": [{}] * 50}, tool_id="other")
    assert await check.violations(of, other, MARK) == []


async def test_a_batch_goes_on_and_what_cannot_be_measured_now_is_tried_again(
    pool: BoundedPool,
) -> None:
    check = PayloadCheck(pool)
    of = catalog(wide(), "test", "used-up", "third", on_violation=DEAD_LETTER)
    check._allowance("used-up").seconds = -5.0
    before = BOUNDED_BREACHES.labels(what="schema", reason="allowance")._value.get()
    events = [
        make_event(OBJECTS),
        make_event({"c": []}, number=1),
        make_event({"c": [{}] * 50}, number=2, tool_id="used-up"),
        make_event({"c": [{}] * 49 + [5]}, number=3, tool_id="third"),
        make_event({"c": 5}, number=4),
    ]
    entries = [Entry(f"1-{n}", b"", event) for n, event in enumerate(events)]
    batch = Batch("test", Partition(0, 1, "test"), entries, lambda *_: None)
    await check_batch(batch, of, check)
    said = [(e.failure.stage, e.failure.final) if e.failure else None for e in entries]
    assert said == [("schema", True), None, ("schema", False), ("schema", True), ("schema", True)]
    assert BOUNDED_BREACHES.labels(what="schema", reason="allowance")._value.get() == before + 1
    assert orjson.loads(events[2].payload)  # and it is all there


async def test_what_was_masked_before_it_was_kept_is_not_measured_again(pool: BoundedPool) -> None:
    schema = JsonSchema({"properties": {"n": {"type": "integer"}}}, {})
    told = ("/n breaks #/properties/n/type",)
    for when, final in ((MARK, None), (DEAD_LETTER, True), (REJECT, True)):
        entries = [
            Entry("1-0", b"", make_event({"n": "•••"}, kept_masked=True)),
            Entry("1-1", b"", make_event({"n": "•••"}, kept_masked=True, schema_errors=told)),
        ]
        batch = Batch("test", Partition(0, 1, "test"), entries, lambda *_: None)
        await check_batch(batch, catalog(schema, on_violation=when), PayloadCheck(pool))
        fits, broken = entries
        assert fits.failure is None, "by what was sent it fits"
        assert broken.value.schema_errors == told
        assert (broken.failure and broken.failure.final) == final
