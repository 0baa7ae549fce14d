"""A partition by the rules of failure alone: each key goes through in its order."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hookstream.app.circuit_breaker import Breaker, BreakerState
from hookstream.app.failures import rules
from hookstream.app.failures.rules import BLOCKED, PARKED, Candidate, waits_for
from hookstream.app.status import Status
from hookstream.app.streams.outcome import (
    ACCEPTED,
    Blocked,
    Failed,
    Outcome,
    status_of,
)
from tests.unit.failures.test_rules import BROKEN, MAX_ATTEMPTS, decided


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
