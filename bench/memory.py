"""What an event takes up: bytes in Redis by kind of key, on disk, in PostgreSQL; and processes.

``python -m bench.memory [--quick] [--write]``. Events come over HTTP and go through the whole
system; what all keys take is measured before and after, when everything is at rest. Two sizes of
payload tell what each event takes from what each byte of it takes.
"""

import argparse
import asyncio
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg

from bench.growth import fill_and_judge
from bench.load import Posted, Target, beside, post_on
from bench.measure import Result, main, progress
from bench.payloads import numbered
from bench.system import SECRET, System, system

TOOLS = 8
SMALL_BYTES = 512
#: Of the table whose size on disk is measured.
TABLE_KEYS = 500_000
#: ``{hs:7}:events`` → events; ``hs:dictionaries`` → dictionaries
KIND = re.compile(r"^(?:\{hs:[^}]*\}|hs):([a-z-]+(?::high|:normal|:low|:rates)?)")


@dataclass(slots=True)
class Taken:
    """Bytes at one moment."""

    used: int
    kinds: Counter[str]
    aof: int
    postgres: int
    receiver: int
    worker: int


async def take(running: System, client: Any, processes: dict[str, Any]) -> Taken:
    """Look at everything."""
    async with asyncio.timeout(60):
        await running.until_settled(client)
    kinds: Counter[str] = Counter()
    async for key in client.scan_iter(count=1000):
        match = KIND.match(key.decode())
        name = match.group(1) if match else "other"
        kinds[name] += await client.memory_usage(key, samples=0) or 0
    postgres = await asyncpg.connect(running.settings["HOOKSTREAM_POSTGRES_URL"])
    try:
        database = await postgres.fetchval("SELECT pg_database_size(current_database())")
    finally:
        await postgres.close()
    info = await client.info()
    return Taken(
        info["used_memory"],
        kinds,
        info["aof_current_size"],
        database,
        processes["receiver"].memory_info().rss,
        processes["worker"].memory_info().rss,
    )


async def send(
    running: System, post: Any, client: Any, tools: list[str], count: int, size: int
) -> None:
    """So many events over HTTP, all the way."""
    before = await running.delivered(client)
    target = Target(running.port, tools, SECRET, size=size)
    posted: Posted = await asyncio.wrap_future(post(post_on, target, 120.0, count))
    if posted.statuses[202] != count:
        raise RuntimeError(f"not everything was accepted: {dict(posted.statuses)}")
    await running.until(lambda: running.delivered(client), before + count, "updates")


async def measure(
    running: System, post: Any, given: argparse.Namespace
) -> tuple[dict[int, list[tuple[Taken, Taken]]], Taken, Taken]:
    """Before and after, by payload size and run; and the first and the last look."""
    processes = {"receiver": running.launch("receiver")}
    tools = await running.tools(TOOLS)
    if not given.quick:
        progress("training compression dictionaries")
        await running.train(tools)
    processes["worker"] = running.launch("worker")
    async with running.client() as client:
        await send(running, post, client, tools, min(given.events, 500), 0)
        first = last = await take(running, client, processes)
        taken: dict[int, list[tuple[Taken, Taken]]] = {0: [], SMALL_BYTES: []}
        for _ in range(given.runs):
            for size, found in taken.items():
                before = last
                await send(running, post, client, tools, given.events, size)
                last = await take(running, client, processes)
                found.append((before, last))
                progress(f"{(last.used - before.used) / given.events:.0f} bytes an event")
    return taken, first, last


def run(given: argparse.Namespace) -> Result:
    """Everything, in one system."""
    if given.quick:
        given.events = 300
    with system() as running, beside() as post:
        taken, first, last = asyncio.run(measure(running, post, given))
    bodies = numbered()
    large = round(mean(len(next(bodies)[1]) for _ in range(324)))
    result = Result(
        f"{given.events} events a run over HTTP, through the whole system, of {TOOLS} tools with a "
        f"context each; difference of used_memory, and of MEMORY USAGE by kind of key. GitHub's "
        f"example payloads ({large} bytes on average), and payloads of {SMALL_BYTES} bytes of "
        "random words, packed with dictionaries trained on the former. The append-only file is as "
        "it grows before it is rewritten.",
        facts={"events_at_the_end": given.events * given.runs * 2},
    )
    events: dict[int, float] = {}
    for size, found in taken.items():
        name = f"payloads of {size or large} bytes"

        def each(value: Any, pairs: Any = found) -> list[float]:
            return [(value(after) - value(before)) / given.events for before, after in pairs]

        result.add(f"Redis, {name}", "bytes an event", each(lambda taken: taken.used))
        kinds = sorted({kind for _, after in found for kind in after.kinds})
        for kind in kinds:
            values = each(lambda taken, kind=kind: taken.kinds[kind])
            if max(values) >= 1:
                row = result.add(f"{kind}, {name}", "bytes an event", values)
                if kind == "events":
                    events[size] = row.median
                if kind in ("feed", "changelog"):
                    result.model[f"redis_{kind}_bytes"] = max(
                        row.median, result.model.get(f"redis_{kind}_bytes", 0.0)
                    )
        aof = result.add(f"append-only file, {name}", "bytes an event", each(lambda t: t.aof))
        stored = each(lambda taken: taken.postgres)
        postgres = result.add(f"PostgreSQL, {name}", "bytes an event", stored)
        if not size:
            result.model |= {"aof_bytes": aof.median, "postgres_bytes": postgres.median}
    slope = (events.get(0, 0) - events.get(SMALL_BYTES, 0)) / (large - SMALL_BYTES)
    slope = max(0.0, slope)
    result.model |= {
        "redis_event_bytes": max(0.0, events.get(SMALL_BYTES, 0) - slope * SMALL_BYTES),
        "redis_bytes_per_payload_byte": slope,
        "payload_bytes": large,
    }
    keys = 2000 if given.quick else TABLE_KEYS
    with TemporaryDirectory(prefix="hookstream-bench-") as folder:
        table = fill_and_judge(Path(folder), keys, 1000, 1)[0].disk_bytes
    result.add(f"dedup table of {keys:,} keys", "bytes of disk a key", [table])
    result.model["table_bytes"] = table
    for name in ("receiver", "worker"):
        values = [getattr(look, name) / 2**20 for look in (first, last)]
        result.add(f"resident memory of the {name}, first and last", "MiB", values)
        result.model[f"{name}_bytes"] = max(values) * 2**20
    return result


OPTIONS = (("--events", {"type": int, "default": 5000, "help": "events a run"}),)

if __name__ == "__main__":
    main("memory", __doc__, run, *OPTIONS)
