"""The mixed ledger finds each kind of broken promise, and none where there is none."""

from typing import Any

import pytest

from tests.chaos.faults import KINDS
from tests.chaos.mixed_ledger import MixedLedger, Source, View
from tests.chaos.mixed_load import SECOND_TOOLS, sources
from tests.chaos.mixed_scenarios import MIXED

EXACT = Source("exact", {})
LOOSE = Source("loose", {}, exact=False, keys=0)
LANES = Source("lanes", {}, keys=2)
PLAIN = Source("plain", {}, exact=False)


def update(seq: int, tool: str, number: int, event_id: str = "", **more: Any) -> dict[str, Any]:
    """A frame about an event; its id is ``e`` and its number unless another one is given."""
    about = {"event_id": event_id or f"e{number}", "data": {"title": f"{tool} n{number}"}}
    return {"type": "update", "kind": "update", "seq": seq, **about, **more}


def counts(
    source: Source, *frames: dict[str, Any], copies: tuple[str, ...] = (), accepted: int = 3
) -> dict[str, int]:
    """What is found where numbers 0, 1, 2 (and copies of 0) were accepted and this was shown."""
    ledger = MixedLedger([source])
    ledger.views["c"] = View("c", frozenset({source.name}))
    recorded = {}
    for number in range(accepted):
        ledger.accept(source.name, number, f"e{number}")
        recorded[f"e{number}"] = ("accepted", "")
    for copy in copies:
        ledger.accept(source.name, 0, copy)
        recorded[copy] = ("duplicate", "e0")
    for frame in frames:
        inside = frame.pop("inside", None)
        ledger.frame("c", frame, inside)
    return dict(ledger.check(recorded).counts)


@pytest.mark.parametrize("source", [EXACT, LOOSE, LANES, PLAIN])
def test_nothing_is_found_where_all_is_well(source: Source) -> None:
    name = source.name
    assert counts(source, *(update(n + 1, name, n) for n in range(3))) == {}
    folded = [update(0, name, 0), update(0, name, 1)]
    digest = {"kind": "digest", "seq": 1, "inside": folded}
    assert counts(source, digest, update(2, name, 2)) == {}
    # a frame that comes again, as it was, and a copy that was recognised
    again = [update(1, name, 0), update(1, name, 0), update(2, name, 1), update(3, name, 2)]
    assert counts(source, *again, copies=("c0",)) == {}


@pytest.mark.parametrize(
    ("source", "shown", "found"),
    [
        pytest.param(EXACT, [(1, 0, ""), (2, 2, "")], {"lost": 1}, id="lost"),
        pytest.param(
            EXACT, [(1, 0, ""), (2, 1, ""), (3, 0, "c0"), (4, 2, "")],
            {"doubled": 1, "out of order": 1}, id="copy delivered",
        ),
        pytest.param(
            LOOSE, [(1, 0, ""), (2, 1, ""), (3, 0, "c0"), (4, 2, "")], {}, id="copy may pass"
        ),
        pytest.param(
            LOOSE, [(1, 0, ""), (2, 1, ""), (3, 0, ""), (4, 2, "")], {"doubled": 1}, id="one id"
        ),
        pytest.param(
            EXACT, [(1, 0, ""), (2, 2, ""), (3, 1, "")], {"out of order": 1}, id="out of order"
        ),
        pytest.param(LANES, [(1, 1, ""), (2, 0, ""), (3, 2, "")], {}, id="keys pass each other"),
        pytest.param(
            LANES, [(1, 1, ""), (2, 2, ""), (3, 0, "")], {"out of order": 1}, id="within a key"
        ),
        pytest.param(EXACT, [(1, 0, ""), (2, 1, ""), (4, 2, "")], {"gaps": 1}, id="gap"),
        pytest.param(
            EXACT, [(1, 0, ""), (2, 1, ""), (2, 2, "")], {"renumbered": 1, "lost": 1},
            id="a number twice",
        ),
    ],
)  # fmt: skip
def test_what_is_broken_is_found(
    source: Source, shown: list[tuple[int, int, str]], found: dict[str, int]
) -> None:
    frames = [update(seq, source.name, number, event_id) for seq, number, event_id in shown]
    assert counts(source, *frames) == found


def test_what_the_record_does_not_know_or_tries_again_is_found() -> None:
    ledger = MixedLedger([EXACT])
    ledger.accept("exact", 0, "e0")
    ledger.accept("exact", 1, "e1")
    assert ledger.check({"e1": ("retrying", "")}).counts == {"unrecorded": 1, "unsettled": 1}


def test_a_replay_sends_each_event_once_and_all_of_them() -> None:
    ledger = MixedLedger([EXACT])
    ledger.views["replayed"] = View("replayed", frozenset())
    ledger.replays = {"r": 2, "s": 1}
    ledger.frame("replayed", update(1, "exact", 0, replay_id="r"))
    ledger.frame("replayed", update(2, "exact", 0, replay_id="s"))
    ledger.frame("replayed", update(3, "exact", 0, replay_id="r"))
    assert ledger.check({}).counts == {"lost": 1, "doubled": 1}


def test_what_is_another_tenants_is_found() -> None:
    names = ("exact", "acme/exact")
    ledger = MixedLedger([Source(name, {}) for name in names])
    for name in names:
        ledger.views[name] = View(name, frozenset({name}))
        ledger.accept(name, 0, f"{name} e0")
        ledger.frame(name, update(1, name, 0, f"{name} e0"))
    # a day's summary is about no event
    ledger.frame("acme/exact", {"kind": "daily", "seq": 2, "event_id": "", "data": None})
    recorded = {f"{name} e0": ("accepted", "") for name in names}
    assert ledger.check(recorded).counts == {}
    # by its title, whoever has its id; and by its id, whatever its title says
    ledger.frame("acme/exact", update(3, "exact", 1, "unknown"))
    ledger.frame("exact", update(2, "exact", 1, "acme/exact e0"))
    broken = ledger.check(recorded)
    assert broken.counts == {"foreign": 2}
    assert broken.figures(2, 0).broken == 2


def test_a_replay_is_its_tenants() -> None:
    ledger = MixedLedger([Source("exact", {}), Source("acme/exact", {})])
    for name in ("replayed", "acme/replayed"):
        ledger.views[name] = View(name, frozenset())
    ledger.replays = {"acme/r": 1}
    ledger.frame("replayed", update(1, "acme/exact", 0, replay_id="r"))
    assert ledger.check({}).counts == {"foreign": 1, "lost": 1}
    ledger.frame("acme/replayed", update(1, "acme/exact", 0, replay_id="r"))
    assert ledger.check({}).counts == {"foreign": 1}


def test_every_scenario_has_two_tenants() -> None:
    for scenario in MIXED.values():
        assert not scenario.tools or {*scenario.tools} & {*SECOND_TOOLS}


def test_who_waits_for_a_failed_event_is_excused() -> None:
    held = Source("held", {"ordering": {"by": "tool", "on_error": "hold"}})
    ledger = MixedLedger([held, EXACT])
    for number in range(4):
        ledger.accept("held", number, f"h{number}")
        ledger.accept("exact", number, f"e{number}")
    ledger.failing["held"].add(1)
    ledger.failing["exact"].add(1)
    assert ledger.excused("held") == {1, 2, 3}
    assert ledger.excused("exact") == {1}


def test_every_kind_has_a_sentence_and_every_source_a_name_that_titles_can_carry() -> None:
    assert all((kind.act.__doc__ or "").strip() for kind in KINDS.values())
    for source in sources():
        ledger = MixedLedger([source])
        ledger.views["c"] = View("c", frozenset({source.name}))
        ledger.frame("c", update(1, source.name, 7))
        assert ledger.views["c"].seen[source.name] == {7}
