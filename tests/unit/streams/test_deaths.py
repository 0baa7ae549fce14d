"""Who is suspected of killing workers, and what goes beside whom."""

import asyncio

import pytest

from hookstream.app.streams.batch import Entry
from hookstream.app.streams.deaths import ALONE, BESIDE, GROUP, Deaths, Trials


def entry(entry_id: str) -> Entry:
    return Entry(entry_id, b"x", "value")


def test_suspects_go_in_groups_then_alone_and_are_given_up_after_three_deaths_alone() -> None:
    deaths = Deaths.decode(
        [b"1-0", b"1", b"2-0", b"2", b"3-0", b"3", b"4-0", b"5", b"alone:4-0", b"2",
         b"5-0", b"6", b"alone:5-0", b"3", b"6-0", b"7", b"alone:6-0", b"4"]
    )  # fmt: skip
    names = [f"{n}-0" for n in range(8)]
    assert [deaths.most(name) for name in names] == [None, None, GROUP, 1, 1, 1, 1, None]
    entries = [entry(name) for name in names]
    for each in entries:
        deaths.judge(each)
    given_up = [each for each in entries if each.failure]
    assert [each.entry_id for each in given_up] == ["5-0", "6-0"]
    failure = given_up[0].failure
    assert failure is not None
    assert (failure.stage, failure.final) == ("crashed", True)
    assert "6 times" in failure.error
    assert "3 times with nothing else" in failure.error
    # what killed its worker even while it was written down is not looked into again
    assert [each.value for each in given_up] == ["value", None]
    assert not deaths.over(entries[:6])
    assert deaths.over(entries[6:])


async def test_a_suspect_waits_for_others_and_others_for_it() -> None:
    trials = Trials()
    resumed: list[int] = []
    trials.join(lambda: resumed.append(1))
    one, two = object(), object()
    trials.begun(two)
    assert trials.ask(one) == ""
    assert not trials.may_begin(two)
    trials.ended(two)
    assert len(resumed) == 1
    assert trials.ask(two) == ""
    assert trials.ask(one) == ALONE
    trials.begun(one)
    trials.release(one)
    assert len(resumed) == 2
    assert trials.may_begin(two)
    trials.forget(one)


async def test_work_that_does_not_end_holds_nobody_up_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hookstream.app.streams.deaths.ALONE_SECONDS", 0.01)
    trials = Trials()
    free = asyncio.Event()
    trials.join(free.set)
    one, stuck = object(), object()
    trials.begun(stuck)
    assert trials.ask(one) == ""
    async with asyncio.timeout(5):
        await free.wait()
    assert trials.may_begin(stuck)
    # it is not alone: a death does not say that it was this one
    assert trials.ask(one) == BESIDE
