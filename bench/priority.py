"""Latency of ``critical`` updates while ``low`` ones come faster than they can be delivered.

``python -m bench.priority [--rate N] [--seconds S] [--quick] [--write]``. First the rate is looked
for that this machine sustains now, as in ``bench.end_to_end``; then ``low`` events come at none,
half and twice of it, by the schedule, and a tool sends ``critical`` ones beside them, to a context
that has low ones, too, about nothing that those are about. Loads and clients are processes of
their own, so that none of them waits for the other. A latency begins when the first byte of a
request was due, and ends with its frame.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from bench.end_to_end import FIRST_RATE, LEAD_SECONDS, TOOLS, percentile, search
from bench.end_to_end import one as sustain
from bench.load import Posted, Target, Watched, beside, post_at_rate, wake, watch
from bench.measure import Result, main, progress
from bench.system import SECRET, TOOL, System, system
from hookstream.app.ids import partition_of_event
from hookstream.app.redis import keys
from hookstream.codecs.envelope import decode_event

__all__ = ["Urgent"]

URGENT_RATE = 25.0
#: Payloads made for this: GitHub's examples are about a few things, so nearly each would be about
#: what hundreds of low ones are about, which go before it.
URGENT_BYTES = 4000
#: In a partition without any of the other tools: of one it would wait behind what is in it.
URGENT = "urgent-1"
SHARES = (0.0, 0.5, 2.0)
QUICK_SHARES = (0.0, 2.0)
#: The load of low ones is under way by then.
AFTER_SECONDS = 2.0
STEP_SECONDS = 3.0
#: Two loads, and the clients of two kinds of contexts.
BESIDE = 4
#: For critical ones to come after the load has ended.
ARRIVE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Urgent:
    """One run: latencies of critical updates in order, until accepted and until they came."""

    latencies: list[float]
    accepted: list[float]
    #: From the stream of events to the feed, which is the worker's part; from there to the client.
    worked: list[float]
    shown: list[float]
    missing: int
    #: Low events: offered, accepted, and delivered, a second while the load went on.
    low_offered: float
    low_accepted: float
    low_delivered: float


async def prepare(running: System, start: Any, quick: bool) -> list[str]:
    """Tools whose contexts take low updates; one of these contexts takes critical ones, too."""
    running.launch("receiver")
    tools = await running.tools(TOOLS)
    for tool in tools:
        await running.put(f"/contexts/{tool}-0", {"priority": "low"})
        await running.put(
            f"/contexts/{tool}-0/subscriptions/all",
            {"tool": tool, "types": ["*"], "priority": "low"},
        )
    await running.put(f"/tools/{URGENT}", TOOL)
    await running.put(
        f"/contexts/{tools[0]}-0/subscriptions/urgent",
        {"tool": URGENT, "types": ["*"], "priority": "critical"},
    )
    if not quick:
        progress("training compression dictionaries")
        await running.train(tools)
    await asyncio.to_thread(running.launch, "worker")
    return tools


async def one(
    running: System, start: Any, tools: Sequence[str], rate: float, seconds: float
) -> Urgent:
    """One run, once the last one's events are all done."""
    async with running.client() as client:
        await running.until_settled(client)
        before = await running.delivered(client)
    contexts = await running.last_seqs(f"{tool}-0" for tool in tools)
    few, many = max(1, int(URGENT_RATE * seconds)), int(rate * (seconds + AFTER_SECONDS))
    begin = time.monotonic() + LEAD_SECONDS
    until = begin + AFTER_SECONDS + seconds + ARRIVE_SECONDS
    low = None
    if many:
        low = start(post_at_rate, Target(running.port, tools, SECRET, 64), rate, many, begin, 1000)
    urgent = start(
        post_at_rate,
        Target(running.port, [URGENT], SECRET, 8, URGENT_BYTES),
        URGENT_RATE,
        few,
        begin + AFTER_SECONDS,
    )
    first = f"{tools[0]}-0"
    others = {name: seq for name, seq in contexts.items() if name != first}
    # who waits for critical ones has to see all of its context's frames, whoever else has many
    of_first = -(-many // len(tools))
    mine = start(watch, running.url, running.key, {first: contexts[first]}, few + of_first, until)
    theirs = None
    if many:
        count = max(1, many - of_first)
        theirs = start(watch, running.url, running.key, others, count, until, 1000)
    posted: Posted = await asyncio.wrap_future(urgent)
    async with running.client() as client:
        delivered = await running.delivered(client) - before
    ended = time.monotonic() - begin
    accepted = 0
    if low is not None:
        accepted = (await asyncio.wrap_future(low)).statuses[202]
    watched: Watched = await asyncio.wrap_future(mine)
    if theirs is not None:
        await asyncio.wrap_future(theirs)
    came = sorted(
        watched.came[event_id] - due
        for event_id, due in posted.due.items()
        if event_id in watched.came
    )
    if not came:
        raise RuntimeError(f"none of {few} critical updates came: {dict(posted.statuses)}")
    worked, shown = await parts(running, first, watched)
    return Urgent(
        came,
        sorted(posted.answer_seconds),
        worked,
        shown,
        few - len(came),
        rate,
        accepted / max(ended, 1e-9),
        max(0, delivered - few) / max(ended, 1e-9),
    )


async def parts(running: System, context: str, watched: Watched) -> tuple[list[float], list[float]]:
    """Seconds of critical updates from stream to feed, and from there to the client.

    By the id that Redis gave an event in its stream, and by when the worker says that it wrote.
    """
    # the clock of clients begins elsewhere
    since = time.time() - time.monotonic()
    log = await asyncpg.connect(running.settings["HOOKSTREAM_POSTGRES_URL"])
    try:
        async with running.client() as client:
            await running.until_settled(client)
            rows = await log.fetch(
                "SELECT d.event_id::text AS id, d.delivered_at FROM deliveries d JOIN events e "
                "USING (event_id) WHERE d.context_id = $1 AND e.tool_id = $2",
                context,
                URGENT,
            )
            in_feed = {row["id"]: row["delivered_at"].timestamp() for row in rows}
            worked, shown = [], []
            for number in {partition_of_event(event_id) for event_id in in_feed}:
                for entry_id, fields in await client.xrange(keys.events(number)):
                    event_id = decode_event(fields[b"d"]).event_id
                    if event_id in watched.came and event_id in in_feed:
                        worked.append(in_feed[event_id] - _seconds(entry_id))
                        shown.append(watched.came[event_id] + since - in_feed[event_id])
    finally:
        await log.close()
    return sorted(worked), sorted(shown)


def _seconds(entry_id: bytes) -> float:
    return int(entry_id.partition(b"-")[0]) / 1000


async def measure(
    running: System, start: Any, given: argparse.Namespace
) -> tuple[float, dict[float, list[Urgent]]]:
    """The rate that is sustained, and all runs by what of it came at low priority."""
    tools = await prepare(running, start, given.quick)
    await asyncio.gather(*(asyncio.wrap_future(start(wake, 0.5)) for _ in range(BESIDE)))
    sustained = given.rate
    if not sustained:

        async def attempt(rate: float) -> bool:
            held = (await sustain(running, start, tools, rate, STEP_SECONDS)).is_sustained
            progress(f"{rate:.0f}/s: {'sustained' if held else 'not sustained'}")
            return held

        sustained, _ = await search(attempt, FIRST_RATE)
    if not sustained:
        raise RuntimeError(f"not even {FIRST_RATE:g} events/s are sustained here: give --rate")
    shares = QUICK_SHARES if given.quick else SHARES
    found: dict[float, list[Urgent]] = {share: [] for share in shares}
    for _ in range(given.runs):
        for share, runs in found.items():
            runs.append(await one(running, start, tools, sustained * share, given.seconds))
            progress(
                f"{share:g} times {sustained:.0f}/s low: critical p50 "
                f"{percentile(runs[-1].latencies, 0.5) * 1e3:.0f} ms, p99 "
                f"{percentile(runs[-1].latencies, 0.99) * 1e3:.0f} ms"
            )
    return sustained, found


def run(given: argparse.Namespace) -> Result:
    """Everything, in one system."""
    if given.quick:
        given.rate, given.seconds = 100.0, 1.0
    with system() as running, beside(BESIDE) as start:
        sustained, found = asyncio.run(measure(running, start, given))
    result = Result(
        f"{URGENT_RATE:g} critical events a second for {given.seconds:g} s by a tool of its own, "
        "about nothing that low ones are about, "
        "to a context that has low updates, too, beside signed GitHub events of "
        f"{TOOLS} tools with a context each at low priority: none, half, and twice of "
        f"{sustained:.0f}/s, which is what "
        "was sustained in the same run (0 lost, no backlog that grows). Loads and clients are "
        "processes of their own on the same cores. From the due time of a request's first byte to "
        "its answer, and to its frame on the WebSocket.",
        facts={"sustained": round(sustained)},
    )
    for share, runs in found.items():
        name = f"low at {share:g} times what is sustained" if share else "no low ones"
        for label, part in (("p50", 0.5), ("p99", 0.99), ("worst", 1.0)):
            result.add(
                f"{name}: critical, {label}",
                "ms",
                (percentile(each.latencies, part) * 1000 for each in runs),
            )
        result.add(
            f"{name}: critical, until accepted, p99",
            "ms",
            (percentile(each.accepted, 0.99) * 1000 for each in runs),
        )
        for label, took in (
            ("in the worker, p99", [each.worked for each in runs]),
            ("from the feed to the client, p99", [each.shown for each in runs]),
        ):
            values = [percentile(each, 0.99) * 1000 for each in took if each]
            result.add(f"{name}: critical, {label}", "ms", values)
        result.add(f"{name}: critical missing", "events", (each.missing for each in runs))
        if share:
            result.add(f"{name}: low offered", "events/s", (each.low_offered for each in runs))
            result.add(f"{name}: low accepted", "events/s", (each.low_accepted for each in runs))
            result.add(f"{name}: low delivered", "events/s", (each.low_delivered for each in runs))
    return result


OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--rate", {"type": float, "default": 0.0, "help": "events/s sustained (0: look for it)"}),
    ("--seconds", {"type": float, "default": 10.0, "help": "seconds a run"}),
)

if __name__ == "__main__":
    main("priority", __doc__, run, *OPTIONS)
