"""A condition sees of an event what it names, and judges as if it saw all."""

from typing import Any

import cel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.routing.condition_parts import Tree, named_parts, pruned
from hookstream.app.routing.matching import Facts, compile_condition, facts
from hookstream.app.testing import make_event
from tests.support.examples import examples

NAMES = st.sampled_from(["a", "b", "c", "size", "contains", "payload"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "payload.b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)
CONDITIONS = (
    "payload.a.b == 1",
    'payload.a.contains("a")',
    "payload.a.size() > 0",
    "payload.size() > 1",
    "size(payload.a.b) == 2",
    "has(payload.a.b) && !has(payload.c)",
    'payload["a"].b == 1',
    "payload.a[0].b == 1",
    "payload.a.b.c == payload.a.c || payload.a == payload.b",
    "payload.a.exists(x, x.b == payload.c)",
    "payload.a.all(payload, payload.b == 1)",
    "payload.a.size == 1",
    'payload.b == "payload.b" || event.type == "t"',
    'event.type.startsWith("t") && payload . a . b in [1, 2]',
    "payload.payload.a == 1",
    "(payload).a == 1",
    "(payload.a).b == 1",
    "payload.a // and a remark\n.b == 1",
    'event.headers["x"] == "y" && payload.a.b > -1',
    "{'k': payload}.k.a == 1",
    "[payload.a, payload.b].exists(x, x == 1)",
    "payload.a == {'b': 1}",
)


def outcome(source: str, about: Any) -> Any:
    try:
        return compile_condition(source).program.execute(cel.Context(about)) is True
    except LookupError:
        return False
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return False


# to draw a payload costs more than to judge it: each is put to every condition
@examples(300)
@given(payload=st.dictionaries(NAMES, VALUES, max_size=4) | VALUES)
def test_a_condition_judges_the_parts_as_it_judges_the_whole(payload: Any) -> None:
    about = {"event": {"type": "t", "headers": {"x": "y"}}, "payload": payload or {}}
    for source in CONDITIONS:
        judged = compile_condition(source).holds(Facts(about))
        assert (source, judged) == (source, outcome(source, about))


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("payload.a.b == 1", {"payload": {"a": {"b": None}}}),
        ("payload.a.b == 1 && payload.a == 2", {"payload": {"a": None}}),
        ('payload.a.contains("x")', {"payload": {"a": None}}),
        ("payload == 1 || payload.a == 1", {"payload": None}),
        ("true", {}),
    ],
)
def test_only_what_is_named_is_converted(source: str, parts: Tree) -> None:
    assert named_parts(source) == parts


def test_a_large_payload_is_left_out_of_it() -> None:
    payload = {"a": {"b": 1, "rest": [0] * 1000}, "more": {"c": 2}}
    about = {"event": {"type": "t"}, "payload": payload}
    assert pruned(about, named_parts("payload.a.b == 1")) == {"payload": {"a": {"b": 1}}}
    # a number that CEL has no room for matters only to those who look at it
    payload["huge"] = 10**30
    assert compile_condition("payload.a.b == 1").holds(Facts(about))


def test_conditions_on_the_same_parts_share_one_conversion() -> None:
    about = Facts({"event": {"type": "t"}, "payload": {"a": 1}})
    whole = about.context(named_parts("payload.size() == 1"))
    assert about.context(named_parts('event.type == "t" && payload["a"] == 1')) is whole
    assert about.context(named_parts("payload.a == 1")) is not whole
    assert about.context(named_parts("payload.a == 2")) is about.context(named_parts("payload.a"))


def test_a_condition_sees_what_stages_added() -> None:
    condition = compile_condition('enrichment.geo.country == "DE" && payload.n == 1')
    assert condition.parts == {"enrichment": {"geo": {"country": None}}, "payload": {"n": None}}
    plain = make_event({"n": 1, "geo": {"country": "DE"}})
    assert not condition.holds(facts(plain)), "a payload cannot say what stages added"
    assert condition.holds(facts(plain.enrich(geo={"country": "DE"})))
    assert compile_condition('"geo" in enrichment').holds(facts(plain.enrich(geo=1)))
    assert not compile_condition("enrichment.size() > 0").holds(facts(plain))
