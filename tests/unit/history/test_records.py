"""A line of a history says one event, and says it again byte for byte."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.errors import BadRequestError
from hookstream.app.history.records import (
    MEMBERS,
    OtherFormatError,
    from_predecessor,
    read_record,
    to_predecessor,
    without,
    write_record,
)
from hookstream.app.testing import make_event

ROW = {"status": "unrouted", "duplicate_of": None, "enrichment": ""}
BODIES = (
    b'{"id":18446744073709551617.10,  "a":1,"a":2}',
    b'{"a":\n1}',
    b' {"a":1}',
    b"",
    b'"a text"',
    b"a=1&b=2",
    "größer \u2028".encode(),
    b"\xff\xfe\x00",
    b'{"a":"\\ud800"}',
    b"[" * 500 + b"]" * 500,
    b'{"a":1e400}',
)


def line(**members: Any) -> bytes:
    given = {"received_at": "2026-01-31T12:00:00Z", "payload": {"n": 1}, **members}
    return json.dumps({name: value for name, value in given.items() if value is not None}).encode()


@pytest.mark.parametrize("body", BODIES)
def test_a_payload_comes_back_byte_for_byte(body: bytes) -> None:
    written = write_record(make_event(body, headers={"x-a": "ä"}), ROW)
    assert b"\n" not in written
    assert read_record(written).payload == body


@given(st.binary() | st.text().map(lambda text: json.dumps(text).encode()))
def test_whatever_the_bytes_are(body: bytes) -> None:
    assert read_record(write_record(make_event(body), ROW)).payload == body


def test_all_that_an_event_is_comes_back() -> None:
    event = make_event(
        {"n": 1},
        type="order.paid",
        delivery_id="d-1",
        headers={"x-a": "b"},
        batch_id="019b76da-a800-7003-8000-000000000029",
        batch_index=3,
        kept_masked=True,
        blocked_by="card",
    )
    row = {
        "status": "duplicate",
        "duplicate_of": "019b76da-a800-7003-8000-00000000002a",
        "enrichment": '{"team":"red"}',
    }
    found = read_record(write_record(event, row))
    assert (found.event_id, found.received_at_ms) == (event.event_id, event.received_at_ms)
    assert (found.type, found.delivery_id) == ("order.paid", "d-1")
    assert found.message_id == event.message_id
    assert (dict(found.headers), found.content_type) == ({"x-a": "b"}, "application/json")
    assert (found.batch_id, found.batch_index) == (event.batch_id, 3)
    assert (found.kept_masked, found.blocked_by) == (True, "card")
    assert found.duplicate_of == row["duplicate_of"]
    assert json.loads(found.enriched) == {"team": "red"}


def test_a_payload_given_as_json_keeps_its_characters() -> None:
    text = b'{"received_at": 1769860800, "payload": {"n":1.10, "b" : [ ]} , "id": 7}'
    found = read_record(text)
    assert found.payload == b'{"n":1.10, "b" : [ ]}'
    assert found.source_id == "7"


@pytest.mark.parametrize(
    ("given", "ms"),
    [
        ("2026-01-31T12:00:00Z", 1769860800000),
        ("2026-01-31T13:00:00.123456+01:00", 1769860800123),
        ("2026-01-31 12:00:00", 1769860800000),
        (1769860800, 1769860800000),
        (1769860800.5, 1769860800500),
        (1769860800123, 1769860800123),
    ],
)
def test_times_as_sources_write_them(given: Any, ms: int) -> None:
    found = read_record(line(received_at=given))
    assert found.received_at_ms == ms
    assert found.zoned is (given != "2026-01-31 12:00:00")


def test_a_mark_of_the_encoding_before_a_line_is_no_part_of_it() -> None:
    text = line()
    assert read_record(b"\xef\xbb\xbf" + text) == read_record(text)
    assert from_predecessor(b"\xef\xbb\xbf" + text) == from_predecessor(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"{", "no JSON object"),
        (b"[1]", "no JSON object"),
        (b"\xff", "UTF-8"),
        (line(payload=None), "say the payload once"),
        (line(payload_text="x"), "say the payload once"),
        (line(payload=None, payload_base64="?"), "not base64"),
        (line(payload=None, payload_text=1), "payload_text: a text"),
        (line(received_at=None), "has no received_at: a time from 1970 on, such as "),
        (b'{"payload": ' + b"[" * 100_000, "is nested too deeply"),
        (line(received_at=True), "received_at"),
        (line(received_at="yesterday"), "received_at"),
        (line(received_at=-5), "a time from 1970 on"),
        (line(received_at="1969-12-31T23:59:59Z"), "a time from 1970 on"),
        (line(received_at="10000-01-01T00:00:00Z"), "received_at"),
        (line(received_at=1e300), "received_at"),
        (line(event_id="x"), "event_id: a UUID"),
        (line(duplicate_of="x"), "duplicate_of: a UUID"),
        (line(batch_index=-1), "batch_index"),
        (line(type=1), "type: a text"),
        # the door would call it unknown, and keep no id; here somebody can mend it
        (line(type="a\0b"), "type: at most 200 printable characters"),
        (line(event_type=" push"), "event_type: at most 200 printable .* no blanks around"),
        (line(type="a" * 201), "type: at most 200"),
        (line(delivery_id="d\n"), "delivery_id: at most 256 printable"),
        (line(id=[1]), "id: a text"),
        (line(headers=[1]), "headers: an object of texts"),
        (line(headers={"a": {"b": "c"}}), "headers: an object of texts"),
        (line(headers="x-a: b"), "headers: an object of texts"),
        (line(headers={"a": True}), "headers: an object of texts"),
        (line(headers={"a": ["b", 1.5]}), "headers: an object of texts"),
        (line(recieved_at="x"), "no member `recieved_at`: did you mean `received_at`"),
        (line(playload="x"), "no member `playload`: did you mean `payload`"),
        (line(zone="x"), "no member `zone`: there are received_at, payload, "),
        (line(**{"a b": 1}), "whose name is no word"),
        (line(**{"a" * 99: 1}), "whose name is no word"),
        (line(enrichment="x"), "enrichment"),
    ],
)
def test_what_is_no_event_says_why_and_never_what_stands_there(text: bytes, says: str) -> None:
    with pytest.raises(BadRequestError, match=says) as refused:
        read_record(text)
    assert "yesterday" not in str(refused.value)


def test_the_predecessor_s_line_becomes_one_of_ours() -> None:
    payload = '{"id":12345678901234567890.10, "a":1}'
    text = f'{{"delivery_id":"d","event_type":"push","created_at":5,"payload": {payload} }}'
    found = read_record(from_predecessor(text.encode()))
    assert found.payload == payload.encode()
    assert (found.sent_as, found.delivery_id, found.type) == ("push", "d", "")
    assert found.received_at_ms == 5000
    as_text = from_predecessor(b'{"received_at":5,"payload":"a=1"}')
    assert read_record(as_text).payload == b"a=1"
    with pytest.raises(BadRequestError):
        read_record(from_predecessor(b'{"received_at":5}'))


def test_what_is_written_for_the_predecessor_is_read_again() -> None:
    event = make_event({"n": 1}, headers={"x-github-event": "push"}, delivery_id="d-1")
    found = read_record(from_predecessor(to_predecessor(event)))
    assert found.payload == event.payload
    assert (found.sent_as, found.delivery_id) == ("push", "d-1")
    assert found.received_at_ms == event.received_at_ms


PREDECESSOR = (
    b'{"delivery_id":"d","event_type":"push","repo_name":"acme/app","sender_name":"ada",'
    b'"payload":{"n":1},"auth_context":{"tenant_id":"t"},"received_at":5}'
)


def test_a_line_of_the_other_format_is_told_by_the_option_that_reads_it() -> None:
    with pytest.raises(OtherFormatError, match=r"`repo_name` .* `--format predecessor`"):
        read_record(PREDECESSOR)
    only_time = b'{"event_type":"push","payload":1,"created_at":5}'
    with pytest.raises(
        BadRequestError, match=r"says nowhere when .* received_at, created_at, time"
    ):
        from_predecessor(b'{"payload":1,"received_at":null}')
    with pytest.raises(OtherFormatError, match="`created_at` is `received_at` here, or else"):
        read_record(only_time)
    assert read_record(from_predecessor(PREDECESSOR)).payload == b'{"n":1}'
    ours = write_record(make_event({"n": 1}), ROW)
    with pytest.raises(OtherFormatError, match="own format: leave out `--format predecessor`"):
        from_predecessor(ours)
    with pytest.raises(BadRequestError, match="`reponame`: did you mean `repo_name`"):
        from_predecessor(b'{"reponame":"x","payload":1,"received_at":5}')


def test_every_member_that_is_written_is_one() -> None:
    event = make_event({"n": 1}, batch_id="019b76da-a800-7003-8000-000000000029", kept_masked=True)
    row = {
        "status": "duplicate",
        "duplicate_of": "019b76da-a800-7003-8000-00000000002a",
        "enrichment": '{"team":"red"}',
    }
    assert set(json.loads(write_record(event, row))) <= set(MEMBERS)


def test_members_that_are_to_be_ignored_go_and_others_keep_their_characters() -> None:
    text = b'{"source": "sqs", "received_at": 5, "payload": {"n":1.10, "b" : [ ]}, "zone":1}'
    found = read_record(without(text, {"source", "zone"}))
    assert found.payload == b'{"n":1.10, "b" : [ ]}'
    assert without(b"no json", {"source"}) == b"no json"


def test_headers_as_lists_are_several_of_a_name() -> None:
    found = read_record(line(headers={"X-A": ["b", "c"], "x-n": 1, "x-none": None, "x-e": []}))
    assert found.headers == {"x-a": "b, c", "x-n": "1"}


def test_a_payload_over_several_lines_is_one_line_of_the_predecessor_s() -> None:
    event = make_event(b'{\r\n  "text": "a\\nb",\n  "n": 1.10\n}\n')
    line = to_predecessor(event)
    assert b"\n" not in line
    assert b"\r" not in line
    found = json.loads(line)["payload"]
    assert found == {"text": "a\nb", "n": 1.10}
    assert b"1.10" in line
