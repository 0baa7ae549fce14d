"""The event loop's watchdog says where the loop stands while it stands, and blames nobody else."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time

import pytest

from hookstream.app.stalls import LoopWatch

STALL_SECONDS = 0.2


def computes_for_too_long(seconds: float, logged: pytest.LogCaptureFixture) -> list[str]:
    """Blocks the loop, and says what was logged by then: by another thread."""
    time.sleep(seconds)
    return [record.getMessage() for record in logged.records]


async def test_a_stall_is_logged_with_its_stack_while_it_lasts_and_counted_after_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch = LoopWatch(STALL_SECONDS)
    watch.start()
    try:
        with caplog.at_level(logging.WARNING):
            await asyncio.sleep(2 * STALL_SECONDS)
            assert (watch.count, watch.lately()) == (0, [])
            [line] = computes_for_too_long(3 * STALL_SECONDS, caplog)
            assert "time.sleep(seconds)" in line
            assert "computes_for_too_long" in line
            await asyncio.sleep(STALL_SECONDS)
        [stall] = watch.lately()
        assert (watch.count, stall.where.partition(" in ")[2]) == (1, "computes_for_too_long")
        assert 2 * STALL_SECONDS < stall.seconds == watch.longest_seconds
    finally:
        watch.stop()


async def test_a_flood_of_stalls_is_counted_and_logged_a_few_times(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch = LoopWatch(0.04)
    watch.start()
    try:
        for _ in range(12):
            time.sleep(0.1)
            await asyncio.sleep(0.03)
        stacks = [record for record in caplog.records if "here:" in record.getMessage()]
        assert watch.count >= 10
        assert len(stacks) == 6
    finally:
        watch.stop()


STOPPED = """
import asyncio
from hookstream.app.stalls import LoopWatch

async def main():
    watch = LoopWatch(0.2)
    watch.start()
    print("begun", flush=True)
    while not watch.count:
        await asyncio.sleep(0.01)
    print(watch.lately()[0].where)

asyncio.run(main())
"""


def test_a_process_that_was_stopped_does_not_blame_what_runs_when_it_goes_on() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(1)  # for as long as it is stopped there is nothing to wait for
        os.kill(child.pid, signal.SIGCONT)
        said, errors = child.communicate(timeout=20)
    finally:
        child.kill()
    assert said == "the whole process stood still: it was stopped, or had no CPU\n"
    assert "here:" not in errors
