"""What receiving costs: one receiver process beside a bare aiohttp handler, in one run.

``python -m bench.ingest [--quick] [--write]``. Both read the same requests from the same load, in
turns, under the same event loop. The bare one answers 202 to whatever it has read; the receiver
answers once the event is in Redis: with GitHub's signature verified, and for a tool without one.
"""

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from statistics import mean
from typing import Any

import psutil

from bench.load import Posted, Target, beside, post_on
from bench.measure import Result, main, progress
from bench.payloads import numbered
from bench.system import SECRET, System, cpu_seconds, system
from hookstream.app.redis import keys
from tests.support.stack import free_port

BARE, SIGNED, UNSIGNED = "bare aiohttp", "receiver, signed", "receiver, no signature"


@contextmanager
def bare(port: int) -> Iterator[psutil.Process]:
    """The bare server, as long as it is needed."""
    child = subprocess.Popen(
        [sys.executable, "-m", "bench.bare", str(port)], stdin=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 30
        process = psutil.Process(child.pid)
        while not any(c.status == psutil.CONN_LISTEN for c in process.net_connections()):
            if child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the bare server did not start")
            time.sleep(0.05)
        yield process
    finally:
        child.terminate()
        child.wait(10)


async def prepare(running: System, *, trained: bool) -> None:
    """Two tools; with dictionaries, unless there is no time."""
    await running.put("/tools/signed", {"provider": "github", "secrets": [SECRET]})
    await running.put("/tools/unsigned", {"provider": "none"})
    if trained:
        progress("training compression dictionaries")
        await running.train(["signed", "unsigned"])
        await asyncio.sleep(3)  # receivers look for new ones every 2 s


async def forget(running: System) -> None:
    """Delete what was received: the backlog stays bounded."""
    async with running.client() as client:
        for partition in range(running.partitions):
            await client.xtrim(keys.events(partition), maxlen=0, approximate=False)


def one(post: Any, process: psutil.Process, target: Target, seconds: float) -> dict[str, float]:
    """One run against one server."""
    before = cpu_seconds(process)
    posted: Posted = post(post_on, target, seconds).result()
    used = cpu_seconds(process) - before
    if set(posted.statuses) != {202}:
        raise RuntimeError(f"not everything was accepted: {dict(posted.statuses)}")
    return {
        "rate": posted.count / posted.seconds,
        "cpu_us": used / posted.count * 1e6,
        "load": posted.cpu_seconds / posted.seconds * 100,
    }


def run(given: argparse.Namespace) -> Result:
    """All runs, in turns."""
    seconds = 0.3 if given.quick else given.seconds
    runs: dict[str, list[dict[str, float]]] = {BARE: [], SIGNED: [], UNSIGNED: []}
    port = free_port()
    with system() as running, beside() as post, bare(port) as plain:
        receiver = running.launch("receiver")
        asyncio.run(prepare(running, trained=not given.quick))
        targets = {
            BARE: (plain, Target(port, ["signed"], SECRET, given.connections)),
            SIGNED: (receiver, Target(running.port, ["signed"], SECRET, given.connections)),
            UNSIGNED: (receiver, Target(running.port, ["unsigned"], SECRET, given.connections)),
        }
        for number in range(given.runs + (not given.quick)):
            order = list(targets) if number % 2 else list(reversed(targets))
            for name in order:
                found = one(post, *targets[name], seconds)
                progress(f"{name}: {found['rate']:.0f} requests/s")
                if number or given.quick:  # the first is to warm up
                    runs[name].append(found)
            asyncio.run(forget(running))
    size = round(mean(len(body) for _, body in islice(numbered(), 324)))
    result = Result(
        f"One server process each, {given.connections} keep-alive connections, {seconds:g} s a "
        f"run, GitHub's example payloads ({size} bytes on average). The load is a process of raw "
        "asyncio connections (uvloop) with prebuilt requests, nothing pipelined; its share of a "
        "core says whether it was the limit.",
    )
    for name, found in runs.items():
        result.add(name, "requests/s", (row["rate"] for row in found))
    for name in (SIGNED, UNSIGNED):
        pairs = zip(runs[name], runs[BARE], strict=True)
        result.add(f"{name}, share of bare", "ratio", (a["rate"] / b["rate"] for a, b in pairs))
    for name in (SIGNED, UNSIGNED):
        pairs = zip(runs[name], runs[BARE], strict=True)
        ratios = (b["cpu_us"] / a["cpu_us"] for a, b in pairs)
        result.add(f"CPU of bare to {name}", "ratio", ratios)
    for name, found in runs.items():
        result.add(name, "µs of CPU a request", (row["cpu_us"] for row in found))
    for name, found in runs.items():
        result.add(f"load beside {name}", "% of a core", (row["load"] for row in found))
    cpu = {row.what: row.median for row in result.rows if row.unit.startswith("µs")}
    rate = {row.what: row.median for row in result.rows if row.unit == "requests/s"}
    result.model = {
        "receiver_cpu_us": cpu[SIGNED],
        "receiver_requests_per_second": rate[SIGNED],
        "receiver_payload_bytes": size,
    }
    return result


OPTIONS = (
    ("--seconds", {"type": float, "default": 3.0, "help": "seconds a run"}),
    ("--connections", {"type": int, "default": 32, "help": "connections of the load"}),
)

if __name__ == "__main__":
    main("ingest", __doc__, run, *OPTIONS)
