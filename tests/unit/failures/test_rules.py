"""The rules of failure: order kept by ordering key, breakers, attempts; without any server."""

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hookstream.app.circuit_breaker import Breaker, BreakerState
from hookstream.app.failures import rules
from hookstream.app.failures.rules import BLOCKED, PARKED, Candidate, Decision, decide, waits_for
from hookstream.app.status import Status
from hookstream.app.streams.outcome import (
    ACCEPTED,
    Blocked,
    Dropped,
    Duplicate,
    Failed,
    Outcome,
    Quarantined,
    status_of,
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


class Partition:
    """One partition of events by the rules alone: its stream, failed events, lists and breakers."""

    def __init__(self) -> None:
        self.stream: list[Candidate] = []
        self.blocked: dict[str, str] = {}
        self.breakers: dict[str, Breaker] = {}
        self.lists: dict[str, list[str]] = {}
        #: failed events: the candidate as it comes again, and what it waits for ("" for its time).
        self.kept: dict[str, tuple[Candidate, str]] = {}
        self.through: list[str] = []
        self.now_ms = 0

    def arrive(self, name: str, key: str) -> None:
        self.stream.append(Candidate(name, ACCEPTED, key=key, tool_id="t" + key))

    def step(self, size: int, broken: set[str]) -> bool:
        """One batch; False where nothing could be read."""
        entries = self._released() or self._next(size)
        judged = [
            replace(
                entry,
                outcome=waits_for(entry, self.blocked, self.breakers) or self._try(entry, broken),
            )
            for entry in entries
        ]
        decision = decided(judged, self.blocked, self.breakers, self.now_ms)
        for move in decision.moves:
            listed = self.lists.setdefault(move.key, [])
            if move.into:
                listed.append(move.name)
            else:
                while move.name in listed:
                    listed.remove(move.name)
        self.blocked |= decision.blocked
        self.breakers |= decision.breakers
        for entry, outcome in zip(judged, decision.outcomes, strict=True):
            self._keep(entry, outcome)
        return bool(entries)

    @staticmethod
    def _try(entry: Candidate, broken: set[str]) -> Outcome:
        return BROKEN if entry.name in broken else ACCEPTED

    def _released(self) -> list[Candidate]:
        for key, blocker in self.blocked.items():
            names = self.lists.get(key, [])
            if not blocker and names:
                held = [self.kept[name][0] for name in names if self.kept[name][1] == BLOCKED]
                if held:
                    return [replace(entry, listed=key) for entry in held]
        return []

    def _next(self, size: int) -> list[Candidate]:
        entries, self.stream = self.stream[:size], self.stream[size:]
        return entries

    def _keep(self, entry: Candidate, outcome: Outcome) -> None:
        status = status_of(outcome)
        if status is Status.RETRYING:
            failed = isinstance(outcome, Failed)
            waits = outcome.reason if isinstance(outcome, Blocked) else ""
            again = replace(
                entry, outcome=ACCEPTED, again=True, listed="", attempts=entry.attempts + failed
            )
            self.kept[entry.name] = (again, waits)
        else:
            self.kept.pop(entry.name, None)
            self.through.append(entry.name if status is not Status.DEAD else "")

    def schedule(self) -> None:
        """As the retry scheduler does: what is due goes back; keys and breakers are let go."""
        self.now_ms += 1_000_000
        for entry, waits in list(self.kept.values()):
            if not waits and entry not in self.stream:
                self.stream.append(entry)
        for key, blocker in list(self.blocked.items()):
            if blocker and blocker not in self.kept:
                self.blocked[key] = ""
            elif not blocker and not self.lists.get(key):
                del self.blocked[key]
        for breaker in self.breakers.values():
            parked = [
                name
                for name, (entry, waits) in self.kept.items()
                if waits == PARKED and self.breakers.get(entry.tool_id) is breaker
            ]
            if breaker.state is BreakerState.CLOSED:
                for name in parked:
                    self._requeue(name)
            elif parked and breaker.allow(self.now_ms):
                breaker.probe = parked[0]
                self._requeue(parked[0])
            elif breaker.probe and breaker.probe not in self.kept:
                breaker.reprobe(self.now_ms)

    def _requeue(self, name: str) -> None:
        entry, _ = self.kept[name]
        self.kept[name] = (entry, "")
        self.stream.append(entry)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_each_key_goes_through_in_its_order_and_nothing_is_left(data: st.DataObject) -> None:
    """Whatever fails, however batches are cut, and whenever the scheduler runs."""
    _goes_through(data)


def test_the_simulation_notices_a_rule_that_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "passes", lambda entry, blocker: entry.again or not blocker)

    # that it is found is enough: the smallest example takes half a minute to find
    @settings(max_examples=300, deadline=None, database=None, phases=[Phase.generate])
    @given(st.data())
    def broken(data: st.DataObject) -> None:
        _goes_through(data)

    with pytest.raises(AssertionError):
        broken()


def _goes_through(data: Any) -> None:
    partition = Partition()
    order: dict[str, list[str]] = {"k1": [], "k2": []}
    for n in range(data.draw(st.integers(1, 20))):
        key = data.draw(st.sampled_from(["k1", "k2"]))
        order[key].append(f"e{n}")
        partition.arrive(f"e{n}", key)
        if data.draw(st.booleans()):
            broken = data.draw(st.sets(st.sampled_from([f"e{i}" for i in range(n + 1)])))
            attempts_left = {
                name
                for name in broken
                if partition.kept.get(name, (Candidate("", ACCEPTED), ""))[0].attempts
                < MAX_ATTEMPTS - 1
            }
            partition.step(data.draw(st.integers(1, 5)), attempts_left)
        if data.draw(st.booleans()):
            partition.schedule()
    for _ in range(500):
        if not partition.step(5, set()) and not partition.kept and not partition.stream:
            break
        partition.schedule()
    assert not partition.kept, "nothing waits for ever"
    for key, names in order.items():
        came = [name for name in partition.through if name in names]
        assert came == names, key
