"""Items of lists in JSON texts: nothing of a text is lost, and all is as it was written."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.codecs.json_items import (
    MAX_AROUND,
    Shape,
    TooManyError,
    grouped,
    items_of,
    value_of,
)

META: Shape = {"entry": [{"changes": [], "messaging": []}]}
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
writers = st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False}])


def texts(text: str, shape: Shape, most: int = 1000) -> list[str] | None:
    groups = grouped(text, shape, most)
    return groups and [one for group in groups for one in group.texts(text)]


@given(st.lists(anything, max_size=6), writers)
def test_items_of_a_list_are_what_it_has(items: list[Any], writer: dict[str, Any]) -> None:
    found = texts(json.dumps(items, **writer), []) or []
    assert [json.loads(text) for text in found] == items


@given(
    st.lists(anything, max_size=4),
    st.dictionaries(st.text(max_size=4).filter(lambda name: name != "events"), anything),
    st.integers(0, 5),
    writers,
)
def test_items_within_an_object_have_all_that_is_around_them_and_no_other_item(
    items: list[Any], around: dict[str, Any], place: int, writer: dict[str, Any]
) -> None:
    members = list(around.items())
    whole = dict([*members[:place], ("events", items), *members[place:]])
    found = texts(json.dumps(whole, **writer), {"events": []}) or []
    assert [json.loads(text) for text in found] == [{**whole, "events": [one]} for one in items]
    # and in the order in which it was written
    assert all(list(json.loads(text)) == list(whole) for text in found)


entries = st.fixed_dictionaries(
    {"id": st.integers()},
    optional={
        "changes": st.lists(anything, max_size=3),
        "messaging": st.lists(anything, max_size=3),
        "time": scalars,
    },
)


@given(st.lists(entries | scalars, max_size=4), writers)
def test_lists_of_lists_come_together_again(given: list[Any], writer: dict[str, Any]) -> None:
    whole = {"object": "page", "entry": given}
    text = json.dumps(whole, **writer)
    found = [json.loads(one) for one in texts(text, META) or []]
    assert len(items_of(value_of(text), META)) == len(found)
    assert all(list(one) == ["object", "entry"] and len(one["entry"]) == 1 for one in found)
    # an entry is there for each of its items, or once where it has none
    assert [one["entry"][0] for one in found] == [one for entry in given for one in alone(entry)]


def alone(entry: Any) -> list[Any]:
    """An entry with one of its items at a time."""
    names = (
        [name for name in entry if name in ("changes", "messaging")] if type(entry) is dict else []
    )
    rest = {name: value for name, value in entry.items() if name not in names} if names else entry
    return [{**rest, name: [item]} for name in names for item in entry[name]] or [entry]


@given(st.text(max_size=60) | st.lists(anything).map(json.dumps), st.integers(0, 80))
def test_what_is_no_whole_text_is_none_or_an_error_that_is_told(text: str, cut: int) -> None:
    for broken in (text, text[:cut], text + text[:cut]):
        for shape in ([], {"events": []}, META):
            try:
                found = texts(broken, shape)
            except (ValueError, RecursionError):
                continue
            if found is not None:
                assert json.loads(broken) is not None


@pytest.mark.parametrize(
    ("text", "shape", "expected"),
    [
        # as it was written: digits, escapes, names that stand twice
        ('[ 1.10 , 1e400,"\\ud83d" , {"a":1,"a":2} ]', [],
         ["1.10", "1e400", '"\\ud83d"', '{"a":1,"a":2}']),
        ("[NaN]", [], ["NaN"]),
        (f"[{'9' * 5000}]", [], ["9" * 5000]),
        ("[]", [], []),
        ('{"events": []}', {"events": []}, []),
        ('{"a": 1}', [], None),
        ("[1]", {"events": []}, None),
        ('{"events": 1}', {"events": []}, None),
        # the last of two counts
        ('{"events":[5],"x":1,"events":[6]}', {"events": []}, ['{"x":1,"events":[6]}']),
        ('{"events":[5],"x":1,"events":6}', {"events": []}, None),
        ('{"a_events":[1,2],"b":3}', {"*_events": []},
         ['{"a_events":[1],"b":3}', '{"a_events":[2],"b":3}']),
        ('{"data":{"events":[1,2]},"id":7}', {"data": {"events": []}},
         ['{"data":{"events":[1]},"id":7}', '{"data":{"events":[2]},"id":7}']),
    ],
)  # fmt: skip
def test_items_are_as_they_were_written(
    text: str, shape: Shape, expected: list[str] | None
) -> None:
    assert texts(text, shape) == expected


def test_more_items_than_are_wanted_and_too_much_around_them_are_refused() -> None:
    assert len(texts("[1,2,3]", [], 3) or []) == 3
    with pytest.raises(TooManyError):
        texts("[1,2,3,4]", [], 3)
    around = "x" * (MAX_AROUND // 100)
    assert texts(json.dumps({"around": around, "events": [1] * 50}), {"events": []})
    for many in (
        {"around": around, "events": [1] * 101},
        {"around": around, "entry": [{"changes": [1]}] * 101},
        {"entry": [{"around": around, "changes": [1] * 101}]},
    ):
        with pytest.raises(TooManyError):
            texts(json.dumps(many), {"events": [], "entry": [{"changes": []}]})


def test_deep_nesting_is_an_error_that_is_told() -> None:
    for text in ("[" * 100_000, "[" + "[" * 50_000 + "]" * 50_000 + "]"):
        with pytest.raises((ValueError, RecursionError)):
            texts(text, [])
