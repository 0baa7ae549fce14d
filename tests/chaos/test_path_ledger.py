"""The ledger of a move finds each kind of broken promise."""

from dataclasses import replace

import pytest

from tests.chaos.path_ledger import PathFigures, PathLedger, Work

#: n0 by an old worker, n1 and n2 here, n3 by an old worker again.
WHOLE = (
    Work("old", "t", "k", 0, 10.0, 10.1, 1),
    Work("ours", "t", "k", 1, 11.0, 11.0, 1),
    Work("ours", "t", "k", 2, 11.0, 11.0, 2),
    Work("old", "t", "k", 3, 12.0, 12.1, 2),
)


def check(*works: Work, seqs: tuple[int, ...] = (1, 2)) -> PathFigures:
    ledger = PathLedger(["t"])
    for n in range(4):
        ledger.accept("t", "k", n)
    return ledger.check(works, [seqs])


def test_a_move_that_kept_its_promises_has_nothing_broken() -> None:
    found = check(*WHOLE)
    assert (found.broken, found.accepted, found.changes) == (0, 4, 2)
    assert found.by_path == {"old": 2, "ours": 2}


def test_an_event_that_nobody_worked_on_is_lost() -> None:
    found = check(*WHOLE[:3])
    assert (found.lost, found.broken) == (1, 1)
    assert found.examples == ["lost: t k n3"]


@pytest.mark.parametrize(
    ("again", "kind"),
    [
        pytest.param(replace(WHOLE[0], at=9), "old old", id="old workers twice"),
        pytest.param(replace(WHOLE[1], at=9), "ours ours", id="delivered twice"),
        pytest.param(replace(WHOLE[1], path="old", at=9), "old ours", id="both paths"),
    ],
)
def test_an_event_that_was_worked_on_twice_is_doubled(again: Work, kind: str) -> None:
    found = check(*WHOLE, again)
    assert (found.doubled, found.broken) == ({kind: 1}, 1)


@pytest.mark.parametrize(
    ("place", "late"),
    [
        pytest.param(0, {"ended": 11.2}, id="delivered before the old worker was through"),
        pytest.param(2, {"begun": 12.1, "ended": 12.1}, id="an old worker before the delivery"),
        pytest.param(1, {"at": 3}, id="in the feed"),
    ],
)
def test_an_event_that_was_overtaken_is_out_of_order(place: int, late: dict[str, float]) -> None:
    works = list(WHOLE)
    works[place] = replace(works[place], **late)  # type: ignore[arg-type]
    found = check(*works)
    assert (found.out_of_order, found.broken) == (1, 1)
    assert found.examples[0].startswith("out of order")


def test_old_workers_of_one_key_must_not_work_at_the_same_time() -> None:
    works = [replace(one, path="old", begun=10.0 + one.n, ended=11.2 + one.n) for one in WHOLE]
    assert check(*works).out_of_order == 3


def test_a_frame_that_is_missing_is_a_gap() -> None:
    assert check(*WHOLE, seqs=(1, 3)).gaps == 1
