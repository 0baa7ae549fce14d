"""The rules of failure: order kept by ordering key, breakers, attempts; without any server."""

import copy
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.circuit_breaker import Breaker, BreakerState
from hookstream.app.failures.rules import BLOCKED, PARKED, Candidate, Decision, decide
from hookstream.app.streams.outcome import (
    ACCEPTED,
    Blocked,
    Dropped,
    Duplicate,
    Failed,
    Quarantined,
)

MAX_ATTEMPTS = 3
THRESHOLD = 4
BROKEN = Failed("stage", "ValueError: broken")

outcomes = st.one_of(
    st.just(ACCEPTED),
    st.builds(Duplicate, st.sampled_from(["a", "b"])),
    st.builds(Dropped, st.sampled_from(["", "stage"])),
    st.builds(Failed, st.just("stage"), st.just("error"), st.booleans()),
    st.just(Blocked(PARKED)),
    st.builds(Quarantined, st.just(7)),
)
candidates = st.lists(
    st.builds(
        Candidate,
        st.sampled_from("abcdef"),
        outcomes,
        again=st.booleans(),
        key=st.sampled_from(["", "k1", "k2"]),
        tool_id=st.sampled_from(["", "t1", "t2"]),
        listed=st.sampled_from(["", "k1", "k2"]),
        attempts=st.integers(0, 4),
    ),
    max_size=12,
    unique_by=lambda candidate: candidate.name,
)
blockers = st.dictionaries(st.sampled_from(["k1", "k2"]), st.sampled_from(["", *"abcdef"]))
tools = st.dictionaries(
    st.sampled_from(["t1", "t2"]),
    st.builds(
        Breaker,
        st.just(THRESHOLD),
        state=st.sampled_from(BreakerState),
        failures=st.integers(0, 9),
        probe=st.sampled_from(["", *"abcdef"]),
    ),
)


def decided(
    entries: list[Candidate], blocked: dict[str, str], breakers: dict[str, Breaker], now_ms: int = 1
) -> Decision:
    return decide(
        entries,
        blocked,
        breakers,
        max_attempts=MAX_ATTEMPTS,
        new_breaker=lambda: Breaker(THRESHOLD),
        now_ms=now_ms,
    )


@given(candidates, blockers, tools)
def test_what_it_is_given_stays_as_it_is(
    entries: list[Candidate], blocked: dict[str, str], breakers: dict[str, Breaker]
) -> None:
    before = copy.deepcopy((blocked, breakers))
    decided(entries, blocked, breakers)
    assert (blocked, breakers) == before


@given(candidates, blockers, tools)
def test_a_failure_is_final_once_its_attempts_are_used_up_and_nothing_else_changes(
    entries: list[Candidate], blocked: dict[str, str], breakers: dict[str, Breaker]
) -> None:
    unkeyed = [replace(entry, key="") for entry in entries]
    for entry, outcome in zip(unkeyed, decided(unkeyed, blocked, breakers).outcomes, strict=True):
        if isinstance(entry.outcome, Failed) and entry.attempts + 1 >= MAX_ATTEMPTS:
            assert outcome == replace(entry.outcome, final=True)
        else:
            assert outcome == entry.outcome


@given(candidates, blockers, tools)
def test_behind_a_failure_of_its_key_nothing_that_is_new_goes_on(
    entries: list[Candidate], blocked: dict[str, str], breakers: dict[str, Breaker]
) -> None:
    decision = decided(entries, blocked, breakers)
    closed = {key for key, blocker in blocked.items() if blocker}
    for entry, outcome in zip(entries, decision.outcomes, strict=True):
        if entry.key in closed and not entry.again and not isinstance(outcome, Duplicate):
            assert outcome == Blocked(BLOCKED, entry.key)
        if entry.key and isinstance(outcome, Failed):
            closed.add(entry.key)
    for key, blocker in decision.blocked.items():
        came_to = {e.name: o for e, o in zip(entries, decision.outcomes, strict=True)}
        if blocker:
            assert isinstance(came_to[blocker], (Failed, Blocked)), key


@given(candidates, blockers, tools)
def test_breakers_hear_of_what_was_tried_and_of_nothing_else(
    entries: list[Candidate], blocked: dict[str, str], breakers: dict[str, Breaker]
) -> None:
    decision = decided(entries, blocked, breakers)
    tried = {
        entry.tool_id
        for entry, outcome in zip(entries, decision.outcomes, strict=True)
        if not isinstance(outcome, (Blocked, Duplicate, Quarantined))
    }
    assert set(decision.breakers) <= tried - {""}
    for tool_id, breaker in decision.breakers.items():
        known = breakers.get(tool_id)
        if known and known.state is BreakerState.OPEN and breaker.state is BreakerState.CLOSED:
            # nothing but its probe closes one
            names = {entry.name for entry in entries if entry.tool_id == tool_id and entry.again}
            assert known.probe in names


def test_a_breaker_that_opens_within_a_batch_stays_open_until_its_probe() -> None:
    """Whether what came behind is in the same batch or in the next one."""
    failed = [Candidate(str(n), BROKEN, tool_id="t") for n in range(THRESHOLD)]
    decision = decided([*failed, Candidate("well", ACCEPTED, tool_id="t")], {}, {})
    assert decision.breakers["t"].state is BreakerState.OPEN


def test_a_payload_that_breaks_its_schema_says_nothing_about_the_next_one() -> None:
    final = Failed("schema", "it has no id", final=True)
    known = {"t": Breaker(THRESHOLD, failures=1)}
    decision = decided([Candidate("a", final, tool_id="t")], {}, known)
    assert decision.breakers == {}
