"""What a process that is gone has left in its spool: who drains it, when, and who waits for it."""

import asyncio
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rocksdict import Options, Rdict

from hookstream.app.ingest import appender as module
from hookstream.app.ingest.spool import Spool, abandoned
from hookstream.app.redis import keys
from hookstream.app.web.health_parts import spool_out
from tests.integration.ingest.test_appender import (
    acknowledge,
    appending,
    envelope,
    eventually_len,
    numbers,
)
from tests.support.faults import full_disk
from tests.support.proxy import Proxy

LOOK_SECONDS = 0.3
REFUSED, GOOD, OTHER = keys.events(0), keys.events(1), keys.events(2)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ADOPT_SECONDS", LOOK_SECONDS)


def leave(folder: Path, slot: int, *items: tuple[str, int]) -> None:
    """A process was here, and is gone."""
    spool = Spool(folder / "spool", 1 << 20)
    assert spool.open_slot(slot)
    spool.add([(key, envelope(number)) for key, number in items])
    spool.close()


async def until(check: Callable[[], Any], what: str) -> None:
    try:
        async with asyncio.timeout(10):
            while not check():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(what) from None


async def test_what_cannot_be_drained_holds_up_nothing_else(tmp_path: Path) -> None:
    async with appending(tmp_path) as (client, appender):
        await client.set(REFUSED, "not a stream")
        left = [(REFUSED, 0), *((GOOD, number) for number in range(300)), (REFUSED, 1)]
        leave(tmp_path, 0, *left)
        await eventually_len(client, GOOD, 300)
        assert spool_out(appender)["leftover_folders"] == 1
        assert spool_out(appender)["status"] != "ok"
        # the own spool has its turns all the while
        await client.set(OTHER, "not a stream")
        await appender.append(OTHER, envelope(7))
        await client.delete(OTHER)
        await eventually_len(client, OTHER, 1)
        # what is new for a stream waits behind what is left for it
        await appender.append(REFUSED, envelope(2))
        await client.delete(REFUSED)
        await eventually_len(client, REFUSED, 3)
        assert await numbers(client, REFUSED) == [0, 1, 2]
        await until(lambda: not appender.leftovers, "nothing is left")
        assert spool_out(appender)["status"] == "ok"


async def test_a_folder_that_is_not_drained_is_let_go(tmp_path: Path) -> None:
    async with appending(tmp_path) as (client, appender):
        await client.set(REFUSED, "not a stream")
        leave(tmp_path, 0, (REFUSED, 0))
        await until(lambda: REFUSED in appender.refusals(), "it was tried")
        await until(lambda: abandoned(tmp_path / "spool") == {0}, "it is free again")
        own = Spool(tmp_path / "spool", 1 << 20)
        own.open()
        assert own.path.name == "0"
        await until(lambda: not appender.leftovers, "its process is back")
        # nothing waits for a living process's spool
        await client.delete(REFUSED)
        await appender.append(REFUSED, envelope(1))
        await eventually_len(client, REFUSED, 1)
        own.close()


async def test_a_process_that_is_started_again_has_its_folder_back(tmp_path: Path) -> None:
    async with appending(tmp_path) as (client, appender):
        leave(tmp_path, 0, (GOOD, 0))
        await until(lambda: appender.leftovers, "it was seen")
        own = Spool(tmp_path / "spool", 1 << 20)
        own.open()
        assert (own.path.name, own.entries) == ("0", 1)
        await asyncio.sleep(LOOK_SECONDS * 3)
        assert not await client.exists(GOOD)
        assert not appender.leftovers
        own.close()


async def test_nothing_is_taken_while_redis_is_away(tmp_path: Path) -> None:
    async with Proxy(0) as proxy, appending(tmp_path, proxy=proxy) as (client, appender):
        await proxy.refuse()
        leave(tmp_path, 0, (GOOD, 0))
        await until(lambda: appender.leftovers, "it was seen")
        for _ in range(100):
            assert abandoned(tmp_path / "spool") == {0}
            await asyncio.sleep(LOOK_SECONDS / 30)
        await proxy.start()
        await eventually_len(client, GOOD, 1)


async def test_a_folder_that_cannot_be_opened_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with appending(tmp_path) as (client, appender):
        leave(tmp_path, 0, (GOOD, 0))
        leave(tmp_path, 1, (OTHER, 1))
        # RocksDB's own lock, such as a backup may hold
        held = Rdict(str(tmp_path / "spool" / "0" / "entries"), Options(raw_mode=True))
        # a bad folder hides no other one
        await eventually_len(client, OTHER, 1)
        await until(lambda: set(appender.leftovers) == {0}, "the other one is drained")
        said = [record for record in caplog.records if "has left there waits" in record.message]
        assert len(said) == 1
        # and what is new for its streams does not wait for what nobody may ever mend
        await appender.append(GOOD, envelope(1))
        assert await numbers(client, GOOD) == [1]
        held.close()
        await eventually_len(client, GOOD, 2)


async def test_a_full_disk_ends_no_adoption(tmp_path: Path) -> None:
    async with appending(tmp_path) as (client, appender):
        leave(tmp_path, 0, (GOOD, 0))
        with full_disk(0):
            await until(
                lambda: any(left.trouble for left in appender.leftovers.values()), "it was tried"
            )
            resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
            await eventually_len(client, GOOD, 1)


async def test_urgent_events_keep_their_order_while_a_folder_is_drained(tmp_path: Path) -> None:
    async with appending(tmp_path, most=10) as (client, appender):
        await client.xgroup_create(GOOD, keys.GROUP, id="0", mkstream=True)
        for number in range(50):
            await appender.append(GOOD, envelope(number), urgent=True)
        assert appender.spool is not None
        assert appender.spool.entries == 10
        leave(tmp_path, 1, (OTHER, 0))
        await eventually_len(client, OTHER, 1)
        await until(lambda: not appender.leftovers, "it is drained")
        # there is room for urgent ones again, but not in front of those that wait
        await acknowledge(client, GOOD, 20)
        await asyncio.sleep(1.2)
        await appender.append(GOOD, envelope(50), urgent=True)
        await acknowledge(client, GOOD, 20)
        await eventually_len(client, GOOD, 51)
        assert await numbers(client, GOOD) == list(range(51))


async def test_a_process_that_receives_nothing_takes_nothing_at_its_start(tmp_path: Path) -> None:
    leave(tmp_path, 0, (GOOD, 0))
    async with appending(tmp_path, receives=False) as (client, appender):
        assert appender.spool is None
        assert abandoned(tmp_path / "spool") == {0}
        await eventually_len(client, GOOD, 1)
        assert appender.spool is None
