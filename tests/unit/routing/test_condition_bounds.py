"""A condition is bounded: its cost is estimated when it is set, and again for each event."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from hookstream.app.bounded import BoundedPool
from hookstream.app.errors import BadRequestError
from hookstream.app.routing.condition_cost import estimate
from hookstream.app.routing.condition_judge import MAX_ELEMENTS, ConditionJudge, Name
from hookstream.app.routing.matching import compile_condition, facts, refuse_costly
from hookstream.app.testing import make_event
from hookstream.codecs.json_payload import limits
from tests.support.cost import least_cpu

NAME: Name = ("default", "ctx", "sub")
NESTED = "payload.files.exists(f, payload.reviewed.exists(r, r == f))"


@pytest.fixture
async def pool() -> AsyncIterator[BoundedPool]:
    async with BoundedPool() as pool:
        yield pool


@pytest.mark.parametrize(
    ("source", "loops"),
    [
        ("payload.a == 1", 0),
        ("payload.labels.exists(l, l.name == 'bug')", 1),
        ("payload.commits.exists(c, c.files.exists(f, f.endsWith('.md')))", 1),
        ("payload.a.all(x, x > 0) && payload.b.all(x, x > 0)", 1),
        ("payload.a.exists(x, x in payload.b)", 1),
        (NESTED, 2),
        ("payload.a.map(x, payload.b.map(y, payload.c.filter(z, true)))", 3),
        ("payload.a.all(x, [1, 2].all(y, x.all(z, true)))", 3),
        ("payload.a.exists_one(payload, payload.all(y, y == 1))", 1),
        ("payload['a'].exists(x, x.b[0].c.exists(y, y == 1))", 1),
        ("payload.a.filter(x, x.b).exists(x, x.c.exists(y, y == 1))", 1),
        ("payload.a.map(x, x.b).exists(x, x.exists(y, y == 1))", 1),
        ("payload.a.map(x, payload.a).map(y, y.map(z, z)).size() > 0", 2),
        ("payload.a.map(x, [x]).exists(x, x.exists(y, y == 1))", 2),
        ("payload.a // .all(x, payload.all(y, true))\n == '.all(x, payload.all(y, 1))'", 0),
    ],
)
def test_loops_inside_of_loops_are_counted(source: str, loops: int) -> None:
    assert estimate(source).loops == loops
    compile_condition(source)


@pytest.mark.parametrize("source", [NESTED, "payload.l.map(a, payload.l.map(b, b)).size() > 0"])
def test_a_loop_for_each_element_of_another_list_is_refused_with_what_to_write(source: str) -> None:
    with pytest.raises(BadRequestError, match=r"f in payload\.reviewed"):
        refuse_costly(compile_condition(source))
    refuse_costly(compile_condition("payload.files.exists(f, f in payload.reviewed)"))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("(" * 1500 + "true" + ")" * 1500, "nested more than"),
        ("[" * 1500 + "]" * 1500 + " == []", "nested more than"),
        ("!" * 4000 + "true", "before a value"),
        ("-" * 4000 + "1 == 1", "before a value"),
        ("true ? " * 300 + "true" + " : false" * 200, "choices"),
        ("payload" + "['a']" * 700 + " == 1", "in one chain"),
        ("payload" + ".a" * 700 + " == 1", "in one chain"),
        (" && ".join(["true"] * 500), "operators"),
        ("(payload.s" + "+payload.s" * 300 + ").size() > 0", "operators"),
        ("payload.s.matches(payload.p)", "not written out"),
        ("payload.s.matches('a' + payload.p)", "not written out"),
        ("payload.a == '" + "x" * 5000 + "'", "longer than"),
    ],
)
def test_what_is_nested_too_deep_never_reaches_the_engine(source: str, reason: str) -> None:
    with pytest.raises(BadRequestError, match=reason):
        compile_condition(source)


COMMITS = [{"id": n, "by": {"name": "x" * 20}, "files": ["a.md", "b.py"]} for n in range(600)]
#: Each took 0.5 to 13 s where it stands: map and filter copy all they have for each element, and a
#: name of a list copies it.
DEAR = {
    "filter": ("payload.commits.filter(c, c.id >= 0).size() > 0", {"commits": COMMITS}),
    "map": ("payload.commits.map(c, c).size() > 0", {"commits": COMMITS}),
    "map to all": ("payload.l.map(x, payload).size() > 0", {"l": list(range(400))}),
    "reached": (
        "payload.l.exists(x, payload.commits.size() < 0)",
        {"l": list(range(600)), "commits": COMMITS},
    ),
    "reached from further out": (
        "payload.l.exists(a, a.m.exists(b, a.m.size() < 0))",
        {"l": [{"m": list(range(2000))}]},
    ),
    "text doubled": ("[payload.s]" + ".map(a, a + a + a + a)" * 7 + " == ['y']", {"s": "x" * 3000}),
    "text of its own": (
        "['" + "x" * 3000 + "']" + ".map(a, a + a + a)" * 9 + " == ['y']",
        {"a": 1},
    ),
    "list doubled": (
        "[payload.l]" + ".map(a, a + a + a + a)" * 6 + "[0].exists(x, x < 0)",
        {"l": list(range(200))},
    ),
    "duration": (
        "payload.l.all(x, duration(payload.s) > duration('1s'))",
        {"l": list(range(400)), "s": "1s" * 150_000},
    ),
    "int": (
        "payload.l.all(x, int(payload.s) > 0)",
        {"l": list(range(400)), "s": "0" * 1_000_000 + "1"},
    ),
}


@pytest.mark.parametrize("kind", DEAR)
async def test_what_the_engine_copies_is_estimated(pool: BoundedPool, kind: str) -> None:
    source, payload = DEAR[kind]
    judge, condition = ConditionJudge(pool), compile_condition(source)
    event = facts(make_event(payload))
    assert judge.at_once(NAME, condition, event) is None
    assert least_cpu(lambda: judge.at_once(NAME, condition, event), 0.2) < 0.2


@pytest.mark.parametrize(
    "source",
    [
        "payload.commits.exists(c, c.files.exists(f, f.endsWith('.md')))",
        "payload.commits.filter(c, c.id >= payload.least).size() > 0",
        "payload.commits.map(c, c.by.name).exists(n, n == payload.wanted)",
        "timestamp(payload.at) > timestamp('2024-01-01T00:00:00Z') && payload.least > -1",
    ],
)
def test_what_people_write_is_judged_where_it_stands(source: str) -> None:
    judge, at = ConditionJudge(BoundedPool()), "2026-01-01T00:00:00Z"
    payload = {"commits": COMMITS[:20], "least": 0, "wanted": "x" * 20, "at": at}
    assert judge.at_once(NAME, compile_condition(source), facts(make_event(payload))) is True


async def test_a_condition_sees_so_much_of_an_event_and_no_more(
    pool: BoundedPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # an operator may let more be parsed than a condition sees
    monkeypatch.setattr(limits, "elements", 10 * MAX_ELEMENTS)
    judge = ConditionJudge(pool)
    about = facts(make_event({"l": list(range(MAX_ELEMENTS + 1)), "a": 1}))
    assert judge.at_once(NAME, compile_condition("payload.l.size() > 1"), about) is False
    assert judge.kinds() == {"too-large": 1}
    assert judge.at_once(NAME, compile_condition("payload.a == 1"), about) is True


@pytest.mark.parametrize(
    ("where", "payload", "kinds"),
    [
        ("1 / payload.n > 0", {"n": 0}, {"arithmetic": 1}),
        ("1 % payload.n > 0", {"n": 0}, {"arithmetic": 1}),
        ("payload.n > 3", {"n": "x"}, {"type": 1}),
        ("payload.missing.n > 3", {"n": "x"}, {}),
        ("timestamp(payload.n) < timestamp('2020-01-01T00:00:00Z')", {"n": "9" * 99}, None),
        ("duration(payload.n) > duration('1s')", {"n": "9" * 999 + "h"}, None),
        ("payload.n * 9223372036854775807 > 0", {"n": 3}, None),
        ("payload.n == 1", b'{"n": 1' + b"0" * 400 + b"}", None),
    ],
)
async def test_no_error_of_a_condition_escapes(
    pool: BoundedPool, where: str, payload: Any, kinds: dict[str, int] | None
) -> None:
    judge = ConditionJudge(pool)
    holds = judge.at_once(NAME, compile_condition(where), facts(make_event(payload)))
    assert holds in (True, False)
    if kinds is not None:
        assert (holds, judge.kinds()) == (False, kinds)
