"""Daily summaries: what one context's trouble must not do to others, and large days."""

from datetime import UTC, datetime, time
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from hookstream.app.feeds.daily import DailySummaries
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

    async def newest(self, *_: object) -> list[FeedUpdate]:
        return self._found

    async def expand(self, tenant: str, context_id: str, found: list[FeedUpdate]) -> Any:
        return [one.values() for one in found]

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
    """Where replication is waited for a feed looks empty."""
    app = App([], last_seq=7)
    assert await app.dailies().tell() == 0
    assert not app.plans
