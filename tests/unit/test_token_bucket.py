"""Token buckets: so many a second, a burst, and what waits is told the truth."""

from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.token_bucket import SWEPT_KEYS, Pace, TokenBuckets


def test_burst_then_the_rate_and_the_wait_is_true() -> None:
    buckets = TokenBuckets(2.0, 5)
    assert [buckets.take("a", 100.0) for _ in range(5)] == [0.0] * 5
    wait = buckets.take("a", 100.0)
    assert wait == 0.5
    assert buckets.wait_seconds("a", 100.25) == 0.25
    assert buckets.take("b", 100.0) == 0.0  # nobody else waits
    assert buckets.take("a", 100.0 + wait) == 0.0
    assert buckets.take("a", 100.0 + wait) > 0


def test_more_tokens_than_there_are_can_be_taken_and_are_waited_for() -> None:
    buckets = TokenBuckets(2.0, 5)
    assert buckets.take("a", 100.0, tokens=25) == 0.0
    # 25 of which 5 were there: the 21st of the others comes after half of 21 s
    assert buckets.take("a", 100.0) == 10.5
    assert buckets.take("a", 110.0, tokens=3) == 0.5
    assert buckets.take("a", 110.5, tokens=3) == 0.0


def test_zero_is_no_limit() -> None:
    buckets = TokenBuckets(0.0, 0)
    assert not any(buckets.take("a", 1.0) for _ in range(10_000))


def test_looking_takes_nothing() -> None:
    buckets = TokenBuckets(1.0, 1)
    assert [buckets.wait_seconds("a", 5.0) for _ in range(3)] == [0.0] * 3
    assert buckets.take("a", 5.0) == 0.0
    assert buckets.wait_seconds("a", 5.0) == 1.0


def test_keys_that_have_all_their_tokens_are_forgotten() -> None:
    buckets = TokenBuckets(1.0, 2)
    for number in range(10 * SWEPT_KEYS):
        assert buckets.take(number, float(number)) == 0.0
    assert len(buckets._full_at) <= SWEPT_KEYS + 1


@given(
    st.floats(0.1, 1000),
    st.integers(1, 50),
    st.lists(st.floats(0, 0.5), min_size=1, max_size=300),
)
def test_never_more_than_burst_and_rate_allow(rate: float, burst: int, steps: list[float]) -> None:
    buckets = TokenBuckets(rate, burst)
    now, passed = 1.0, 0
    for step in steps:
        now += step
        wait = buckets.take("a", now)
        passed += not wait
        assert wait <= 1 / rate + 1e-6
    assert passed <= burst + rate * (now - 1.0) + 1e-3


def test_a_key_may_have_a_pace_of_its_own_and_keeps_what_it_took_when_that_changes() -> None:
    buckets = TokenBuckets(10.0, 10)
    slow, none = Pace.of(1.0, 2), Pace.of(0.0, 0)
    assert [buckets.take("a", 100.0, slow) for _ in range(3)] == [0.0, 0.0, 1.0]
    assert buckets.wait_seconds("a", 100.0, slow) == 1.0
    assert buckets.take("b", 100.0) == 0.0
    assert not any(buckets.take("a", 100.0, none) for _ in range(100))
    # two seconds' worth is taken: at ten a second that is twenty tokens, more than the bucket has
    assert buckets.wait_seconds("a", 100.0) > 0
