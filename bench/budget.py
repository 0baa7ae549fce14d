"""Where the CPU time of an event goes, part by part and stage by stage, beside what is least.

``make bench-budget``, or ``python -m bench.budget [--rates 500 2000] [--quick] [--write]``: one
system, signed GitHub events as in ``bench.end_to_end``, at each rate and as fast as they are taken.
Parts are CPU time of their processes. Stages are shares of samples of receiver and worker
(``bench.profile``), taken in a run of its own, of the part's CPU time. A floor is what does nothing
else: a bare aiohttp handler, bare commands to Redis, bare COPY.
"""

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import redis
import uvloop

from bench import event_log
from bench.budget_table import ALL, budget_rows
from bench.end_to_end import LEAD_SECONDS, TOOLS, one
from bench.ingest import bare
from bench.load import Target, beside, post_at_rate
from bench.measure import Result, main, progress
from bench.payloads import Entries
from bench.profile import Profile, sample
from bench.system import SECRET, System, cpu_seconds, system
from tests.support.stack import free_port

__all__ = ["OTHER", "RECEIVER", "WORKER", "Budget", "by_stage"]

#: More than can be taken: requests go as soon as a connection is free.
SATURATION: Final = "saturation"
AT_ONCE = 50_000.0
EVENTS_AT_SATURATION = 8_000
COST = "µs of CPU an event"
OTHER = "event loop, system calls, rest"
WAITING: Final = frozenset(("app/stalls.py", "futures/thread.py", "threading.py"))
LINGER_SECONDS = 0.01
COPY_SECONDS = 0.25
#: Stages by where their code is, the most special first: of a stack the innermost frame that is in
#: one of these says which. A stage's calls of Redis are the stage's.
Stages = Sequence[tuple[str, tuple[str, ...]]]
RECEIVER: Final[Stages] = (
    ("signature", ("app/providers/signatures/", "hmac.py", "app/ingest/signing_keys.py")),
    ("envelope, packing", ("codecs/", "app/payloads/", "app/ids.py")),
    ("looking into the body", ("app/providers/", "app/routing/", "app/web/body.py")),
    ("append", ("app/ingest/", "app/redis/durability.py")),
    ("feeds to clients", ("app/feeds/", "web/websocket.py", "web/updates.py", "web/frames.py",
                          "aiohttp/web_ws.py", "_websocket/")),
    ("the route", ("app/web/", "web/receive.py", "web/hot_route.py", "web/connection.py")),
    ("HTTP", ("aiohttp/",)),
    ("client of Redis", ("app/redis/", "redis/", "asyncio/client.py", "asyncio/connection.py")),
)  # fmt: skip
WORKER: Final[Stages] = (
    ("envelopes, payloads parsed", ("codecs/", "app/payloads/", "app/streams/entry_fields.py")),
    ("render", ("app/summaries/", "app/feeds/rendering.py", "tiktoken/", "jinja2/")),
    ("dedup", ("agents/dedupe.py", "app/deduplication/", "tables/")),
    ("mask", ("agents/mask.py", "app/privacy/", "app/routing/maskers.py")),
    ("route", ("agents/route.py", "app/routing/")),
    ("check", ("agents/check.py", "app/schema_registry/")),
    ("event log", ("agents/audit.py", "app/stores/", "app/postgres/", "asyncpg/")),
    ("deliver", ("agents/deliver.py", "app/feeds/")),
    ("commit", ("agents/commit.py", "app/streams/commit", "app/streams/outputs.py",
                "app/streams/outcome.py")),
    ("read", ("app/streams/",)),
    ("client of Redis", ("app/redis/", "redis/", "asyncio/client.py", "asyncio/connection.py")),
    ("agents", ("faust/", "agents/", "app/application.py", "mode/utils/")),
)  # fmt: skip


def by_stage(stacks: Iterable[tuple[Sequence[str], int]], stages: Stages) -> dict[str, float]:
    """The share of each stage; frames are ``function place``, the outermost first."""
    found: Counter[str] = Counter()
    for frames, times in stacks:
        # threads that wait are no work, whatever the sampler takes them for
        if frames[-1].rpartition(" ")[2] not in WAITING:
            found[_stage(frames, stages)] += times
    count = max(1, found.total())
    return {name: found[name] / count for name in (*(name for name, _ in stages), OTHER)}


def _stage(frames: Sequence[str], stages: Stages) -> str:
    for frame in reversed(frames):
        place = frame.rpartition(" ")[2]
        for name, places in stages:
            if name != "client of Redis" and place.startswith(places):
                return name
    # what stages share, where no stage is on the stack: pipelines of several of them
    for name, places in stages:
        if name == "client of Redis" and any(
            frame.rpartition(" ")[2].startswith(places) for frame in frames
        ):
            return name
    return OTHER


@dataclass(slots=True)
class Budget:
    """µs an event by line, and the floor of those that have one; the lines of a part behind it."""

    us: dict[str, float] = field(default_factory=dict)
    floors: dict[str, float] = field(default_factory=dict)


def spread(budget: Budget, part: str, shares: Mapping[str, float]) -> None:
    """Add a part's stages: its CPU time by their shares."""
    for stage, share in shares.items():
        budget.us[f"{part}: {stage}"] = budget.us[part] * share


# -- floors


def produce(url: str, entries: Sequence[bytes], rate: float, begin: float) -> None:
    """Append by the schedule, what is due together in one round trip."""
    client = redis.Redis.from_url(url, protocol=2)
    at = 0
    while at < len(entries):
        time.sleep(max(0.0, begin + at / rate - time.monotonic()))
        pipe, now = client.pipeline(transaction=False), time.monotonic()
        for _ in range(64):
            if at < len(entries) and begin + at / rate <= now:
                pipe.xadd("floor:events", {"d": entries[at]})
                at += 1
        pipe.execute()
    client.close()


def consume(url: str, count: int) -> float:
    """Read, append an update for each, and acknowledge; returns the CPU time that it took."""
    return uvloop.run(_consume(url, count))


async def _consume(url: str, count: int) -> float:
    seen = 0
    async with redis.asyncio.Redis.from_url(url, protocol=2) as client:
        cpu = time.process_time()
        while seen < count:
            found = await client.xreadgroup("floor", "one", {"floor:events": ">"}, count=64)
            entries = found[0][1] if found else []
            if entries:
                pipe = client.pipeline(transaction=False)
                for _, fields in entries:
                    pipe.xadd("floor:updates", {"d": fields[b"d"][:512]})
                pipe.xack("floor:events", "floor", *(entry_id for entry_id, _ in entries))
                await pipe.execute()
                seen += len(entries)
            if len(entries) < 64:
                await asyncio.sleep(LINGER_SECONDS)
    return time.process_time() - cpu


def redis_floor(
    running: System, start: Any, entries: Sequence[bytes], rate: float
) -> tuple[float, float]:
    """µs an event of Redis, and of the client that reads; as few commands as there can be."""
    with redis.Redis.from_url(running.redis_url) as client:
        client.delete("floor:events", "floor:updates")
        client.xgroup_create("floor:events", "floor", "0", mkstream=True)
    server = running.server("valkey")
    before = cpu_seconds(server)
    reader = start(consume, running.redis_url, len(entries))
    start(produce, running.redis_url, entries, rate, time.monotonic() + 0.5).result()
    used = reader.result()
    each = 1e6 / len(entries)
    return (cpu_seconds(server) - before) * each, used * each


def http_floor(start: Any, plain: Any, port: int, rate: float, count: int) -> float:
    """µs a request of a bare aiohttp handler."""
    before = cpu_seconds(plain)
    target = Target(port, ["tool-0"], SECRET, 64)
    posted = start(post_at_rate, target, rate, count, time.monotonic() + 1.0).result()
    if set(posted.statuses) != {202}:
        raise RuntimeError(f"not everything was taken: {dict(posted.statuses)}")
    return (cpu_seconds(plain) - before) / count * 1e6


def copy_floors(sizes: Sequence[int]) -> dict[int, tuple[float, float]]:
    """µs an event of PostgreSQL and of its client, by the events of a transaction."""
    rows = {row.what: row.median for row in asyncio.run(event_log.measure(0, sizes, 1)).rows}
    return {
        size: (rows[f"{size:,} events, COPY, server"], rows[f"{size:,} events, COPY, client"])
        for size in sizes
    }


# -- the system


@dataclass(frozen=True, slots=True)
class Rate:
    """A column: what it is called, how fast requests are due, and how many there are."""

    name: str
    a_second: float
    count: int


async def profiled(
    running: System, start: Any, tools: Sequence[str], rate: Rate, look: Mapping[str, int]
) -> dict[str, Profile]:
    """A run at a rate while receiver and worker are looked at."""
    seconds = rate.count / rate.a_second
    # what is sent at once takes a while
    seconds = max(seconds, 2.0)

    async def watch(pid: int) -> Profile:
        await asyncio.sleep(LEAD_SECONDS)
        return await asyncio.to_thread(sample, pid, seconds)

    looking = [asyncio.create_task(watch(pid)) for pid in look.values()]
    await one(running, start, tools, rate.a_second, rate.count / rate.a_second)
    return dict(zip(look, await asyncio.gather(*looking), strict=True))


async def measure(
    running: System, start: Any, rates: Sequence[Rate], quick: bool
) -> dict[str, Budget]:
    """The budget of each rate, without floors."""
    look = {"receiver": running.launch("receiver").pid}
    tools = await running.tools(TOOLS)
    if not quick:
        progress("training compression dictionaries")
        await running.train(tools)
    look["worker"] = (await asyncio.to_thread(running.launch, "worker")).pid
    await one(running, start, tools, rates[0].a_second, 0.5 if quick else 2.0)
    found = {}
    for rate in rates:
        run = await one(running, start, tools, rate.a_second, rate.count / rate.a_second)
        budget = found[rate.name] = Budget()
        for part in ("receiver", "worker", "Redis", "PostgreSQL"):
            budget.us[part] = run.cpu_us[part]
        budget.us[ALL] = sum(budget.us.values())
        progress(f"{rate.name}: {budget.us[ALL]:.0f} µs an event, {run.lost} lost")
        if quick:
            continue
        profiles = await profiled(running, start, tools, rate, look)
        for part, stages in (("receiver", RECEIVER), ("worker", WORKER)):
            spread(budget, part, by_stage(profiles[part].stacks, stages))
    return found


def add_floors(
    running: System, start: Any, rates: Sequence[Rate], found: Mapping[str, Budget]
) -> None:
    """Put beside each part what is least."""
    made = Entries(1).make(["tool-0"], max(rate.count for rate in rates))
    entries = [data for _, data in made]
    sizes = {
        rate.name: 4096 if rate.name == SATURATION else max(8, int(rate.a_second * COPY_SECONDS))
        for rate in rates
    }
    progress("floors")
    copied = copy_floors(sorted(set(sizes.values())))
    port = free_port()
    with bare(port) as plain:
        for rate in rates:
            floors = found[rate.name].floors
            floors["receiver"] = http_floor(start, plain, port, rate.a_second, rate.count)
            floors["Redis"], reads = redis_floor(
                running, start, entries[: rate.count], rate.a_second
            )
            floors["PostgreSQL"], logs = copied[sizes[rate.name]]
            floors["worker"] = reads + logs
            floors["worker: read"] = reads
            floors["worker: event log"] = logs
            floors["receiver: HTTP"] = floors["receiver"]
            floors[ALL] = sum(floors[p] for p in ("receiver", "worker", "Redis", "PostgreSQL"))


def run(given: argparse.Namespace) -> Result:
    """Everything, in one system."""
    if given.quick:
        given.rates, given.seconds = [100.0], 1.0
    rates = [Rate(f"{a:g}/s", a, max(1, int(a * given.seconds))) for a in given.rates]
    rates.append(Rate(SATURATION, AT_ONCE, 200 if given.quick else EVENTS_AT_SATURATION))
    with system() as running, beside(2) as start:
        found = asyncio.run(measure(running, start, rates, given.quick))
        for name in list(running.children):
            running.end(name)
        add_floors(running, start, rates, found)
    result = Result(
        f"Signed GitHub events of {TOOLS} tools with a context and a client each, for "
        f"{given.seconds:g} s, and {rates[-1].count} as fast as they are taken; one receiver and "
        "one worker, load, clients and servers on the same cores. Parts: CPU time of their "
        f"processes. Stages: shares of samples in a run of its own; `{OTHER}` is what has no stage "
        "on its stack. Floors: a bare aiohttp handler on the same requests at the same "
        "rate; one XADD for an event, XREADGROUP, one XADD for its update and XACK, by 64 at most, "
        "and the client that reads so; COPY of an event and its delivery, of a quarter second in a "
        "transaction (4,096 at saturation), and its client.",
        facts={"columns": [rate.name for rate in rates]},
    )
    for rate in rates:
        budget = found[rate.name]
        for line, us in budget.us.items():
            result.add(f"{line} at {rate.name}", COST, [us])
        for line, us in budget.floors.items():
            result.add(f"{line} at {rate.name}, floor", COST, [us])
    kept = [{"what": row.what, "median": row.median} for row in result.rows]
    result.text = "\n".join(budget_rows(kept, result.facts["columns"]))
    return result


OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "--rates",
        {"type": float, "nargs": "+", "default": [500.0, 2000.0], "help": "events a second"},
    ),
    ("--seconds", {"type": float, "default": 6.0, "help": "seconds a run at a rate"}),
)

if __name__ == "__main__":
    main("budget", __doc__, run, *OPTIONS)
