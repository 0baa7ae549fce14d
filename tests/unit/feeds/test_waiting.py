"""What waits is remembered as it is: what holds whom up, and what would have to go along."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.feeds import waiting as waiting_module
from hookstream.app.feeds.waiting import END, Deferred

LIMIT = 64


def places(deferred: Deferred, name: str, *keys: str) -> list[int] | None:
    found = deferred.earlier(name, keys, END, LIMIT)
    return None if found is None else sorted(each.at[0] for each in found)


def test_what_was_taken_along_holds_nobody_up() -> None:
    deferred = Deferred()
    first = deferred.add("1-0", {"t/c": ("pr#1",)})
    second = deferred.add("2-0", {"t/c": ("pr#1", "push")})
    deferred.take([first])
    assert places(deferred, "t/c", "pr#1") == [2]
    assert not deferred.still_hold([first])
    deferred.take([second])
    assert not deferred.holds("t/c")
    assert deferred.empty
    assert not deferred.about
    assert not deferred.contexts


def test_what_waits_behind_it_still_does() -> None:
    deferred = Deferred()
    first = deferred.add("1-0", {"t/c": ("pr#1",)})
    deferred.add("2-0", {"t/other": None})
    deferred.take([first])
    assert not deferred.empty
    assert not deferred.holds("t/c")
    assert deferred.holds("t/other")


def test_what_was_taken_is_remembered_until_its_place_is_passed() -> None:
    """Whoever has read it from the stream before passes over it."""
    deferred = Deferred()
    taken = [deferred.add(f"{n}-0", {"t/c": (f"pr#{n}",)}) for n in (1, 2, 3)]
    deferred.take(taken[1:])
    deferred.delivered("1-0")
    assert deferred.taken == {(2, 0), (3, 0)}
    deferred.delivered("2-0")
    assert deferred.taken == {(3, 0)}
    deferred.add("4-0", {"t/c": ()})
    deferred.delivered("4-0")
    assert not deferred.taken


def test_nothing_is_taken_out_of_what_somebody_copies() -> None:
    deferred = Deferred()
    waiting = deferred.add("1-0", {"t/c": ("pr#1",)})
    deferred.kept_whole += 1
    assert places(deferred, "t/c", "pr#1") is None
    assert not deferred.still_hold([waiting])
    deferred.kept_whole -= 1
    assert places(deferred, "t/c", "pr#1") == [1]


def test_where_not_each_is_remembered_nothing_is_taken_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting_module, "MAX_REMEMBERED", 100)
    deferred = Deferred()
    for n in range(1, 71):
        deferred.add(f"{n}-0", {"t/c": ("pr#1",)})
    assert places(deferred, "t/c", "pr#1") is None
    assert deferred.holds_about("t/c", ("pr#1",))
    assert not deferred.holds_about("t/c", ("pr#2",)), "keys are worth more than places"
    last = deferred.sparse[0]
    assert 40 < last < 60
    deferred.delivered(f"{last}-0")
    assert places(deferred, "t/c", "pr#1") == list(range(last + 1, 71))


def test_what_stands_for_others_holds_up_although_it_was_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was found, then, before its commit was through, the others were not remembered."""
    deferred = Deferred()
    deferred.add("1-0", {"t/c": ("pr#1",)})
    second = deferred.add("2-0", {"t/c": ("pr#1",)})
    monkeypatch.setattr(waiting_module, "MAX_REMEMBERED", 4)
    deferred.add("3-0", {"t/c": ("pr#2",)})
    deferred.take([second])
    assert deferred.holds_about("t/c", ("pr#1",))
    assert (2, 0) in deferred.taken


def test_nothing_is_left_of_what_has_been_delivered() -> None:
    """A stream under steady load is never empty."""
    deferred = Deferred()
    for n in range(1, 5000):
        deferred.add(f"{n}-0", {"t/c": ("always", f"pr#{n}")})
        deferred.delivered(f"{n - 1}-0")
    assert len(deferred.about) == 2
    assert sum(map(len, deferred.about.values())) < 100
    assert places(deferred, "t/c", "always") == [4999]


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"),
            st.dictionaries(
                st.sampled_from(("t/a", "t/b")),
                st.lists(st.sampled_from("123"), max_size=2, unique=True),
                min_size=1,
            ),
        ),
        st.tuples(st.just("deliver"), st.integers(1, 3)),
        st.tuples(st.just("take"), st.lists(st.integers(0, 9), min_size=1, max_size=3)),
    ),
    max_size=40,
)


@given(STEPS)
def test_it_says_what_a_plain_list_says(steps: Sequence[tuple[str, object]]) -> None:
    deferred = Deferred()
    plain: dict[int, dict[str, list[str]]] = {}
    known = {}
    count = 0
    for step, what in steps:
        if step == "add":
            count += 1
            plain[count] = dict(what)  # type: ignore[call-overload]
            known[count] = deferred.add(f"{count}-0", plain[count])
        elif step == "deliver" and plain:
            upto = list(plain)[: int(what)][-1]  # type: ignore[call-overload]
            deferred.delivered(f"{upto}-0")
            plain = {at: names for at, names in plain.items() if at > upto}
        elif step == "take":
            chosen = {list(plain)[at] for at in what if at < len(plain)}  # type: ignore[attr-defined]
            deferred.take(known[at] for at in chosen)
            plain = {at: names for at, names in plain.items() if at not in chosen}
        assert deferred.empty == (not plain)
        for name in ("t/a", "t/b"):
            assert deferred.holds(name) == any(name in names for names in plain.values())
            for key in "123":
                about = [at for at, names in plain.items() if key in names.get(name, ())]
                assert places(deferred, name, key) == about
                assert deferred.holds_about(name, (key,)) == bool(about)
