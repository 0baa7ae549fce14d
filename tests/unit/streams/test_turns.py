"""When the next turn is, and how fast entries come."""

from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.streams.turns import LINGER_SECONDS, RATE_SECONDS, Rate, linger_seconds


def test_nobody_waits_where_nothing_comes() -> None:
    assert linger_seconds(0.0) == 0.0


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_the_more_comes_the_longer_is_waited_up_to_a_bound(one: float, two: float) -> None:
    less, more = sorted((one, two))
    assert 0.0 <= linger_seconds(less) <= linger_seconds(more) <= LINGER_SECONDS


def test_a_steady_rate_is_found_and_forgotten() -> None:
    rate = Rate()
    for turn in range(1, 201):
        rate.add(5, turn * 0.01)
    assert 490 < rate.value < 515
    rate.add(0, 2.0 + 10 * RATE_SECONDS)
    assert rate.value < 0.1
