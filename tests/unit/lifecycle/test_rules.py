"""Times of tiers, and marks of memory."""

import pytest

from hookstream.app.lifecycle.rules import gather_ms, hot_ms, ttl_of, warm_ms
from hookstream.app.redis.memory import MARKS, Pressure, pressure_of
from hookstream.app.routing.catalog import Catalog, Tool, Ttl

TTL = Ttl(hot_ms=8000, warm_ms=80_000, cold_ms=800_000)


@pytest.mark.parametrize(
    ("pressure", "hot", "warm", "gather"),
    [
        (Pressure.NONE, 8000, 80_000, 2000),
        (Pressure.EARLY, 2000, 20_000, 500),
        (Pressure.STRAIGHT, 0, 0, 0),
        (Pressure.SPOOL, 0, 0, 0),
    ],
)
def test_times_are_shorter_under_pressure(
    pressure: Pressure, hot: int, warm: int, gather: int
) -> None:
    found = hot_ms(TTL, pressure), warm_ms(TTL, pressure), gather_ms(TTL, pressure)
    assert found == (hot, warm, gather)


def test_nobody_gathers_for_longer_than_some_minutes() -> None:
    assert gather_ms(Ttl(hot_ms=86_400_000), Pressure.NONE) == 300_000


def test_a_tool_that_cannot_be_read_has_no_times_and_a_deleted_one_the_defaults() -> None:
    catalog = Catalog(unreadable_tools=frozenset({"broken"}))
    assert ttl_of(catalog, ("default", "broken")) is None
    assert ttl_of(catalog, ("default", "deleted")) == Ttl()


def test_a_tool_has_times_for_events_of_its_own_tenant_only() -> None:
    tool = Tool("a", "mine", "none", (), None, "none", (), 0, "tool", "", ttl=TTL)  # type: ignore[arg-type]
    catalog = Catalog(tools={"a": tool})
    assert ttl_of(catalog, ("mine", "a")) == TTL
    assert ttl_of(catalog, ("another", "a")) == Ttl()


def test_each_mark_begins_a_pressure_that_ends_a_little_below_it() -> None:
    pressure = Pressure.NONE
    seen: list[tuple[int, Pressure]] = []
    for used in [*range(60, 100), *range(100, 60, -1)]:
        pressure = pressure_of(used, 100, pressure)
        if not seen or seen[-1][1] != pressure:
            seen.append((used, pressure))
    assert seen == [(60, 0), (70, 1), (80, 2), (90, 3), (84, 2), (74, 1), (64, 0)]
    assert [round(mark * 100) for mark in MARKS] == [70, 80, 90]


def test_a_server_without_a_limit_is_never_full() -> None:
    assert pressure_of(1 << 40, 0, Pressure.SPOOL) is Pressure.NONE
