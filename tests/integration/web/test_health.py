"""/health is not ok while nothing is delivered, and says what to do."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.fragile import Fragile
from tests.support.stack import eventually


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
    async with aiohttp.ClientSession(system.url) as session, session.get("/metrics") as response:
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
