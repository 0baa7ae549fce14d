"""Shares: nobody waits behind another tenant's work, and nobody for ever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.streams.shares import BEHIND_SECONDS, EVENT_SECONDS, Shares

LOUD, QUIET = {"loud": 64}, {"quiet": 1}


def test_own_work_makes_own_work_later_and_nobody_elses() -> None:
    shares = Shares()
    found = [shares.take(LOUD, "normal", 5.0) for _ in range(10)]
    assert found == pytest.approx([5.0 + 64 * EVENT_SECONDS * n for n in range(10)])
    assert shares.take(QUIET, "normal", 5.01) == 5.01
    # of another priority its tenant has nothing yet
    assert shares.take(LOUD, "critical", 5.01) == 5.01


def test_work_that_is_done_is_forgotten_and_what_came_before_stays_before() -> None:
    shares = Shares()
    last = [shares.take(LOUD, "normal", 5.0) for _ in range(10)][-1]
    for _ in range(9):
        shares.give_back(LOUD, "normal")
    assert shares.take(QUIET | {"loud": 1}, "normal", 5.0) == 5.0
    shares.give_back(QUIET | {"loud": 1}, "normal")
    # one is left: what comes now is not due before it
    assert shares.take({"loud": 1}, "normal", 5.0) == last
    shares.give_back({"loud": 1}, "normal")
    shares.give_back(LOUD, "normal")
    assert shares.take(LOUD, "normal", 5.0) == 5.0


def test_work_of_several_goes_with_the_first_and_counts_for_each() -> None:
    shares = Shares()
    shares.take(LOUD, "normal", 5.0)
    assert shares.take({"loud": 4, "quiet": 4}, "normal", 5.0) == 5.0
    assert shares.take({"quiet": 1}, "normal", 5.0) == pytest.approx(5.0 + 4 * EVENT_SECONDS)
    assert shares.take({"loud": 1}, "normal", 5.0) == pytest.approx(5.0 + 68 * EVENT_SECONDS)


def test_work_of_nobody_is_due_now() -> None:
    shares = Shares()
    assert shares.take({}, "low", 5.0) == 5.0
    shares.give_back({}, "low")


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from("abc"), st.integers(1, 10_000), min_size=1),
            st.floats(0, 1),
        ),
        max_size=50,
    )
)
def test_nothing_waits_for_ever(work: list[tuple[dict[str, int], float]]) -> None:
    shares, now = Shares(), 100.0
    for owners, passed in work:
        now += passed
        assert now <= shares.take(owners, "normal", now) <= now + BEHIND_SECONDS
    for owners, _ in work:
        shares.give_back(owners, "normal")
    assert not shares._shares
