"""Feeds on real servers lose what is kept no longer: by their owner, and clients are told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
import redis.asyncio

from hookstream.app.errors import ConflictError, FencedError
from hookstream.app.feeds import trimming as trimming_module
from hookstream.app.feeds.deletion import ContextDeletion
from hookstream.app.feeds.feed import Feeds
from hookstream.app.feeds.generations import Generations
from hookstream.app.feeds.losses import NO_EVENT, LossStore
from hookstream.app.feeds.resets import Resets
from hookstream.app.feeds.state import FeedState, learn_feeds
from hookstream.app.feeds.trimming import FeedTrimming
from hookstream.app.ids import new_event_id
from hookstream.app.postgres.pool import Postgres
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.redis.durability import Durability
from hookstream.app.routing.catalog import Catalog, Context
from hookstream.app.routing.keeping import Keeping
from hookstream.app.settings import Settings
from hookstream.app.streams.commit import Writes, commit
from hookstream.app.streams.partition import Partition
from hookstream.app.web.frames import FeedFrames
from tests.support.stack import Stack, eventually

DAY = 86_400_000
NOW = 1_800_000_000_000
BEGUN = 1_792_224_000_000
WHO = ("t", "c")
NAME = "t/c"
KEEPING = Keeping(30 * DAY, 100_000, 7 * DAY)


class Checked(Scripts):
    """Scripts that are refused as a cluster would: keys of one call are of one slot."""

    before: Any = None

    async def call(self, name: str, call_keys: Sequence[str], args: Sequence[Any]) -> Any:
        assert len({key.partition("}")[0] for key in call_keys}) == 1, (name, call_keys)
        if self.before is not None:
            await self.before(name)
        return await super().call(name, call_keys, args)


class World:
    """One owner of one partition, with a clock of its own."""

    def __init__(self, client: Any, postgres: Postgres, folder: Path) -> None:
        self.redis, self.postgres = client, postgres
        self.scripts = Checked(client)
        self.settings = Settings(state_dir=folder, partitions=1)
        self.now_ms = NOW
        self.catalog = Catalog(1, contexts={WHO: Context("t", "c", "", "low", keeping=KEEPING)})
        self.feeds = Feeds(client, self.scripts, self.settings, Durability(client, "local"))
        self.resets = Resets(self.feeds, postgres)
        self.partition = Partition(0, 1, "n")
        self.trimming = self.claim()

    def claim(self) -> FeedTrimming:
        """As a worker that has just claimed the partition."""
        self.partition = Partition(0, 1, "n", self.partition.sequence)
        self.partition.add(FeedState(generations=Generations().then(BEGUN, 1)))
        return FeedTrimming(
            self.redis,
            self.scripts,
            self.settings,
            catalog=lambda: self.catalog,
            now_ms=lambda: self.now_ms,
            owned=lambda: {0: self.partition},
        )

    def keep(self, keeping: Keeping) -> None:
        context = Context("t", "c", "", "low", keeping=keeping.over(KEEPING))
        self.catalog = Catalog(self.catalog.version + 1, contexts={WHO: context})

    async def begin(self) -> None:
        await self.scripts.load()
        await self.redis.hset(
            keys.lease(0),
            mapping={
                "epoch": 1,
                "nonce": "n",
                "settled": "n",
                "generations": f"{BEGUN}:1",
            },
        )

    async def write(self, count: int, *, digest: bool = False) -> None:
        """So many more updates, as commits write them."""
        state = self.partition[FeedState]
        await learn_feeds(self.scripts, self.partition, {NAME})
        for _ in range(count):
            seq = state.seqs[NAME] + 1
            writes = Writes()
            body = {
                "kind": "digest" if digest else "update",
                "event_id": new_event_id(NOW, 0, seq),
                "event_type": "x",
                "tool_id": "tool",
                "priority": "low",
                "summary": f"thing {seq}",
                "received_at": NOW - 400 * DAY,
                "folded": {"count": 1},
            }
            if digest:
                kept = keys.coalesced_updates(0, *WHO, seq)
                writes.add("RPUSH", kept, orjson.dumps({**body, "kind": "update"}))
            writes.add("XADD", keys.feed(0, *WHO), f"{seq}-0", "d", orjson.dumps(body))
            writes.add("HSET", keys.seqs(0), NAME, seq)

            def written(seq: int = seq) -> None:
                state.seqs[NAME] = seq

            writes.then(written)
            await commit(self.scripts, self.partition, "updates", writes)

    async def log(self, first: int, last: int) -> None:
        """Have the event log know of updates."""
        for seq in range(first, last + 1):
            event_id = UUID(new_event_id(NOW, 0, seq))
            at = datetime.fromtimestamp(NOW / 1000, UTC)
            await self.postgres.execute(
                "INSERT INTO events (event_id, tenant, tool_id, provider, type, status, "
                "message_id, delivery_id, received_at, partition, entry_id, payload_bytes) VALUES "
                "($1, 't', 'tool', 'none', $2, 'accepted', 'm', '', $3, 0, '1-1', 1)",
                event_id,
                "push" if seq % 2 else "issues",
                at,
            )
            await self.postgres.execute(
                "INSERT INTO deliveries VALUES ('t', 'c', $1, $2, null, $3)", seq, event_id, at
            )

    async def numbers(self) -> list[int]:
        found = await self.redis.xrange(keys.feed(0, *WHO))
        return [int(entry_id.partition(b"-")[0]) for entry_id, _ in found]

    async def pass_days(self, days: float) -> None:
        """A day or less at a time, as rounds come."""
        end = self.now_ms + int(days * DAY)
        while self.now_ms < end:
            self.now_ms = min(end, self.now_ms + DAY)
            await self.trimming.round()


@pytest.fixture
async def world(
    redis_client: "redis.asyncio.Redis", postgres_url: str, tmp_path: Path
) -> AsyncIterator[World]:
    async with Postgres(postgres_url) as postgres:
        for table in ("deliveries", "events", "deleted_contexts"):
            await postgres.execute(f"DELETE FROM {table}")
        made = World(redis_client, postgres, tmp_path)
        await made.begin()
        yield made


async def test_updates_go_when_they_are_old_whatever_their_events_are(world: World) -> None:
    # events of a replay are older than all that is kept
    await world.write(5)
    await world.trimming.round()
    await world.pass_days(15)
    await world.write(5)
    await world.trimming.round()
    await world.pass_days(14.9)
    assert await world.numbers() == list(range(1, 11))
    await world.pass_days(1)
    assert await world.numbers() == list(range(6, 11))
    assert await world.feeds.trimmed(*WHO) == 5
    # the last one says where the feed ends, for ever
    await world.pass_days(60)
    assert await world.numbers() == [10]
    world.claim()
    await world.write(1)
    assert await world.numbers() == [10, 11]


async def test_what_is_acknowledged_goes_earlier_and_acknowledgements_stay_right(
    world: World,
) -> None:
    await world.write(6)
    await world.feeds.acknowledge(*WHO, 4)
    await world.trimming.round()
    await world.pass_days(6.9)
    assert len(await world.numbers()) == 6
    await world.pass_days(1)
    assert await world.numbers() == [5, 6]
    assert await world.feeds.acknowledged(*WHO) == 4
    # never back, and of the generation that it was of
    assert await world.feeds.acknowledge(*WHO, 3, BEGUN) == 4
    second = Generations().then(BEGUN, 1).then(NOW, 1000)
    await world.redis.hset(keys.lease(0), "generations", second.encode())
    assert await world.feeds.acknowledge(*WHO, 4, BEGUN) == 4
    with pytest.raises(ConflictError):
        await world.feeds.acknowledge(*WHO, 4, BEGUN - 1)
    assert await world.feeds.acknowledge(*WHO, 6, BEGUN) == 6


async def test_too_many_go_at_once_in_steps_with_what_their_digests_stand_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trimming_module, "STEP", 7)
    await world.write(10)
    await world.write(10, digest=True)
    await world.write(20)
    world.keep(Keeping(updates=25))
    assert world.trimming.changed() == {WHO}
    assert world.trimming.changed() == set()
    while await world.trimming.round({WHO}):
        pass
    assert await world.numbers() == list(range(16, 41))
    assert await lists(world) == {16, 17, 18, 19, 20}
    assert await world.feeds.coalesced(*WHO, 16) != []
    # more is kept again: what there is stays
    world.keep(Keeping(updates=100))
    assert world.trimming.changed() == {WHO}
    await world.trimming.round()
    assert len(await world.numbers()) == 25


async def test_only_the_owner_trims(world: World) -> None:
    await world.write(5)
    world.keep(Keeping(updates=2))
    await world.redis.hset(keys.lease(0), "nonce", "another")
    await world.trimming.round()
    assert len(await world.numbers()) == 5
    assert isinstance(world.partition.lost, FencedError)
    assert await world.redis.hgetall(keys.feed_marks(0)) == {}
    # also where nothing has to be noted before
    world.trimming = world.claim()
    await world.redis.hset(keys.lease(0), "nonce", "n")
    world.keep(Keeping(updates=5))
    await world.trimming.round()
    assert await world.redis.hgetall(keys.feed_marks(0)) != {}
    world.keep(Keeping(updates=2))
    await world.redis.hset(keys.lease(0), "nonce", "another")
    await world.trimming.round()
    assert len(await world.numbers()) == 5
    assert isinstance(world.partition.lost, FencedError)


@pytest.mark.parametrize("at", range(1, 8))
async def test_a_crash_between_any_two_steps_loses_nothing_and_is_made_good(
    world: World, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Before and behind each call of a script the feed is whole, and what went is noted."""
    monkeypatch.setattr(trimming_module, "STEP", 3)
    await world.write(10, digest=True)
    world.keep(Keeping(updates=2))
    calls = 0

    async def dies(name: str) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise asyncio.CancelledError

    world.scripts.before = dies
    with contextlib.suppress(asyncio.CancelledError):
        await world.trimming.round()
    world.scripts.before = None
    numbers = await world.numbers()
    assert numbers == list(range(await world.feeds.trimmed(*WHO) + 1, 11))
    assert await lists(world) == set(numbers)
    world.trimming = world.claim()
    while await world.trimming.round():
        pass
    assert await world.numbers() == [9, 10]
    await world.write(1)
    assert await world.numbers() == [9, 10, 11]


async def test_a_rule_that_changes_and_a_context_that_goes_meanwhile(world: World) -> None:
    await world.write(10)
    world.keep(Keeping(updates=2))

    async def keeps_more(name: str) -> None:
        if name == "feed_oldest":
            world.keep(Keeping(updates=8))

    world.scripts.before = keeps_more
    await world.trimming.round()
    assert await world.numbers() == list(range(3, 11))

    async def reload() -> Catalog:
        return world.catalog

    deletion = ContextDeletion(
        world.redis, world.scripts, world.postgres, 1,
        catalog=lambda: world.catalog, reload=reload, owned=lambda: {0: world.partition},
    )  # fmt: skip

    async def deletes(name: str) -> None:
        if name == "trim_feed":
            world.scripts.before = None
            kept, world.catalog = world.catalog, Catalog(99)
            await world.postgres.execute("INSERT INTO deleted_contexts VALUES ('t', 'c')")
            await deletion.delete()
            # and there is another one of its name at once
            world.catalog = kept
            await world.write(3)

    world.keep(Keeping(updates=2))
    world.scripts.before = deletes
    await world.trimming.round()
    # 11 is left out, for clients of the old one
    assert await world.numbers() == [12, 13, 14]
    assert await world.redis.hgetall(keys.trimmed(0)) == {}
    # nor is anything noted of one that is gone
    world.now_ms += DAY
    world.catalog = Catalog(100)
    await world.redis.delete(keys.feed_marks(0))
    await world.trimming.round({WHO})
    assert await world.redis.hgetall(keys.feed_marks(0)) == {}


async def test_who_is_behind_gets_one_truncated_and_goes_on(world: World) -> None:
    await world.write(20)
    await world.log(1, 20)
    world.keep(Keeping(updates=5))
    await world.trimming.round()
    page = await world.resets.page(WHO, 0, 0, 3)
    assert page.reset is None
    assert page.truncated is not None
    told = page.told()["truncated"]
    assert (told["type"], told["from_seq"], told["to_seq"], told["updates"]) == (
        "truncated", 1, 15, 15,
    )  # fmt: skip
    assert told["digest"]["events"] == 15
    assert [(kind["event_type"], kind["events"]) for kind in told["digest"]["kinds"]] == [
        ("push", 8), ("issues", 7),
    ]  # fmt: skip
    assert "Updates #1–15 are kept no longer. They told of 15 events" in told["digest"]["text"]
    assert [update["seq"] for update in page.updates] == [16, 17, 18]
    # who is not behind is told nothing
    page = await world.resets.page(WHO, page.after, 0, 10)
    assert page.told() == {}
    assert [update["seq"] for update in page.updates] == [19, 20]
    # what went in time is not lost, and not unread
    losses = LossStore(world.redis, world.postgres, world.feeds, 1)
    assert await losses.deliveries(*WHO, (0, NO_EVENT), 100) == []
    assert await world.feeds.unread(*WHO, 0) == 5
    [progress] = await world.feeds.progress([WHO])
    assert (progress.last_seq, progress.trimmed_seq) == (20, 15)
    assert await world.feeds.unread_each([WHO], [progress]) == [5]


async def test_what_is_lost_behind_what_went_is_told_as_a_loss(world: World) -> None:
    await world.write(20)
    await world.log(1, 20)
    world.keep(Keeping(updates=5))
    await world.trimming.round()
    await world.redis.xdel(keys.feed(0, *WHO), "16-0", "17-0")
    page = await world.resets.page(WHO, 3, 0, 10)
    assert page.truncated is not None
    assert (page.truncated.after, page.truncated.to) == (3, 15)
    assert page.reset is not None
    assert [one["seq"] for one in page.reset.missing] == [16, 17]
    assert [update["seq"] for update in page.updates] == [18, 19, 20]


async def test_a_generation_that_began_within_what_went_is_told_as_well(world: World) -> None:
    await world.write(4)
    later = Generations().then(BEGUN, 1).then(NOW, 101)
    await world.redis.hset(keys.lease(0), "generations", later.encode())
    world.partition[FeedState].generations = later
    world.partition[FeedState].seqs[NAME] = 100
    await world.write(6)
    world.keep(Keeping(updates=3))
    await world.trimming.round()
    assert await world.numbers() == [104, 105, 106]
    frames = FeedFrames(
        WHO, settings=world.settings, catalog=Any, feeds=world.feeds, resets=world.resets,
        fold=None, generation=BEGUN,
    )  # type: ignore[arg-type]  # fmt: skip
    told = await follow(frames, 2, 106)
    assert [frame["type"] for frame in told] == [
        "hello", "truncated", "reset", "truncated", "update", "update", "update",
    ]  # fmt: skip
    assert [(f["from_seq"], f["to_seq"]) for f in told if f["type"] == "truncated"] == [
        (3, 100), (101, 103),
    ]  # fmt: skip
    reset = told[2]
    assert (reset["previous_generation"], reset["generation"], reset["missing"]) == (BEGUN, NOW, [])
    # by pages, the same
    page = await world.resets.page(WHO, 2, BEGUN, 10)
    assert list(page.told()) == ["truncated", "reset"]
    assert (page.updates, page.after) == ([], 100)
    page = await world.resets.page(WHO, page.after, NOW, 10)
    assert list(page.told()) == ["truncated"]
    assert [update["seq"] for update in page.updates] == [104, 105, 106]


async def lists(world: World) -> set[int]:
    """Numbers of digests of which there is a list of what they stand for."""
    return {int(key.rpartition(b":")[2]) async for key in world.redis.scan_iter("*folded*")}


async def follow(frames: FeedFrames, after: int, end: int) -> list[dict[str, Any]]:
    """All frames up to a number, as a socket sends them."""
    told = []
    while after < end:
        page = await frames.next(after)
        for reached, frame in page.frames:
            after = reached
            if frame:
                told.append(orjson.loads(frame))
    return told


async def test_a_client_that_reads_while_its_feed_is_trimmed_misses_nothing_untold(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trimming_module, "STEP", 5)
    monkeypatch.setattr(trimming_module, "STEPS", 1)
    world.settings = Settings(
        state_dir=world.settings.state_dir, partitions=1, feed_read_max_updates=4
    )
    world.feeds = Feeds(
        world.redis, world.scripts, world.settings, Durability(world.redis, "local")
    )
    world.resets = Resets(world.feeds, world.postgres)
    await world.write(200)
    world.keep(Keeping(updates=10))
    frames = FeedFrames(
        WHO, settings=world.settings, catalog=Any, feeds=world.feeds, resets=world.resets,
        fold=None, generation=None,
    )  # type: ignore[arg-type]  # fmt: skip
    told: list[dict[str, Any]] = []
    after = turn = 0
    while after < 200:
        turn += 1
        page = await frames.next(after)
        for reached, frame in page.frames:
            if frame:
                told.append(orjson.loads(frame))
            after = reached
        # what goes is a little more than what is read
        if turn % 3 == 0:
            for _ in range(2):
                await world.trimming.round()
    reached = 0
    for frame in told:
        if frame["type"] == "truncated":
            assert frame["from_seq"] == reached + 1
            reached = frame["to_seq"]
        else:
            assert (frame["type"], frame["seq"]) == ("update", reached + 1)
            reached = frame["seq"]
    assert reached == 200
    assert any(frame["type"] == "truncated" for frame in told)
    assert sum(frame["type"] == "update" for frame in told) > 10


async def test_retention_of_a_context_over_the_api(stack: Stack, name: str) -> None:
    await stack.context(name, {"provider": "none"})
    async with stack.session() as session:
        for wrong, reason in (
            ({"age": "59m"}, "from 1h to 3650d"),
            ({"age": "1w"}, "retention.age"),
            ({"updates": 0}, "retention.updates"),
            ({"acknowledged": "9999d"}, "at most 3650d"),
            ({"count": 3}, "retention.count"),
        ):
            body = {"retention": wrong}
            async with session.put(f"/api/v1/contexts/{name}", json=body) as response:
                assert response.status == 400
                assert reason in (await response.json())["detail"]
    sent = [await stack.hook(name, b'{"n": %d}' % n) for n in range(8)]
    await stack.updates(name, 8)
    kept = {"age": "30d", "updates": 3, "acknowledged": "7d"}
    shown = await stack.put(f"/contexts/{name}", {"name": name, "retention": kept})
    assert shown["retention"] == kept

    async def trimmed() -> bool:
        page = await stack.get(f"/contexts/{name}/updates", after="5")
        told = await stack.get(f"/contexts/{name}/updates")
        return "truncated" in told and len(page["updates"]) == 3

    # a changed rule counts at once
    await eventually(trimmed, "what is too much goes")

    async def recorded() -> bool:
        told = await stack.get(f"/contexts/{name}/updates", after="1")
        return bool(told["truncated"]["digest"]["events"] == 4)

    await eventually(recorded, "the event log knows what went")
    truncated, *updates = await stack.updates(name, 4, after=0)
    assert (truncated["type"], truncated["from_seq"], truncated["to_seq"]) == ("truncated", 1, 5)
    assert [update["seq"] for update in updates] == [6, 7, 8]
    digest = await stack.get(f"/contexts/{name}/digest")
    assert (digest["events"], digest["truncated"]["to_seq"]) == (3, 5)
    # what went is an event all the same
    assert (await stack.get(f"/events/{sent[0]}"))["deliveries"][0]["seq"] == 1
    shown = await stack.put(f"/contexts/{name}", {"name": name})
    assert shown["retention"] is None
