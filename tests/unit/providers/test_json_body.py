"""Looking into a body: accepts, refuses and finds what converting all of it does."""

from typing import Any

import pytest
import simdjson
from hypothesis import example, given
from hypothesis import strategies as st

from hookstream.app.errors import BadRequestError
from hookstream.app.providers.json_body import look_into, parse_json
from hookstream.app.providers.lookup import value_at
from hookstream.codecs.json_payload import dump_json, load_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def converted(value: Any) -> Any:
    """All of a value that is only looked into."""
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value


def outcome(read: Any, data: bytes) -> Any:
    """What a reader makes of bytes: a value, or its refusal."""
    try:
        return converted(read(data))
    except BadRequestError as error:
        return str(error)


@given(VALUES)
def test_what_was_written_is_found(value: Any) -> None:
    data = dump_json(value)
    assert outcome(look_into, data) == load_json(data)


@given(st.binary(max_size=40))
@example(b"")
@example(b" ")
@example(b"\xef\xbb\xbf{}")
@example(b'{"a":NaN}')
@example(b'{"a":1e999}')
@example(b'{"a":1}x')
@example(b'{"a":1}\x00')
@example(b'{"a":"\\ud800"}')
@example(b'{"a":"\\udc00"}')
@example(b'{"a":"\xff"}')
@example(b'{"a":"\x01"}')
@example(b'{"a":123456789012345678901234567890}')
@example(b'{"a":01}')
@example(b"[" * 255 + b"]" * 255)
@example(b"[" * 254 + b"]" * 254)
@example(b"[" * 2000)
@example(b'{"a":' * 300 + b"1" + b"}" * 300)
def test_bytes_are_accepted_and_refused_alike(data: bytes) -> None:
    assert outcome(look_into, data) == outcome(parse_json, data)


@given(st.text('[]{}",:01e.-\\u d8tfn', max_size=30))
def test_text_that_is_nearly_json_is_accepted_and_refused_alike(text: str) -> None:
    data = text.encode()
    assert outcome(look_into, data) == outcome(parse_json, data)


def test_nesting_is_bounded_and_many_brackets_are_not() -> None:
    with pytest.raises(BadRequestError, match="nested too deep"):
        look_into(b"[" * 255 + b"]" * 255)
    assert value_at(look_into(b"[" + b",".join([b"[1]"] * 400) + b"]"), "399.0") == 1
