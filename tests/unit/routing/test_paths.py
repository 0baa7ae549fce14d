"""Where a rollback goes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.routing.paths import MODES, mode_before

BACK = "rollback"


def history(*steps: str) -> list[dict[str, Any]]:
    """Shifts by name, a percentage behind it, and rollbacks, as they are kept of a tool."""
    kept: list[dict[str, Any]] = []
    for step in steps:
        if step == BACK:
            found = mode_before(kept)
            assert found is not None
            mode, percent = found
        else:
            mode, _, number = step.partition(" ")
            percent = int(number or 0)
        kept.append({"mode": mode, "percent": percent, "rollback": step == BACK})
    return kept


@pytest.mark.parametrize(
    ("steps", "before"),
    [
        ("shadow", None),
        ("sqs, shadow, split 10, split 50", ("split", 10)),
        ("sqs, shadow, split 10, split 50, rollback", ("shadow", 0)),
        ("sqs, shadow, split 10, split 50, rollback, rollback, rollback", None),
        # a second move does not go to a mode of the first one
        ("sqs, shadow, redis, sqs, redis", ("sqs", 0)),
        # a step back that was a shift is one that can be undone
        ("redis, split 50, redis", ("split", 50)),
        ("split 10, split 50, split 10", ("split", 50)),
        ("sqs, redis, rollback, redis", ("sqs", 0)),
        # twice the same is one
        ("sqs, redis, redis", ("sqs", 0)),
    ],
)
def test_a_rollback_undoes_the_last_shift_that_is_not_undone(
    steps: str, before: tuple[str, int] | None
) -> None:
    assert mode_before(history(*steps.split(", "))) == before


@given(st.lists(st.sampled_from(MODES), min_size=1, max_size=20))
def test_as_many_rollbacks_as_shifts_lead_back_to_the_first_mode(shifts: list[str]) -> None:
    way = [one for at, one in enumerate(shifts) if at == 0 or shifts[at - 1] != one]
    kept = history(*shifts, *[BACK] * (len(way) - 1))
    assert [one["mode"] for one in kept[len(shifts) :]] == way[-2::-1]
    assert mode_before(kept) is None


def test_a_history_that_was_cut_off_leads_to_nothing_that_never_was() -> None:
    whole = history("sqs", "shadow", "redis", BACK, BACK, "redis")
    for cut in range(len(whole)):
        before = mode_before(whole[cut:])
        assert before in (None, ("sqs", 0), ("shadow", 0))
