"""Daily summaries: what one context's trouble must not do to others, and large days."""

from datetime import UTC, datetime, time
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest

from hookstream.app.feeds import digests as digests_module
from hookstream.app.feeds.daily import DailySummaries
from hookstream.app.feeds.digests import MAX_DIGESTED, DigestBuilder, build_digest
from hookstream.app.feeds.feed import FeedUpdate
from hookstream.app.feeds.plan import FeedPlan, Limits
from hookstream.app.feeds.update import DIGEST, digest_update
from hookstream.app.ids import partition_of
from hookstream.app.redis import keys
from hookstream.app.routing.catalog import Context
from hookstream.app.routing.daily_rule import DailyRule
from hookstream.app.streams.partition import Partition
from hookstream.tables.errors import TableError

NOW_MS = 1_800_000_000_000
RULE = DailyRule(time(0), ZoneInfo("UTC"), datetime(2000, 1, 1, tzinfo=UTC))


def update(n: int) -> dict[str, Any]:
    return {
        "kind": "update", "event_id": f"e{n}", "tool_id": "tool", "event_type": "thing.done",
        "priority": "normal", "summary": f"thing {n}", "received_at": NOW_MS - 1000, "keys": [],
    }  # fmt: skip


class App:
    """As much of the application as tells the day of contexts a, b and c."""

    def __init__(self, found: list[FeedUpdate], last_seq: int | None = None) -> None:
        contexts = {("t", name): Context("t", name, "", "normal", daily=RULE) for name in "abc"}
        self._catalog: Any = SimpleNamespace(contexts=contexts)
        self.owned = {n: Partition(n, 1, "n") for n in range(4)}
        for partition in self.owned.values():
            partition.on_lost = self.on_lost
        self.lost: list[int] = []
        self.plans: dict[str, FeedPlan] = {}
        self.trouble: dict[str, Exception] = {}
        self._found = found
        self.pages = 0
        self._last_seq = len(found) if last_seq is None else last_seq

    def dailies(self) -> DailySummaries:
        me: Any = self
        return DailySummaries(
            me,
            me,
            me,
            partitions=4,
            catalog=lambda: self._catalog,
            now_ms=lambda: NOW_MS,
            owned=lambda: self.owned,
        )

    def on_lost(self, partition: Partition, error: BaseException) -> None:
        self.lost.append(partition.number)

    async def hget(self, *_: str) -> None:
        return None

    async def newest(
        self, tenant: str, context_id: str, after: int, limit: int, *, before: int | None = None
    ) -> list[FeedUpdate]:
        found = [one for one in self._found if after < one.seq < (before or 2**53)]
        return found[-limit:]

    async def read(self, tenant: str, context_id: str, after: int, limit: int) -> list[FeedUpdate]:
        self.pages += 1
        return [one for one in self._found if one.seq > after][:limit]

    async def opened(self, tenant: str, context_id: str, found: list[FeedUpdate]) -> Any:
        yield [one.values() for one in found]

    async def last_seq(self, *_: str) -> int:
        return self._last_seq

    async def announce(self, partition: Partition, name: str, make: Any) -> None:
        if name in self.trouble:
            raise self.trouble[name]
        plan = FeedPlan(
            partition.number, NOW_MS, seqs={}, throttled={}, arrivals={},
            limits=lambda *_: Limits(), waiting={},
        )  # fmt: skip
        make(plan)
        self.plans[name] = plan


async def test_one_contexts_trouble_leaves_the_others_their_summary() -> None:
    app = App([FeedUpdate(1, orjson.dumps(update(1)))])
    app.trouble = {
        keys.feed_field("t", "a"): TableError("the disk is full"),
        keys.feed_field("t", "b"): ValueError("broken"),
    }
    assert await app.dailies().tell() == 1
    assert list(app.plans) == ["t/c"]
    assert app.lost == [partition_of(4, "t", "a")]


async def test_digest_too_large_to_open_is_no_event_in_the_record() -> None:
    """The event log holds ids of events: an empty one would make a dead letter of all beside it."""
    body = digest_update(DIGEST, "a", [{**update(n), "seq": n} for n in range(1, 4)], None)
    app = App([FeedUpdate(1, orjson.dumps(update(0))), FeedUpdate(2, body)])
    await app.dailies().tell()
    assert [delivery.event_id for delivery in app.plans["t/a"].deliveries] == ["e0"]


async def test_day_that_cannot_be_read_yet_is_not_counted_as_told() -> None:
    """Where replication is waited for a feed looks empty, or ends in the middle."""
    app = App([], last_seq=7)
    assert await app.dailies().tell() == 0
    assert not app.plans
    app = App([FeedUpdate(1, orjson.dumps(update(1)))], last_seq=7)
    assert await app.dailies().tell() == 0
    assert not app.plans


async def test_a_long_day_is_told_of_whole_page_by_page() -> None:
    """More than a digest looks at elsewhere; what was received before the day is not of it."""
    count = 3 * MAX_DIGESTED
    old = {**update(0), "received_at": NOW_MS - 25 * 3_600_000, "summary": "of yesterday"}
    found = [FeedUpdate(n, orjson.dumps(old)) for n in range(1, 1001)]
    found += [
        FeedUpdate(n, orjson.dumps({**update(n), "keys": [f"k{n % 50}"]}))
        for n in range(1001, 1001 + count)
    ]
    app = App(found, last_seq=1000 + count)
    del app._catalog.contexts["t", "b"], app._catalog.contexts["t", "c"]
    assert await app.dailies().tell() == 1
    plan = app.plans["t/a"]
    [daily] = plan.dailies
    assert (daily.updates, daily.from_seq, daily.to_seq) == (count, 1001, 1000 + count)
    assert f"{count} updates, #1001" in daily.summary
    assert "of yesterday" not in daily.summary
    assert app.pages > count // 300
    # the record names the newest of its events, as before
    assert len(plan.deliveries) == MAX_DIGESTED
    assert plan.deliveries[-1].event_id == f"e{1000 + count}"


@pytest.mark.parametrize("budget", [64, 300, 5000])
def test_a_digest_of_pages_is_the_digest_of_all(budget: int) -> None:
    updates = [
        {
            **update(n), "seq": n, "keys": [f"k{n * n % 37}"],
            "priority": ("low", "normal", "critical")[n % 61 % 3],
        }
        for n in range(1, 501)
    ]  # fmt: skip
    paged = DigestBuilder(listed=False)
    for start in range(0, 500, 70):
        paged.add(updates[start : start + 70])
    assert paged.build(budget).text == build_digest(updates, budget).text


def test_things_without_number_are_counted_in_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(digests_module, "MAX_GROUPS", 40)
    builder = DigestBuilder(listed=False)
    for n in range(1, 1001):
        builder.add([{**update(n), "seq": n, "keys": [f"thing-{n}"]}])
        assert len(builder._groups) <= 80
    digest = builder.build(1000)
    assert digest.tokens <= 1000
    assert digest.text.startswith("1000 updates, #1–1000")
    left_out = 1000 - sum(group.count for group in digest.shown)
    assert f"Left out for the budget: {left_out} updates about {left_out} things" in digest.text
    assert "#1000 " in digest.text
