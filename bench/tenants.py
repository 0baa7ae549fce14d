"""Fairness: one tenant sends ten times its quota; what another one's updates take beside it.

``python -m bench.tenants [--rate N] [--quota N] [--seconds S] [--quick] [--write]``. One receiver
and one worker. The quiet tenant sends at a steady rate and a client follows its contexts; in turn
the other tenant sends nothing, exactly its quota, and ten times that. The figure is the quiet
tenant's p99 with ten times the quota beside it to that with nothing beside it, in the same run:
wanted is less than 1.2.
"""

import argparse
import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from bench.end_to_end import ARRIVE_SECONDS, LEAD_SECONDS, percentile
from bench.load import Posted, Target, Watched, beside, post_at_rate, watch
from bench.measure import Result, main, progress
from bench.system import SECRET, TOOL, System, system

QUIET_TOOLS = 4
LOUD = "loud"
#: Of what the loud tenant may send, in the runs of one round.
TIMES = (0, 1, 10)
#: Until a bucket that was emptied is full again.
REST_SECONDS = 3.0
WANTED = 1.2


@dataclass(slots=True)
class Found:
    """What runs with one load beside have found."""

    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    answered_p99: list[float] = field(default_factory=list)
    lost: int = 0
    statuses: Counter[int] = field(default_factory=Counter)


async def make_loud(running: System, quota: float) -> str:
    """A tenant with a quota, and a tool of it with a context; the path of its hooks."""
    headers = {"Authorization": f"Bearer {running.key}"}
    own = {**headers, "Hookstream-Tenant": LOUD}
    subscription = {"tool": "hooks", "types": ["*"]}
    async with aiohttp.ClientSession(running.url) as session:
        for method, path, body, given in (
            ("POST", "/tenants", tenant(quota), headers),
            ("PUT", "/tools/hooks", TOOL, own),
            ("PUT", "/contexts/all", {}, own),
            ("PUT", "/contexts/all/subscriptions/all", subscription, own),
        ):
            address = f"/api/v1{path}"
            async with session.request(method, address, json=body, headers=given) as response:
                assert response.status in (200, 201), await response.text()
    return f"{LOUD}/hooks"


def tenant(quota: float) -> dict[str, Any]:
    """The loud tenant."""
    return {"tenant_id": LOUD, "quotas": {"events_per_second": quota}}


async def one(
    running: System,
    start: Any,
    tools: list[str],
    loud: str,
    given: argparse.Namespace,
    times: int,
) -> tuple[Posted, Watched, Posted | None]:
    """One run: the quiet tenant's load and what its client saw, and the loud one's load."""
    async with running.client() as client:
        await running.until_settled(client)
    await asyncio.sleep(0 if given.quick else REST_SECONDS)
    contexts = await running.last_seqs(f"{tool}-0" for tool in tools)
    count = max(1, int(given.rate * given.seconds))
    begin = time.monotonic() + LEAD_SECONDS
    until = begin + given.seconds + ARRIVE_SECONDS
    clients = start(watch, running.url, running.key, contexts, count, until)
    load = start(post_at_rate, Target(running.port, tools, SECRET, 16), given.rate, count, begin)
    beside_it = None
    if times:
        rate = given.quota * times
        target = Target(running.port, [loud], SECRET, 16)
        beside_it = start(post_at_rate, target, rate, max(1, int(rate * given.seconds)), begin)
    posted = await asyncio.wrap_future(load)
    watched = await asyncio.wrap_future(clients)
    return posted, watched, await asyncio.wrap_future(beside_it) if beside_it else None


async def rounds(running: System, start: Any, given: argparse.Namespace) -> dict[int, Found]:
    """All runs, each load beside in turn: what changes on the machine meets all of them."""
    tools = await running.tools(QUIET_TOOLS)
    loud = await make_loud(running, given.quota)
    if not given.quick:
        progress("training compression dictionaries")
        await running.train(tools)
    running.launch("worker")
    found = {times: Found() for times in TIMES}
    await one(running, start, tools, loud, given, 0)  # what a first run finds cold
    for number in range(given.runs):
        for times in TIMES if number % 2 else reversed(TIMES):
            posted, watched, other = await one(running, start, tools, loud, given, times)
            add(found[times], posted, watched, other)
            progress(
                f"round {number + 1}, {times} times its quota beside: p99 "
                f"{found[times].p99[-1] * 1000:.1f} ms"
            )
    return found


def add(found: Found, posted: Posted, watched: Watched, other: Posted | None) -> None:
    """Add what one run found."""
    shared = posted.due.keys() & watched.came.keys()
    took = sorted(watched.came[event_id] - posted.due[event_id] for event_id in shared)
    found.lost += posted.count - len(shared)
    found.p50.append(percentile(took, 0.5) if took else 0.0)
    found.p99.append(percentile(took, 0.99) if took else 0.0)
    answers = sorted(posted.answer_seconds)
    found.answered_p99.append(percentile(answers, 0.99) if answers else 0.0)
    if other is not None:
        found.statuses.update(other.statuses)


def ratios(found: dict[int, Found], times: int) -> list[float]:
    """The quiet tenant's p99 with that beside it to its p99 alone, of each round."""
    pairs = zip(found[times].p99, found[0].p99, strict=True)
    return [beside_it / alone if alone else 0.0 for beside_it, alone in pairs]


def run(given: argparse.Namespace) -> Result:
    """One run of all."""
    if given.quick:
        given.rate, given.quota, given.seconds = 50.0, 20.0, 1.0
    with system() as running, beside(3) as start:
        running.launch("receiver")
        found = asyncio.run(rounds(running, start, given))
    most = max(TIMES)
    result = Result(
        f"One tenant sends {given.rate:g} signed GitHub events a second for {given.seconds:g} s to "
        f"{QUIET_TOOLS} tools, and a client follows their contexts; beside it another tenant, "
        f"which may send {given.quota:g} a second, sends nothing, that, or {most} times that. "
        "Latency is from when a request was due to the client's frame. Ratios are those of "
        f"{given.runs} rounds, in each of which all three loads were run; wanted is less than "
        f"{WANTED:g}.",
        facts={"lost": sum(each.lost for each in found.values())},
    )
    for times, each in found.items():
        beside_it = f"{times} times its quota beside" if times else "nothing beside"
        result.add(f"p50, {beside_it}", "ms", [value * 1000 for value in each.p50])
        result.add(f"p99, {beside_it}", "ms", [value * 1000 for value in each.p99])
        answered = [value * 1000 for value in each.answered_p99]
        result.add(f"until it is accepted, p99, {beside_it}", "ms", answered)
    for times in TIMES[1:]:
        what = f"p99 to that alone, {times} times its quota beside"
        result.add(what, "", ratios(found, times))
    statuses = found[most].statuses
    result.add(f"of {most} times its quota: accepted", "events", [statuses[202]])
    result.add(f"of {most} times its quota: refused (429)", "events", [statuses[429]])
    others = statuses.total() - statuses[202] - statuses[429]
    result.add(f"of {most} times its quota: answered otherwise", "events", [others])
    return result


OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--rate", {"type": float, "default": 100.0, "help": "events a second of the quiet tenant"}),
    ("--quota", {"type": float, "default": 50.0, "help": "events a second of the other one"}),
    ("--seconds", {"type": float, "default": 20.0, "help": "seconds a run"}),
)

if __name__ == "__main__":
    main("tenants", __doc__, run, *OPTIONS)
