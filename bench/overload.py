"""Twice as much as can be done: what becomes of the excess, of memory, and of what is urgent.

``python -m bench.overload [--rate N] [--seconds S] [--quick] [--write]``. One receiver and one
worker get twice the rate that ``bench.end_to_end`` found sustainable, at normal priority, while a
tool with ``critical`` updates sends a few beside it. Bounds are small, so that all of them are
reached: what waits in Redis, and the spool. Afterwards it is waited until all is delivered:
whatever was accepted must have come, once, in order.
"""

import argparse
import asyncio
import json
import re
import time
from typing import Any

import aiohttp

from bench.end_to_end import LEAD_SECONDS, TOOLS, percentile
from bench.load import Posted, Target, Watched, beside, post_at_rate, watch
from bench.measure import RESULTS, Result, main, progress
from bench.system import SECRET, TOOL, System, system

URGENT_RATE = 20.0
CONTEXTS = 4
#: In a partition without any of the other tools: of one it would wait behind what is in it.
URGENT = "urgent-1"
#: For all that was accepted to arrive, in times the load's own duration.
AFTERWARDS = 4.0
BOUNDS = {"HOOKSTREAM_BACKLOG_MAX_EVENTS": "2000", "HOOKSTREAM_SPOOL_MAX_BYTES": str(8 << 20)}
SPOOLED = re.compile(r"^hookstream_spool_appended_total (\S+)$", re.MULTILINE)
MIB = 1 << 20


def twice() -> float:
    """Twice the rate that was sustained for a minute when it was last measured."""
    path = RESULTS / "end-to-end.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    rates = [row["median"] for row in rows if row["what"].startswith("sustained for")]
    return 2 * (rates[0] if rates and rates[0] else 2000.0)


async def spooled(running: System) -> int:
    """Events that went to the receiver's spool first."""
    url = f"http://127.0.0.1:{running.port}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        found = SPOOLED.search(await response.text())
    return int(float(found[1])) if found else 0


async def overload(
    running: System, start: Any, given: argparse.Namespace
) -> tuple[list[Posted], list[Watched], dict[str, list[float]], dict[str, float]]:
    """What was sent and what came, of the many and of the urgent; peaks of memory; single figures.

    Peaks: resident MiB before and at most, by process.
    """
    processes = {"receiver": running.launch("receiver"), "Redis": running.server("valkey")}
    # several contexts each: then more can be received than delivered
    tools = await running.tools(TOOLS, contexts=CONTEXTS)
    await running.put(f"/tools/{URGENT}", TOOL)
    await running.put(f"/contexts/{URGENT}", {})
    await running.put(
        f"/contexts/{URGENT}/subscriptions/all",
        {"tool": URGENT, "types": ["*"], "priority": "critical"},
    )
    if not given.quick:
        progress("training compression dictionaries")
        await running.train(tools)
    processes["worker"] = running.launch("worker")
    peaks = {name: [each.memory_info().rss / MIB] * 2 for name, each in processes.items()}
    # one context of each is watched
    contexts = await running.last_seqs(f"{tool}-0" for tool in tools)
    many, few = int(given.rate * given.seconds), int(URGENT_RATE * given.seconds)
    begin = time.monotonic() + LEAD_SECONDS
    until = begin + given.seconds * (1 + AFTERWARDS) + 30
    loads = [
        start(post_at_rate, Target(running.port, tools, SECRET, 64), given.rate, many, begin),
        start(post_at_rate, Target(running.port, [URGENT], SECRET, 4), URGENT_RATE, few, begin),
    ]
    clients = [
        start(watch, running.url, running.key, contexts, many, until),
        start(watch, running.url, running.key, {URGENT: 0}, few, begin + given.seconds + 20),
    ]
    waiting = asyncio.gather(*map(asyncio.wrap_future, loads))
    figures = {"most in the spool": 0.0}
    async with running.client() as client:
        came = await running.delivered(client)
        while not waiting.done():
            await asyncio.wait([waiting], timeout=1.0)
            for name, process in processes.items():
                peaks[name][1] = max(peaks[name][1], process.memory_info().rss / MIB)
            spool = (await running.health())["parts"].get("spool", {"bytes": 0})
            figures["most in the spool"] = max(figures["most in the spool"], spool["bytes"] / MIB)
        posted = list(await waiting)
        ended = time.monotonic()
        figures["spooled"] = await spooled(running)
        accepted = sum(each.statuses[202] for each in posted)
        wanted = came + posted[0].statuses[202] * CONTEXTS + posted[1].statuses[202]
        progress(
            f"{accepted} of {many + few} accepted, {figures['spooled']:.0f} by way of the spool"
        )
        # what was on its way when the load ended is not counted as accepted, and comes, too
        await running.until(lambda: running.delivered(client), wanted, "updates")
        await running.until_settled(client)
        figures["all delivered after"] = time.monotonic() - ended
    # clients wait for what was refused, too: they need not
    watched = [await asyncio.wrap_future(each) for each in clients]
    return posted, watched, peaks, figures


def run(given: argparse.Namespace) -> Result:
    """One run."""
    given.rate = given.rate or twice()
    if given.quick:
        given.rate, given.seconds = 200.0, 1.0
    with system(**BOUNDS) as running, beside(4) as start:
        posted, watched, peaks, figures = asyncio.run(overload(running, start, given))
    result = Result(
        f"{given.rate:g} signed GitHub events a second for {given.seconds:g} s, twice what is "
        f"sustained, for {TOOLS} tools with {CONTEXTS} contexts each, and {URGENT_RATE:g} a second "
        "by a tool with critical updates, in a partition that none of the others has; at most "
        f"{BOUNDS['HOOKSTREAM_BACKLOG_MAX_EVENTS']} events of a partition wait "
        f"in Redis, the spool takes {int(BOUNDS['HOOKSTREAM_SPOOL_MAX_BYTES']) // MIB} MiB. Then "
        "it is waited until all that was accepted is delivered. Latency of critical updates as in "
        "the table before.",
        facts={"gaps": sum(each.gaps for each in watched)},
    )
    accepted = sum(each.statuses[202] for each in posted)
    result.add("sent", "events", [sum(each.count for each in posted)])
    result.add("accepted (202)", "events", [accepted])
    result.add("of these by way of the spool", "events", [figures["spooled"]])
    result.add("refused (503)", "events", [sum(each.statuses[503] for each in posted)])
    result.add("refused, critical", "events", [posted[1].count - posted[1].statuses[202]])
    answered = sum(each.statuses[202] + each.statuses[503] for each in posted)
    result.add("answered otherwise", "events", [sum(each.count for each in posted) - answered])
    lost = sum(
        len(sent.due.keys() - seen.came.keys()) for sent, seen in zip(posted, watched, strict=True)
    )
    result.add("lost", "events", [lost])
    result.add("doubled", "events", [sum(each.again for each in watched)])
    urgent = sorted(
        watched[1].came[event_id] - due
        for event_id, due in posted[1].due.items()
        if event_id in watched[1].came
    )
    answers = sorted(posted[1].answer_seconds)
    result.add("critical, until it is accepted, p50", "ms", [percentile(answers, 0.5) * 1000])
    result.add("critical, until it is accepted, p99", "ms", [percentile(answers, 0.99) * 1000])
    for name, share in (("p50", 0.5), ("p99", 0.99), ("worst", 1.0)):
        result.add(f"critical, {name}", "ms", [percentile(urgent, share) * 1000])
    result.add("all delivered after the load's end", "s", [figures["all delivered after"]])
    result.add("spool, at most", "MiB", [figures["most in the spool"]])
    for name, (first, most) in peaks.items():
        result.add(f"{name} resident, before", "MiB", [first])
        result.add(f"{name} resident, at most", "MiB", [most])
    return result


OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--rate", {"type": float, "default": 0.0, "help": "events a second (0: twice the sustained)"}),
    ("--seconds", {"type": float, "default": 30.0, "help": "how long"}),
)

if __name__ == "__main__":
    main("overload", __doc__, run, *OPTIONS)
