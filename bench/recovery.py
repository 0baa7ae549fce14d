"""How long it takes from ``kill -9`` of the worker until its backlog is done, at two sizes.

``python -m bench.recovery [--quick] [--write]``. The system is ``hookstream up``, whose supervisor
starts another worker at once. What takes time is that worker's start, the end of the dead one's
leases (10 s at the defaults), and the backlog itself.
"""

import argparse
import asyncio
import time
from dataclasses import dataclass
from typing import Any

from bench.measure import Result, main, progress
from bench.payloads import Entries
from bench.system import System, system
from tests.support.stack import Stack

TOOLS = 8


@dataclass(frozen=True, slots=True)
class Recovered:
    """Seconds from the kill: to the first update after it, and to the last of the backlog."""

    backlog: int
    first: float
    drained: float


class Up(System):
    """``hookstream up`` on the servers of a :class:`System`."""

    def start(self) -> None:
        """Servers first, then the rest by its supervisor."""
        super().start()
        try:
            Stack.start(self)
        except BaseException:
            self.stop()
            raise

    def stop(self, *how: Any) -> None:
        """The other way round."""
        try:
            Stack.stop(self)
        finally:
            super().stop(*how)


async def one(running: System, tools: list[str], entries: Entries, count: int) -> Recovered:
    """One backlog, one kill."""
    made = entries.make(tools, count)
    async with running.client() as client:
        before = await running.delivered(client)
        worker = running.find("worker")
        await running.append(client, made)
        worker.kill()
        killed = time.perf_counter()
        await asyncio.sleep(0.1)  # what it had sent to Redis has been carried out by now
        done = await running.delivered(client)
        left = before + count - done
        if left <= 0:
            raise RuntimeError("the worker had done it all before it was killed")
        await running.until(lambda: running.delivered(client), done + 1, "updates")
        first = time.perf_counter() - killed
        await running.until(lambda: running.delivered(client), before + count, "updates")
        drained = time.perf_counter() - killed
        await running.until_settled(client)
        if (found := await running.delivered(client)) != before + count:
            raise RuntimeError(f"{found - before} updates of {count} events")
    await asyncio.to_thread(running.wait_ready)
    return Recovered(left, first, drained)


async def measure(running: System, given: argparse.Namespace) -> dict[int, list[Recovered]]:
    """All kills."""
    tools = await running.tools(TOOLS)
    entries = Entries(running.partitions)
    found: dict[int, list[Recovered]] = {size: [] for size in given.backlogs}
    for _ in range(given.runs):
        for size, recovered in found.items():
            recovered.append(await one(running, tools, entries, size))
            progress(
                f"backlog of {recovered[-1].backlog}: first update after "
                f"{recovered[-1].first:.1f} s, done after {recovered[-1].drained:.1f} s"
            )
    return found


def run(given: argparse.Namespace) -> Result:
    """Everything, in one system."""
    settings = {}
    if given.quick:
        given.backlogs = [1500]
        settings = {"HOOKSTREAM_LEASE_TTL_SECONDS": "3", "HOOKSTREAM_REDIS_TIMEOUT_SECONDS": "1"}
    with system(Up, **settings) as running:
        found = asyncio.run(measure(running, given))
    lease = settings.get("HOOKSTREAM_LEASE_TTL_SECONDS", "10")
    result = Result(
        "`hookstream up`, its worker killed with SIGKILL as soon as the backlog stood in its "
        f"streams; GitHub's example payloads, {TOOLS} tools with a context each, leases of "
        f"{lease} s. There were as many updates as events (counted, not compared by id).",
        facts={str(size): [one.backlog for one in runs] for size, runs in found.items()},
    )
    for size, runs in found.items():
        result.add(f"backlog of {size}, first update", "s", (one.first for one in runs))
        result.add(f"backlog of {size}, done", "s", (one.drained for one in runs))
    return result


OPTIONS = (
    (
        "--backlogs",
        {"type": int, "nargs": "+", "default": [2000, 20_000], "help": "events of each backlog"},
    ),
)

if __name__ == "__main__":
    main("recovery", __doc__, run, *OPTIONS)
