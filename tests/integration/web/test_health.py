"""/health is not ok while nothing is delivered, and says what to do."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis import Redis

from hookstream.app import embedded
from hookstream.app.web.measured import MEASURED_AT, Measured
from tests.support.fragile import Fragile
from tests.support.stack import eventually, fresh


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[Fragile]:
    with Fragile(
        tmp_path,
        HOOKSTREAM_HEALTH_OLDEST_SECONDS="1",
        HOOKSTREAM_HEALTH_DEAD_LETTERS="2",
        HOOKSTREAM_LEASE_TTL_SECONDS="3",
        HOOKSTREAM_REDIS_TIMEOUT_SECONDS="1",
        HOOKSTREAM_RETRY_MAX_ATTEMPTS="1",
    ) as running:
        await running.opened()
        yield running


async def parts(system: Fragile) -> dict[str, Any]:
    return dict((await system.health())["parts"])


async def metric(system: Fragile, line: str) -> float:
    async with aiohttp.ClientSession(system.url) as session, fresh(session, "/metrics") as response:
        rows = (await response.text()).splitlines()
    return next(float(row.rpartition(" ")[2]) for row in rows if row.startswith(line + " "))


async def test_what_waits_without_a_worker_is_told_and_over_once_one_works(
    system: Fragile, name: str
) -> None:
    await system.context(name, {"provider": "none"})
    worker = system.find("worker")
    worker.send_signal(signal.SIGSTOP)
    try:
        await system.hook(name, b"{}")

        async def told() -> bool:
            found = await parts(system)
            return bool(
                found["streams"].get("late") == ["events"]
                and not found["workers"]["alive"]
                and len(found["workers"]["unowned_partitions"]) == 8
            )

        await eventually(told, "what waits, and that nobody works")
        found = await system.health()
        assert found["status"] == "degraded"
        assert found["parts"]["streams"]["events"]["oldest_seconds"] >= 1
        # nobody has read it: pending says nothing
        assert found["parts"]["streams"]["events"]["oldest_pending_seconds"] == 0
        assert "hookstream partitions" in found["parts"]["streams"]["do"]
        assert "start one" in found["parts"]["workers"]["do"]
        assert await metric(system, 'hookstream_stream_oldest_seconds{channel="events"}') >= 1
        assert await metric(system, "hookstream_workers") == 0
        assert await metric(system, "hookstream_partitions_unowned") == 8
    finally:
        worker.send_signal(signal.SIGCONT)

    async def over() -> bool:
        found = await parts(system)
        return (found["streams"]["status"], found["workers"]["status"]) == ("ok", "ok")

    await eventually(over, "a worker works again")
    assert await metric(system, 'hookstream_stream_oldest_seconds{channel="events"}') == 0


async def test_dead_letters_that_become_more_are_told(system: Fragile, name: str) -> None:
    await system.context(name, {"provider": "none"})
    await system.becomes(await system.post(name, 0, name), "dead")
    found = (await parts(system))["dead_letters"]
    assert (found["status"], found["total"], found["lately"]) == ("ok", 1, 1)
    second = await system.post(name, 1, name)
    await system.becomes(second, "dead")
    found = (await parts(system))["dead_letters"]
    assert (found["status"], found["total"]) == ("degraded", 2)
    assert "dead list" in found["do"]
    assert await metric(system, "hookstream_dead_letters") == 2
    assert await system.call("DELETE", f"/dead-letters/{second}") == 204
    assert (await parts(system))["dead_letters"]["total"] == 1


def sets(system: Fragile) -> int:
    """How often Redis was written to to see whether it takes anything: once for each /health."""
    with Redis.from_url(str(embedded.find_valkey(system.state_dir / "state"))) as client:
        return int(client.info("commandstats").get("cmdstat_set", {"calls": 0})["calls"])


async def test_many_who_ask_at_once_are_told_what_was_measured_once(system: Fragile) -> None:
    async with aiohttp.ClientSession(system.url) as session:

        async def ask(path: str) -> tuple[int, str, str]:
            async with session.get(path) as response:
                return response.status, response.headers.get(MEASURED_AT, ""), await response.text()

        for path in ("/health", "/metrics"):
            before = sets(system)
            found = await asyncio.gather(*(ask(path) for _ in range(50)))
            # twice where the second was over while they came
            assert len(set(found)) <= 2
            assert {status for status, _, _ in found} == {200}
            assert sets(system) - before <= 2
            if path == "/metrics":
                # what is cleared and set anew is in each
                assert all("hookstream_stream_lag_entries{" in text for _, _, text in found)
        before = sets(system)
        assert {answer[0] for answer in [await ask("/health/ready") for _ in range(50)]} == {200}
        assert sets(system) - before <= 3


async def test_what_cannot_be_measured_is_tried_again_at_once_and_nobody_else_is_cut_off() -> None:
    calls = 0

    async def measure() -> int:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.05)
        if calls == 1:
            raise ValueError("not yet")
        return calls

    measured = Measured(measure)
    found = await asyncio.gather(*(measured.get() for _ in range(9)), return_exceptions=True)
    assert [str(error) for error in found] == ["not yet"] * 9
    first = asyncio.create_task(measured.get())
    await asyncio.sleep(0)
    others = [asyncio.create_task(measured.get()) for _ in range(9)]
    await asyncio.sleep(0)
    # a client that goes away takes nothing from those who wait with it
    first.cancel()
    assert await asyncio.gather(*others) == [2] * 9
    assert await measured.get() == 2
