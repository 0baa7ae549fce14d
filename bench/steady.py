"""What an event costs a worker that is not busy: CPU time and latency at steady rates.

``python -m bench.steady [--rates 500 2000] [--seconds S] [--quick] [--write] [--profile]``. Events
are appended to their streams one by one, by the schedule, as receivers do; a worker takes them to
their feeds. Small batches are what costs here. A latency begins when an event was due, and ends
with the wake-up that says that it is in its feed. With ``--profile`` it says where the worker's
time went, too.
"""

import argparse
import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from bench.end_to_end import percentile
from bench.measure import Result, main, progress
from bench.payloads import Entries
from bench.profile import ROWS, sample
from bench.system import System, system
from bench.worker import TOOLS
from hookstream.app.redis import keys

__all__ = ["Steady", "steady"]

WARM_SECONDS = 3.0
BATCH_EVENTS = re.compile(
    r'^hookstream_batch_events_(count|sum)\{channel="([\w:]+)"\} (\S+)$', re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Steady:
    """What a rate took, µs of CPU an event by part; scripts an event and their µs in Redis."""

    rate: float
    cpu_us: dict[str, float]
    scripts: float
    script_us: float
    #: Events of a batch, by channel.
    batch: dict[str, float]
    latencies: list[float]


class Arrivals:
    """When each event was due, and when the wake-up came that says it is in its feed."""

    def __init__(self) -> None:
        self.due: dict[str, list[float]] = defaultdict(list)
        self.latencies: list[float] = []
        self._seen: dict[str, int] = {}

    def sent(self, tool: str, due: float) -> None:
        """An event of a tool was due; each tool has one context, which gets them in order."""
        self.due[tool].append(due)

    def told(self, tool: str, seq: int, first: int, now: float) -> None:
        """A feed that had ``first`` updates before has come to ``seq``."""
        known = self._seen.get(tool, 0)
        self.latencies += [now - due for due in self.due[tool][known : seq - first]]
        self._seen[tool] = max(known, seq - first)


async def steady(
    running: System, tools: Sequence[str], entries: Entries, rate: float, seconds: float
) -> Steady:
    """Append at ``rate``, and wait until all of it is done."""
    made = entries.make(tools, max(1, int(rate * seconds)))
    arrivals = Arrivals()
    async with running.client() as client, running.client() as listener:
        await running.until_settled(client)
        first = await running.last_seqs(f"{tool}-0" for tool in tools)
        before = await running.delivered(client)
        pubsub = listener.pubsub(ignore_subscribe_messages=True)
        await pubsub.psubscribe("hs:feed:*")
        hearing = asyncio.create_task(_hear(pubsub, arrivals, first))
        await client.config_resetstat()
        batches, cpu = await _batches(running.worker_port), running.cpu_by_part()
        begin = time.monotonic() + 0.1
        at = 0
        while at < len(made):
            await asyncio.sleep(max(0.0, begin + at / rate - time.monotonic()))
            # what has become due meanwhile goes together, as a receiver's appends do
            pipe, now = client.pipeline(transaction=False), time.monotonic()
            while at < len(made) and begin + at / rate <= now:
                arrivals.sent(tools[at % len(tools)], begin + at / rate)
                pipe.xadd(keys.events(made[at][0]), {"d": made[at][1]})
                at += 1
            await pipe.execute()
        await running.until(lambda: running.delivered(client), before + len(made), "updates")
        await running.until_settled(client)
        cpu = {name: now - cpu[name] for name, now in running.cpu_by_part().items()}
        stats = await client.info("commandstats")
        hearing.cancel()
        after = await _batches(running.worker_port)
    scripts = stats["cmdstat_evalsha"]
    return Steady(
        rate,
        {name: used / len(made) * 1e6 for name, used in cpu.items()},
        scripts["calls"] / len(made),
        scripts["usec"] / len(made),
        {
            channel: (after[channel][1] - had[1]) / max(1.0, after[channel][0] - had[0])
            for channel, had in batches.items()
        },
        sorted(arrivals.latencies),
    )


async def _hear(pubsub: Any, arrivals: Arrivals, first: Mapping[str, int]) -> None:
    async for message in pubsub.listen():
        context = message["channel"].decode().rpartition("/")[2]
        tool = context.removesuffix("-0")
        arrivals.told(tool, int(message["data"]), first[context], time.monotonic())


async def _batches(port: int) -> dict[str, tuple[float, float]]:
    """How many batches each channel has had, and how many events in them."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics") as response,
    ):
        found = BATCH_EVENTS.findall(await response.text())
    counts: dict[str, dict[str, float]] = defaultdict(lambda: {"count": 0.0, "sum": 0.0})
    for kind, channel, value in found:
        counts[channel][kind] = float(value)
    return {name: (each["count"], each["sum"]) for name, each in counts.items()}


async def measure(running: System, given: argparse.Namespace) -> dict[float, list[Steady]]:
    """All runs, by rate."""
    running.launch("receiver")
    tools = await running.tools(TOOLS)
    progress("training compression dictionaries")
    dictionaries = {} if given.quick else await running.train(tools)
    entries = Entries(running.partitions, dictionaries)
    worker = await asyncio.to_thread(running.launch, "worker")
    await steady(running, tools, entries, min(given.rates), WARM_SECONDS)
    found: dict[float, list[Steady]] = {rate: [] for rate in given.rates}
    for _ in range(given.runs):
        for rate, runs in found.items():
            looking = None
            if given.profile:
                looking = asyncio.create_task(
                    asyncio.to_thread(sample, worker.pid, given.seconds - 0.5)
                )
            one = await steady(running, tools, entries, rate, given.seconds)
            if looking is not None:
                progress(f"{rate:g}/s\n{(await looking).table(2 * ROWS)}")
            runs.append(one)
            progress(
                f"{rate:g}/s: worker {one.cpu_us['worker']:.0f} µs, Redis "
                f"{one.cpu_us['Redis']:.0f} µs, p50 {percentile(one.latencies, 0.5) * 1e3:.1f} ms"
            )
    return found


def run(given: argparse.Namespace) -> Result:
    """Everything, in one system."""
    if given.quick:
        given.rates, given.seconds = [100.0], 1.0
    with system() as running:
        found = asyncio.run(measure(running, given))
    result = Result(
        f"GitHub's example payloads, each different, of {TOOLS} tools with a context each, in 32 "
        f"partitions, appended one by one for {given.seconds:g} s; one worker process. Latency: "
        "from when an event was due to the wake-up that says that it is in its feed."
    )
    for rate, runs in found.items():
        for part in ("worker", "Redis", "PostgreSQL"):
            result.add(
                f"{part} at {rate:g}/s", "µs of CPU an event", (one.cpu_us[part] for one in runs)
            )
        result.add(f"scripts at {rate:g}/s", "an event", (one.scripts for one in runs))
        result.add(f"scripts at {rate:g}/s", "µs an event", (one.script_us for one in runs))
        for channel in ("events", "updates", "audit"):
            result.add(
                f"batch of {channel} at {rate:g}/s", "entries", (one.batch[channel] for one in runs)
            )
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            values = [percentile(one.latencies, share) * 1000 for one in runs]
            result.add(f"latency at {rate:g}/s, {name}", "ms", values)
    return result


OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "--rates",
        {"type": float, "nargs": "+", "default": [500.0, 2000.0], "help": "events a second"},
    ),
    ("--seconds", {"type": float, "default": 6.0, "help": "seconds a run"}),
    ("--profile", {"action": "store_true", "help": "sample the worker's stacks meanwhile"}),
)

if __name__ == "__main__":
    main("steady", __doc__, run, *OPTIONS)
