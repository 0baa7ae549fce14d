"""Work in child processes: its result, its errors, its bounds, and what is left of it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from hookstream.app.bounded import BoundedPool
from hookstream.app.errors import BadRequestError, OverBudgetError
from hookstream.app.metrics import BOUNDED_BREACHES


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[BoundedPool]:
    pool = BoundedPool(memory_bytes=256 * 2**20)
    await pool.maybe_start()
    yield pool
    await pool.stop()


def _spin() -> None:
    while True:
        pass


def _grow() -> int:
    return len([bytearray(2**20) for _ in range(4096)])


def _refuse() -> None:
    raise BadRequestError("no")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _print_and_return(text: str) -> str:
    print(text * 1000)
    return text


def _environment() -> dict[str, str]:
    return dict(os.environ)


def _breaches(reason: str) -> float:
    return float(BOUNDED_BREACHES.labels(what="test", reason=reason)._value.get())


@pytest.mark.asyncio
async def test_results_and_errors_come_back_from_one_child(pool: BoundedPool) -> None:
    first = await pool.run("test", os.getpid, seconds=5)
    assert first != os.getpid()
    with pytest.raises(BadRequestError, match="no"):
        await pool.run("test", _refuse, seconds=5)
    assert await pool.run("test", _print_and_return, "x", seconds=5) == "x"
    assert await pool.run("test", len, b"x" * 3_000_000, seconds=5) == 3_000_000
    assert await pool.run("test", os.getpid, seconds=5) == first


@pytest.mark.asyncio
async def test_what_takes_too_long_is_ended_and_stalls_nobody(pool: BoundedPool) -> None:
    stalled, before = 0.0, _breaches("time")

    async def heartbeat() -> None:
        nonlocal stalled
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.01)
            stalled = max(stalled, time.monotonic() - begun)

    pid = await pool.run("test", os.getpid, seconds=5)
    beat = asyncio.create_task(heartbeat())
    with pytest.raises(OverBudgetError, match=r"more than 1\.5 s"):
        await pool.run("test", _spin, seconds=1.5)
    beat.cancel()
    assert stalled < 1.0
    assert _breaches("time") == before + 1
    assert await pool.run("test", os.getpid, seconds=5) != pid


@pytest.mark.asyncio
async def test_memory_is_bounded(pool: BoundedPool) -> None:
    with pytest.raises(OverBudgetError) as caught:
        await pool.run("test", _grow, seconds=20)
    assert caught.value.reason == "memory"
    assert await pool.run("test", len, "abc", seconds=5) == 3


@pytest.mark.asyncio
async def test_a_child_that_dies_is_replaced(pool: BoundedPool) -> None:
    with pytest.raises(OverBudgetError) as caught:
        await pool.run("test", _die, seconds=5)
    assert caught.value.reason == "crash"
    assert await pool.run("test", len, "abc", seconds=5) == 3


@pytest.mark.asyncio
async def test_the_queue_is_bounded() -> None:
    pool = BoundedPool(children=1, max_waiting=1)
    await pool.maybe_start()
    try:
        running = asyncio.create_task(pool.run("test", _spin, seconds=1))
        waiting = asyncio.create_task(pool.run("test", len, "ab", seconds=1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(OverBudgetError) as caught:
            await pool.run("test", len, "abc", seconds=1)
        assert caught.value.reason == "busy"
        with pytest.raises(OverBudgetError):
            await running
        assert await waiting == 2
    finally:
        await pool.stop()


@pytest.mark.asyncio
async def test_a_child_has_no_secrets(pool: BoundedPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKSTREAM_ADMIN_KEY", "secret")
    assert "HOOKSTREAM_ADMIN_KEY" not in await pool.run("test", _environment, seconds=5)


PARENT = """
import asyncio, os
from hookstream.app.bounded import BoundedPool
from tests.integration.test_bounded import _spin
async def main():
    pool = BoundedPool()
    print(await pool.run("test", os.getpid, seconds=5), flush=True)
    await pool.run("test", _spin, seconds=600)
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends busy children")
def test_children_die_with_their_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    end = time.monotonic() + 10
    while os.path.exists(f"/proc/{child}") and time.monotonic() < end:
        with open(f"/proc/{child}/stat") as stat:
            if stat.read().rpartition(")")[2].split()[0] == "Z":
                break
        time.sleep(0.02)
    else:
        assert not os.path.exists(f"/proc/{child}")
