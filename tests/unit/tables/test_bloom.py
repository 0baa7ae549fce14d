"""Dedup history's filters: their bytes, their rate, their bound on memory, whom they suspect."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.ids import new_event_id
from hookstream.tables.bloom import (
    DayFilter,
    FilterCache,
    Shape,
    number,
    suspected,
    unsettled,
)
from hookstream.tables.dedup import DAY_MS, Candidate, Mark, mark_key
from hookstream.tables.errors import TableCorruptError

SHAPE = Shape(1000, 0.001)


def some_keys(count: int, prefix: str = "m") -> list[bytes]:
    return [mark_key(f"{prefix}{n}") for n in range(count)]


def filled(count: int, shape: Shape = SHAPE) -> DayFilter:
    kept = DayFilter.new(shape)
    kept.add(some_keys(count), "7-3")
    return kept


@given(st.sets(st.binary(min_size=16, max_size=16), max_size=50))
def test_filter_comes_back_as_it_was_and_knows_all_its_keys(keys: set[bytes]) -> None:
    kept = DayFilter.new(SHAPE)
    kept.add(keys, "12-1")
    again = DayFilter.decode(kept.encode())
    assert (again.count, again.position, again.hashes) == (len(keys), "12-1", kept.hashes)
    assert again.encode() == kept.encode()
    assert all(again.perhaps(number(key)) for key in keys)


@pytest.fixture(scope="module")
def strangers() -> list[int]:
    """What no filter was given."""
    return [number(key) for key in some_keys(200_000, "x")]


@pytest.mark.parametrize("shape", [SHAPE, Shape(20_000, 0.01), Shape(50_000, 0.0001)])
def test_rate_is_as_configured_when_the_filter_is_as_full_as_it_was_made_for(
    shape: Shape, strangers: list[int]
) -> None:
    kept = filled(shape.events, shape)
    wrong = sum(map(kept.perhaps, strangers))
    assert wrong / len(strangers) == pytest.approx(shape.false_positives, rel=0.5, abs=5e-5)
    assert kept.false_positives() == pytest.approx(shape.false_positives, rel=0.1)
    assert kept.fill() == pytest.approx(0.5, abs=0.05)


def test_a_fuller_filter_suspects_more_and_misses_nothing() -> None:
    kept = filled(5000)
    assert kept.false_positives() > 0.05
    assert all(kept.perhaps(number(key)) for key in some_keys(5000))


@given(st.integers(0, 1850), st.integers(1, 255))
def test_damaged_bytes_are_never_taken_for_a_filter(at: int, change: int) -> None:
    data = bytearray(filled(100).encode())
    data[at % len(data)] ^= change
    with pytest.raises(TableCorruptError):
        DayFilter.decode(bytes(data))


@pytest.mark.parametrize("length", [0, 10, 40, 48, 200])
def test_bytes_that_were_cut_off_are_never_taken_for_a_filter(length: int) -> None:
    with pytest.raises(TableCorruptError):
        DayFilter.decode(filled(100).encode()[:length])


def test_a_filter_that_cannot_be_read_suspects_everything() -> None:
    lost = DayFilter.unreadable()
    lost.add(some_keys(3), "9-9")
    assert all(lost.perhaps(number(key)) for key in some_keys(10, "x"))
    assert (lost.count, lost.size_bytes, lost.false_positives()) == (3, 0, 1.0)
    with pytest.raises(TableCorruptError):
        lost.encode()


def test_memory_stays_within_its_bound_and_the_longest_unused_goes_first() -> None:
    size = filled(1).size_bytes
    cache = FilterCache(3 * size)
    for day in range(3):
        cache.put("a", day, filled(1))
    assert cache.get("a", 0) is not None
    cache.put("b", 0, filled(1))
    assert cache.used_bytes == 3 * size
    assert [cache.get("a", day) is None for day in range(3)] == [False, True, False]
    cache.drop("a")
    assert (len(cache), cache.used_bytes, cache.evicted) == (1, size, 1)
    cache.put("b", 0, filled(2))
    assert cache.used_bytes == size


def test_one_filter_is_kept_even_if_it_is_over_the_bound() -> None:
    cache = FilterCache(1)
    cache.put("a", 1, filled(1))
    cache.put("a", 2, filled(1))
    assert cache.get("a", 1) is None
    assert cache.get("a", 2) is not None


def entry(n: int, ms: int, message: str, **more: int | bool) -> Candidate:
    return Candidate(f"{ms}-{n}", new_event_id(ms, 0, n), message, 1000, **more)  # type: ignore[arg-type]


def test_only_what_no_window_settles_is_looked_up() -> None:
    now = 5 * DAY_MS
    batch = [
        entry(0, now, "without history"),
        entry(1, now, "new", history_ms=DAY_MS),
        entry(2, now, "in its window", history_ms=DAY_MS),
        entry(3, now, "after its window", history_ms=DAY_MS),
        entry(4, now, "itself", history_ms=DAY_MS),
        entry(5, now, "tried again", history_ms=DAY_MS, again=True),
    ]
    keys = [mark_key(candidate.message_id) for candidate in batch]
    known = {
        keys[2]: Mark("1-0", batch[0].event_id, now + 1),
        keys[3]: Mark("1-0", batch[0].event_id, now),
        keys[4]: Mark(batch[4].entry_id, batch[4].event_id, now),
    }
    assert unsettled(batch, keys, known) == [1, 3]


def test_only_days_within_history_are_asked() -> None:
    late = entry(0, 9 * DAY_MS + 5, "m", history_ms=2 * DAY_MS)
    kept = DayFilter.new(SHAPE)
    kept.add([mark_key("m")], "1-1")
    for day, hit in ((6, []), (7, [0]), (9, [0])):
        assert suspected([late], [mark_key("m")], [0], {day: kept}) == hit
