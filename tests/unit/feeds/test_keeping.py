"""What goes from a feed: never what is younger than said, never its end, never what a day needs."""

from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.feeds.keeping import FeedMarks, going, installed, known_age_ms
from hookstream.app.routing.keeping import Keeping
from hookstream.app.settings import Settings

HOUR, DAY = 3_600_000, 86_400_000
RULE = Keeping(30 * DAY, 1000, 7 * DAY)
NOW = 1_800_000_000_000


def marks(*noted: tuple[int, int, int], rule: Keeping = RULE) -> FeedMarks:
    found = FeedMarks()
    for at_ms, seq, ack in noted:
        found = found.then(at_ms, seq, ack, rule)
    return found


def test_what_is_not_known_to_be_old_stays() -> None:
    assert going([1, 2, 3], 3, 3, FeedMarks(), RULE, NOW) == {
        "age": 0, "acknowledged": 0, "updates": 0,
    }  # fmt: skip


def test_each_rule_lets_go_what_is_its_own_and_the_end_stays() -> None:
    noted = marks((NOW - 31 * DAY, 3, 0), (NOW - 8 * DAY, 6, 5), (NOW - DAY, 9, 9))
    numbers = list(range(1, 11))
    found = going(numbers, 10, 10, noted, Keeping(30 * DAY, 4, 7 * DAY), NOW)
    assert found == {"age": 3, "acknowledged": 2, "updates": 1}
    # all of it is old, and acknowledged: where the feed ends is still known
    later = NOW + 100 * DAY
    assert sum(going(numbers, 10, 10, noted.then(later, 10, 10, RULE), RULE, later).values()) == 9
    assert going([10], 1, 10, noted, Keeping(HOUR, 1, 0), later)["age"] == 0


def test_what_a_summary_has_still_to_tell_of_goes_only_where_there_is_too_much() -> None:
    noted = marks((NOW - 31 * DAY, 8, 8))
    numbers = list(range(1, 11))
    assert sum(going(numbers, 10, 10, noted, RULE, NOW, untold=2).values()) == 2
    few = Keeping(30 * DAY, 5, 7 * DAY)
    assert going(numbers, 10, 10, noted, few, NOW, untold=2) == {
        "age": 2, "acknowledged": 0, "updates": 3,
    }  # fmt: skip


def test_a_clock_that_went_back_lets_nothing_go_early() -> None:
    noted = marks((NOW + 40 * DAY, 5, 5))
    assert noted.reached(NOW - 30 * DAY).seq == 0
    again = noted.then(NOW, 6, 0, RULE)
    assert [mark.at_ms for mark in again.marks] == [NOW]


def test_a_rule_of_its_own_stands_before_that_of_the_installation() -> None:
    whole = installed(Settings(feed_max_days=2, feed_max_updates=7, feed_acknowledged_days=1))
    assert whole == Keeping(2 * DAY, 7, DAY)
    own = Keeping.from_dict({"age": "3h", "updates": 5})
    assert own.over(whole) == Keeping(3 * HOUR, 5, DAY)


@given(
    st.lists(st.tuples(st.integers(1, 5 * DAY), st.integers(0, 50), st.booleans()), max_size=150),
    st.sampled_from([RULE, Keeping(HOUR, 10, 30 * DAY), Keeping(30 * DAY, 10, 0)]),
)
def test_nothing_goes_before_its_time_and_marks_stay_few(
    steps: list[tuple[int, int, bool]], rule: Keeping
) -> None:
    """Against a model that remembers when each update was written and acknowledged."""
    assert rule.age_ms is not None
    assert rule.acknowledged_ms is not None
    noted, now, seq, ack = FeedMarks(), NOW, 0, 0
    written: dict[int, int] = {}
    acked: dict[int, int] = {}
    for pause, more, acknowledge in steps:
        now += pause
        for n in range(seq + 1, seq + more + 1):
            written[n] = now
        seq += more
        if acknowledge:
            for n in range(ack + 1, seq + 1):
                acked[n] = now
            ack = seq
        noted = noted.then(now, seq, ack, rule)
        assert len(noted.marks) <= 100
        assert FeedMarks.decode(noted.encode()) == noted
        unlimited = Keeping(rule.age_ms, 10**9, rule.acknowledged_ms)
        gone = sum(going(range(1, seq + 1), seq, seq, noted, unlimited, now).values())
        for n in range(1, gone + 1):
            old = now - written[n] >= rule.age_ms
            read = n in acked and now - acked[n] >= rule.acknowledged_ms
            assert old or read
        assert known_age_ms(1, noted, now) <= (now - written[1] if written else 0)
        # nor does it stay for ever: an eighth over its time at most, once a mark could be made
    late = now + 2 * max(rule.age_ms, rule.acknowledged_ms)
    if seq:
        noted = noted.then(late, seq, ack, rule)
        later = late + rule.age_ms
        assert sum(going(range(1, seq + 1), seq, seq, noted, rule, later).values()) == seq - 1
