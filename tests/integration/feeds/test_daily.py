"""Daily summaries: at the time of day that the context asks for, once, over every kind of clock."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app import embedded
from hookstream.app.routing.daily_rule import DailyRule
from hookstream.app.summaries.tokens import count_tokens
from tests.support.stack import Stack, eventually

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia")


@given(
    st.sampled_from(ZONES),
    st.times().map(lambda at: at.replace(second=0, microsecond=0)),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)),
)
def test_every_day_is_told_of_once(zone: str, at: time, begin: datetime) -> None:
    """Minute by minute over three days, among them those on which clocks change."""
    rule = DailyRule(at, ZoneInfo(zone), LONG_AGO)
    now = begin.replace(tzinfo=UTC, second=0, microsecond=0)
    told: date | None = rule.newest(now)
    days = []
    for _ in range(3 * 24 * 12):
        now += timedelta(minutes=5)
        if (day := rule.due(now, told)) is not None:
            days.append(day)
            told = day
    assert len(days) == len(set(days))
    assert days == [days[0] + timedelta(days=n) for n in range(len(days))]
    assert len(days) in (2, 3, 4)


@pytest.mark.parametrize(
    ("now", "day"),
    [
        # clocks go from 02:00 to 03:00: the summary of half past two comes at three
        ("2026-03-29T00:59+00:00", None),
        ("2026-03-29T01:00+00:00", date(2026, 3, 29)),
        # and back from 03:00 to 02:00: the first half past two counts, the second is no other day
        ("2026-10-25T00:30+00:00", date(2026, 10, 25)),
    ],
)
def test_time_of_day_that_is_missing_or_twice(now: str, day: date | None) -> None:
    rule = DailyRule(time(2, 30), ZoneInfo("Europe/Berlin"), LONG_AGO)
    at = datetime.fromisoformat(now)
    yesterday = (at - timedelta(hours=6)).astimezone(rule.zone).date() - timedelta(days=0)
    assert rule.due(at, day - timedelta(days=1) if day else yesterday - timedelta(days=0)) == day
    if day:
        assert rule.due(at + timedelta(hours=1), day) is None


def test_rule_that_was_just_made_does_not_tell_of_the_past() -> None:
    since = datetime(2026, 11, 25, 12, tzinfo=UTC)
    rule = DailyRule(time(8), ZoneInfo("UTC"), since)
    assert rule.due(since + timedelta(hours=1), None) is None
    assert rule.due(since + timedelta(hours=20), None) == date(2026, 11, 26)


async def test_summary_of_the_day_comes_as_an_update_and_is_kept(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    sent = [
        await stack.hook(name, b'{"n": %d, "title": "thing number %d"}' % (n, n)) for n in range(8)
    ]
    await stack.updates(name, 8)
    zone = "Asia/Kolkata"
    # the next minute but one, where the next has almost begun
    soon = datetime.now(ZoneInfo(zone)) + timedelta(seconds=65)
    daily = {"at": soon.strftime("%H:%M"), "timezone": zone, "token_budget": 100}
    shown = await stack.put(f"/contexts/{name}", {"daily": daily})
    assert shown["daily"] == daily

    async def told() -> list[dict[str, object]]:
        page = await stack.get(f"/contexts/{name}/updates", after="8")
        return list(page["updates"])

    [update] = await eventually(told, "the day is told of", timeout_seconds=140)
    late = datetime.now(ZoneInfo(zone)) - soon.replace(second=0, microsecond=0)
    assert late < timedelta(seconds=50), "it came with another minute than its own"
    assert (update["kind"], update["seq"], update["event_id"]) == ("daily", 9, None)
    assert update["event_type"] == "hookstream.daily"
    assert update["tokens"] == count_tokens(str(update["summary"])) <= 100
    assert "8 updates, #1–8" in update["summary"]
    assert update["folded"]["event_ids"] == sent

    async def kept() -> list[dict[str, object]]:
        return list((await stack.get(f"/contexts/{name}/daily"))["dailies"])

    [row] = await eventually(kept, "the summary is kept")
    assert (row["seq"], row["updates"], row["from_seq"], row["to_seq"]) == (9, 8, 1, 8)
    assert (row["day"], row["summary"]) == (str(soon.date()), update["summary"])
    event = await stack.get(f"/events/{sent[0]}")
    assert [delivery["as"] for delivery in event["deliveries"]] == ["update", "daily"]
    # a digest of what is new does not tell of the telling
    assert (await stack.get(f"/contexts/{name}/digest"))["events"] == 8


async def test_rule_that_cannot_work_is_refused_with_the_reason(stack: Stack, name: str) -> None:
    async with stack.session() as session:
        for wrong, reason in (
            ({"at": "25:00"}, "daily.at"),
            ({"at": "08:00", "timezone": "Mars/Olympus"}, "IANA"),
            ({"at": "08:00", "token_budget": 3}, "daily.token_budget"),
        ):
            async with session.put(f"/api/v1/contexts/{name}", json={"daily": wrong}) as response:
                assert response.status == 400
                assert reason in (await response.json())["detail"]


async def test_rule_that_is_put_again_is_as_old_as_it_was(stack: Stack, name: str) -> None:
    """An agent that puts its context as it starts must not put off what is due already."""
    connection = await asyncpg.connect(str(embedded.find_postgres(stack.state_dir / "state")))
    try:
        kept = []
        for daily in (
            {"at": "08:00", "timezone": "Asia/Kolkata"},
            {"at": "08:00", "timezone": "Asia/Kolkata", "token_budget": 90},
            {"at": "08:00", "timezone": "UTC"},
            None,
            {"at": "08:00", "timezone": "UTC"},
        ):
            shown = await stack.put(f"/contexts/{name}", {"daily": daily})
            assert (shown["daily"] or {}).get("timezone") == (daily or {}).get("timezone")
            since = (
                "SELECT daily->>'since', daily->>'token_budget' FROM contexts WHERE context_id = $1"
            )
            kept.append(await connection.fetchrow(since, name))
    finally:
        await connection.close()
    first, same, changed, gone, again = (row[0] for row in kept)
    assert first == same
    assert kept[1][1] == "90"
    assert gone is None
    assert len({first, changed, again}) == 3
