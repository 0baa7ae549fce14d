"""Numbering: within the rate, without gaps, every update in exactly one place, in order."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.errors import OutdatedError
from hookstream.app.feeds.plan import FeedPlan, Limits, Ready
from hookstream.app.summaries.tokens import count_tokens
from hookstream.tables.rates import Rate, decode_due, encode_due

NAME = ("t", "c")


class Feeds:
    """What Redis holds of one context, from the writes of one plan after another."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.seqs: dict[str, int] = {}
        self.throttled: dict[str, int] = {}
        self.arrivals: dict[str, float] = {}
        self.feed: list[dict[str, Any]] = []
        self.lists: dict[str, list[bytes]] = {}

    def plan(self, now_ms: int) -> FeedPlan:
        waiting = self.lists.get("{hs:0}:withheld:t/c", [])
        assert len(waiting) == self.throttled.get("t/c", 0)
        return FeedPlan(
            0,
            now_ms,
            seqs=self.seqs,
            throttled=self.throttled,
            arrivals=self.arrivals,
            limits=lambda *_: self.limits,
            waiting={"t/c": waiting},
        )

    def commit(self, plan: FeedPlan) -> None:
        changes: list[tuple[bytes, bytes]] = []
        plan.finish(lambda rates, _: changes.extend(rates))
        plan.writes.follow([b"1-0"] * len(plan.writes.commands))
        for command, key, arguments in plan.writes.commands:
            if command == "RPUSH":
                self.lists.setdefault(key, []).extend(arguments)  # type: ignore[arg-type]
            elif command == "RENAME":
                self.lists[str(arguments[0])] = self.lists.pop(key)
            elif command == "DEL":
                del self.lists[key]
            elif command == "XADD" and ":feed:" in key:
                assert arguments[0] == f"{len(self.feed) + 1}-0"
                self.feed.append(orjson.loads(arguments[2]))  # type: ignore[arg-type]
        plan.apply(self.seqs, self.throttled, self.arrivals)
        assert dict(changes) == ({b"t/c": encode_due(self.arrivals["t/c"])} if changes else {})

    def opened(self) -> list[str]:
        """Event ids in the order of the feed, those in a digest in its place."""
        found = []
        for seq, update in enumerate(self.feed, 1):
            if update["kind"] == "update":
                found.append(update["event_id"])
            else:
                inside = self.lists[f"{{hs:0}}:folded:t/c:{seq}"]
                assert update["folded"]["count"] == len(inside)
                found += [orjson.loads(body)["event_id"] for body in inside]
        return found


def ready(n: int, priority: str = "normal") -> Ready:
    body = {
        "kind": "update", "context_id": "c", "event_id": f"e{n}", "tool_id": "tool",
        "event_type": "thing.done", "priority": priority, "summary": f"thing {n} is done",
        "received_at": 1_700_000_000_000 + n, "tokens": 5,
    }  # fmt: skip
    return Ready("c", priority, f"e{n}", "", orjson.dumps(body))


def test_what_exceeds_the_rate_is_coalesced_into_one_digest() -> None:
    feeds = Feeds(Limits(Rate(1.0, burst=2), token_budget=80))
    plan = feeds.plan(0)
    for n in range(10):
        plan.add("t", ready(n))
    assert (plan.throttled_now, plan.coalesced) == (8, 0)
    feeds.commit(plan)
    assert [update["event_id"] for update in feeds.feed] == ["e0", "e1"]
    plan = feeds.plan(1000)
    plan.coalesce("t", "c")
    feeds.commit(plan)
    digest = feeds.feed[-1]
    assert (digest["kind"], digest["event_id"], digest["data"]) == ("digest", None, {})
    assert digest["folded"]["event_ids"] == [f"e{n}" for n in range(2, 10)]
    assert digest["tokens"] == count_tokens(digest["summary"]) <= 80
    assert {delivery.kind for delivery in plan.deliveries} == {"digest"}
    assert len(plan.deliveries) == 8
    assert feeds.opened() == [f"e{n}" for n in range(10)]


def test_single_one_that_was_held_up_comes_as_it_is() -> None:
    feeds = Feeds(Limits(Rate(1.0)))
    plan = feeds.plan(0)
    plan.add("t", ready(0))
    plan.add("t", ready(1))
    feeds.commit(plan)
    plan = feeds.plan(1000)
    plan.coalesce("t", "c")
    feeds.commit(plan)
    assert [update["kind"] for update in feeds.feed] == ["update", "update"]
    assert not feeds.lists


def test_critical_has_an_allowance_of_its_own_and_what_was_before_it_goes_ahead() -> None:
    feeds = Feeds(Limits(Rate(0.1, burst=3)))
    plan = feeds.plan(0)
    for n in range(6):
        plan.add("t", ready(n, "low"))
    plan.add("t", ready(6, "critical"))
    plan.add("t", ready(7, "low"))
    feeds.commit(plan)
    kinds = [(update["kind"], update["priority"]) for update in feeds.feed]
    assert kinds == [("update", "low")] * 3 + [("digest", "low"), ("update", "critical")]
    assert feeds.opened() == [f"e{n}" for n in range(7)]
    assert feeds.throttled == {"t/c": 1}
    # it is an allowance, no pass: in the end critical ones are folded as well
    plan = feeds.plan(0)
    for n in range(8, 20):
        plan.add("t", ready(n, "critical"))
    feeds.commit(plan)
    assert len(feeds.feed) <= 7
    assert feeds.throttled["t/c"] > 5


@pytest.mark.parametrize("budget", [1, 2, 9, 63])
def test_budget_below_what_a_digest_needs_is_kept_all_the_same(budget: int) -> None:
    feeds = Feeds(Limits(Rate(1.0), token_budget=budget))
    plan = feeds.plan(0)
    for n in range(5):
        plan.add("t", ready(n))
    feeds.commit(plan)
    plan = feeds.plan(1000)
    plan.coalesce("t", "c")
    feeds.commit(plan)
    assert feeds.feed[-1]["tokens"] == count_tokens(feeds.feed[-1]["summary"]) <= budget


def test_what_another_owner_has_let_go_is_not_coalesced_once_more() -> None:
    """A worker that was stopped for a while believes in a list that is gone or another."""
    for there in ([], [ready(1).body]):
        plan = FeedPlan(
            0,
            0,
            seqs={"t/c": 3},
            throttled={"t/c": 2},
            arrivals={},
            limits=lambda *_: Limits(),
            waiting={"t/c": there},
        )
        with pytest.raises(OutdatedError):
            plan.coalesce("t", "c")


def test_bucket_owes_no_more_than_its_own_rate_can_take() -> None:
    """What a slower rate before it, or digests that had to go, have taken is not owed for days."""
    rate = Rate(10.0, burst=2)
    assert rate.bounded(3_600_000.0, 1000) == 1500.0
    # all that the urgent allowance and the digest ahead of it can take is owed still
    arrival_ms = 1000.0
    while rate.due_ms(arrival_ms, urgent=True) <= 1000:
        arrival_ms = rate.taken(rate.taken(arrival_ms, 1000), 1000)
    assert rate.bounded(arrival_ms, 1000) == arrival_ms


def test_slowest_rate_is_a_number_all_the_same() -> None:
    rate = Rate(5e-324, burst=10)
    arrival_ms = rate.taken(0.0, 1_700_000_000_000)
    assert int(rate.horizon_ms()) > 0
    assert rate.due_ms(arrival_ms) < rate.due_ms(arrival_ms + 1)


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(("critical", "normal", "low")), max_size=6),
            st.integers(0, 3000),
            st.booleans(),
        ),
        max_size=12,
    ),
    st.sampled_from((None, Rate(1.0), Rate(2.0, burst=3), Rate(0.2, burst=2))),
)
def test_every_update_is_in_one_place_in_order_and_within_the_rate(
    batches: list[tuple[list[str], int, bool]], rate: Rate | None
) -> None:
    feeds = Feeds(Limits(rate))
    now_ms, n, times = 0, 0, list[int]()
    for priorities, wait_ms, coalesces in batches:
        before = len(feeds.feed)
        plan = feeds.plan(now_ms)
        for priority in priorities:
            plan.add("t", ready(n, priority))
            n += 1
        feeds.commit(plan)
        due = rate is None or now_ms >= rate.due_ms(feeds.arrivals.get("t/c", 0.0))
        if coalesces and due and feeds.throttled:
            plan = feeds.plan(now_ms)
            plan.coalesce("t", "c")
            feeds.commit(plan)
        times += [now_ms] * (len(feeds.feed) - before)
        now_ms += wait_ms
    came = feeds.opened()
    assert came == [f"e{i}" for i in range(len(came))]
    assert len(came) + feeds.throttled.get("t/c", 0) == n
    if rate is None:
        assert not feeds.throttled
        return
    # never more than the urgent allowance (and the one digest that a critical one brings along)
    for at, begin in enumerate(times):
        for until, end in enumerate(times[at:], 1):
            most = 2 * rate.burst + (end - begin) / rate.interval_ms
            assert until <= most + 2


def test_rate_is_kept_to_the_bit() -> None:
    assert decode_due(encode_due(1_700_000_000_123.25)) == 1_700_000_000_123.25
    assert Rate(4.0, burst=2).due_ms(1000.0) == 750.0
    assert Rate(4.0, burst=2).due_ms(1000.0, urgent=True) == 250.0
