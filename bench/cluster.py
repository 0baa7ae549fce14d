"""Redis Cluster: three masters beside one server, and slots that move under load.

``python -m bench.cluster [--rate N] [--seconds S] [--backlog N] [--quick] [--write]``. One server
and a cluster of three masters in turns, each in a system of its own, with the same load: a backlog
that is worked off, signed events at a fixed rate with clients that follow (CPU time an event by
part, latency), and the highest rate that is sustained. At last slots move from master to master and
back while events come at the fixed rate: key by key, as ``redis-cli --cluster reshard`` does it on
any Redis, and whole, as Valkey 9 does it. A ledger outside compares what was accepted with what
clients saw: nothing may be lost, come twice, or overtake what was answered before it was sent.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from redis.crc import key_slot

from bench.end_to_end import LEAD_SECONDS, Run, judge, one, percentile, search
from bench.load import Posted, Target, Watched, beside, post_at_rate, watch
from bench.measure import Result, main, progress
from bench.payloads import Entries
from bench.system import SECRET, Server, System, cpu_seconds, system
from bench.worker import Drained, drain
from hookstream.app.redis import keys
from hookstream.app.redis.client import connect
from tests.support.servers import ClusterSet, Node
from tests.support.slots import MOVES, Mover, filled, owned

__all__ = ["KINDS", "Moved", "overtaken"]

TOOLS = 16
WARM_SECONDS = 2.0
#: What an event may take to come while its slot moves.
ARRIVE_SECONDS = 90.0
#: Between one move of all slots of a master and the next.
PAUSE_SECONDS = 0.5
#: As the embedded server is set.
OPTIONS_OF_SERVERS = ("--appendfsync", "everysec", "--rdbcompression", "no")
PARTS = ("receiver", "worker", "Redis", "PostgreSQL")
CPU = "µs of CPU an event"


class Servers:
    """Servers that stop together."""

    def __init__(self, url: str, nodes: Sequence[Node]) -> None:
        self.url = url
        self.nodes = nodes

    def stop(self) -> None:
        """End all of them."""
        for node in self.nodes:
            node.kill()


class OneServer(System):
    """One server, started as each master of a cluster is."""

    nodes: Sequence[Node] = ()

    def start_redis(self, state: Path) -> Server:
        """Start it."""
        node = Node(state / "redis", *OPTIONS_OF_SERVERS).start()
        self.nodes = [node]
        return Servers(node.url, self.nodes)

    def redis_cpu_seconds(self) -> float:
        """CPU seconds that all servers of it have used until now."""
        processes = [node.process for node in self.nodes]
        return sum(cpu_seconds(psutil.Process(one.pid)) for one in processes if one is not None)


class Masters(OneServer):
    """A cluster of three masters without replicas."""

    def start_redis(self, state: Path) -> Server:
        """Start all of them."""
        self.cluster = ClusterSet(state / "cluster", *OPTIONS_OF_SERVERS, replicas=0)
        self.nodes = self.cluster.nodes
        return Servers(self.cluster.url, self.nodes)

    def client(self) -> Any:
        """A client of all of them."""
        return connect(self.redis_url, timeout_seconds=10.0)

    def partitions_by_master(self) -> list[int]:
        """How many partitions each of them has."""
        slots = [set(owned(node)) for node in self.nodes]
        places = [key_slot(keys.events(number).encode()) for number in range(self.partitions)]
        return [sum(place in mine for place in places) for mine in slots]


KINDS: dict[str, type[OneServer]] = {"one server": OneServer, "three masters": Masters}


@dataclass(slots=True)
class Found:
    """What the runs of one kind have found."""

    steady: list[Run] = field(default_factory=list)
    drained: list[Drained] = field(default_factory=list)
    sustained: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Moved:
    """What a run under moving slots has found; what events ``took`` by when they were due."""

    took: dict[str, list[float]]
    slots: int
    slots_a_second: float
    lost: int
    doubled: int
    gaps: int
    overtaken: int
    refused: int
    resumed: int
    worker_ended: bool


async def ready(running: System, given: argparse.Namespace) -> list[str]:
    """Tools, a context each, and their dictionaries; a receiver and a worker run."""
    await asyncio.to_thread(running.launch, "receiver")
    tools = await running.tools(TOOLS)
    if not given.quick:
        progress("training compression dictionaries")
        await running.train(tools)
    return tools


async def compare(
    running: OneServer, start: Any, given: argparse.Namespace, found: Found
) -> list[str]:
    """A turn of one kind; the tools that it leaves, with a worker that runs."""
    tools = await ready(running, given)
    found.drained.append(
        await drain(running, Entries(running.partitions).make(tools, given.backlog), 1)
    )
    progress(f"backlog: {found.drained[-1].rate:.0f} events/s")
    await asyncio.to_thread(running.launch, "worker")
    if not given.quick:
        await one(running, start, tools, given.rate, WARM_SECONDS)
    run = await one(running, start, tools, given.rate, given.seconds)
    found.steady.append(run)
    progress(
        f"{given.rate:g}/s: "
        + ", ".join(f"{part} {run.cpu_us[part]:.0f} µs" for part in PARTS)
        + f", p99 {percentile(run.latencies or [0.0], 0.99) * 1000:.1f} ms"
    )
    if not given.quick:

        async def attempt(rate: float) -> bool:
            held = (await one(running, start, tools, rate, given.step_seconds)).is_sustained
            progress(f"{rate:.0f}/s: {'sustained' if held else 'not sustained'}")
            return held

        found.sustained.append((await search(attempt, given.rate))[0])
    return tools


def overtaken(posted: Posted, watched: Watched) -> int:
    """Events that came behind one of their context which was sent after they were answered."""
    count = 0
    for order in watched.order.values():
        latest = 0.0
        for event_id in order:
            if event_id not in posted.spans:
                continue
            sent, answered = posted.spans[event_id]
            count += answered < latest
            latest = max(latest, sent)
    return count


def move_until(running: Masters, way: str, until: float) -> tuple[int, float, float]:
    """Move all slots of partitions from one master to another, and back, until it is time.

    Returns how many were moved, and when the first and the last move began and ended.
    """
    moved, begun = 0, time.monotonic()
    ended = begun
    # where a run before this one has ended
    source, target = sorted(running.nodes[:2], key=lambda node: len(filled(node)), reverse=True)
    # at least once, however late it is on a machine that has other work
    while not moved or time.monotonic() < until:
        slots = filled(source)
        MOVES[way](Mover(running.cluster, source, target), slots)
        moved += len(slots)
        ended = time.monotonic()
        source, target = target, source
        time.sleep(PAUSE_SECONDS)
    return moved, begun, ended


async def rebalance(
    running: Masters, start: Any, tools: Sequence[str], given: argparse.Namespace, way: str
) -> Moved:
    """One run: a third before anything moves, a third while slots do, a third afterwards."""
    async with running.client() as client:
        await running.until_settled(client)
    contexts = await running.last_seqs(f"{tool}-0" for tool in tools)
    third = given.seconds
    count = max(1, int(given.rate * third * 3))
    begin = time.monotonic() + LEAD_SECONDS
    until = begin + 3 * third + ARRIVE_SECONDS
    clients = start(watch, running.url, running.key, contexts, count, until)
    load = start(post_at_rate, Target(running.port, tools, SECRET, 64), given.rate, count, begin)
    await asyncio.sleep(begin + third - time.monotonic())
    moving = asyncio.to_thread(move_until, running, way, begin + 2 * third)
    slots, first, last = await moving
    posted: Posted = await asyncio.wrap_future(load)
    watched: Watched = await asyncio.wrap_future(clients)
    judged = judge(given.rate, count, posted, watched)
    took: dict[str, list[float]] = {when: [] for when in WHEN}
    for event_id, due in posted.due.items():
        if event_id in watched.came:
            when = "before" if due < first else "during" if due <= last else "after"
            took[when].append(watched.came[event_id] - due)
    return Moved(
        took={when: sorted(found) for when, found in took.items()},
        slots=slots,
        slots_a_second=slots / max(1e-9, last - first),
        lost=judged.lost,
        doubled=judged.doubled,
        gaps=judged.gaps,
        overtaken=overtaken(posted, watched),
        refused=judged.refused,
        resumed=watched.resumed,
        worker_ended=any(child.poll() is not None for child in running.children.values()),
    )


async def under_load(
    running: Masters, start: Any, tools: Sequence[str], given: argparse.Namespace
) -> dict[str, list[Moved]]:
    """All runs of both ways, in turns."""
    found: dict[str, list[Moved]] = {way: [] for way in MOVES}
    for _ in range(given.runs):
        for way, runs in found.items():
            each = await rebalance(running, start, tools, given, way)
            runs.append(each)
            p99 = [f"{percentile(part or [0.0], 0.99) * 1000:.0f}" for part in each.took.values()]
            progress(
                f"{way}: {each.slots} slots, p99 {' / '.join(p99)} ms before, meanwhile, after; "
                f"{each.lost} lost, {each.doubled} doubled, {each.overtaken} overtaken, "
                f"{each.refused} refused, {each.resumed} resumed"
            )
    return found


async def turn(
    running: OneServer, start: Any, given: argparse.Namespace, found: Found, *, last: bool
) -> dict[str, list[Moved]]:
    """A turn of one kind, and slots that move in the last one's cluster."""
    tools = await compare(running, start, given, found)
    if not (last and isinstance(running, Masters)):
        return {}
    progress("slots that move")
    return await under_load(running, start, tools, given)


def run(given: argparse.Namespace) -> Result:
    """Both kinds in turns, then slots that move."""
    if given.quick:
        given.rate, given.seconds, given.backlog = 60.0, 2.0, 200
    kinds = {name: Found() for name in KINDS}
    moves: dict[str, list[Moved]] = {}
    spread: list[int] = []
    with beside(2) as start:
        for number in range(given.runs):
            last = number == given.runs - 1
            for name, kind in list(KINDS.items())[:: -1 if number % 2 else 1]:
                progress(f"run {number + 1}: {name}")
                with system(kind) as running:
                    assert isinstance(running, OneServer)
                    if isinstance(running, Masters):
                        spread = running.partitions_by_master()
                    moves |= asyncio.run(turn(running, start, given, kinds[name], last=last))
    result = told(given, kinds, moves)
    result.facts["partitions_by_master"] = " + ".join(map(str, spread))
    return result


def told(
    given: argparse.Namespace, kinds: dict[str, Found], moves: dict[str, list[Moved]]
) -> Result:
    """What was found, as rows."""
    result = Result(
        "One server, and a cluster of three masters without replicas, in turns, each started anew "
        f"with one receiver and one worker: a backlog of {given.backlog} worked off; "
        f"{given.rate:g} signed GitHub events a second for {given.seconds:g} s to {TOOLS} tools "
        "with a context and a client each; the highest rate at which everything arrives and no "
        "backlog grows. All of it, load and clients too, is on the same cores: what an event costs "
        "is what is compared, more servers cannot carry more here. Redis: all masters together. "
        "Then, in a cluster, "
        f"{given.rate:g}/s for three times {given.seconds:g} s: in the second of them all slots of "
        "one master that have keys move to another one, and back, and so on, "
        f"{PAUSE_SECONDS:g} s apart. Lost, doubled, overtaken: the ids of all answers beside those "
        "of all frames; overtaken is what came behind an event of its tool that was sent after it "
        "had been answered."
    )
    add_kinds(result, kinds)
    add_moves(result, moves)
    return result


def add_kinds(result: Result, kinds: dict[str, Found]) -> None:
    """Rows of each kind, and of one to the other."""
    for name, found in kinds.items():
        runs = found.steady
        if found.sustained:
            result.add(f"{name}: highest sustained rate", "events/s", found.sustained)
        result.add(f"{name}: backlog", "events/s", (each.rate for each in found.drained))
        for part in PARTS:
            result.add(f"{name}: {part}", CPU, (each.cpu_us[part] for each in runs))
        costs = (each.cpu_us for each in found.drained)
        result.add(f"{name}: worker on a backlog", CPU, costs)
        costs = (each.redis_cpu_us for each in found.drained)
        result.add(f"{name}: Redis on a backlog", CPU, costs)
        for label, share in (("p50", 0.5), ("p99", 0.99)):
            values = [percentile(each.latencies, share) * 1000 for each in runs if each.latencies]
            result.add(f"{name}: latency, {label}", "ms", values)
    one_server, masters = kinds.values()
    for part in PARTS[:3]:
        pairs = zip(masters.steady, one_server.steady, strict=True)
        ratios = [of.cpu_us[part] / to.cpu_us[part] for of, to in pairs if to.cpu_us[part]]
        result.add(f"three masters to one server: {part}", "ratio", ratios)
    backlogs = zip(masters.drained, one_server.drained, strict=True)
    rates = [of.rate / to.rate for of, to in backlogs]
    result.add("three masters to one server: backlog", "ratio", rates)


def add_moves(result: Result, moves: dict[str, list[Moved]]) -> None:
    """Rows of each way to move slots, and what is wrong in all of them as facts."""
    for way, runs in moves.items():
        result.add(f"{way}: slots moved", "a run", (each.slots for each in runs))
        result.add(f"{way}: slots moved", "a second", (each.slots_a_second for each in runs))
        for when, label in WHEN.items():
            for name, share in (("p50", 0.5), ("p99", 0.99), ("worst", 1.0)):
                took = [each.took[when] for each in runs if each.took[when]]
                values = [percentile(latencies, share) * 1000 for latencies in took]
                if values:
                    result.add(f"{way}: latency {label}, {name}", "ms", values)
        for what in LEDGER:
            result.add(f"{way}: {what}", "events", (getattr(each, what) for each in runs))
        again = (each.resumed for each in runs)
        result.add(f"{way}: clients that came again", "connections", again)
    every = [each for runs in moves.values() for each in runs]
    for what in LEDGER:
        result.facts[what] = sum(getattr(each, what) for each in every)
    result.facts["workers_that_ended"] = sum(each.worker_ended for each in every)


WHEN = {"before": "before slots move", "during": "while slots move", "after": "after slots moved"}
LEDGER = ("lost", "doubled", "gaps", "overtaken", "refused")
OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--rate", {"type": float, "default": 400.0, "help": "events a second"}),
    ("--seconds", {"type": float, "default": 10.0, "help": "seconds a run, and a third of one"}),
    ("--backlog", {"type": int, "default": 10_000, "help": "events of the backlog"}),
    ("--step-seconds", {"type": float, "default": 4.0, "help": "seconds a step of the search"}),
)

if __name__ == "__main__":
    main("cluster", __doc__, run, *OPTIONS)
