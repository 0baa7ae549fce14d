"""From warm to cold on real servers: nothing is deleted that is not stored, whatever fails."""

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hookstream.app.archive.archive import Archive
from hookstream.app.archive.objects import Objects
from hookstream.app.archive.rows import Place
from hookstream.app.archive_address import ArchiveAddress
from hookstream.app.errors import ArchiveDamagedError, FencedError, UnavailableError
from hookstream.app.ids import entry_order
from hookstream.app.lifecycle import cold as module
from hookstream.app.lifecycle.cold import ColdMover
from hookstream.app.lifecycle.verify import verify_warm
from hookstream.app.postgres.pool import Postgres
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.redis.memory import Pressure
from hookstream.app.routing.catalog import Catalog, Ttl
from hookstream.app.stores.tiers import COLD, GONE, WARM, Tiers, WarmEntry
from hookstream.codecs.envelope import decode_event, encode_event
from hookstream.codecs.warm_block import pack_block
from hookstream.testing import make_event
from tests.integration.lifecycle.test_warm import MINUTE, NOW, NUMBER, House, tool

HOUR = 60 * MINUTE


class ColdHouse(House):
    """One with an archive."""

    archive: Archive

    @property
    def tiers(self) -> Tiers:
        return Tiers(self.redis, self.scripts, self.archive)

    @property
    def cold(self) -> ColdMover:
        return ColdMover(
            self.redis,
            self.scripts,
            self.archive,
            catalog=lambda: Catalog(1, tools=self.tools),
            now_ms=lambda: self.now_ms,
            aside=self.aside,
        )

    async def fill(self, count: int = 100) -> None:
        """So many warm events of each tool, all of one hour."""
        for n in range(1, count + 1):
            await self.add("a", 2 * n)
            await self.add("b", 2 * n + 1)
        await self.work_off()
        self.now_ms += 2 * HOUR
        assert await self.move() == 2 * count

    async def archived(self, pressure: Pressure = Pressure.NONE, *, eager: bool = False) -> int:
        totals = await self.cold.move(self.partition, pressure, eager=eager)
        return totals.archived


@asynccontextmanager
async def cold_house(
    redis_client: Any, postgres_url: str, folder: Path
) -> AsyncIterator[ColdHouse]:
    """A partition that nobody has worked on, with an archive in ``folder``."""
    scripts = Scripts(redis_client)
    await scripts.load()
    await redis_client.hset(keys.lease(NUMBER), mapping={"epoch": 1, "nonce": "n"})
    await redis_client.xgroup_create(keys.events(NUMBER), keys.GROUP, id="0", mkstream=True)
    house = ColdHouse(redis_client, scripts)
    for name in "ab":
        house.tools[name] = tool(name, Ttl(10 * MINUTE, 5 * HOUR, 100 * HOUR))
    address = ArchiveAddress("file", "", str(folder))
    async with Postgres(postgres_url) as postgres:
        for table in ("archive_objects", "archive_covered", "archive_leftovers"):
            await postgres.execute(f"TRUNCATE {table} CASCADE")
        async with Archive(address, postgres, cache_bytes=1 << 24) as house.archive:
            yield house


@pytest.fixture
async def house(redis_client: Any, postgres_url: str, tmp_path: Path) -> AsyncIterator[ColdHouse]:
    async with cold_house(redis_client, postgres_url, tmp_path / "archive") as house:
        yield house


async def test_blocks_that_are_due_become_objects_and_go(house: ColdHouse) -> None:
    await house.fill()
    assert await house.archived() == 0
    assert set(await house.check()) == {WARM}
    house.now_ms += 5 * HOUR
    assert await house.archived() == 200
    assert set(await house.check()) == {COLD}
    assert await house.redis.keys("*warm*") == []
    assert (await house.archive.totals()).objects == 2


async def test_the_end_of_the_hour_is_waited_for_unless_somebody_asks(house: ColdHouse) -> None:
    house.now_ms = NOW // HOUR * HOUR + 50 * MINUTE
    await house.add("a", 1)
    house.now_ms += 5 * MINUTE
    await house.add("a", 2)
    await house.work_off()
    house.now_ms += 13 * MINUTE
    assert await house.move() == 2
    house.now_ms = NOW // HOUR * HOUR + 55 * MINUTE + 10 * MINUTE + 5 * HOUR
    mover = house.cold
    totals = await mover.move(house.partition, Pressure.NONE)
    assert (totals.archived, totals.events) == (0, 2)
    assert totals.due_since_ms == house.now_ms
    assert await house.archived(eager=True) == 2
    assert await house.check() == [COLD] * 2


async def test_an_hour_with_much_in_it_is_not_waited_for(
    house: ColdHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.tools["a"] = tool("a", Ttl(MINUTE, MINUTE, 100 * HOUR))
    house.now_ms = NOW // HOUR * HOUR
    for n in range(1, 101):
        await house.add("a", n)
    await house.work_off()
    house.now_ms += 3 * MINUTE
    await house.move()
    assert await house.archived() == 0
    monkeypatch.setattr(module, "WORTH_AN_OBJECT", 1)
    assert await house.archived() == 100


async def test_under_pressure_blocks_go_at_once(house: ColdHouse) -> None:
    await house.fill()
    assert await house.archived(Pressure.STRAIGHT) == 200
    assert set(await house.check()) == {COLD}


@pytest.mark.parametrize("step", ["covered", "store_blocks", "before dropping"])
async def test_whoever_crashes_loses_nothing_and_stores_nothing_twice(
    house: ColdHouse, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.fill()
    house.now_ms += 5 * HOUR

    class CrashError(BaseException):
        pass

    async def crash(*_: Any, **__: Any) -> Any:
        raise CrashError

    with monkeypatch.context() as patched:
        if step == "before dropping":
            call = house.scripts.call

            async def not_dropping(name: str, *rest: Any) -> Any:
                return await (crash() if name == "drop_warm" else call(name, *rest))

            patched.setattr(house.scripts, "call", not_dropping)
        else:
            patched.setattr(house.archive, step, crash)
        with pytest.raises(CrashError):
            await house.archived()
        assert len(await house.check()) == 200
    # more is due by now: it is made of other blocks
    house.now_ms += HOUR
    assert await house.archived() == 200
    assert set(await house.check()) == {COLD}
    assert (await house.archive.totals()).events == 200
    assert [difference async for difference in house.archive.verify()] == []


async def test_while_the_archive_is_away_blocks_stay(
    house: ColdHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.fill()
    house.now_ms += 5 * HOUR

    async def away(*_: Any) -> None:
        raise UnavailableError("no bucket")

    with monkeypatch.context() as patched:
        patched.setattr(Objects, "put", away)
        with pytest.raises(UnavailableError):
            await house.archived()
        assert set(await house.check()) == {WARM}
        left = await house.cold.left(house.partition, Pressure.NONE)
        due_ms = min(entry_order(place.entry_id)[0] for place in house.sent) + 5 * HOUR
        assert (left.events, left.archived) == (200, 0)
        # each tool's blocks are due with their last one's hot and warm time
        assert left.due_since_ms is not None
        assert due_ms < left.due_since_ms <= house.now_ms
    assert await house.archived() == 200
    left = await house.cold.left(house.partition, Pressure.NONE)
    assert (left.events, left.due_since_ms) == (0, None)


async def test_what_is_not_read_back_as_it_was_written_is_not_deleted(
    house: ColdHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.fill()
    house.now_ms += 5 * HOUR
    put = Objects.put

    async def damaging(self: Objects, name: str, data: bytes) -> None:
        await put(self, name, data[:-40] + b"x" * 40 if "tool=a" in name else data)

    with monkeypatch.context() as patched:
        patched.setattr(Objects, "put", damaging)
        # the other tool's are stored
        assert await house.archived() == 100
        assert sorted(set(await house.check())) == [COLD, WARM]
    assert await house.archived() == 100
    assert set(await house.check()) == {COLD}


async def test_a_damaged_block_stays_alone_and_verify_names_it(house: ColdHouse) -> None:
    await house.fill()
    index = keys.warm_index(NUMBER, "default", "a")
    [member] = await house.redis.zrange(index, 0, -1)
    name = keys.warm_block(NUMBER, "default", "a", member.decode().split(":")[1])
    block = await house.redis.get(name)
    await house.redis.set(name, block[:-9] + b"\0" * 9)
    assert len((await verify_warm(house.redis, NUMBER)).differences) == 1
    house.now_ms += 5 * HOUR
    assert await house.archived() == 100
    assert await house.redis.exists(name)
    await house.redis.set(name, block)
    assert (await verify_warm(house.redis, NUMBER)).differences == []
    assert await house.archived() == 100
    assert set(await house.check()) == {COLD}


async def test_a_block_that_is_lost_leaves_the_index(house: ColdHouse) -> None:
    await house.fill()
    [first, last] = [place.entry_id for place in house.sent if place.tool_id == "a"][::99]
    index = keys.warm_index(NUMBER, "default", "a")
    [member] = await house.redis.zrange(index, 0, -1)
    await house.redis.delete(keys.warm_block(NUMBER, "default", "a", member.decode().split(":")[1]))
    assert "not there" in (await verify_warm(house.redis, NUMBER)).differences[0]
    house.now_ms += 5 * HOUR
    await house.archived()
    assert await house.redis.zcard(index) == 0
    # nobody is told that the archive has what was in it
    assert await house.archive.covered("default", "a", NUMBER, [(first, last)]) == [False]


async def add_block(house: ColdHouse, entries: list[str], tool_id: str = "a") -> WarmEntry:
    """A warm block of new events that have these entries."""
    events = []
    for at, entry in enumerate(entries):
        payload = b'{"late": %d}' % at
        event = make_event(payload, number=9000 + at, tool_id=tool_id)
        events.append((entry, [encode_event(event)]))
        house.sent[Place("default", tool_id, NUMBER, entry)] = payload
    data = pack_block(events)
    block = WarmEntry(entries[0], entries[-1], len(entries), len(data))
    await house.redis.set(keys.warm_block(NUMBER, "default", tool_id, block.last), data)
    index = keys.warm_index(NUMBER, "default", tool_id)
    await house.redis.zadd(index, {block.encode(): block.last_ms})
    await house.redis.sadd(keys.warm_tools(NUMBER), f"default/{tool_id}")
    return block


async def test_what_is_covered_and_not_in_the_archive_is_stored_before_its_block_goes(
    house: ColdHouse, caplog: pytest.LogCaptureFixture
) -> None:
    await house.fill(10)
    house.now_ms += 5 * HOUR
    assert await house.archived() == 20
    # between entries of a block that has been archived: one that stayed in its stream until now
    await add_block(house, [f"{NOW}-3", f"{NOW}-5"])
    assert await house.archived() == 2
    assert "2 of 2 events" in caplog.text
    assert set(await house.check()) == {COLD}
    totals = await house.archive.totals()
    assert totals.events == 22
    # once more, as after a crash: all is there
    await add_block(house, [f"{NOW}-3", f"{NOW}-5"])
    assert await house.archived() == 2
    assert await house.archive.totals() == totals
    # one that is covered in part only
    await add_block(house, [f"{NOW}-7", f"{NOW}-30"])
    assert await house.archived() == 2
    assert set(await house.check()) == {COLD}
    assert (await house.archive.totals()).events == 24
    assert [difference async for difference in house.archive.verify()] == []


async def test_a_covered_block_stays_while_the_archive_cannot_say_whether_it_has_it(
    house: ColdHouse, caplog: pytest.LogCaptureFixture
) -> None:
    await house.fill(10)
    house.now_ms += 5 * HOUR
    assert await house.archived() == 20
    folder = Path(house.archive.address.path)
    [of_a] = folder.rglob("*tool=a*/**/*.parquet")
    of_a.write_bytes(of_a.read_bytes()[:-100])
    block = await add_block(house, [f"{NOW}-3"])
    assert await house.archived() == 0
    name = keys.warm_block(NUMBER, "default", "a", block.last)
    assert await house.redis.exists(name)
    assert f"the warm block {name} cannot be archived and stays" in caplog.text


async def test_a_block_that_cannot_be_archived_stops_no_other_of_its_tool(
    house: ColdHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.fill(10)
    index = keys.warm_index(NUMBER, "default", "a")
    # of the hour before, and one of the same: an envelope without an id
    for entry in (f"{NOW - HOUR}-1", f"{NOW - 1}-1"):
        data = pack_block([(entry, [b""])])
        block = WarmEntry(entry, entry, 1, len(data))
        await house.redis.set(keys.warm_block(NUMBER, "default", "a", entry), data)
        await house.redis.zadd(index, {block.encode(): block.last_ms})
    house.now_ms += 5 * HOUR
    assert await house.archived() == 20
    assert await house.redis.zcard(index) == 2
    assert set(await house.check()) == {COLD}


async def test_whatever_is_the_matter_with_a_tool_others_go_on(
    house: ColdHouse, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await house.fill(10)
    house.now_ms += 5 * HOUR
    await house.redis.sadd(keys.warm_tools(NUMBER), "default/0", "default/1")
    await house.redis.set(keys.warm_index(NUMBER, "default", "0"), "no index")
    await house.redis.zadd(keys.warm_index(NUMBER, "default", "1"), {"no block": 1})
    store = house.archive.store_blocks

    async def failing(tenant: str, tool_id: str, *rest: Any) -> Any:
        if tool_id == "a":
            raise KeyError("a bug")
        return await store(tenant, tool_id, *rest)

    monkeypatch.setattr(house.archive, "store_blocks", failing)
    mover = house.cold
    for _ in range(2):
        await mover.move(house.partition, Pressure.NONE)
    assert sorted(set(await house.check())) == [COLD, WARM]
    # with its traceback once
    assert caplog.text.count("KeyError: 'a bug'") == 1


async def test_an_object_is_made_of_a_bounded_number_of_blocks(
    house: ColdHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(40):
        await add_block(house, [f"{NOW}-{n}"])
    house.now_ms = NOW + 6 * HOUR + 10 * MINUTE
    given = []
    store = house.archive.store_blocks

    async def counting(tenant: str, tool_id: str, number: int, blocks: Any, *rest: Any) -> Any:
        given.append(len(blocks))
        return await store(tenant, tool_id, number, blocks, *rest)

    monkeypatch.setattr(house.archive, "store_blocks", counting)
    assert await house.archived() == 40
    assert given == [8, 8, 8, 8, 8]


async def test_events_that_leave_early_wait_for_the_end_of_their_hour_too(
    house: ColdHouse,
) -> None:
    begin = NOW // HOUR * HOUR
    house.tools["a"] = tool("a", Ttl(4 * MINUTE, 4 * MINUTE, 100 * HOUR))
    await add_block(house, [f"{begin}-1"])
    house.now_ms = begin + 10 * MINUTE
    assert await house.archived(Pressure.EARLY) == 0
    house.now_ms = begin + HOUR + 2 * MINUTE
    assert await house.archived(Pressure.EARLY) == 1


async def test_an_index_that_is_what_it_was_is_not_read_whole_again(house: ColdHouse) -> None:
    await house.fill(10)
    mover = house.cold
    first = await mover.move(house.partition, Pressure.NONE)
    assert first.events == 20
    await house.redis.config_resetstat()
    assert await mover.move(house.partition, Pressure.NONE) == first
    # of each tool its first and last block
    assert (await house.redis.info("commandstats"))["cmdstat_zrange"]["calls"] == 4
    await add_block(house, [f"{NOW + 1}-1"])
    assert (await mover.move(house.partition, Pressure.NONE)).events == 21


async def test_a_tool_of_anothers_has_no_say_in_what_is_kept(house: ColdHouse) -> None:
    await house.fill(10)
    house.now_ms += 5 * HOUR
    await house.archived()
    house.tools["a"] = dataclasses.replace(tool("a", Ttl(MINUTE, MINUTE, MINUTE)), tenant="another")
    event = decode_event((await house.tiers.envelopes(list(house.sent)[:1]))[0] or b"")
    house.now_ms = event.received_at_ms + HOUR
    assert await house.cold.expire(lambda *_: True) == 0
    assert set(await house.check()) == {COLD}


async def test_a_damaged_object_does_not_keep_others_from_being_put_together(
    house: ColdHouse, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(3):
        for tool_id in "ab":
            # more of the one that is damaged, so that it is the first to be looked at
            if tool_id == "a" or n:
                await add_block(house, [f"{NOW + n}-1"], tool_id)
                house.now_ms = NOW + 10 * HOUR
                assert await house.archived() == 1
    folder = Path(house.archive.address.path)
    of_a = next(iter(folder.rglob("*tool=a*/**/*.parquet")))
    of_a.write_bytes(of_a.read_bytes()[:-100])
    [data] = await house.tiers.envelopes([p for p in house.sent if p.tool_id == "b"][:1])
    house.now_ms = decode_event(data or b"").received_at_ms + 48 * HOUR
    assert await house.cold.compact() == 2
    assert "stay as they are" in caplog.text
    assert await house.cold.compact() == 0


async def test_a_stale_owner_deletes_nothing(house: ColdHouse) -> None:
    await house.fill()
    house.now_ms += 5 * HOUR
    await house.redis.hset(keys.lease(NUMBER), "epoch", 2)
    with pytest.raises(FencedError):
        await house.archived()
    assert set(await house.check()) == {WARM}


async def test_what_is_over_is_gone_and_its_neighbours_are_not(house: ColdHouse) -> None:
    await house.fill()
    house.now_ms += 5 * HOUR
    await house.archived()
    house.tools["a"] = tool("a", Ttl(10 * MINUTE, 5 * HOUR, MINUTE))
    assert await house.cold.expire(lambda *_: False) == 0
    # the time that counts in the archive is that at which events were received
    event = decode_event((await house.tiers.envelopes(list(house.sent)[:1]))[0] or b"")
    house.now_ms = event.received_at_ms + 6 * HOUR
    assert await house.cold.expire(lambda *_: True) == 100
    places = list(house.sent)
    tiers = await house.tiers.tiers(places)
    assert {(place.tool_id, tier) for place, tier in zip(places, tiers, strict=True)} == {
        ("a", GONE),
        ("b", COLD),
    }


async def test_damage_in_the_archive_is_said_and_stops_nobody(house: ColdHouse) -> None:
    await house.fill(10)
    house.now_ms += 6 * HOUR
    await house.archived()
    folder = Path(house.archive.address.path)
    [of_a] = folder.rglob("*tool=a*/**/*.parquet")
    of_a.write_bytes(of_a.read_bytes()[:-100])
    mine = [place for place in house.sent if place.tool_id == "a"]
    with pytest.raises(ArchiveDamagedError):
        await house.tiers.envelopes(mine)
    others = [place for place in house.sent if place.tool_id == "b"]
    assert None not in await house.tiers.envelopes(others)
