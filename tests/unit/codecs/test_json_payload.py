"""What is parsed of a payload, and what is kept as it is."""

from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.providers.signatures.request import WebhookRequest
from hookstream.app.stores.events import payload_out
from hookstream.app.streams.batch import Batch, Entry
from hookstream.codecs.json_payload import (
    MAX_DIGITS,
    MAX_JSON_DEPTH,
    UnparsedError,
    WrittenNumber,
    check_limits,
    dump_json,
    limits,
    load_json,
    parse_payload,
)
from hookstream.testing import make_event
from tests.support.cost import least_cpu


def nested(levels: int, kind: str) -> bytes:
    left, right = {"list": (b"[", b"]"), "object": (b'{"a":', b"}")}[kind]
    return left * levels + b"1" + right * levels


@pytest.mark.parametrize("kind", ["list", "object"])
def test_depth_is_data_for_every_reader(kind: str) -> None:
    around = range(MAX_JSON_DEPTH - 5, MAX_JSON_DEPTH + 6)
    for levels in (*range(200, 2001, 9), *around, 1999, 2000, 100_000):
        data = nested(levels, kind)
        parsed = levels <= MAX_JSON_DEPTH
        assert (make_event(data).data() is not None) == parsed, levels
        shown = payload_out(data)
        assert shown["payload_encoding"] == ("json" if parsed else "text")
        orjson.dumps({"an": {"answer": [shown["payload"]]}})
        hook = WebhookRequest("POST", "/", {}, data, data)
        assert (hook.json() is not None) == parsed


@pytest.mark.parametrize("unit", [b"[],", b"{},", b"1,", b'"x":1,'])
def test_what_unfolds_into_too_many_elements_is_not_parsed(unit: bytes) -> None:
    with pytest.raises(UnparsedError, match="MAX_PAYLOAD_ELEMENTS"):
        parse_payload(b"[" + unit * (limits.elements + 1) + b"1]")


def test_separators_in_texts_are_no_elements() -> None:
    text = ',[{\\"' * limits.elements
    assert parse_payload(orjson.dumps([text])) == [text]


@pytest.mark.parametrize("data", [b'"' + b'\\"' * 2_000_000, b'"' * 4_000_001, b"\\," * 2_000_000])
def test_counting_takes_linear_time(data: bytes) -> None:
    def refused() -> None:
        with pytest.raises(UnparsedError):
            check_limits(b"," * (limits.elements + 1) + data)

    assert least_cpu(refused, 2) < 2


#: Numbers of which another one has the same 64 bits or double.
LONG_WHOLES = ("18446744073709551617", "-9223372036854775809", "1" + "0" * 30, "9" * MAX_DIGITS)
LONG_FRACTIONS = (
    *("0.1000000000000000055", "1.0000000000000000001", "12345678901234567.5", "1e-400"),
    *("1.23e-322", "0." + "1" * 5000, "100000000000000000001.0", "-0.30000000000000000001E5"),
)
SHORT = (
    *("0", "-1", "18446744073709551615", "-9223372036854775808", "0.1", "0.10", "1e300"),
    *("5e-324", "-0.5", "1.8446744073709552e19", "0.30000000000000004"),
)
JSON_NUMBERS = r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?"


@pytest.mark.parametrize("text", LONG_WHOLES)
def test_whole_numbers_are_whole_however_long(text: str) -> None:
    data = b'{"a": [' + text.encode() + b'], "b": "18446744073709551617"}'
    for value in (parse_payload(data), parse_payload(data, exact=True), load_json(data)):
        assert value == {"a": [int(text)], "b": "18446744073709551617"}
        assert f"{value['a'][0]}" == text
        assert dump_json(value) == data.replace(b" ", b"")
    hook = WebhookRequest("POST", "/", {}, data, data)
    assert hook.json() == {"a": [int(text)], "b": "18446744073709551617"}


@pytest.mark.parametrize("text", LONG_FRACTIONS)
def test_fractions_keep_their_digits_for_who_asks(text: str) -> None:
    data = b'{"a":[' + text.encode() + b',0.5],"b":"' + text.encode() + b'"}'
    assert parse_payload(data) == orjson.loads(data)
    value = parse_payload(data, exact=True)
    number, other = value["a"]
    assert isinstance(number, WrittenNumber)
    assert (number, str(number), f"{number}") == (float(text), text, text)
    assert type(other) is float
    assert dump_json(value) == data
    shown = payload_out(data)
    assert (dump_json(shown["payload"]), shown["payload_encoding"]) == (data, "json")


@pytest.mark.parametrize("text", SHORT)
def test_numbers_that_parsers_hold_are_left_to_them(text: str) -> None:
    data = b"[" + text.encode() + b"]"
    [value] = parse_payload(data, exact=True)
    assert (type(value), value) == (type(orjson.loads(data)[0]), orjson.loads(data)[0])


@given(st.lists(st.from_regex(JSON_NUMBERS, fullmatch=True), max_size=5))
def test_no_two_numbers_are_one(texts: list[str]) -> None:
    data = ("[" + ",".join(texts) + "]").encode()
    try:
        values = parse_payload(data, exact=True)
    except UnparsedError:
        assert any(abs(Decimal(text)) > Decimal("1e308") for text in texts)
        return
    written = dump_json(values)[1:-1].decode().split(",") if texts else []
    assert [Decimal(text) for text in written] == [Decimal(text) for text in texts]


@pytest.mark.parametrize("number", [b"1e400", b"-1e999", b"1" * (MAX_DIGITS + 1)])
def test_numbers_that_are_too_large_are_data_like_any_other(number: bytes) -> None:
    data = b'{"a":' + number + b"}"
    with pytest.raises(UnparsedError, match="number"):
        parse_payload(data)
    # beyond a double, not beyond text
    read = {"a": number.decode()} if b"e" in number else None
    assert make_event(data).data() == read
    assert payload_out(data) == {"payload": data.decode(), "payload_encoding": "text"}
    assert WebhookRequest("POST", "/", {}, data, data).json() == read


def test_long_numbers_cost_no_more_than_their_bytes() -> None:
    def read() -> None:
        for number in (b"0.10000000000000001", b"18446744073709551617", b"1" * MAX_DIGITS):
            many = min(limits.elements - 10, 5_000_000 // len(number))
            dump_json(parse_payload(b"[" + b",".join([number] * many) + b"]", exact=True))
        parse_payload(b"[0." + b"1" * 5_000_000 + b"]", exact=True)

    assert least_cpu(read, 5) < 5


def test_what_stages_add_keeps_its_digits() -> None:
    event = make_event(b'{"id":18446744073709551617}')
    assert event.enrich(order=event.data()["id"]).enrichment == {"order": 18446744073709551617}
    deep: Any = []
    for _ in range(2000):
        deep = [deep]
    with pytest.raises(ValueError, match="not for JSON"):
        event.enrich(deep=deep)


def test_batch_that_has_ended_holds_nothing_parsed() -> None:
    held = make_event(b"[[],[]]")
    assert held.data() == [[], []]
    ended: list[Any] = []
    partition: Any = None
    batch = Batch("events", partition, [Entry("1-0", b"", held)], lambda b, e: ended.append(e))
    batch.done()
    assert (ended, held._parsed) == ([None], [])
    assert held.data() == [[], []]
