"""When Redis has lost data, which numbers come next, and who is told."""

from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.feeds.generations import (
    MARGIN,
    MAX_KEPT,
    Begun,
    Generations,
    Mark,
    Place,
    Verdict,
    begin,
    judge,
    newest,
)

FIRST = Generations((Begun(1000, 1),))
SECOND = FIRST.then(2000, 10_501)
NOTHING = Mark()


def test_a_partition_that_has_all_it_had_is_kept() -> None:
    for known in (Mark(FIRST, 7), Mark(FIRST, 3), NOTHING, None):
        assert judge(Mark(FIRST, 7), known, asked=True, ahead=False) is Verdict.KEPT


def test_memory_of_an_earlier_generation_is_no_loss() -> None:
    assert judge(Mark(SECOND, 1), Mark(FIRST, 900), asked=True, ahead=False) is Verdict.KEPT


def test_fewer_commits_or_an_earlier_generation_than_remembered_are_a_loss() -> None:
    known = Mark(SECOND, 7, 10_600)
    for found in (Mark(SECOND, 6), Mark(FIRST, 900), NOTHING):
        assert judge(found, known, asked=False, ahead=False) is Verdict.LOST


def test_an_empty_partition_is_fresh_only_if_somebody_could_be_asked() -> None:
    assert judge(NOTHING, None, asked=True, ahead=False) is Verdict.FRESH
    assert judge(NOTHING, Mark(FIRST), asked=True, ahead=False) is Verdict.FRESH
    assert judge(NOTHING, None, asked=False, ahead=False) is Verdict.UNSURE


def test_what_an_earlier_release_left_is_fresh_unless_the_event_log_knows_more() -> None:
    assert judge(Mark(sequence=4), None, asked=False, ahead=False) is Verdict.FRESH
    assert judge(Mark(top=4), None, asked=False, ahead=False) is Verdict.FRESH
    assert judge(Mark(top=4), None, asked=True, ahead=True) is Verdict.LOST


def test_new_numbers_begin_above_all_that_is_remembered() -> None:
    known = Mark(FIRST, 7, 464)
    found = begin(Verdict.LOST, Generations(), known, now_ms=5000, top=464, certain=True)
    assert found == FIRST.then(5000, 464 + MARGIN + 1)
    # where the highest one is not known the time is above it
    found = begin(Verdict.UNSURE, Generations(), None, now_ms=5_000_000, top=0, certain=False)
    assert found == Generations((Begun(5_000_000, 5_000_000),))
    # a clock that stepped back, and a second loss at once
    again = begin(Verdict.LOST, found, Mark(found, 1), now_ms=4, top=0, certain=True)
    assert again.begun[-1].generation > found.current
    assert again.start > found.start
    assert begin(Verdict.FRESH, Generations(), None, now_ms=9, top=0, certain=True).start == 1


def test_a_number_says_which_generation_it_is_of() -> None:
    assert SECOND.at(0) == SECOND.at(464) == 1000
    assert SECOND.at(10_499) == 1000
    assert SECOND.at(10_500) == SECOND.at(20_000) == 2000
    assert SECOND.crossing(0) == SECOND.crossing(10_499) == Begun(2000, 10_501)
    assert SECOND.crossing(10_500) is None
    assert Generations((Begun(5000, 5000),)).at(0) == 0


def test_a_client_goes_on_where_it_was_or_is_told_otherwise() -> None:
    assert FIRST.place(7, 0, 7) == FIRST.place(7, 1000, 9) == Place(7)
    # the numbers of before lead to where the new ones begin: it is told there
    assert SECOND.place(464, 0, 300) == SECOND.place(464, 1000, 20_000) == Place(464)
    # what it has is above the end
    assert FIRST.place(8, 0, 7) == FIRST.place(8, 1000, 7) == Place(7, "beyond")
    assert SECOND.place(20_000, 0, 300) == Place(10_500, "beyond")
    # numbers began anew and nobody noticed
    assert SECOND.place(20_000, 1000, 30_000) == Place(10_500, "other")
    assert FIRST.place(5, 999, 9) == Place(0, "other")
    # it was told of a generation that this Redis has forgotten
    assert FIRST.place(5, 2000, 9) == Place(0, "other")
    assert SECOND.place(10_500, 2000, 300) == Place(10_500)


def test_what_several_remember_is_the_latest_and_the_highest() -> None:
    merged = newest(None, Mark(FIRST, 900, 30), Mark(SECOND, 1, 20))
    assert merged == Mark(SECOND, 1, 30)
    assert newest(None, None) is None


def test_they_are_kept_as_text_and_not_without_bound() -> None:
    kept = Generations()
    for number in range(1, 40):
        kept = kept.then(number, number * 100)
    assert len(kept.begun) == MAX_KEPT
    assert Generations.decode(kept.encode()) == kept
    assert Generations.decode("") == Generations()


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 2000), st.booleans()), max_size=30))
def test_no_number_is_given_twice_whatever_is_lost(steps: list[tuple[int, int, bool]]) -> None:
    """Redis loses any part of its tail, again and again; the worker remembers."""
    given_numbers: set[int] = set()
    history = [Mark(FIRST, 0, 0)]  # what Redis had after each commit
    known: Mark | None = None
    now_ms = 2_000_000
    for commits, lost, remembers in steps:
        found = history[max(0, len(history) - 1 - lost)]
        verdict = judge(found, known, asked=True, ahead=False)
        assert (verdict is Verdict.LOST) == (found != history[-1] and known is not None)
        if verdict is Verdict.LOST and known is not None:
            now_ms += 1
            generations = begin(
                verdict, found.generations, known, now_ms=now_ms,
                top=max(known.top, found.top), certain=remembers,
            )  # fmt: skip
            found = Mark(generations, found.sequence, found.top)
            history = [found]
        for _ in range(commits):
            last = history[-1]
            number = max(last.top, last.generations.start - 1) + 1
            assert number not in given_numbers
            given_numbers.add(number)
            history.append(Mark(last.generations, last.sequence + 1, number))
        known = history[-1]
        now_ms += 1 if remembers else 1_000_000
