"""What the pipeline costs: a worker on a backlog, and FastStream with an empty handler beside it.

``python -m bench.worker [--quick] [--write]``. A worker starts on a backlog of GitHub events, each
a different one, and does all there is to do: deduplicating, routing, summarising, delivering into
feeds, recording in PostgreSQL. It is measured from its first update to the last acknowledgement.
FastStream reads the same entries from one stream of the same Redis and does nothing with them.
"""

import argparse
import asyncio
import base64
import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import aiohttp

from bench.measure import Result, main, progress
from bench.payloads import Entries
from bench.system import System, cpu_seconds, system
from hookstream.codecs.dictionaries import Dictionary

__all__ = ["Drained", "drain"]

TOOLS = 8
MANY_CONTEXTS = 4
STAGES = ("dedupe", "check", "mask", "route", "render", "commit", "deliver", "audit")
ONE_BY_ONE, IN_BATCHES = "FastStream, one by one", "FastStream, batches of 64"
STAGE_SECONDS = re.compile(r'^hookstream_stage_seconds_total\{stage="(\w+)"\} (\S+)$', re.MULTILINE)


@dataclass(slots=True)
class Drained:
    """What a worker took for a backlog."""

    rate: float
    cpu_us: float
    redis_cpu_us: float
    stage_us: dict[str, float] = field(default_factory=dict)


async def drain(running: System, entries: Sequence[tuple[int, bytes]], contexts: int) -> Drained:
    """Put a backlog into its streams, start a worker on it, and wait until all of it is done."""
    count = len(entries)
    async with running.client() as client:
        before = await running.delivered(client)
        await running.append(client, entries)
        # it works from its start on: what it did before it was looked at is not counted
        worker = await asyncio.to_thread(running.launch, "worker")
        first = await running.until(lambda: running.delivered(client), before + 1, "updates")
        begun, cpu, redis_cpu = (
            time.perf_counter(),
            cpu_seconds(worker),
            running.redis_cpu_seconds(),
        )
        wanted = before + count * contexts
        await running.until(lambda: running.delivered(client), wanted, "updates")
        await running.until_settled(client)
        seconds = time.perf_counter() - begun
        cpu, redis_cpu = cpu_seconds(worker) - cpu, running.redis_cpu_seconds() - redis_cpu
        if (found := await running.delivered(client)) != wanted:
            raise RuntimeError(f"{found - before} updates of {count} events")
        stages = await stage_seconds(running.worker_port)
        await asyncio.to_thread(running.end, "worker")
    measured = count - (first - before) / contexts
    if measured < count * 0.5:
        raise RuntimeError("more than half was done before it could be looked at: a larger backlog")
    return Drained(
        measured / seconds,
        cpu / measured * 1e6,
        redis_cpu / measured * 1e6,
        {stage: seconds / count * 1e6 for stage, seconds in stages.items()},
    )


async def stage_seconds(port: int) -> dict[str, float]:
    """Wall time in each stage since the worker's start."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics") as response,
    ):
        found = STAGE_SECONDS.findall(await response.text())
    return {stage: float(seconds) for stage, seconds in found}


async def peer(
    running: System, entries: Sequence[tuple[int, bytes]], *, batch: bool
) -> dict[str, float]:
    """FastStream on the same entries, as its own publisher would have written them."""
    # here: who asks for the figures of this module need not wait for FastStream
    from faststream.redis import BinaryMessageFormatV1

    stream = "bench:peer"
    async with running.client() as client:
        pipe = client.pipeline(transaction=False)
        for _, data in entries:
            # a batch is put together as JSON, which bytes have no place in
            message: Any = base64.b64encode(data).decode() if batch else data
            field = await BinaryMessageFormatV1.encode(
                message=message, reply_to=None, headers=None, correlation_id="bench"
            )
            pipe.xadd(stream, {"__data__": field})
            if len(pipe) >= 500:
                await pipe.execute()
        await pipe.execute()
        command = [sys.executable, "-m", "bench.peer", running.redis_url, stream]
        done = await asyncio.to_thread(
            subprocess.run,
            [*command, str(len(entries)), *(["--batch"] if batch else [])],
            capture_output=True,
            text=True,
            timeout=180,
            check=True,
        )
        await client.delete(stream)
    found: dict[str, float] = json.loads(done.stdout)
    return found


async def measure(
    running: System, given: argparse.Namespace
) -> tuple[dict[int, list[Drained]], dict[str, list[dict[str, float]]]]:
    """All runs, in turns."""
    running.launch("receiver")
    tools = await running.tools(TOOLS)
    dictionaries: Mapping[str, Dictionary] = {}
    if not given.quick:
        progress("training compression dictionaries")
        dictionaries = await running.train(tools)
    entries = Entries(running.partitions, dictionaries)
    drained: dict[int, list[Drained]] = {1: [], MANY_CONTEXTS: []}
    peers: dict[str, list[dict[str, float]]] = {ONE_BY_ONE: [], IN_BATCHES: []}
    for _ in range(given.runs):
        made = entries.make(tools, given.events)
        drained[1].append(await drain(running, made, 1))
        progress(f"worker: {drained[1][-1].rate:.0f} events/s")
        for name in peers:
            peers[name].append(await peer(running, made, batch=name == IN_BATCHES))
            progress(f"{name}: {peers[name][-1]['rate']:.0f} events/s")
    await running.tools(TOOLS, contexts=MANY_CONTEXTS)
    for _ in range(given.runs):
        made = entries.make(tools, max(400, given.events // MANY_CONTEXTS))
        drained[MANY_CONTEXTS].append(await drain(running, made, MANY_CONTEXTS))
        progress(
            f"worker, {MANY_CONTEXTS} contexts: {drained[MANY_CONTEXTS][-1].rate:.0f} events/s"
        )
    return drained, peers


def run(given: argparse.Namespace) -> Result:
    """Everything, in one system."""
    if given.quick:
        given.events = 400
    with system() as running:
        drained, peers = asyncio.run(measure(running, given))
    result = Result(
        f"A backlog of {given.events} of GitHub's example payloads, each different, of {TOOLS} "
        "tools with a context each, in 32 partitions; one worker process, measured from its first "
        "update until every stream is at rest. Stages: wall time, awaiting Redis and PostgreSQL "
        "and each other, so they add up to more than the CPU time. FastStream "
        f"{version('faststream')}: the same entries in one stream, a consumer group, an empty "
        "handler, uvloop; in batches as base64, since it puts a batch together as JSON.",
        facts={"faststream": version("faststream"), "events": given.events},
    )
    result.add("worker", "events/s", (one.rate for one in drained[1]))
    many = f"worker, {MANY_CONTEXTS} contexts an event"
    result.add(many, "events/s", (one.rate for one in drained[MANY_CONTEXTS]))
    for name, found in peers.items():
        result.add(name, "events/s", (one["rate"] for one in found))
    for name, found in peers.items():
        pairs = zip(drained[1], found, strict=True)
        result.add(f"worker to {name}", "ratio", (a.rate / b["rate"] for a, b in pairs))
    one = result.add("worker", "µs of CPU an event", (one.cpu_us for one in drained[1]))
    four = result.add(
        many, "µs of CPU an event", (found.cpu_us for found in drained[MANY_CONTEXTS])
    )
    pairs = zip(drained[MANY_CONTEXTS], drained[1], strict=True)
    result.add(f"{many}, to one", "ratio", (a.cpu_us / b.cpu_us for a, b in pairs))
    redis = result.add(
        "Redis beside the worker", "µs of CPU an event", (one.redis_cpu_us for one in drained[1])
    )
    for name, found in peers.items():
        result.add(name, "µs of CPU an event", (one["cpu_us"] for one in found))
    for stage in STAGES:
        values = [found.stage_us.get(stage, 0.0) for found in drained[1]]
        result.add(f"stage {stage}", "µs of wall time an event", values)
    # on a busy machine the difference may come out as anything: never below 0, nor above the whole
    context = min(one.median, max(0.0, (four.median - one.median) / (MANY_CONTEXTS - 1)))
    result.model = {
        "worker_cpu_us": one.median - context,
        "worker_context_cpu_us": context,
        "redis_cpu_us": redis.median,
    }
    return result


OPTIONS = (("--events", {"type": int, "default": 20_000, "help": "events of the backlog"}),)

if __name__ == "__main__":
    main("worker", __doc__, run, *OPTIONS)
