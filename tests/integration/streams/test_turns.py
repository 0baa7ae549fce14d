"""Turns on a real server: what all partitions have is read together, and nothing is overlooked."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis.asyncio

from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.streams.partition import Partition
from hookstream.app.streams.slot import Slot
from hookstream.app.streams.turns import Turns
from tests.support.stack import eventually

NUMBERS = range(4)


class Kept:
    """A reader that keeps what it is given."""

    page, buffer_max = 256, 1000

    def __init__(self, name: str, *, by_owner: bool = False) -> None:
        self.channel: Any = SimpleNamespace(name=name, by_owner=by_owner)
        self.came: dict[int, list[bytes]] = {number: [] for number in NUMBERS}
        self.gone: dict[int, str] = {}

    def drains(self, number: int) -> bool:
        return number in self.gone

    async def receive(self, slot: Slot, entries: list[Any], *, asked: int) -> None:
        self.came[slot.partition.number] += [parts[1] for _, parts in entries]
        if entries:
            slot.last_id = entries[-1][0].decode()
        slot.large = len(entries) >= asked
        if slot.large or slot.recovering:
            slot.hungry.add(slot)
        if not entries:
            slot.recovering = False

    def lost(self, slot: Slot, error: BaseException) -> None:
        self.gone[slot.partition.number] = str(error)

    def go_on(self, slot: Slot) -> None:
        slot.waiting, slot.lingering = None, False

    def has(self, **wanted: list[bytes]) -> Any:
        async def look() -> bool:
            return all(self.came[int(name[1:])] == values for name, values in wanted.items())

        return look


class Watched:
    """The scripts; ``looks`` has what each look gave, and ``between`` runs before it is told."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts
        self.looks: list[list[Any]] = []
        self.between: Any = None

    async def call(self, name: str, names: Any, arguments: Any) -> Any:
        reply = await self._scripts.call(name, names, arguments)
        if name == "look":
            between, self.between = self.between, None
            if between is not None:
                await between()
            if reply:
                self.looks.append(reply)
        return reply


@pytest.fixture
async def scripts(redis_client: "redis.asyncio.Redis") -> Watched:
    loaded = Scripts(redis_client)
    await loaded.load()
    return Watched(loaded)


@pytest.fixture
async def turns(redis_client: "redis.asyncio.Redis", scripts: Watched) -> AsyncIterator[Turns]:
    made = Turns(redis_client, scripts, "w1", timeout_seconds=5.0)  # type: ignore[arg-type]
    await made.start()
    yield made
    await made.stop()


async def joined(
    client: "redis.asyncio.Redis",
    scripts: Watched,
    turns: Turns,
    *readers: Kept,
    nonce: str = "n",
) -> list[Partition]:
    """Own partitions, with their streams read for each reader."""
    partitions = []
    for number in NUMBERS:
        _, epoch, *_ = await scripts.call("claim", [keys.lease(number)], ["w1", nonce, 60_000])
        partitions.append(Partition(number, int(epoch), nonce))
        for reader in readers:
            stream = keys.stream(reader.channel.name, number)
            await client.xgroup_create(stream, keys.GROUP, id="0", mkstream=True)
            turns.join(Slot(reader, partitions[-1], None))  # type: ignore[arg-type]
    return partitions


async def quiet(turns: Turns) -> None:
    """Wait until a wake-up is all that it waits for."""

    async def blocks() -> bool:
        [lane] = turns._lanes.values()
        return bool(lane.wakeups) and not lane.hungry and not lane.active

    await eventually(blocks, "a wake-up is waited for")


async def append(client: "redis.asyncio.Redis", *streams: str, value: bytes = b"x") -> None:
    """To all of them in one step."""
    async with client.pipeline(transaction=True) as pipe:
        for stream in streams:
            pipe.xadd(stream, {"d": value})
        await pipe.execute()


async def test_what_all_partitions_have_is_read_in_few_calls_and_in_order(
    redis_client: "redis.asyncio.Redis", scripts: Watched, turns: Turns
) -> None:
    events, others = Kept("events"), Kept("others")
    await joined(redis_client, scripts, turns, events, others)
    await quiet(turns)
    scripts.looks.clear()
    streams = [keys.stream(name, n) for name in ("events", "others") for n in NUMBERS]
    for value in (b"1", b"2", b"3"):
        await append(redis_client, *streams, value=value)
    for reader in (events, others):
        await eventually(reader.has(p0=[b"1", b"2", b"3"], p3=[b"1", b"2", b"3"]), "all is read")
    # one by one it would be eight at the least; the first may be the one that a wake-up named
    assert len(scripts.looks) <= 6
    assert max(len(look) for look in scripts.looks) > 2


async def settled(turns: Turns) -> None:
    """Wait until what was there is read."""

    async def is_so() -> bool:
        [lane] = turns._lanes.values()
        return not lane.hungry

    await eventually(is_so, "what was there is read")


async def test_what_its_owner_has_appended_is_read_without_a_wake_up(
    redis_client: "redis.asyncio.Redis", scripts: Watched, turns: Turns
) -> None:
    log = Kept("log", by_owner=True)
    await joined(redis_client, scripts, turns, log)

    await settled(turns)
    [lane] = turns._lanes.values()
    assert not lane.wakeups
    await append(redis_client, keys.stream("log", 2))
    turns.appended(keys.stream("log", 2))
    await eventually(log.has(p2=[b"x"]), "it is read")


async def test_what_is_appended_while_a_look_is_carried_out_is_not_overlooked(
    redis_client: "redis.asyncio.Redis", scripts: Watched, turns: Turns
) -> None:
    log = Kept("log", by_owner=True)
    await joined(redis_client, scripts, turns, log)

    await settled(turns)
    stream = keys.stream("log", 1)

    async def meanwhile() -> None:
        await append(redis_client, stream, value=b"second")
        turns.appended(stream)

    scripts.between = meanwhile
    await append(redis_client, stream, value=b"first")
    turns.appended(stream)
    await eventually(log.has(p1=[b"first", b"second"]), "both are read")


async def test_what_is_wrong_with_one_stream_is_told_of_that_one(
    redis_client: "redis.asyncio.Redis", scripts: Watched, turns: Turns
) -> None:
    events = Kept("events")
    await joined(redis_client, scripts, turns, events)
    await quiet(turns)
    # one has another owner, one has lost its group, one is no stream
    await redis_client.hset(keys.lease(0), "nonce", "another")
    await redis_client.xgroup_destroy(keys.events(1), keys.GROUP)
    await append(redis_client, *(keys.events(number) for number in NUMBERS))

    async def told() -> bool:
        return sorted(events.gone) == [0, 1]

    await eventually(told, "two are lost")
    assert "FENCED" in events.gone[0]
    assert "NOGROUP" in events.gone[1]
    await eventually(events.has(p2=[b"x"], p3=[b"x"]), "the others are read")
    assert events.came[0] == events.came[1] == []
    async with redis_client.pipeline(transaction=True) as pipe:
        pipe.delete(keys.events(2))
        pipe.set(keys.events(2), "no stream")
        pipe.xadd(keys.events(3), {"d": b"y"})
        await pipe.execute()
    await eventually(events.has(p3=[b"x", b"y"]), "the last one goes on")


async def test_a_slot_that_has_left_takes_nothing_from_the_next_one(
    redis_client: "redis.asyncio.Redis", scripts: Watched, turns: Turns
) -> None:
    """Its wake-up comes when the partition was lost and claimed anew."""
    before, now = Kept("events"), Kept("events")
    await joined(redis_client, scripts, turns, before)
    await quiet(turns)
    [lane] = turns._lanes.values()
    for slot in list(lane.slots.values()):
        turns.leave(slot)
    await redis_client.flushall()
    await joined(redis_client, scripts, turns, now, nonce="another")

    async def settled() -> bool:
        return not lane.hungry

    await eventually(settled, "what was there is read")
    streams = [keys.events(number) for number in NUMBERS]
    for value in (b"1", b"2"):
        await append(redis_client, *streams, value=value)
        for stream in streams:
            turns.appended(stream)
    both = [b"1", b"2"]
    await eventually(now.has(p0=both, p1=both, p2=both, p3=both), "all is read")
    assert not any(before.came.values())
    assert not now.gone


async def test_a_read_of_another_round_counts_for_nothing(
    redis_client: "redis.asyncio.Redis", scripts: Watched, turns: Turns
) -> None:
    """It was given up, what is pending was looked at, and now Redis carries it out after all."""
    events = Kept("events")
    [mine, *_] = await joined(redis_client, scripts, turns, events)
    await quiet(turns)
    await turns.stop()
    stream = keys.events(mine.number)
    await append(redis_client, stream)
    names, fence = [keys.lease(0), stream], [mine.epoch, mine.nonce]
    given_up = [keys.GROUP, "w1", 10, 1, *fence, 0]
    await scripts.call("read", names, [*fence, keys.GROUP, "w1", 10, "0-0", 1])
    place, told = await scripts.call("look", names, given_up)
    assert (place, told[:8]) == (2, b"OUTDATED")
    assert (await redis_client.xpending(stream, keys.GROUP))["pending"] == 0
    given_up[-1] = 1
    [place, [[_, parts]]] = await scripts.call("look", names, given_up)
    assert parts == [b"d", b"x"]


async def test_many_calls_of_one_moment_are_one_look(
    redis_client: "redis.asyncio.Redis", scripts: Watched, turns: Turns
) -> None:
    log = Kept("log", by_owner=True)
    await joined(redis_client, scripts, turns, log)

    await settled(turns)
    scripts.looks.clear()
    streams = [keys.stream("log", number) for number in NUMBERS]
    await append(redis_client, *streams)
    for stream in streams:
        turns.appended(stream)
    await eventually(log.has(p0=[b"x"], p1=[b"x"], p2=[b"x"], p3=[b"x"]), "all is read")
    assert [len(look) // 2 for look in scripts.looks] == [4]


class Decoding(Kept):
    """One that takes in pages of a backlog only when it is let."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.held = 0
        self.let = asyncio.Event()

    async def receive(self, slot: Slot, entries: list[Any], *, asked: int) -> None:
        if asked == self.page and entries and not slot.recovering:
            self.held += 1
            await self.let.wait()
        await super().receive(slot, entries, asked=asked)


async def test_nobody_waits_for_a_page_of_anothers_backlog_to_be_decoded(
    redis_client: "redis.asyncio.Redis", scripts: Watched, turns: Turns
) -> None:
    events = Decoding("events")
    await joined(redis_client, scripts, turns, events)
    await quiet(turns)
    backlog = [str(number).encode() for number in range(3 * events.page)]
    pipe = redis_client.pipeline(transaction=True)
    for value in backlog:
        pipe.xadd(keys.stream("events", 0), {"d": value})
    await pipe.execute()

    async def holds() -> bool:
        return events.held > 0

    await eventually(holds, "a page of the backlog is read")
    for value in (b"now", b"and again"):
        await append(redis_client, keys.stream("events", 1), value=value)
    await eventually(events.has(p1=[b"now", b"and again"]), "what is urgent is handed on")
    assert len(events.came[0]) < events.page, "while that page is not"
    events.let.set()
    await eventually(events.has(p0=backlog), "and the backlog in its order")
