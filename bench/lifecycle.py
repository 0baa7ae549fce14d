"""What an event costs on its way through the tiers: bytes in each, CPU to move it, time to find it.

``python -m bench.lifecycle [--quick] [--write]``. Events go through the whole system over HTTP, and
become warm, then cold, by a changed ``ttl`` and a run of the lifecycle; what the worker, Redis and
PostgreSQL use of CPU meanwhile is that of moving, with what they use anyway taken off.
"""

import argparse
import asyncio
import random
import time
from statistics import quantiles
from typing import Any

import aiohttp
from redis.asyncio import Redis

from bench.load import beside
from bench.measure import Result, main, progress
from bench.memory import send
from bench.system import TOOL, System, system
from hookstream.app.redis import keys

TOOLS = 8
LONG = {"hot": "365d", "warm": "365d", "cold": "365d"}
PATIENCE_SECONDS = 300.0
FOUND = 300
IDLE_SECONDS = 5.0


async def set_ttl(running: System, tools: list[str], **ttl: str) -> None:
    """Change how long the events of all tools stay where."""
    for tool in tools:
        await running.put(f"/tools/{tool}", {**TOOL, "ttl": {**LONG, **ttl}})


async def bytes_of(client: Redis, running: System, kind: str) -> int:
    """Memory of streams of events, or of warm blocks and their indexes."""
    size = 0
    for number in range(running.partitions):
        if kind == "hot":
            size += await client.memory_usage(keys.events(number), samples=0) or 0
        else:
            async for key in client.scan_iter(match=f"{{hs:{number}}}:warm*", count=1000):
                size += await client.memory_usage(key, samples=0) or 0
    return size


async def moved(
    running: System, session: aiohttp.ClientSession, tier: str, count: int
) -> dict[str, float]:
    """Ask for runs until so many events are in ``tier``; CPU seconds of each part meanwhile."""
    before, begun = running.cpu_by_part(), time.monotonic()
    deadline = begun + PATIENCE_SECONDS
    while True:
        async with session.post("/api/v1/lifecycle/run"):
            await asyncio.sleep(0.5)
        async with session.get("/api/v1/lifecycle") as response:
            shown = await response.json()
        if shown[tier].get("events", 0) >= count:
            break
        if time.monotonic() > deadline:
            raise RuntimeError(f"not all events are {tier}: {shown}")
    spent = time.monotonic() - begun
    used = {name: value - before[name] for name, value in running.cpu_by_part().items()}
    return {**used, "seconds": spent}


async def idle(running: System) -> dict[str, float]:
    """CPU seconds a second of each part while nothing happens."""
    before = running.cpu_by_part()
    await asyncio.sleep(IDLE_SECONDS)
    after = running.cpu_by_part()
    return {name: (after[name] - before[name]) / IDLE_SECONDS for name in after}


async def find(session: aiohttp.ClientSession, events: list[str]) -> list[float]:
    """Milliseconds to get each event with its payload, one after the other."""
    took = []
    for event_id in events:
        begun = time.perf_counter()
        async with session.get(f"/api/v1/events/{event_id}") as response:
            event = await response.json()
        took.append((time.perf_counter() - begun) * 1000)
        if "payload" not in event:
            raise RuntimeError(f"event {event_id} has no payload: {event}")
    return took


async def some_events(session: aiohttp.ClientSession, tools: list[str]) -> list[str]:
    """Ids of events all over, in any order."""
    found: list[str] = []
    for tool in tools:
        async with session.get("/api/v1/events", params={"tool": tool, "limit": "500"}) as response:
            found += [event["event_id"] for event in (await response.json())["events"]]
    return random.Random(0).sample(found, min(FOUND, len(found)))


async def measure(running: System, post: Any, given: argparse.Namespace) -> Result:
    """Once through all tiers."""
    running.launch("receiver")
    tools = await running.tools(TOOLS)
    await set_ttl(running, tools)
    if not given.quick:
        progress("training compression dictionaries")
        await running.train(tools)
    running.launch("worker")
    spent_us: dict[str, float] = {}
    result = Result(
        f"{given.events} of GitHub's example payloads, each different, of {TOOLS} tools, through "
        "the whole system; then warm and cold by a changed ttl. CPU of moving: what is used then, "
        "less what is used when nothing happens. Finding: GET of an event by its id over HTTP."
    )
    size: dict[str, float] = {}
    async with running.client() as client, running.session() as session:
        await send(running, post, client, tools, given.events, 0)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await running.until_settled(client)
        size["hot"] = await bytes_of(client, running, "hot")
        events = await some_events(session, tools)
        found = {"hot": await find(session, events)}
        rest = await idle(running)
        for tier, ttl in (("warm", {"hot": "1s"}), ("cold", {"hot": "1s", "warm": "1s"})):
            await set_ttl(running, tools, **ttl)
            used = await moved(running, session, tier, given.events)
            for part in ("worker", "Redis", "PostgreSQL"):
                spent = max(0.0, used[part] - rest[part] * used["seconds"])
                spent_us[f"{part}, to {tier}"] = spent / given.events * 1e6
            if tier == "warm":
                size["warm"] = await bytes_of(client, running, "warm")
            found[tier] = await find(session, events)
        async with session.get("/api/v1/lifecycle") as response:
            size["cold"] = (await response.json())["cold"]["bytes"]
    for name, value in spent_us.items():
        result.add(name, "µs of CPU an event", [value])
    both = spent_us["worker, to warm"] + spent_us["worker, to cold"]
    result.add("worker, through both tiers", "µs of CPU an event", [both])
    result.model = {
        "warm_event_bytes": size["warm"] / given.events,
        "archive_event_bytes": size["cold"] / given.events,
        "move_cpu_us": both,
    }
    for tier, taken in size.items():
        result.add(f"bytes {tier}", "bytes an event", [taken / given.events])
    for tier, took in found.items():
        cuts = quantiles(took, n=100)
        result.add(f"found {tier}, p50", "ms", [cuts[49]])
        result.add(f"found {tier}, p99", "ms", [cuts[98]])
    return result


def run(given: argparse.Namespace) -> Result:
    """Everything, in one system."""
    if given.quick:
        given.events = 600
    with system() as running, beside() as post:
        return asyncio.run(measure(running, post, given))


OPTIONS = (("--events", {"type": int, "default": 20_000, "help": "events"}),)

if __name__ == "__main__":
    main("lifecycle", __doc__, run, *OPTIONS)
