"""Half an hour at a fixed rate: do latency and memory stay as they are?

``python -m bench.soak [--rate N] [--minutes M] [--quick] [--write]``. The whole system and its load
as in :mod:`bench.end_to_end`, without a pause. One event in some is followed from its due time to
its frame; all are counted, and their sequence numbers have no gap. Meanwhile the memory of every
process is looked at. Events are hot, then warm, for ``--keep`` each; dedup windows and copy windows
are as long, and each feed keeps ``--updates``: what Redis holds should grow until all of these are
full, which is to be within the first third, and no more afterwards.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.end_to_end import LEAD_SECONDS, TOOLS, percentile
from bench.load import Posted, Target, Watched, beside, post_at_rate, watch
from bench.measure import Result, main, progress
from bench.system import SECRET, TOOL, System, system
from hookstream.app.durations import duration_seconds
from hookstream.app.redis import keys

__all__ = ["Sample", "a_part", "slope"]

PARTS = 6
LOOK_SECONDS = 10.0
SAY_SECONDS = 30.0
ARRIVE_SECONDS = 60.0
#: Events whose latency is kept, about.
FOLLOWED = 200_000
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory at a time (``time.monotonic()``): resident bytes by process, and Redis's own count."""

    at: float
    resident: dict[str, int]
    redis_used: int


def a_part(at: float, begin: float, seconds: float, parts: int = PARTS) -> int:
    """Which of the equal parts of the time a moment is in, from 0."""
    return min(parts - 1, max(0, int((at - begin) / seconds * parts)))


def slope(points: Sequence[tuple[float, float]]) -> float:
    """By how much the second value grows as the first grows by one (least squares)."""
    xs, ys = zip(*points, strict=True)
    return statistics.linear_regression(xs, ys).slope


async def look(running: System, client: Any, processes: dict[str, Any]) -> Sample:
    """One sample."""
    used = (await client.info("memory"))["used_memory"]
    resident = {name: process.memory_info().rss for name, process in processes.items()}
    return Sample(time.monotonic(), resident, used)


async def soak(
    running: System, start: Any, given: argparse.Namespace
) -> tuple[float, Posted, Watched, list[Sample], int]:
    """The time at which it began, what was sent, what came, the samples, and dead letters."""
    processes = {"receiver": running.launch("receiver"), "Redis": running.server("valkey")}
    tools = await running.tools(TOOLS)
    if not given.quick:
        progress("training compression dictionaries")
        await running.train(tools)
    dedup = {"strategy": "delivery", "window": given.keep}
    ttl = {"hot": given.keep, "warm": given.keep, "cold": "365d"}
    for tool in tools:
        await running.put(f"/tools/{tool}", {**TOOL, "dedup": dedup, "ttl": ttl})
        await running.put(f"/contexts/{tool}-0", {"retention": {"updates": given.updates}})
    processes["worker"] = running.launch("worker")
    seconds = given.minutes * 60
    count = int(given.rate * seconds)
    every = max(1, count // FOLLOWED)
    contexts = await running.last_seqs(f"{tool}-0" for tool in tools)
    begin = time.monotonic() + LEAD_SECONDS
    until = begin + seconds + ARRIVE_SECONDS
    clients = start(watch, running.url, running.key, contexts, count, until, every)
    target = Target(running.port, tools, SECRET, 64)
    load = asyncio.wrap_future(start(post_at_rate, target, given.rate, count, begin, every))
    samples: list[Sample] = []
    async with running.client() as client:
        came = await running.delivered(client)
        said = begin
        while not load.done():
            await asyncio.wait([load], timeout=min(LOOK_SECONDS, seconds / PARTS / 2))
            samples.append(await look(running, client, processes))
            if time.monotonic() - said >= SAY_SECONDS:
                said = time.monotonic()
                memory = ", ".join(
                    f"{name} {rss // MIB} MiB" for name, rss in samples[-1].resident.items()
                )
                done = await running.delivered(client) - came
                progress(f"{(said - begin) / 60:.1f} min: {done} delivered; {memory}")
        watched = await asyncio.wrap_future(clients)
        pipe = client.pipeline(transaction=False)
        for partition in range(running.partitions):
            pipe.zcard(keys.dead(partition))
        dead = sum(await pipe.execute())
    return begin, await load, watched, samples, dead


def run(given: argparse.Namespace) -> Result:
    """One run."""
    if given.quick:
        given.rate, given.minutes = 100.0, 0.05
    copies = str(int(duration_seconds(given.keep)))
    with system(HOOKSTREAM_COPY_WINDOW_SECONDS=copies) as running, beside(2) as start:
        begin, posted, watched, samples, dead = asyncio.run(soak(running, start, given))
    seconds = given.minutes * 60
    accepted = posted.statuses[202]
    result = Result(
        f"{given.rate:g} signed GitHub events a second for {given.minutes:g} minutes without a "
        f"pause, as in the table before. {len(posted.due)} of {posted.count} events were followed; "
        "all were counted, and their numbers had to be without gaps. Parts: sixths of the time, "
        "memory at the end of each. Growth: a straight line through the last two thirds. Events "
        f"are hot for {given.keep}, warm for {given.keep} more, dedup and copy windows as long; "
        f"feeds keep {given.updates:,} updates each.",
        facts={
            "sent": posted.count,
            "refused": posted.count - accepted,
            "lost": max(0, accepted - watched.frames),
            "doubled": max(watched.again, watched.frames - accepted),
            "gaps": watched.gaps,
            "dead_letters": dead,
        },
    )
    latencies: list[list[float]] = [[] for _ in range(PARTS)]
    for event_id, due in posted.due.items():
        if event_id in watched.came:
            latencies[a_part(due, begin, seconds)].append(watched.came[event_id] - due)
    last = {a_part(sample.at, begin, seconds): sample for sample in samples if sample.at >= begin}
    for number, values in enumerate(latencies):
        name = f"part {number + 1} of {PARTS}"
        if values:
            ordered = sorted(values)
            result.add(f"{name}, latency p50", "ms", [percentile(ordered, 0.5) * 1000])
            result.add(f"{name}, latency p99", "ms", [percentile(ordered, 0.99) * 1000])
        if number in last:
            for process, resident in last[number].resident.items():
                result.add(f"{name}, {process} resident", "MiB", [resident / MIB])
    settled = [sample for sample in samples if sample.at >= begin + seconds / 3]
    if len(settled) > 1:
        for process in settled[0].resident:
            grown = slope([(sample.at, sample.resident[process] / MIB) for sample in settled])
            result.add(f"{process} resident grows by", "MiB an hour", [grown * 3600])
        held = slope([(sample.at, sample.redis_used) for sample in settled])
        result.add("Redis holds", "bytes an event", [held / given.rate])
        used = statistics.mean(sample.redis_used for sample in settled)
        result.add("Redis grows", "% an hour", [held * 3600 / used * 100])
    p99s = [percentile(sorted(values), 0.99) for values in (latencies[0], latencies[-1]) if values]
    if len(p99s) == 2:
        result.add("latency p99, last part to first", "ratio", [p99s[1] / p99s[0]])
    return result


OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--rate", {"type": float, "default": 2000.0, "help": "events a second"}),
    ("--minutes", {"type": float, "default": 30.0, "help": "how long"}),
    ("--keep", {"default": "5m", "help": "how long events are hot, and how long they are warm"}),
    ("--updates", {"type": int, "default": 20_000, "help": "updates that each feed keeps"}),
)

if __name__ == "__main__":
    main("soak", __doc__, run, *OPTIONS)
