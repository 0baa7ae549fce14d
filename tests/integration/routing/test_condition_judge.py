"""What a condition costs is cut off in a child, and what is within its limits harms no process."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import pytest

from hookstream.app.bounded import BoundedPool
from hookstream.app.routing import condition_judge
from hookstream.app.routing.condition_judge import BREACHES, ConditionJudge
from hookstream.app.routing.matching import compile_condition, facts
from hookstream.app.testing import make_event
from tests.unit.routing.test_condition_bounds import NAME, NESTED


@pytest.fixture
async def pool() -> AsyncIterator[BoundedPool]:
    async with BoundedPool() as pool:
        yield pool


BIG = {"files": list(range(10_000)), "reviewed": list(range(-10_000, 0)), "s": "x" * 1_000_000}


@pytest.mark.parametrize(
    "source",
    [
        NESTED,
        "payload.files.all(a, payload.files.all(b, payload.files.all(c, a + b + c >= 0)))",
        "payload.files.map(a, payload.files.map(b, payload.files.map(c, c))).size() > 0",
        "payload.files.map(x, payload.files + payload.files).size() > 0",
        "payload.files.all(x, !payload.s.contains('b'))",
        "(payload.s" + "+payload.s" * 200 + ").size() > 0",
        "payload.s.matches('((a{1000}){1000}){1000}')",
    ],
)
async def test_what_an_event_makes_expensive_is_cut_off_and_stalls_nobody(
    pool: BoundedPool, source: str
) -> None:
    judge, condition, event = ConditionJudge(pool), compile_condition(source), make_event(BIG)
    asked = asyncio.ensure_future(judge.holds(NAME, condition, facts(event)))
    longest, begun = 0.0, time.monotonic()
    while not asked.done():
        turn = time.monotonic()
        await asyncio.sleep(0.005)
        longest = max(longest, time.monotonic() - turn)
    assert time.monotonic() - begun < 10
    assert longest < 1.0, "the loop turned meanwhile"
    assert (await asked, sum(judge.kinds().values())) == (False, 1)


async def test_one_that_is_over_its_bounds_again_and_again_is_switched_off(
    pool: BoundedPool,
) -> None:
    judge, condition = ConditionJudge(pool), compile_condition(NESTED)
    about = facts(make_event(BIG))
    for _ in range(BREACHES):
        assert not judge.troubles().get(NAME) or not judge.troubles()[NAME].off
        assert not await judge.holds(NAME, condition, about)
    assert "over its bounds" in judge.troubles()[NAME].off
    small = facts(make_event({"files": [1], "reviewed": [1]}))
    assert judge.at_once(NAME, condition, small) is False, "it is asked no more"
    assert judge.at_once(("default", "ctx", "other"), condition, small) is True
    anew = compile_condition("payload.files.exists(f, f in payload.reviewed)")
    assert judge.at_once(NAME, anew, small) is True, "set anew it is asked again"


async def test_an_expensive_condition_within_its_bounds_holds(
    pool: BoundedPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the machine may be busy with other things: what is tried is that it holds, not how fast
    monkeypatch.setattr(condition_judge, "CHILD_SECONDS", 20.0)
    judge = ConditionJudge(pool)
    condition = compile_condition("payload.items.exists(i, i.n == 9000)")
    about = facts(make_event({"items": [{"n": n} for n in range(10_000)]}))
    assert judge.at_once(NAME, condition, about) is None
    assert await judge.in_child(NAME, condition, about)
    assert judge.kinds() == {}


def test_nothing_within_the_limits_crashes_the_engine() -> None:
    """In a child: what overflows a stack takes the process along."""
    program = """
from hookstream.app.routing.matching import compile_condition, Facts
for source in (
    "(" * 24 + "true" + ")" * 24,
    "[" * 24 + "]" * 24 + " == []",
    "!" * 16 + "true",
    "false ? false : " * 16 + "true",
    "payload" + "['a']" * 64 + " == 1",
    " && ".join(["true"] * 256),
    "payload" + ".a" * 64 + " == 1",
    "!(" * 24 + "true" + ")" * 24,
):
    compile_condition(source).holds(Facts({"payload": {}}))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
