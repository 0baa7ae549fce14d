"""What more processes give: receivers by themselves, then workers by themselves, 1 to N of each.

``python -m bench.scale [--most N] [--quick] [--write]``. For each number of processes, doubling up
to the cores of this machine: so many receivers on one port take what 32 connections each send as
fast as it is taken; then they are idle, and so many workers share the partitions and take a
backlog. Load and servers are on the same machine: where all cores are busy more processes give
nothing.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from bench.ingest import forget
from bench.load import Posted, Target, beside, post_on
from bench.measure import Result, main, progress
from bench.payloads import Entries
from bench.system import SECRET, System, cpu_seconds, system
from bench.worker import Drained
from hookstream.app.embedded.cores import usable_cores
from hookstream.app.redis import keys
from hookstream.app.streams.rendezvous import rendezvous

__all__ = ["counts_up_to"]

#: Enough that every one of several workers owns partitions that have work.
TOOLS = 64
CONNECTIONS = 32
WARM_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Taken:
    """What receivers took: requests/s, and µs of CPU a request of all of them and of Redis."""

    rate: float
    cpu_us: float
    redis_cpu_us: float


def counts_up_to(most: int) -> list[int]:
    """1, 2, 4 … and ``most`` itself."""
    doubling = [2**n for n in range(most.bit_length()) if 2**n < most]
    return [*doubling, most]


def receive(
    running: System, start: Any, receivers: Sequence[psutil.Process], target: Target, seconds: float
) -> Taken:
    """Send as fast as it is taken."""
    everything = [*receivers, running.server("valkey")]
    before = [cpu_seconds(process) for process in everything]
    posted: Posted = start(post_on, target, seconds).result()
    used = [cpu_seconds(process) - had for process, had in zip(everything, before, strict=True)]
    if set(posted.statuses) != {202}:
        raise RuntimeError(f"not everything was accepted: {dict(posted.statuses)}")
    each = 1e6 / posted.count
    return Taken(posted.count / posted.seconds, sum(used[:-1]) * each, used[-1] * each)


async def shared(running: System, client: Any, workers: int) -> int:
    """Whether so many workers have each partition that is theirs."""
    alive = sorted(name.decode() for name in await client.zrange(keys.WORKERS, 0, -1))
    pipe = client.pipeline(transaction=False)
    for partition in range(running.partitions):
        pipe.hget(keys.lease(partition), "owner")
    owners = await pipe.execute()
    return len(alive) == workers and all(
        owner and owner.decode() == rendezvous(partition, alive)
        for partition, owner in enumerate(owners)
    )


async def work(
    running: System, workers: int, tools: Sequence[str], events: int, runs: int
) -> list[Drained]:
    """So many workers on backlogs: events/s of all, and what an event costs them together."""
    entries = Entries(running.partitions)
    names = ["worker", *(f"worker-{number}" for number in range(2, workers + 1))]
    processes = [await asyncio.to_thread(running.launch, name) for name in names]
    redis = running.server("valkey")
    found = []
    async with running.client() as client:
        await running.until(
            lambda: shared(running, client, workers), 1, "workers that share the partitions"
        )
        for _ in range(runs):
            made = entries.make(tools, events)
            before = await running.delivered(client)
            begun, redis_cpu = time.perf_counter(), cpu_seconds(redis)
            cpu = sum(map(cpu_seconds, processes))
            await running.append(client, made)
            await running.until(lambda: running.delivered(client), before + events, "updates")
            await running.until_settled(client)
            seconds = time.perf_counter() - begun
            cpu = sum(map(cpu_seconds, processes)) - cpu
            redis_cpu = cpu_seconds(redis) - redis_cpu
            found.append(Drained(events / seconds, cpu / events * 1e6, redis_cpu / events * 1e6))
    return found


def measure(given: argparse.Namespace, count: int) -> tuple[list[Taken], list[Drained]]:
    """Both with so many processes, in a system of its own."""
    seconds = 0.3 if given.quick else given.seconds
    with system() as running, beside() as start:
        above = running.launch("receiver", count)
        receivers = [above, *above.children(recursive=True)]
        tools = asyncio.run(running.tools(TOOLS))
        target = Target(running.port, tools, SECRET, CONNECTIONS * count)
        receive(running, start, receivers, target, WARM_SECONDS)
        taken = []
        for _ in range(given.runs):
            taken.append(receive(running, start, receivers, target, seconds))
            progress(f"receivers: {taken[-1].rate:.0f} requests/s")
            asyncio.run(forget(running))
        drained = asyncio.run(work(running, count, tools, given.events, given.runs))
        progress(f"workers: {drained[-1].rate:.0f} events/s")
    return taken, drained


def run(given: argparse.Namespace) -> Result:
    """Each number of processes, one after the other."""
    most = given.most or max(2, usable_cores())
    if given.quick:
        given.events, most = 400, 2
    result = Result(
        f"So many receivers on one port, {CONNECTIONS} connections each, signed GitHub events of "
        f"{TOOLS} tools as fast as they are taken, {given.seconds:g} s a run; then so many "
        f"workers, started before a backlog of {given.events} events comes, 32 partitions shared "
        "by hash. "
        "CPU time of all processes of the kind together, and of Redis beside them; one load, Redis "
        "and PostgreSQL are on the same cores.",
        facts={"usable_cores": usable_cores()},
    )
    for count in counts_up_to(most):
        progress(f"{count} of each")
        taken, drained = measure(given, count)
        several = "s" if count > 1 else ""
        name = f"{count} receiver{several}"
        cost = "µs of CPU a request"
        result.add(name, "requests/s", (each.rate for each in taken))
        result.add(name, cost, (each.cpu_us for each in taken))
        result.add(f"Redis beside {name}", cost, (each.redis_cpu_us for each in taken))
        name = f"{count} worker{several}"
        cost = "µs of CPU an event"
        result.add(name, "events/s", (each.rate for each in drained))
        result.add(name, cost, (each.cpu_us for each in drained))
        result.add(f"Redis beside {name}", cost, (each.redis_cpu_us for each in drained))
    return result


OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--most", {"type": int, "default": 0, "help": "processes of a kind (0: as many as cores)"}),
    ("--seconds", {"type": float, "default": 3.0, "help": "seconds a run of the receivers"}),
    ("--events", {"type": int, "default": 5_000, "help": "events of the workers' backlog"}),
)

if __name__ == "__main__":
    main("scale", __doc__, run, *OPTIONS)
