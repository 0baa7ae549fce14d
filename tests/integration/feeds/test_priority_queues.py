"""Deferral on a real server: what waits is known to the next owner, and urgent updates go ahead."""

import asyncio
import time
from typing import Any

import orjson
import pytest
import redis.asyncio

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
        )

    async def deliver(self, *events: tuple[int, int, str]) -> None:
        """Number, issue and priority of each: one batch of ``updates[q]``."""
        stream = keys.updates(NUMBER)
        entries = []
        for n, issue, priority in events:
            raw = encode_routed(
                0, f"{n}-1", "1-1", encode_event(event(n, issue)), [Target("c", priority, "s")]
            )
            entry_id = (await self.redis.xadd(stream, {"d": raw})).decode()
            entries.append(Entry(entry_id, raw, decode_routed(raw)))
        await self.delivery.deliver(Batch("updates", self.partition, entries, lambda *_: None))

    async def serve(self, priority: str, count: int) -> None:
        """The next ones of what was deferred."""
        stream = keys.deferred(NUMBER, priority)
        found = await self.redis.xreadgroup(keys.GROUP, "w", {stream: ">"}, count=count)
        entries = [
            Entry(entry_id.decode(), fields[b"d"], decode_routed(fields[b"d"]))
            for entry_id, fields in found[0][1]
        ]
        batch = Batch(channel_name(priority), self.partition, entries, lambda *_: None)
        await self.delivery.deliver(batch, priority)

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


async def test_under_pressure_critical_goes_first_and_each_thing_keeps_its_order(
    owner: Owner,
) -> None:
    await owner.deliver(*LOW, (21, 7, "critical"), (22, 1, "critical"))
    # the second is about something that waits
    assert await owner.feed() == [21]
    await owner.serve("low", 10)
    assert await owner.feed() == [21, *range(1, 11)]
    await owner.serve("low", 100)
    assert await owner.feed() == [21, *range(1, 21), 22]
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
    assert (await owner.feed())[-1] == 30
    await owner.serve("low", 100)
    assert await owner.feed() == [*range(1, 19), 30, 19, 20, 31]


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
