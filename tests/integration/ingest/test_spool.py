"""The receiver answers 202 while Redis is away, and nothing is lost or overtaken afterwards."""

import asyncio
import json
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from hookstream.app.errors import UnavailableError
from hookstream.app.ingest.spool import Spool, abandoned
from tests.support.cost import least_cpu
from tests.support.faults import full_disk
from tests.support.servers import Node
from tests.support.stack import Stack, eventually


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path / "redis").start()
    yield node
    if node.process is not None:
        node.signal(signal.SIGCONT)
    node.kill()


async def post(stack: Stack, numbers: range, expect: int = 202) -> list[str]:
    """Post one after another, each with the expected answer; returns the event ids."""
    found = []
    async with aiohttp.ClientSession(stack.url) as session:
        for number in numbers:
            async with session.post("/hooks/spool", data=b'{"n": %d}' % number) as response:
                text = await response.text()
                assert response.status == expect, text
                if expect == 503:
                    assert "Retry-After" in response.headers
                else:
                    found.append(json.loads(text)["event_id"])
    return found


async def delivered(stack: Stack, count: int) -> list[str]:
    updates = await stack.updates("spool", count)
    assert [update["seq"] for update in updates] == list(range(1, count + 1))
    return [update["event_id"] for update in updates]


@pytest.mark.parametrize("how", ["dead", "silent"])
async def test_events_are_taken_while_redis_is_away(tmp_path: Path, server: Node, how: str) -> None:
    with Stack(tmp_path, HOOKSTREAM_REDIS_URL=server.url) as stack:
        await stack.context("spool", {"provider": "none"})
        accepted = await post(stack, range(20))
        if how == "dead":
            server.kill()
        else:
            server.signal(signal.SIGSTOP)
        accepted += await post(stack, range(20, 120))
        health = await stack.health()
        assert health["status"] == "degraded"
        assert health["parts"]["redis"]["status"] == {"dead": "down", "silent": "slow"}[how]
        assert health["parts"]["spool"]["entries"] == 100
        if how == "dead":
            # the receiver dies too, with all that only its disk knows; and comes up without Redis
            stack.find("receive").kill()
            await asyncio.to_thread(stack.wait_receiver)
            accepted += await post(stack, range(120, 130))
            server.start()
        else:
            server.signal(signal.SIGCONT)
        accepted += await post(stack, range(130, 150))
        assert await delivered(stack, len(accepted)) == accepted

        async def drained() -> bool:
            return bool((await stack.health())["parts"]["spool"]["entries"] == 0)

        await eventually(drained, "the spool is empty")


async def test_full_spool_is_503_and_loses_nothing(tmp_path: Path, server: Node) -> None:
    with Stack(
        tmp_path, HOOKSTREAM_REDIS_URL=server.url, HOOKSTREAM_SPOOL_MAX_BYTES="4000"
    ) as stack:
        await stack.context("spool", {"provider": "none"})
        accepted = await post(stack, range(5))
        server.kill()
        accepted += await post(stack, range(5, 10))
        assert (await stack.health())["parts"]["spool"]["entries"] == 5
        async with aiohttp.ClientSession(stack.url) as session:
            big = json.dumps({"n": secrets.token_hex(4000)}).encode()
            async with session.post("/hooks/spool", data=big) as response:
                assert response.status == 503
                assert "Retry-After" in response.headers
                assert str(tmp_path) not in await response.text()
        assert "HOOKSTREAM_SPOOL_MAX_BYTES" in stack.log.read_text()
        server.start()
        accepted += await post(stack, range(10, 12))
        assert await delivered(stack, 12) == accepted


def test_spool_keeps_order_through_restarts(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10_000)
    spool.open()
    spool.add([("a", b"1"), ("b", b"2")])
    spool.add([("a", b"3")])
    other = Spool(tmp_path, 10_000)
    other.open()
    assert other.path != spool.path
    assert abandoned(tmp_path) == set()
    assert not other.open_slot(0)
    other.close()
    spool.close()
    assert abandoned(tmp_path) == {0}
    again = Spool(tmp_path, 10_000)
    again.open()
    assert again.path == spool.path
    assert dict(again.backlog) == {"a": 2, "b": 1}
    page = again.page(2)
    assert [(entry.key, entry.data) for entry in page] == [("a", b"1"), ("b", b"2")]
    again.remove(page)
    again.add([("a", b"4")])
    assert [entry.data for entry in again.page(10)] == [b"3", b"4"]
    assert (again.entries, dict(again.backlog)) == (2, {"a": 2})
    again.close()


def test_full_spool_takes_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10)
    spool.open()
    spool.add([("k", b"12345")])
    with pytest.raises(UnavailableError, match="HOOKSTREAM_SPOOL_MAX_BYTES"):
        spool.add([("k", b"1234"), ("k", b"5")])
    assert [entry.data for entry in spool.page(10)] == [b"12345"]
    spool.remove(spool.page(10))
    spool.add([("k", b"67890")])
    spool.close()


def test_full_disk_refuses_and_keeps_what_is_there(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 30)
    spool.open()
    spool.add([("k", b"1")])
    with full_disk(20_000):
        for _ in range(2):
            with pytest.raises(UnavailableError, match="cannot be"):
                spool.add([("k", b"x" * 50_000)])
    spool.add([("k", b"2")])
    assert [entry.data for entry in spool.page(10)] == [b"1", b"2"]
    spool.close()


def test_full_disk_at_the_start_is_no_damage(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 30)
    spool.open()
    spool.add([("k", b"1" * 5000)])
    spool.close()
    with full_disk(100), pytest.raises(UnavailableError, match="cannot be opened"):
        Spool(tmp_path, 1 << 30).open()
    again = Spool(tmp_path, 1 << 30)
    again.open()
    assert [entry.data for entry in again.page(10)] == [b"1" * 5000]
    assert not list((tmp_path / "0").glob("set-aside-*"))
    again.close()


def test_corrupt_spool_is_set_aside(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10_000)
    spool.open()
    spool.add([("k", b"kept")])
    spool.close()
    [manifest] = (tmp_path / "0" / "entries").glob("MANIFEST-*")
    manifest.write_bytes(b"nonsense")
    again = Spool(tmp_path, 10_000)
    again.open()
    assert again.entries == 0
    [aside] = (tmp_path / "0").glob("set-aside-*")
    assert list(aside.glob("*.log"))
    again.add([("k", b"new")])
    again.close()


def test_what_was_drained_does_not_slow_what_comes_after_it(tmp_path: Path) -> None:
    """RocksDB passes over what was removed one by one, for whoever looks from the start."""
    spool = Spool(tmp_path, 1 << 30)
    spool.open()
    cost = []
    for times in (1, 60):
        for _ in range(times):
            spool.add([("k", b"x" * 64)] * 1000)
            page = spool.page(1000)
            assert len(page) == 1000
            spool.remove(page)
        spool.add([("k", b"last")])
        # twice: the first look finds where the entries begin
        assert [entry.data for entry in spool.page(1)] == [b"last"]
        cost.append(least_cpu(lambda: [spool.page(1) for _ in range(20)], 0.02))
        spool.remove(spool.page(1))
    assert cost[1] < 0.02
    spool.close()
    again = Spool(tmp_path, 1 << 30)
    again.open()
    assert again.page(1) == []
    again.add([("k", b"new")])
    assert [entry.data for entry in again.page(5)] == [b"new"]
    again.close()


async def test_more_than_may_wait_is_spooled_then_refused_and_urgent_events_go_on(
    tmp_path: Path, server: Node
) -> None:
    with Stack(
        tmp_path,
        HOOKSTREAM_REDIS_URL=server.url,
        HOOKSTREAM_PARTITIONS="1",
        HOOKSTREAM_BACKLOG_MAX_EVENTS="10",
        HOOKSTREAM_SPOOL_MAX_BYTES="4000",
    ) as stack:
        await stack.context("spool", {"provider": "none"})
        await stack.context("urgent", {"provider": "none"})
        await stack.put(
            "/contexts/urgent/subscriptions/all",
            {"tool": "urgent", "types": ["*"], "priority": "critical"},
        )
        worker = stack.find("worker")
        worker.send_signal(signal.SIGSTOP)
        try:
            accepted = await post(stack, range(10))
            accepted += await post(stack, range(10, 15))
            health = await stack.health()
            spool = health["parts"]["spool"]
            assert "full_streams" in spool.pop("do")
            assert spool | {"oldest_seconds": 0} == {
                "status": "draining",
                "full_streams": 1,
                "entries": 5,
                "bytes": spool["bytes"],
                "oldest_seconds": 0,
                "drained_per_second": 0,
                "leftover_folders": 0,
            }
            async with aiohttp.ClientSession(stack.url) as session:
                big = json.dumps({"n": secrets.token_hex(4000)}).encode()
                for tool, status in (("spool", 503), ("urgent", 202)):
                    async with session.post(f"/hooks/{tool}", data=big) as response:
                        assert response.status == status, tool
        finally:
            worker.send_signal(signal.SIGCONT)
        assert await delivered(stack, 15) == accepted
        assert len(await stack.updates("urgent", 1)) == 1

        async def drained() -> bool:
            part = (await stack.health())["parts"]["spool"]
            return bool(part["entries"] == part["full_streams"] == 0)

        await eventually(drained, "the spool is empty")
