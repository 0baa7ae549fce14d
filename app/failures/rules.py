"""What becomes of the entries of a batch once its stages are through: pure functions.

Three things can stop an event: it failed (then it is tried again after a while, and in the end is
a dead letter), it is blocked (an earlier one of its ordering key has failed, and its tool wants
order kept), or it is parked (its tool's circuit breaker is open).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from hookstream.app.circuit_breaker import Breaker, BreakerState
from hookstream.app.streams.outcome import Blocked, Duplicate, Failed, Outcome, Quarantined

__all__ = ["BLOCKED", "PARKED", "Candidate", "Decision", "Move", "decide", "passes", "waits_for"]

BLOCKED: Literal["held"] = "held"
PARKED: Literal["parked"] = "parked"


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the rules need to know of an entry.

    ``name``: under which it is kept if it fails; ``again``: it is kept under it already;
    ``key``: the ordering key that it blocks if it fails, "" where its tool does not want that;
    ``tool_id``: whose circuit breaker it counts for, "" for none; ``listed``: the ordering key in
    whose list of blocked entries it stands; ``attempts``: how often it failed before; ``holder``:
    what blocks its key from now on, where that is no entry; ``soft``: it blocks nothing if it
    fails, though it has waited in a list.
    """

    name: str
    outcome: Outcome
    again: bool = False
    key: str = ""
    tool_id: str = ""
    listed: str = ""
    attempts: int = 0
    holder: str = ""
    soft: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """Into a key's list of blocked entries, at its end, or out of it.

    ``first_only``: out of it once, from the front; otherwise wherever it stands.
    """

    key: str
    name: str
    into: bool
    first_only: bool = False


@dataclass(slots=True)
class Decision:
    """What becomes of each entry, and what changes with it.

    ``blocked``: the ordering keys whose blocker changes, with the entry that blocks each, "" where
    what waited comes next; ``moves``: in this order; ``breakers``: as they are after the batch.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    blocked: dict[str, str] = field(default_factory=dict)
    moves: list[Move] = field(default_factory=list)
    breakers: dict[str, Breaker] = field(default_factory=dict)


def passes(entry: Candidate, blocker: str) -> bool:
    """Whether an entry goes on although its key is blocked by ``blocker`` ("": waiters come)."""
    return entry.again and blocker in ("", entry.name)


def waits_for(
    entry: Candidate, blocked: Mapping[str, str], breakers: Mapping[str, Breaker]
) -> Blocked | None:
    """What an entry has to wait for before any stage works on it; None: it may go."""
    if entry.key in blocked and not passes(entry, blocked[entry.key]):
        return Blocked(BLOCKED, entry.key)
    breaker = breakers.get(entry.tool_id)
    if breaker is None or breaker.state is BreakerState.CLOSED:
        return None
    if entry.again and entry.name == breaker.probe:
        return None
    return Blocked(PARKED)


def decide(
    entries: Sequence[Candidate],
    blocked: Mapping[str, str],
    breakers: Mapping[str, Breaker],
    *,
    max_attempts: int,
    new_breaker: Callable[[], Breaker],
    now_ms: int,
) -> Decision:
    """Decide about a batch, in the order of its entries; changes nothing of what it is given.

    ``blocked`` and ``breakers`` are the partition's, as they were before the batch. A failure
    whose attempts are used up comes back as final. Times are Unix ms.
    """
    decision = Decision()
    for entry in entries:
        outcome = _in_turn(entry, blocked, decision)
        _count(entry, outcome, breakers, decision, new_breaker, now_ms)
        if isinstance(outcome, Failed) and entry.attempts + 1 >= max_attempts:
            outcome = replace(outcome, final=True)
        decision.outcomes.append(outcome)
    return decision


def _in_turn(entry: Candidate, blocked: Mapping[str, str], decision: Decision) -> Outcome:
    """Keep the order of an entry's key: what it comes to, given what is in front of it."""
    key, outcome = entry.key, entry.outcome
    if not key:
        return outcome
    blocker = decision.blocked.get(key, blocked.get(key))
    if blocker is not None and not isinstance(outcome, Duplicate) and not passes(entry, blocker):
        # whatever became of it in this batch: its turn has not come, and an attempt ahead of its
        # turn does not count
        outcome = Blocked(BLOCKED, key)
    fails = isinstance(outcome, Failed) or _is_parked(outcome)
    blocks = fails and not entry.soft
    if not blocks and (fails or not isinstance(outcome, Blocked)):
        if entry.again:
            decision.moves.append(Move(key, entry.name, into=False, first_only=True))
        if blocker and blocker == entry.name and entry.again:
            # what waits behind it comes now
            decision.blocked[key] = ""
        return outcome
    decision.moves += _enlisted(entry, blocked.get(key))
    if blocks:
        decision.blocked[key] = entry.name
    elif blocker is None and entry.holder:
        decision.blocked[key] = entry.holder
    elif blocker is None:
        # what it waited for was released meanwhile: its turn is next
        decision.blocked[key] = ""
    return outcome


def _enlisted(entry: Candidate, blocker: str | None) -> list[Move]:
    """Into the list of its key, once, and out of any other one's."""
    if entry.listed == entry.key:
        return []
    moves = []
    if entry.listed:
        moves.append(Move(entry.listed, entry.name, into=False))
    if entry.again:
        # it failed when its tool did not keep order yet, or by another key: or it is there already
        if blocker == entry.name:
            return moves
        moves.append(Move(entry.key, entry.name, into=False))
    return [*moves, Move(entry.key, entry.name, into=True)]


def _count(
    entry: Candidate,
    outcome: Outcome,
    breakers: Mapping[str, Breaker],
    decision: Decision,
    new_breaker: Callable[[], Breaker],
    now_ms: int,
) -> None:
    """Tell a tool's circuit breaker what came of an entry, where that says something."""
    if not entry.tool_id or isinstance(outcome, (Blocked, Duplicate, Quarantined)):
        return
    breaker = decision.breakers.get(entry.tool_id)
    if breaker is None and (known := breakers.get(entry.tool_id)):
        breaker = replace(known)
    probe = breaker is not None and entry.again and entry.name == breaker.probe
    if isinstance(outcome, Failed):
        if outcome.final and not probe:
            # a payload that breaks its schema says nothing about the next one
            return
        breaker = breaker or new_breaker()
        breaker.failed(now_ms)
    elif breaker is None or (breaker.state is not BreakerState.CLOSED and not probe):
        return
    else:
        breaker.succeeded()
    decision.breakers[entry.tool_id] = breaker


def _is_parked(outcome: Outcome) -> bool:
    return isinstance(outcome, Blocked) and outcome.reason == PARKED
