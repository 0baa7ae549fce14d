"""Latency of ``critical`` updates while ``low`` ones come faster than they can be delivered.

``python -m bench.priority`` starts the whole system, floods one context with real payloads at low
priority, posts critical ones at a fixed rate beside them, and measures from before each post to its
frame on the client's WebSocket: by the schedule, so that a post which is late counts as late.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.fixtures import github_examples
from tests.support.stack import Stack

RESULTS = Path(__file__).parent / "results" / "priority.json"
RATE = 25.0
WARM_UP_SECONDS = 3.0
#: Most events of low priority in one run: what waits stays bounded.
MAX_LOW = 100_000


@dataclass(frozen=True)
class Load:
    """``connections`` post low events as fast as they are taken, for so many contexts."""

    name: str
    connections: int
    contexts: int = 1
    same_tool: bool = False


LOADS = (
    Load("none", 0),
    Load("low, as fast as it is received", 16),
    Load("low for 8 contexts: more than is delivered", 16, contexts=8),
    Load("low and critical by the same tool", 16, same_tool=True),
)


async def set_up(stack: Stack, contexts: int, same_tool: bool) -> tuple[str, str]:
    """A context for low and critical updates, others for low ones; returns the two tools."""
    low = {"provider": "none", "dedup": {"strategy": "none"}}
    await stack.put("/tools/low", low)
    await stack.put("/tools/urgent", low)
    for n in range(contexts):
        await stack.put(f"/contexts/c{n}", {"priority": "low"})
        await stack.put(f"/contexts/c{n}/subscriptions/low", {"tool": "low", "types": ["*"]})
    urgent = {"tool": "low" if same_tool else "urgent", "priority": "critical"}
    if same_tool:
        urgent["where"] = "has(payload.urgent)"
    await stack.put("/contexts/c0/subscriptions/urgent", urgent)
    return "low", "low" if same_tool else "urgent"


class Run:
    """One run: what was posted, and when each critical update came."""

    def __init__(self, stack: Stack, seconds: float) -> None:
        self.stack = stack
        self.seconds = seconds
        self.low_sent = 0
        self.due: dict[int, float] = {}
        self.came: dict[int, float] = {}
        self.stop = asyncio.Event()
        self.moved = asyncio.Event()

    async def flood(self, session: aiohttp.ClientSession, tool: str, bodies: list[bytes]) -> None:
        while not self.stop.is_set() and self.low_sent < MAX_LOW:
            self.low_sent += 1
            body = bodies[self.low_sent % len(bodies)]
            async with session.post(f"/hooks/{tool}", data=body) as response:
                assert response.status == 202, await response.text()

    async def urgent(self, session: aiohttp.ClientSession, tool: str) -> None:
        begun = time.perf_counter() + WARM_UP_SECONDS
        posts = []
        for n in range(int(self.seconds * RATE)):
            self.due[n] = begun + n / RATE
            await asyncio.sleep(max(0.0, self.due[n] - time.perf_counter()))
            posts.append(asyncio.create_task(self._post(session, tool, n)))
        await asyncio.gather(*posts)

    async def _post(self, session: aiohttp.ClientSession, tool: str, n: int) -> None:
        body = json.dumps({"urgent": n, "title": f"urgent {n}"})
        async with session.post(f"/hooks/{tool}", data=body) as response:
            assert response.status == 202, await response.text()

    async def all_came(self) -> None:
        """Wait for the last critical update."""
        while len(self.came) < len(self.due):
            self.moved.clear()
            await self.moved.wait()

    async def listen(self) -> None:
        async with (
            self.stack.session() as session,
            session.ws_connect("/contexts/c0/updates?after=0", max_msg_size=0) as socket,
        ):
            async for message in socket:
                # most frames are low ones: parsing each would cost the cores that are measured
                if '"priority":"critical"' in message.data:
                    update = message.json()
                    self.came.setdefault(
                        int(update["summary"].rpartition("urgent ")[2]), time.perf_counter()
                    )
                    self.moved.set()


async def measure(stack: Stack, load: Load, seconds: float) -> dict[str, Any]:
    """One run under a load."""
    low, urgent = await set_up(stack, load.contexts, load.same_tool)
    bodies = [example.body for example in github_examples()]
    run = Run(stack, seconds)
    listener = asyncio.create_task(run.listen())
    async with aiohttp.ClientSession(
        stack.url, connector=aiohttp.TCPConnector(limit=load.connections + 16)
    ) as session:
        floods = [
            asyncio.create_task(run.flood(session, low, bodies)) for _ in range(load.connections)
        ]
        begun = time.perf_counter()
        await run.urgent(session, urgent)
        run.stop.set()
        await asyncio.gather(*floods)
        flooded = time.perf_counter() - begun
    delivered = 0
    for n in range(load.contexts):
        delivered += (await stack.get(f"/contexts/c{n}"))["last_seq"]
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(run.all_came(), 60)
    listener.cancel()
    lost = len(run.due) - len(run.came)
    took = sorted((run.came[n] - run.due[n]) * 1000 for n in run.came)
    return {
        "load": load.name,
        "critical": len(run.due),
        "critical_missing": lost,
        "p50_ms": round(statistics.median(took), 1),
        "p99_ms": round(took[int(len(took) * 0.99)], 1),
        "max_ms": round(took[-1], 1),
        "low_events_per_second": round(run.low_sent / flooded),
        "updates_per_second": round(delivered / flooded),
        "low_updates_waiting": max(0, run.low_sent * load.contexts + len(run.due) - delivered),
    }


def main() -> None:
    """Run, print a table, and with ``--write`` keep the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    rows = []
    for load in LOADS:
        found = []
        for _ in range(arguments.runs):
            with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
                found.append(asyncio.run(measure(stack, load, arguments.seconds)))
            print(json.dumps(found[-1]), flush=True)
        middle = sorted(found, key=lambda row: row["p99_ms"])[len(found) // 2]
        rows.append({**middle, "p99_ms_of_runs": sorted(row["p99_ms"] for row in found)})
    columns = ("p50_ms", "p99_ms", "max_ms", "low_events_per_second", "low_updates_waiting")
    print(f"{'load':<44}" + "".join(f"{name:>24}" for name in columns))
    for row in rows:
        print(f"{row['load']:<44}" + "".join(f"{row[name]:>24}" for name in columns))
    if arguments.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
