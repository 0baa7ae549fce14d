"""Appending in groups on a real server: in which order, in how many commands, what is refused."""

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hookstream.app.errors import UnavailableError
from hookstream.app.ids import new_event_id
from hookstream.app.ingest.appender import DRAIN_PAGE, MAX_FLUSH, Append, Appender
from hookstream.app.ingest.backpressure import Backlog
from hookstream.app.ingest.spool import Spool
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts, connect
from hookstream.app.redis.durability import Durability
from hookstream.app.testing import make_event
from hookstream.codecs.envelope import decode_event, encode_event
from tests.support.faults import full_disk
from tests.support.proxy import Proxy
from tests.support.servers import Node
from tests.support.stack import eventually

CLAIM_CHECK_BYTES = 2000


@asynccontextmanager
async def appending(
    folder: Path, most: int = 0, proxy: Proxy | None = None, *, receives: bool = True
) -> AsyncIterator[tuple[Any, Appender]]:
    """An appender on a server of its own, behind ``proxy`` where there is one."""
    node = Node(folder)
    node.start()
    try:
        async with appending_to(node, folder, most, proxy, receives=receives) as found:
            yield found
    finally:
        node.kill()


@asynccontextmanager
async def appending_to(
    node: Node,
    folder: Path,
    most: int = 0,
    proxy: Proxy | None = None,
    *,
    receives: bool = True,
    spool_bytes: int = 1 << 20,
) -> AsyncIterator[tuple[Any, Appender]]:
    if proxy is not None:
        proxy.target = node.port
    client = connect(proxy.url if proxy else node.url, timeout_seconds=3)
    backlog = Backlog(client, most)
    appender = Appender(
        client,
        Durability(client, "local"),
        Scripts(client),
        folder / "spool",
        spool_bytes,
        claim_check_bytes=CLAIM_CHECK_BYTES,
        backlog=backlog,
        receives=receives,
    )
    try:
        async with backlog, appender:
            yield client, appender
    finally:
        await client.aclose()


def envelope(number: int, *, large: bool = False) -> bytes:
    event = make_event({"n": number, "text": "x" * (3000 if large else 10)})
    return encode_event(replace(event, event_id=new_event_id(number, 0, number)))


async def numbers(client: Any, key: str) -> list[int]:
    """What is in a stream, in its order; payloads beside it are fetched."""
    found = []
    for _, fields in await client.xrange(key):
        event = decode_event(fields[b"d"])
        if event.stored and event.stored.blob:
            event.stored.data = await client.get(event.stored.blob)
        found.append(event.data()["n"])
    return found


async def test_a_flush_keeps_each_stream_s_order_large_ones_among_them(tmp_path: Path) -> None:
    async with appending(tmp_path) as (client, appender):
        wanted: dict[str, list[int]] = {keys.events(0): [], keys.events(1): []}
        waiting = []
        for number in range(60):
            key = keys.events(number % 3 % 2)
            wanted[key].append(number)
            waiting.append(appender.append(key, envelope(number, large=number % 7 == 3)))
        await asyncio.gather(*waiting)
        for key, expected in wanted.items():
            assert await numbers(client, key) == expected
        calls = (await client.info("commandstats")).get("cmdstat_eval", {}).get("calls", 0)
        # the groups between the large ones, and those; not a command an entry
        assert 9 <= calls < 40


async def test_a_stream_that_refuses_holds_up_itself_only(tmp_path: Path) -> None:
    async with appending(tmp_path) as (client, appender):
        await client.set(keys.events(1), "not a stream")
        await asyncio.gather(*(appender.append(keys.events(n % 2), envelope(n)) for n in range(20)))
        assert await numbers(client, keys.events(0)) == list(range(0, 20, 2))
        assert appender.spool is not None
        assert appender.spool.entries == 10
        # once it takes entries again, what was spooled comes in its order
        await client.delete(keys.events(1))
        async with asyncio.timeout(10):
            while appender.spool.entries:
                await asyncio.sleep(0.01)
        assert await numbers(client, keys.events(1)) == list(range(1, 20, 2))


@pytest.mark.parametrize("together", [False, True])
async def test_no_entry_comes_before_one_that_was_refused(tmp_path: Path, together: bool) -> None:
    """A large one takes another command than a small one, and rights may tell them apart."""
    async with appending(tmp_path) as (client, appender):
        key = keys.events(0)
        await client.execute_command("ACL", "SETUSER", "default", "-eval")
        waiting = [appender.append(key, envelope(n, large=n % 3 == 0)) for n in range(20)]
        if together:
            await asyncio.gather(*waiting)
        else:
            for one in waiting:
                await one

        async def drained_in_vain() -> bool:
            assert appender.spool is not None
            return any(appender.spool.in_doubt(entry) for entry in appender.spool.page(1))

        await eventually(drained_in_vain, "the drain has tried")
        assert await numbers(client, key) == []
        await client.execute_command("ACL", "SETUSER", "default", "+eval")
        await spool_is_empty(appender)
        assert await numbers(client, key) == list(range(20))


async def test_a_stream_that_refuses_holds_up_nothing_in_the_spool(tmp_path: Path) -> None:
    async with appending(tmp_path) as (client, appender):
        for key in (keys.events(0), keys.events(1)):
            await client.set(key, "not a stream")
        for number in range(DRAIN_PAGE + 10):
            await appender.append(keys.events(0), envelope(number))
        await appender.append(keys.events(1), envelope(7))
        assert set(appender.refusals()) == {keys.events(0), keys.events(1)}
        await client.delete(keys.events(1))
        await eventually_len(client, keys.events(1), 1)
        assert appender.refusals()[keys.events(0)] in ("WRONGTYPE", "WRONGKIND")
        assert len(appender.refusals()) == 1


async def test_a_start_with_a_full_disk_takes_what_may_not_overtake_later(tmp_path: Path) -> None:
    left = Spool(tmp_path / "spool", 1 << 20)
    left.open()
    left.add([(keys.events(0), envelope(n)) for n in range(3)])
    left.close()
    # the server is not on the full disk
    node = Node(tmp_path / "redis").start()
    with full_disk(0):
        async with appending_to(node, tmp_path) as (client, appender):
            assert appender.spool is None
            assert appender.spool_trouble
            # a stream with entries in the spool is not overtaken; others go straight to Redis
            with pytest.raises(UnavailableError):
                await appender.append(keys.events(0), envelope(3))
            await appender.append(keys.events(1), envelope(9))
            assert await numbers(client, keys.events(1)) == [9]
            resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
            await eventually_len(client, keys.events(0), 3)
            await appender.append(keys.events(0), envelope(3))
            await eventually_len(client, keys.events(0), 4)
            assert await numbers(client, keys.events(0)) == [0, 1, 2, 3]
            assert not appender.spool_trouble
    node.kill()


@pytest.mark.parametrize("large", [False, True])
async def test_a_lone_entry_is_one_command(tmp_path: Path, large: bool) -> None:
    async with appending(tmp_path) as (client, appender):
        await appender.append(keys.events(0), envelope(7, large=large))
        assert await numbers(client, keys.events(0)) == [7]


async def scripts_run(client: Any) -> int:
    stats = await client.info("commandstats")
    return int(stats.get("cmdstat_eval", {"calls": 0})["calls"])


async def test_what_came_in_one_request_goes_in_one_trip_a_command_a_stream(
    tmp_path: Path,
) -> None:
    async with appending(tmp_path) as (client, appender):
        many = [Append(keys.events(n % 2), envelope(n)) for n in range(3 * MAX_FLUSH)]
        before = await scripts_run(client)
        others = [appender.append(keys.events(2), envelope(n)) for n in range(20)]
        await asyncio.gather(*others[:10], appender.append_all(many), *others[10:])
        # the others share its trip, or have one before or behind it
        assert await scripts_run(client) - before <= 2 + 2
        for stream in (0, 1):
            assert await numbers(client, keys.events(stream)) == list(range(stream, len(many), 2))
        assert sorted(await numbers(client, keys.events(2))) == list(range(20))


async def test_large_ones_of_a_request_keep_its_order(tmp_path: Path) -> None:
    async with appending(tmp_path) as (client, appender):
        many = [Append(keys.events(0), envelope(n, large=n % 7 == 3)) for n in range(40)]
        await asyncio.gather(appender.append_all(many), appender.append_all(many))
        assert await numbers(client, keys.events(0)) == [*range(40), *range(40)]


async def test_a_request_of_which_some_cannot_be_kept_is_told_so_when_all_is_over(
    tmp_path: Path,
) -> None:
    async with appending(tmp_path) as (client, appender):
        await client.set(keys.events(1), "not a stream")
        large = [envelope(n) + bytes(400_000) for n in range(3)]
        filler = [Append(keys.events(1), data) for data in large[:2]]
        await appender.append_all(filler)
        assert appender.spool is not None
        assert appender.spool.entries == 2
        # a megabyte is all that the spool takes
        many = [Append(keys.events(n % 2), envelope(n)) for n in range(600)]
        with pytest.raises(UnavailableError, match="send it again"):
            await appender.append_all([*many, Append(keys.events(1), large[2])])
        # all of a stream or nothing
        assert await numbers(client, keys.events(0)) == list(range(0, 600, 2))
        assert appender.spool.entries == 2


async def test_a_request_that_is_given_up_stops_no_other(tmp_path: Path) -> None:
    async with appending(tmp_path) as (client, appender):
        many = [Append(keys.events(0), envelope(n)) for n in range(100)]
        leaves = asyncio.create_task(appender.append_all(many))
        stays = asyncio.create_task(appender.append_all(many))
        await asyncio.sleep(0)
        leaves.cancel()
        await stays
        assert (await numbers(client, keys.events(0)))[-100:] == list(range(100))


async def acknowledge(client: Any, key: str, count: int) -> None:
    """Do what a worker does: read so many entries and be done with them."""
    [(_, entries)] = await client.xreadgroup(keys.GROUP, "worker", {key: ">"}, count=count)
    await client.xack(key, keys.GROUP, *(entry_id for entry_id, _ in entries))


async def eventually_len(client: Any, key: str, length: int) -> None:
    async with asyncio.timeout(10):
        while await client.xlen(key) < length:
            await asyncio.sleep(0.01)


async def test_what_is_more_than_may_wait_goes_to_the_spool_and_comes_in_order(
    tmp_path: Path,
) -> None:
    async with appending(tmp_path, most=10) as (client, appender):
        full, other = keys.events(0), keys.events(1)
        await client.xgroup_create(full, keys.GROUP, id="0", mkstream=True)
        for number in range(30):
            await appender.append(full, envelope(number))
        assert await client.xlen(full) == 10
        assert appender.spool is not None
        assert appender.spool.entries == 20
        # others are not held up, nor is what is urgent; but that by far more than may wait
        for number in range(5):
            await appender.append(other, envelope(number))
        for number in range(100, 160):
            await appender.append(full, envelope(number), urgent=True)
        assert await numbers(client, other) == list(range(5))
        urgent = [n for n in await numbers(client, full) if n >= 100]
        assert urgent == list(range(100, 130))
        assert appender.spool.entries == 50
        # an urgent event does not overtake urgent ones: they may be of one tool
        await acknowledge(client, full, 40)
        await appender.append(full, envelope(200), urgent=True)
        for length in (50, 60, 70, 80, 90):
            await eventually_len(client, full, length)
            await acknowledge(client, full, 10)
        await eventually_len(client, full, 91)
        found = await numbers(client, full)
        assert [n for n in found if n < 100] == list(range(30))
        assert [n for n in found if n >= 100] == [*range(100, 160), 200]
        assert not appender.spool.entries


async def test_a_stream_that_is_full_does_not_hold_up_what_is_spooled_for_others(
    tmp_path: Path,
) -> None:
    async with appending(tmp_path, most=3000) as (client, appender):
        full, other = keys.events(0), keys.events(1)
        await client.set(other, "not a stream")
        await asyncio.gather(*(appender.append(full, envelope(n)) for n in range(6000)))
        await asyncio.gather(*(appender.append(other, envelope(n)) for n in range(20)))
        assert appender.spool is not None
        assert appender.spool.backlog[full] >= 2500
        await client.delete(other)
        await eventually_len(client, other, 20)
        assert await numbers(client, other) == list(range(20))


async def doubts(client: Any, key: str) -> list[tuple[int, bool]]:
    """Number of each entry of a stream, and whether it says that it may be a copy."""
    found = []
    for entry_id, fields in await client.xrange(key):
        event = decode_event(fields[b"d"])
        number = int(event.event_id.rpartition("-")[2], 16) & 0xFFFF
        assert b"u" not in fields or int(fields[b"u"]) >= 0, entry_id
        found.append((number, b"u" in fields))
    return found


async def spool_is_empty(appender: Appender) -> None:
    async with asyncio.timeout(10):
        while appender.spool is None or appender.spool.entries:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("large", [False, True])
async def test_what_is_appended_again_after_a_lost_reply_says_so(
    tmp_path: Path, large: bool
) -> None:
    async with Proxy(0) as proxy, appending(tmp_path, proxy=proxy) as (client, appender):
        key = keys.events(0)
        proxy.on_reply("close", "XADD", "append_blob")
        await appender.append(key, envelope(1, large=large))
        await spool_is_empty(appender)
        await appender.append(key, envelope(2, large=large))
        assert await doubts(client, key) == [(1, False), (1, True), (2, False)]


async def test_what_was_never_sent_before_is_in_no_doubt(tmp_path: Path) -> None:
    async with Proxy(0) as proxy, appending(tmp_path, proxy=proxy) as (client, appender):
        key = keys.events(0)
        await proxy.refuse()
        await appender.append(key, envelope(1))
        # its stream has something in the spool: these do not go to Redis first
        for number in range(2, 6):
            await appender.append(key, envelope(number))
        assert appender.spool is not None
        sent = [entry for entry in appender.spool.page(9) if appender.spool.in_doubt(entry)]
        assert sent[0] == appender.spool.page(1)[0]
        await proxy.start()
        await spool_is_empty(appender)
        found = await doubts(client, key)
        assert [number for number, _ in found] == [1, 2, 3, 4, 5]
        # what a drain has tried in vain meanwhile is in doubt as well
        assert found[0] == (1, True)


async def test_what_another_process_has_left_is_in_doubt(tmp_path: Path) -> None:
    key = keys.events(0)
    left = Spool(tmp_path / "spool", 1 << 20)
    left.open()
    left.add([(key, envelope(1)), (key, envelope(2))])
    left.close()
    async with appending(tmp_path) as (client, appender):
        await spool_is_empty(appender)
        assert await doubts(client, key) == [(1, True), (2, True)]
        await appender.append(key, envelope(3))
        assert (await doubts(client, key))[2:] == [(3, False)]


def test_a_spool_that_is_opened_again_doubts_what_it_finds(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10_000)
    spool.open()
    spool.add([("k", b"1"), ("k", b"2"), ("k", b"3")], {1})
    assert [spool.in_doubt(entry) for entry in spool.page(3)] == [False, True, False]
    spool.doubt(spool.page(1))
    assert [spool.in_doubt(entry) for entry in spool.page(3)] == [True, True, False]
    spool.close()
    again = Spool(tmp_path, 10_000)
    again.open()
    again.add([("k", b"4")])
    assert [again.in_doubt(entry) for entry in again.page(4)] == [True, True, True, False]
    again.close()


async def test_a_flush_that_fails_answers_everybody_and_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that nobody answers would hang until its sender gives up."""
    async with appending(tmp_path) as (client, appender):
        send = appender._send

        async def broken(*_: Any) -> Any:
            monkeypatch.setattr(appender, "_send", send)
            raise ZeroDivisionError

        monkeypatch.setattr(appender, "_send", broken)
        async with asyncio.timeout(10):
            with pytest.raises(UnavailableError, match="send it again"):
                await appender.append(keys.events(0), b"one")
            await appender.append(keys.events(0), b"two")
        assert await client.xlen(keys.events(0)) == 1


async def test_the_spool_drains_into_a_redis_with_less_room_than_a_page(tmp_path: Path) -> None:
    node, key = Node(tmp_path / "redis").start(), keys.events(0)
    try:
        async with appending_to(node, tmp_path, spool_bytes=1 << 26) as (client, appender):
            appender._claim_check_bytes = 1 << 20
            await client.config_set("maxmemory", 1)
            for number in range(200):
                event = make_event({"n": number, "text": "x" * 100_000})
                event = replace(event, event_id=new_event_id(number, 0, number))
                await appender.append(key, encode_event(event))
            assert appender.spool is not None
            assert appender.spool.entries == 200
            used = (await client.info("memory"))["used_memory"]
            await client.config_set("maxmemory", used + 12_000_000)
            came = 0

            async def drained() -> bool:
                nonlocal came
                came += await client.xtrim(key, maxlen=0, approximate=False)
                return came == 200

            await eventually(drained, "all came")
    finally:
        node.kill()
