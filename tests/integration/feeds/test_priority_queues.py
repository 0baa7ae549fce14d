"""Deferral on a real server: what waits is known to the next owner, and urgent updates go ahead."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
import redis.asyncio

from hookstream.app.clock import RedisClock
from hookstream.app.errors import SealingKeyError
from hookstream.app.failures.state import FailureState
from hookstream.app.feeds.delivery import Delivery
from hookstream.app.feeds.state import FeedState, read_deferred
from hookstream.app.ids import new_event_id, partition_of_event
from hookstream.app.priority import DEFERRABLE, channel_name
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.routing.catalog import Catalog, Context
from hookstream.app.settings import Settings
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.lag import StreamLag, measure_lag
from hookstream.app.streams.partition import Partition
from hookstream.app.streams.scheduler import Scheduler, due
from hookstream.codecs.envelope import Event, encode_event
from hookstream.codecs.routed import Target, decode_routed, encode_routed
from tests.integration.streams.test_model import Plain
from tests.support.stack import Stack, eventually

NUMBER = 3
NAME = ("t", "c")
REGISTRY = Catalog(
    1,
    contexts={NAME: Context("t", "c", "", "low")},
    priorities={NAME: frozenset(("critical", "low"))},
    most_urgent="critical",
)


def event(n: int, issue: int) -> Event:
    return Event(
        event_id=new_event_id(1_700_000_000_000 + n, 0, n),
        tenant="t",
        tool_id="tool",
        provider="github",
        type="issues",
        message_id=f"m{n}",
        received_at_ms=1_700_000_000_000 + n,
        payload=orjson.dumps({"repository": {"full_name": "a/b"}, "issue": {"number": issue}}),
    )


async def readable(_: Sequence[Entry]) -> None:
    """Payloads are in the clear."""


class Owner:
    """One owner of the partition, with what the deliver stage needs."""

    def __init__(self, client: Any, scripts: Scripts, settings: Settings) -> None:
        self.redis = client
        self.partition = Partition(NUMBER, 1, "n")
        self.partition.add(FeedState())
        self.partition.add(FailureState())
        self.delivery = Delivery(
            client,
            scripts,
            settings,
            Scheduler(),
            catalog=lambda: REGISTRY,
            now_ms=lambda: 1_700_000_001_000,
            renderer=Plain(),
            make_readable=readable,
        )

    async def deliver(self, *events: tuple[int, int, str], sent: bool = False) -> None:
        """Number, issue and priority of each: one batch of ``updates[q]``."""
        stream = keys.updates(NUMBER)
        entries = []
        for n, issue, priority in events:
            raw = encode_routed(
                0, f"{n}-1", "1-1", encode_event(event(n, issue)), [Target("c", priority, "s")]
            )
            entry_id = (await self.redis.xadd(stream, {"d": raw})).decode()
            entries.append(Entry(entry_id, raw, decode_routed(raw), sent=sent))
        await self.delivery.deliver(Batch("updates", self.partition, entries, lambda *_: None))

    async def read(self, priority: str, count: int) -> Batch:
        """The next ones of what was deferred, as their reader hands them on."""
        stream = keys.deferred(NUMBER, priority)
        found = await self.redis.xreadgroup(keys.GROUP, "w", {stream: ">"}, count=count)
        entries = [
            Entry(entry_id.decode(), fields[b"d"], decode_routed(fields[b"d"]))
            for entry_id, fields in (found[0][1] if found else [])
        ]
        return Batch(channel_name(priority), self.partition, entries, lambda *_: None)

    async def serve(self, priority: str, count: int) -> None:
        """Deliver the next ones of what was deferred."""
        await self.delivery.deliver(await self.read(priority, count), priority)

    async def left(self, priority: str) -> tuple[int, int]:
        """How many entries a stream of deferred ones has, and how many of them are pending."""
        stream = keys.deferred(NUMBER, priority)
        pending = await self.redis.xpending(stream, keys.GROUP)
        return await self.redis.xlen(stream), pending["pending"]

    async def feed(self) -> list[int]:
        found = await self.redis.xrange(keys.feed(NUMBER, *NAME))
        ids = [orjson.loads(fields[b"d"])["event_id"] for _, fields in found]
        return [int(event_id[-12:], 16) for event_id in ids]


@pytest.fixture
async def owner(redis_client: "redis.asyncio.Redis", tmp_path: Any) -> Owner:
    scripts = Scripts(redis_client)
    await scripts.load()
    await redis_client.hset(keys.lease(NUMBER), mapping={"epoch": 1, "nonce": "n"})
    for priority in DEFERRABLE:
        stream = keys.deferred(NUMBER, priority)
        await redis_client.xgroup_create(stream, keys.GROUP, id="0", mkstream=True)
    return Owner(redis_client, scripts, Settings(state_dir=tmp_path))


LOW = [(n, n % 3, "low") for n in range(1, 21)]


ABOUT_1 = [n for n in range(1, 21) if n % 3 == 1]
OTHERS = [n for n in range(1, 21) if n % 3 != 1]


async def test_under_pressure_critical_goes_first_and_each_thing_keeps_its_order(
    owner: Owner,
) -> None:
    # the second is about something that would wait: that goes before it
    await owner.deliver(*LOW, (21, 7, "critical"), (22, 1, "critical"))
    assert await owner.feed() == [*ABOUT_1, 21, 22]
    await owner.serve("low", 5)
    assert await owner.feed() == [*ABOUT_1, 21, 22, *OTHERS[:5]]
    await owner.serve("low", 100)
    assert await owner.feed() == [*ABOUT_1, 21, 22, *OTHERS]
    assert owner.partition[FeedState].deferred["low"].empty


async def test_critical_takes_along_what_waits_about_the_same_and_not_the_pile(
    owner: Owner,
) -> None:
    """Not even where its stream's reader has read it already."""
    pile = [(n, n // 2, "low") for n in range(2, 3002)]
    for start in range(0, len(pile), 500):
        await owner.deliver(*pile[start : start + 500])
    batch = await owner.read("low", 64)
    # about what is in that batch, and about what nobody has read yet
    await owner.deliver((5001, 7, "critical"))
    await owner.deliver((5002, 1200, "critical"), (5003, 9999, "critical"))
    first = [14, 15, 5001, 2400, 2401, 5002, 5003]
    assert await owner.feed() == first
    await owner.delivery.deliver(batch, "low")
    assert await owner.feed() == [*first, *(n for n in range(2, 66) if n not in (14, 15))]
    while (await owner.left("low"))[1] or not owner.partition[FeedState].deferred["low"].empty:
        await owner.serve("low", 256)
    rest = [n for n in range(2, 3002) if n not in (14, 15, 2400, 2401)]
    assert await owner.feed() == [*first, *rest]
    assert not owner.partition[FeedState].deferred["low"].taken


async def test_next_owner_does_not_find_what_was_taken_along(owner: Owner) -> None:
    await owner.deliver(*LOW)
    await owner.read("low", 8)
    await owner.deliver((21, 1, "critical"))
    assert await owner.feed() == [*ABOUT_1, 21]
    scripts = owner.delivery._scripts
    found = (await read_deferred(owner.redis, scripts, NUMBER))["low"]
    assert not found.holds_about("t/c", ("github:a/b#1",))
    assert len(found.about) == 2
    owner.partition[FeedState].deferred["low"] = found
    # what the last one had in hand is pending, without what was taken along
    stream = keys.deferred(NUMBER, "low")
    again = await owner.redis.xreadgroup(keys.GROUP, "w", {stream: "0"})
    entries = [
        Entry(entry_id.decode(), fields[b"d"], decode_routed(fields[b"d"]))
        for entry_id, fields in again[0][1]
    ]
    assert len(entries) == len([n for n in OTHERS if n <= 8])
    batch = Batch("deferred:low", owner.partition, entries, lambda *_: None)
    await owner.delivery.deliver(batch, "low")
    await owner.serve("low", 100)
    assert await owner.feed() == [*ABOUT_1, 21, *OTHERS]


@pytest.mark.parametrize("times", [1, 2])
async def test_what_is_delivered_meanwhile_is_not_taken_along_once_more(
    owner: Owner, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Its own stream's batches commit between the look and the commit of what would take it."""
    await owner.deliver(*LOW)
    read, batches = owner.delivery._read_along, [5] * times

    async def late(work: Any) -> bool:
        found = await read(work)
        if work.along and batches:
            await owner.serve("low", batches.pop())
        return found

    monkeypatch.setattr(owner.delivery, "_read_along", late)
    await owner.deliver((21, 1, "critical"))
    # it is looked once more; then it waits as everything else does
    rest = [n for n in ABOUT_1 if n > 5]
    assert await owner.feed() == ([*range(1, 6), *rest, 21] if times == 1 else [*range(1, 11)])
    await owner.serve("low", 100)
    came = await owner.feed()
    assert sorted(came) == list(range(1, 22))
    assert [n for n in came if n in (*ABOUT_1, 21)] == [*ABOUT_1, 21]


async def test_where_what_waits_cannot_be_rendered_the_critical_one_waits_behind_it(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What becomes of it is for its own stream to say."""
    await owner.deliver(*LOW)
    render = Plain.render

    def broken(self: Plain, one: Event, target: Target) -> bytes:
        if one.event_id == event(4, 1).event_id:
            raise ValueError("broken")
        return render(self, one, target)

    monkeypatch.setattr(Plain, "render", broken)
    await owner.deliver((21, 1, "critical"), (22, 7, "critical"))
    assert await owner.feed() == [22]
    await owner.serve("low", 100)
    assert await owner.feed() == [22, *(n for n in range(1, 22) if n != 4)]
    assert await owner.redis.zcard(keys.retries(NUMBER)) == 1


async def test_what_cannot_be_read_is_not_taken_along(owner: Owner) -> None:
    await owner.deliver(*LOW)

    async def no_key(_: Sequence[Entry]) -> None:
        raise SealingKeyError("the key service does not answer")

    owner.delivery._make_readable = no_key
    await owner.deliver((21, 1, "critical"))
    assert await owner.feed() == []
    await owner.serve("low", 100)
    assert await owner.feed() == list(range(1, 22))


async def test_what_comes_again_takes_nothing_along(owner: Owner) -> None:
    """What it took along may be what killed whoever had it."""
    await owner.deliver(*LOW)
    await owner.deliver((21, 1, "critical"), sent=True)
    assert await owner.feed() == []
    await owner.serve("low", 100)
    assert await owner.feed() == list(range(1, 22))


async def test_lag_is_told_although_something_was_taken_out_of_the_middle(owner: Owner) -> None:
    clock = RedisClock()
    await owner.deliver(*LOW)
    await owner.read("low", 3)
    await owner.deliver((21, 1, "critical"))

    async def lag() -> StreamLag:
        return (await measure_lag(owner.redis, clock, NUMBER + 1, ["deferred:low"]))["deferred:low"]

    # of the first three one was taken, of the others six
    assert ((await lag()).lag, (await lag()).pending) == (11, 2)
    await owner.serve("low", 100)
    assert (await lag()).lag == 0
    # where the last ones are taken nobody reads on to the end of the stream
    await owner.deliver((30, 1, "low"), *((n, n, "low") for n in range(31, 40)))
    await owner.serve("low", 9)
    await owner.deliver((50, 39, "critical"))
    assert (await lag()).lag == 0
    assert owner.partition[FeedState].deferred["low"].empty


async def test_moving_low_ones_aside_waits_for_nothing_that_is_less_urgent_than_critical(
    owner: Owner,
) -> None:
    """A critical one that comes behind them in ``updates[q]`` would wait, too."""
    scheduler = owner.delivery._scheduler = Scheduler(at_once=1)
    done: list[str] = []

    async def other() -> None:
        async with scheduler.slot(due(time.monotonic(), 1, "high")):
            done.append("what is high")

    async def moved() -> None:
        await owner.deliver(*LOW)
        done.append("moved aside")

    async def both_wait() -> bool:
        return len(scheduler._waiting) == 2

    async with scheduler.slot(0.0):
        work = [asyncio.create_task(other()), asyncio.create_task(moved())]
        await eventually(both_wait, "both wait for the loop")
    await asyncio.gather(*work)
    assert done == ["moved aside", "what is high"]
    assert await owner.feed() == []


async def test_next_owner_knows_what_waits(owner: Owner) -> None:
    await owner.deliver(*LOW)
    await owner.serve("low", 18)
    scripts = owner.delivery._scripts
    deferred = await read_deferred(owner.redis, scripts, NUMBER)
    # 19 and 20 wait, which are about 1 and 2
    held = [deferred["low"].holds_about("t/c", (f"github:a/b#{issue}",)) for issue in range(3)]
    assert held == [False, True, True]
    assert deferred["high"].empty
    owner.partition[FeedState].deferred = deferred
    await owner.deliver((30, 0, "critical"), (31, 1, "critical"))
    assert await owner.feed() == [*range(1, 19), 19, 30, 31]
    await owner.serve("low", 100)
    assert await owner.feed() == [*range(1, 19), 19, 30, 31, 20]


async def test_next_owner_knows_of_what_was_read_and_not_delivered(owner: Owner) -> None:
    await owner.deliver(*LOW)
    stream = keys.deferred(NUMBER, "low")
    await owner.redis.xreadgroup(keys.GROUP, "dead", {stream: ">"}, count=5)
    deferred = await read_deferred(owner.redis, owner.delivery._scripts, NUMBER)
    assert deferred["low"].holds_about("t/c", ("github:a/b#1",))
    assert len(deferred["low"].about) == 3


async def test_flood_and_urgent_update_share_a_context_without_gaps(
    stack: Stack, name: str
) -> None:
    """The latency is for the bench to say; here only who comes before whom."""
    await stack.put(f"/tools/{name}-low", {"provider": "none", "dedup": {"strategy": "none"}})
    await stack.put(f"/tools/{name}-urgent", {"provider": "none"})
    await stack.put(f"/contexts/{name}", {"priority": "low"})
    await stack.put(f"/contexts/{name}/subscriptions/low", {"tool": f"{name}-low"})
    urgent = {"tool": f"{name}-urgent", "priority": "critical"}
    await stack.put(f"/contexts/{name}/subscriptions/urgent", urgent)
    body = orjson.dumps({"title": "x", "text": "y" * 20_000})
    async with stack.session() as session:
        numbers = iter(range(2000))

        async def flood() -> None:
            for _ in numbers:
                async with session.post(f"/hooks/{name}-low", data=body) as response:
                    assert response.status == 202

        await asyncio.gather(*(flood() for _ in range(16)))
    event_id = await stack.hook(f"{name}-urgent", b'{"title": "now"}')

    async def all_there() -> bool:
        return bool((await stack.get(f"/contexts/{name}"))["last_seq"] == 2001)

    await eventually(all_there, "everything is delivered", timeout_seconds=60)
    updates: list[dict[str, Any]] = []
    while page := (
        await stack.get(f"/contexts/{name}/updates", after=str(len(updates)), limit="1000")
    )["updates"]:
        updates += page
    assert [update["seq"] for update in updates] == list(range(1, 2002))
    [at] = [n for n, update in enumerate(updates) if update["event_id"] == event_id]
    assert updates[at]["priority"] == "critical"
    times = [update["received_at"] for update in updates if update["priority"] == "low"]
    assert times == sorted(times)


async def test_critical_events_pass_a_backlog_of_low_ones(stack: Stack, name: str) -> None:
    """No time is measured: of what waits when it comes, more comes behind it than before it."""
    low, urgent = f"{name}-low", ""
    await stack.put(f"/tools/{low}", {"provider": "none", "dedup": {"strategy": "none"}})
    backlog_in = partition_of_event(await stack.hook(low, b"{}"))
    # one tool's events are in one partition, where what came before goes before
    for number in range(50):
        urgent = f"{name}-urgent-{number}"
        await stack.put(f"/tools/{urgent}", {"provider": "none"})
        if partition_of_event(await stack.hook(urgent, b"{}")) != backlog_in:
            break
    # so that more is received than delivered
    for context in (name, *(f"{name}-{number}" for number in range(15))):
        await stack.put(f"/contexts/{context}", {"priority": "low"})
        await stack.put(f"/contexts/{context}/subscriptions/low", {"tool": low})
    await stack.put(
        f"/contexts/{name}/subscriptions/urgent", {"tool": urgent, "priority": "critical"}
    )
    sent = waiting = 0
    async with stack.session() as session:

        async def flood(count: int) -> None:
            for _ in range(count):
                async with session.post(f"/hooks/{low}", data=b'{"title": "x"}') as response:
                    assert response.status == 202

        while waiting < 400:
            assert sent < 20_000, "the worker has kept up"
            await asyncio.gather(*(flood(40) for _ in range(16)))
            sent += 16 * 40
            waiting = sent - (await stack.get(f"/contexts/{name}"))["last_seq"]
    event_id = await stack.hook(urgent, b'{"title": "now"}')
    updates = await stack.updates(name, sent + 1)
    [at] = [n for n, update in enumerate(updates) if update["event_id"] == event_id]
    assert updates[at]["priority"] == "critical"
    assert sent - at > waiting / 2, f"{at - (sent - waiting)} of {waiting} went before it"
