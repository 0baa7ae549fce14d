"""Conditions that could never hold: refused where that is plain, else told as errors."""

from typing import Any, cast

import pytest

from hookstream.app.errors import BadRequestError
from hookstream.app.routing.matching import (
    EVENT_FIELDS,
    compile_condition,
    facts,
    refuse_unknown_fields,
)
from hookstream.testing import make_event

EVENT = make_event({"flag": True, "text": "x", "none": None, "list": [{"typ": "x"}]})


def test_the_fields_that_are_told_are_those_that_there_are() -> None:
    assert set(cast(Any, facts(EVENT))._values["event"]) == set(EVENT_FIELDS)


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("event.typ == 'x'", r"names event\.typ: did you mean event\.type\?"),
        ("payload.flag && event . tool == 't'", r"event\.tool: did you mean event\.tool_id\?"),
        ("has(event.payload)", r"names event\.payload: An event has id, type"),
    ],
)
def test_a_field_that_no_event_has_is_refused(where: str, says: str) -> None:
    with pytest.raises(BadRequestError, match=says):
        refuse_unknown_fields(compile_condition(where))


@pytest.mark.parametrize(
    "where",
    [
        "event.type == 'event.typ'",
        'event.type == "say \\"event.typ\\""',
        "payload.event.typ == 'x'",
        "payload.list[0].event.typ == 'x'",
        "payload.list.exists(event, event.typ == 'x')",
        "event.headers['x-n'] == 'x' && event.keys.size() > 0",
        "event.type.startsWith('x')",
        "'event' in payload",
    ],
)
def test_what_is_no_field_of_an_event_is_left_alone(where: str) -> None:
    refuse_unknown_fields(compile_condition(where))


@pytest.mark.parametrize(
    ("where", "holds", "kind"),
    [
        ("payload.flag", True, ""),
        ("payload.none", False, ""),
        ("payload.missing", False, ""),
        ("payload.text", False, "type"),
        ("'text'", False, "type"),
        ("size(payload.text)", False, "type"),
    ],
)
def test_what_is_neither_true_nor_false_is_an_error(where: str, holds: bool, kind: str) -> None:
    found, error_kind, text = compile_condition(where).judge(facts(EVENT))
    assert (found, error_kind) == (holds, kind)
    assert ("not true or false: compare it" in text) == bool(kind)
