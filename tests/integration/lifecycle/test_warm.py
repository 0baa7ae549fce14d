"""From hot to warm on a real server: everything is found in every state, nothing goes too early."""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from hookstream.app.archive.rows import Place
from hookstream.app.bounded import Aside
from hookstream.app.errors import FencedError
from hookstream.app.lifecycle import warm as module
from hookstream.app.lifecycle.warm import WarmMover
from hookstream.app.payloads.dictionaries import Dictionaries
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.redis.memory import Pressure
from hookstream.app.routing.catalog import Catalog, Tool, Ttl
from hookstream.app.stores.tiers import GONE, HOT, WARM, Tiers
from hookstream.app.streams.partition import Partition
from hookstream.codecs.envelope import decode_event, encode_event, take_out_payload
from hookstream.codecs.errors import CodecError
from hookstream.codecs.payload import Packing
from hookstream.testing import make_event

NUMBER = 3
NOW = 1_700_000_000_000
MINUTE = 60_000


def tool(name: str, ttl: Ttl) -> Tool:
    return Tool(name, "default", "none", (), None, "none", (), 0, "tool", "", ttl=ttl)  # type: ignore[arg-type]


class House:
    """A partition with its stream, whose time and tools a test sets."""

    def __init__(self, redis: Any, scripts: Scripts) -> None:
        self.redis = redis
        self.scripts = scripts
        self.now_ms = NOW
        self.tools = {"a": tool("a", Ttl(10 * MINUTE)), "b": tool("b", Ttl(60 * MINUTE))}
        self.partition = Partition(NUMBER, 1, "n")
        dictionaries = Dictionaries(redis, None, None, enabled=False)  # type: ignore[arg-type]
        self.payloads = Payloads(redis, dictionaries, Packing())
        self.sent: dict[Place, bytes] = {}
        self.unsettled: dict[str, str] = {}
        #: Where packing is done; None: in threads.
        self.aside: Aside | None = None
        self.restart()

    def restart(self) -> None:
        """Another worker, which knows nothing."""
        self.mover = WarmMover(
            self.redis,
            self.scripts,
            self.payloads,
            settled=self.settled,
            catalog=lambda: Catalog(1, tools=self.tools),
            now_ms=lambda: self.now_ms,
            aside=self.aside,
        )

    async def settled(self, event_ids: Sequence[str]) -> dict[str, str]:
        """In place of the event log: all but ``unsettled`` are done with their last entry."""
        return {
            decode_event(fields[b"d"]).event_id: entry.decode()
            for entry, fields in await self.redis.xrange(keys.events(NUMBER))
            if self.readable(fields[b"d"])
        } | self.unsettled

    @staticmethod
    def readable(data: bytes) -> bool:
        try:
            return bool(decode_event(data))
        except CodecError:
            return False

    @property
    def tiers(self) -> Tiers:
        return Tiers(self.redis, self.scripts)

    async def add(self, tool_id: str, n: int, *, blob: bool = False, **fields: Any) -> Place:
        """An event that comes now."""
        payload = b'{"n": %d, "text": "%s"}' % (n, b"lorem ipsum " * (n % 50))
        event = make_event(payload, number=n, tool_id=tool_id, **fields)
        data = self.payloads.encode(event)
        if blob:
            stream = keys.events(NUMBER)
            data, name, content = take_out_payload(data, lambda e: keys.blob(stream, e))
            await self.redis.set(name, content)
        entry = await self.redis.xadd(keys.events(NUMBER), {"d": data}, id=f"{self.now_ms}-{n}")
        place = Place("default", tool_id, NUMBER, entry.decode())
        self.sent[place] = payload
        return place

    async def work_off(self, count: int | None = None, group: str = keys.GROUP) -> None:
        """Have a group read and acknowledge."""
        if count == 0:
            return
        found = await self.redis.xreadgroup(group, "w", {keys.events(NUMBER): ">"}, count=count)
        for _, entries in found:
            await self.redis.xack(keys.events(NUMBER), group, *(entry for entry, _ in entries))

    async def move(self, pressure: Pressure = Pressure.NONE) -> int:
        return await self.mover.move(self.partition, pressure)

    async def check(self) -> list[str]:
        """All that was sent is there as it came; in which tier, in its order."""
        places = list(self.sent)
        found = await self.tiers.envelopes(places)
        for place, data in zip(places, found, strict=True):
            assert data is not None, place
            event = decode_event(data)
            [opened] = await self.payloads.open([event])
            assert opened is not None
            assert opened.payload == self.sent[place]
            assert opened.tool_id == place.tool_id
        return await self.tiers.tiers(places)


@pytest.fixture
async def house(redis_client: Any) -> House:
    scripts = Scripts(redis_client)
    await scripts.load()
    await redis_client.hset(keys.lease(NUMBER), mapping={"epoch": 1, "nonce": "n"})
    await redis_client.xgroup_create(keys.events(NUMBER), keys.GROUP, id="0", mkstream=True)
    return House(redis_client, scripts)


async def test_what_is_due_moves_and_what_is_not_stays(house: House) -> None:
    for n in range(100):
        await house.add("a", 2 * n + 1)
        await house.add("b", 2 * n + 2)
    await house.work_off()
    assert await house.move() == 0
    house.now_ms += 10 * MINUTE
    assert await house.move() == 100
    assert await house.check() == [WARM, HOT] * 100
    house.now_ms += 50 * MINUTE
    assert await house.move() == 100
    assert await house.check() == [WARM, WARM] * 100
    assert await house.redis.xlen(keys.events(NUMBER)) == 0
    assert await house.redis.smembers(keys.warm_tools(NUMBER)) == {b"default/a", b"default/b"}


async def test_a_few_wait_for_others_but_not_for_long(house: House) -> None:
    await house.add("a", 1)
    await house.work_off()
    house.now_ms += 10 * MINUTE
    assert await house.move() == 0
    assert house.mover.due_since == {NUMBER: NOW + 10 * MINUTE}
    house.now_ms += 3 * MINUTE
    assert await house.move() == 1
    assert await house.check() == [WARM]
    assert house.mover.due_since == {}


@pytest.mark.parametrize("pending", [1, 37, 100])
async def test_nothing_goes_that_a_group_still_needs(house: House, pending: int) -> None:
    for n in range(1, 101):
        await house.add("a", n)
    await house.work_off(pending - 1)
    house.now_ms += 60 * MINUTE
    assert await house.move() == pending - 1
    # one of the rest was read and is not acknowledged
    await house.redis.xreadgroup(keys.GROUP, "w", {keys.events(NUMBER): ">"}, count=1)
    assert await house.move() == 0
    await house.work_off()
    assert await house.move() == 0
    assert await house.check() == [WARM] * (pending - 1) + [HOT] * (101 - pending)


async def test_nothing_goes_that_another_group_still_needs(house: House) -> None:
    await house.redis.xgroup_create(keys.events(NUMBER), "own", id="0")
    for n in range(1, 101):
        await house.add("a", n)
    await house.work_off()
    house.now_ms += 60 * MINUTE
    assert await house.move() == 0
    await house.work_off(30, "own")
    assert await house.move() == 30
    await house.check()


async def test_an_entry_that_is_pending_again_stays(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(1, 101):
        await house.add("a", n)
    await house.work_off()
    house.now_ms += 60 * MINUTE

    async def of_before(*_: Any) -> str:
        return f"{house.now_ms}-0"

    monkeypatch.setattr(module, "done_until", of_before)
    await house.redis.xgroup_setid(keys.events(NUMBER), keys.GROUP, f"{NOW}-50")
    assert await house.move() == 0
    assert await house.check() == [HOT] * 100
    await house.work_off()
    assert await house.move() == 100
    assert await house.check() == [WARM] * 100


async def test_a_stale_owner_moves_nothing(house: House) -> None:
    for n in range(1, 101):
        await house.add("a", n)
    await house.work_off()
    house.now_ms += 60 * MINUTE
    await house.redis.hset(keys.lease(NUMBER), "epoch", 2)
    with pytest.raises(FencedError):
        await house.move()
    assert await house.check() == [HOT] * 100


async def test_what_is_not_on_record_yet_stays(house: House) -> None:
    await house.redis.xgroup_create(keys.audit(NUMBER), keys.GROUP, id="0", mkstream=True)
    await house.add("a", 1)
    await house.work_off()
    entry = await house.redis.xadd(keys.audit(NUMBER), {"d": b"said"})
    house.now_ms += 60 * MINUTE
    assert await house.move() == 0
    # what comes meanwhile is not waited for
    await house.redis.xreadgroup(keys.GROUP, "w", {keys.audit(NUMBER): ">"})
    await house.redis.xack(keys.audit(NUMBER), keys.GROUP, entry)
    await house.redis.xadd(keys.audit(NUMBER), {"d": b"more"})
    assert await house.move() == 1
    assert await house.check() == [WARM]


async def test_large_payloads_come_along_and_their_blobs_go(house: House) -> None:
    place = await house.add("a", 45, blob=True)
    event = make_event(house.sent[place], number=45, tool_id="a")
    name = keys.blob(keys.events(NUMBER), event.event_id)
    assert await house.redis.exists(name)
    await house.work_off()
    house.now_ms += 60 * MINUTE
    assert await house.move() == 1
    assert not await house.redis.exists(name)
    assert await house.check() == [WARM]


async def test_a_lost_blob_holds_up_nobody(house: House) -> None:
    lost = await house.add("a", 1, blob=True)
    await house.add("a", 2)
    event = make_event(house.sent.pop(lost), number=1)
    await house.redis.delete(keys.blob(keys.events(NUMBER), event.event_id))
    await house.work_off()
    house.now_ms += 60 * MINUTE
    assert await house.move() == 2
    assert await house.check() == [WARM]
    [kept] = await house.tiers.envelopes([lost])
    assert kept is not None
    assert decode_event(kept).event_id == event.event_id


async def test_replays_and_garbage_go_and_a_newer_version_stays(house: House) -> None:
    replay = await house.add("a", 1, replay_id="r")
    house.sent.pop(replay)
    stream = keys.events(NUMBER)
    await house.redis.xadd(stream, {"d": b"\xff\xff"}, id=f"{NOW}-2")
    newer = b"\x08\x63" + encode_event(make_event(b"{}", number=3))[2:]
    await house.redis.xadd(stream, {"d": newer}, id=f"{NOW}-3")
    kept = await house.add("a", 4)
    await house.work_off()
    house.now_ms += 180 * MINUTE
    assert await house.move() == 3
    assert [entry for entry, _ in await house.redis.xrange(stream)] == [f"{NOW}-3".encode()]
    assert await house.tiers.tiers([replay, kept]) == [GONE, WARM]


async def test_notes_of_imported_events_go(house: House) -> None:
    note = await house.add("a", 1, is_note=True)
    house.sent.pop(note)
    kept = await house.add("a", 2)
    await house.work_off()
    house.now_ms += 180 * MINUTE
    assert await house.move() == 2
    assert await house.tiers.tiers([note, kept]) == [GONE, WARM]


async def test_a_tools_block_is_of_one_hour(house: House) -> None:
    first = NOW // 3_600_000 * 3_600_000 + 3_600_000 - 2
    for n in range(1, 5):
        house.now_ms = first + n - 1
        await house.add("a", n)
    await house.work_off()
    house.now_ms += 60 * MINUTE
    await house.move()
    index = await house.redis.zrange(keys.warm_index(NUMBER, "default", "a"), 0, -1)
    assert [member.decode().split(":")[:3] for member in index] == [
        [f"{first}-1", f"{first + 1}-2", "2"],
        [f"{first + 2}-3", f"{first + 3}-4", "2"],
    ]
    await house.check()


async def test_an_unreadable_tools_events_stay_and_a_deleted_ones_have_the_defaults(
    house: House,
) -> None:
    await house.add("broken", 1)
    await house.add("deleted", 2)
    await house.work_off()
    house.now_ms += 180 * MINUTE
    house.mover = WarmMover(
        house.redis,
        house.scripts,
        house.payloads,
        settled=house.settled,
        catalog=lambda: Catalog(1, unreadable_tools=frozenset({"broken"})),
        now_ms=lambda: house.now_ms,
    )
    assert await house.move() == 1
    assert await house.check() == [HOT, WARM]


async def test_under_pressure_events_leave_earlier(house: House) -> None:
    for n in range(1, 101):
        await house.add("b", n)
    await house.work_off()
    assert await house.move(Pressure.EARLY) == 0
    house.now_ms += 15 * MINUTE
    assert await house.move() == 0
    assert await house.move(Pressure.EARLY) == 100
    await house.add("b", 101)
    await house.work_off()
    house.now_ms += 1
    assert await house.move(Pressure.STRAIGHT) == 1
    assert await house.check() == [WARM] * 101


async def test_a_shorter_time_counts_for_what_is_there(house: House) -> None:
    for n in range(1, 101):
        await house.add("b", n)
    await house.work_off()
    house.now_ms += 10 * MINUTE
    assert await house.move() == 0
    house.tools["b"] = tool("b", Ttl(5 * MINUTE))
    assert await house.move() == 100
    assert await house.check() == [WARM] * 100


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_happens_everything_is_found(
    house: House, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events come, groups work them off, time and its rules change, workers come and crash."""
    chance = random.Random(seed)
    monkeypatch.setattr(module, "PAGE", chance.choice([1, 3, 128]))
    monkeypatch.setattr(module, "LOOK_ENTRIES", chance.choice([5, 8192]))
    monkeypatch.setattr(module, "WORTH_A_BLOCK", chance.choice([1, 5, 64]))
    monkeypatch.setattr(module, "BLOCK_EVENTS", chance.choice([2, 10, 512]))
    n = 0
    for _ in range(60):
        match chance.randrange(7):
            case 0 | 1:
                for _ in range(chance.randrange(1, 12)):
                    n += 1
                    house.now_ms += chance.choice([0, 1, 1000])
                    await house.add(chance.choice("ab"), n, blob=chance.random() < 0.1)
            case 2:
                await house.work_off(chance.choice([1, 5, None]))
            case 3:
                house.now_ms += chance.randrange(40 * MINUTE)
            case 4:
                times = (MINUTE, 10 * MINUTE, 60 * MINUTE)
                house.tools["b"] = tool("b", Ttl(chance.choice(times)))
            case 5:
                house.restart()
            case 6:
                before = await house.redis.xpending(keys.events(NUMBER), keys.GROUP)
                await house.move(chance.choice([Pressure.NONE, Pressure.EARLY]))
                after = await house.redis.xpending(keys.events(NUMBER), keys.GROUP)
                assert before == after
        await house.check()
    await house.work_off()
    house.now_ms += 10 * 60 * MINUTE
    while await house.move():
        pass
    await house.move()
    assert set(await house.check()) <= {WARM}


async def test_no_block_goes_over_an_entry_that_stays(house: House) -> None:
    """Its range is what the archive takes for whole."""
    for n in range(1, 51):
        await house.add("a", n)
    newer = b"\x08\x63" + encode_event(make_event(b"{}", number=51))[2:]
    await house.redis.xadd(keys.events(NUMBER), {"d": newer}, id=f"{NOW}-51")
    for n in range(52, 101):
        await house.add("a", n)
    await house.work_off()
    house.now_ms += 60 * MINUTE
    assert await house.move() == 99
    index = await house.redis.zrange(keys.warm_index(NUMBER, "default", "a"), 0, -1)
    assert [member.decode().split(":")[:2] for member in index] == [
        [f"{NOW}-1", f"{NOW}-50"],
        [f"{NOW}-52", f"{NOW}-100"],
    ]


async def test_many_blocks_of_one_millisecond_are_all_found(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_EVENTS", 2)
    for n in range(1, 81):
        await house.add("a", n)
    await house.work_off()
    house.now_ms += 60 * MINUTE
    assert await house.move() == 80
    assert await house.redis.zcard(keys.warm_index(NUMBER, "default", "a")) == 40
    assert await house.check() == [WARM] * 80


async def test_the_blob_of_an_event_that_comes_again_stays_until_its_last_entry_goes(
    house: House,
) -> None:
    first = await house.add("a", 45, blob=True)
    event = make_event(house.sent[first], number=45, tool_id="a")
    name = keys.blob(keys.events(NUMBER), event.event_id)
    house.unsettled[event.event_id] = "it is tried again"
    await house.work_off()
    house.now_ms += 60 * MINUTE
    assert await house.move() == 1
    assert 0 < await house.redis.pttl(name) <= module.FAILED_BLOB_MS
    # the same bytes, appended for its next attempt
    data, _, _ = take_out_payload(house.payloads.encode(event), lambda _: name)
    again = f"{house.now_ms}-7"
    await house.redis.xadd(keys.events(NUMBER), {"d": data}, id=again)
    house.sent[Place("default", "a", NUMBER, again)] = house.sent[first]
    house.unsettled.clear()
    await house.work_off()
    assert await house.check() == [WARM, HOT]
    house.now_ms += 60 * MINUTE
    assert await house.move() == 1
    assert not await house.redis.exists(name)
    assert await house.check() == [WARM, WARM]


async def test_what_could_not_be_packed_is_looked_at_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(1, 101):
        await house.add("ab"[n % 2], n)
    house.tools["b"] = tool("b", Ttl(10 * MINUTE))
    await house.work_off()
    house.now_ms += 60 * MINUTE
    packed = house.mover.packed

    async def failing(wanted: Any, name: str) -> bytes:
        if wanted[0].kept.tool_id == "a":
            raise CodecError("made up")
        return await packed(wanted, name)

    with monkeypatch.context() as patched:
        patched.setattr(house.mover, "packed", failing)
        assert await house.move() == 50
        assert await house.move() == 0
        assert house.mover.due_since == {NUMBER: NOW + 10 * MINUTE}
    assert await house.move() == 50
    assert await house.check() == [WARM] * 100


async def test_each_copy_of_an_event_gets_the_payload_that_has_moved(house: House) -> None:
    event = make_event(b'{"n": 1}', number=1)
    name = keys.blob(keys.events(NUMBER), event.event_id)
    data, _, _ = take_out_payload(encode_event(event), lambda _: name)

    async def elsewhere(event_ids: Sequence[str]) -> dict[str, bytes]:
        return dict.fromkeys(event_ids, event.payload)

    house.payloads.elsewhere = elsewhere
    both = [decode_event(data), decode_event(data)]
    assert [one and one.payload for one in await house.payloads.open(both)] == [event.payload] * 2
