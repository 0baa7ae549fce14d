"""The one look-up by a dotted path: the same in what is converted and in what is looked into."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.providers.json_body import look_into
from hookstream.app.providers.lookup import text_at, value_at, word_at
from hookstream.codecs.json_payload import dump_json, load_json
from tests.unit.providers.test_json_body import VALUES, converted

BODY = b'{"a":{"b":[1,{"c":"x"},[]],"0":"named"},"n":null,"t":true,"f":1.5,"":{"":2}}'


@pytest.fixture(params=[orjson.loads, look_into], ids=["converted", "looked into"])
def data(request: pytest.FixtureRequest) -> Any:
    return request.param(BODY)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.b.0", 1),
        ("a.b.1.c", "x"),
        ("a.b.01.c", "x"),
        ("a.0", "named"),
        ("n", None),
        ("t", True),
        (".", 2),
    ],
)
def test_value_is_found_by_its_path(data: Any, path: str, expected: Any) -> None:
    assert value_at(data, path, "missing") == expected


@pytest.mark.parametrize(
    "path",
    [
        "x", "x.y", "n.x", "t.x", "a.b.3", "a.b.-1", "a.b.x", "a.b.\u0661", "a.b.0.x", "a..b",
        "a.b.1.", "a.b.9999999999",
    ],
)  # fmt: skip
def test_what_is_not_there_is_what_the_caller_says(data: Any, path: str) -> None:
    marker = object()
    assert value_at(data, path, marker) is marker
    assert value_at(data, path) is None
    assert text_at(data, path) == word_at(data, path) == ""


def test_texts_and_whole_numbers_are_words(data: Any) -> None:
    assert [word_at(data, path) for path in ("a.b.0", "a.0", "t", "f", "n", "a")] == [
        "1", "named", "", "", "", "",
    ]  # fmt: skip
    assert [text_at(data, path) for path in ("a.b.0", "a.0", "t", "a")] == ["", "named", "", ""]


@given(VALUES, st.lists(st.sampled_from(["a", "0", "1", ""]), min_size=1, max_size=3))
def test_both_kinds_of_json_are_looked_into_alike(value: Any, names: list[str]) -> None:
    body = dump_json({"a": value, "0": [value, {"a": value}]})
    path = ".".join(names)
    missing = object()
    found = value_at(look_into(body), path, missing)
    expected = value_at(load_json(body), path, missing)
    assert expected is found is missing or converted(found) == expected
