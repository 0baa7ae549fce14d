"""Latency from a webhook to its update on the client's WebSocket, at a fixed rate.

``python -m bench.end_to_end [--rate N] [--seconds S] [--sustain] [--quick] [--write]``. One
receiver, one worker, the load, the clients, Redis and PostgreSQL, all on this machine. A latency
begins when the first byte of its request was due by the schedule, whether it could be sent then or
not, and ends with the frame: what waits because the system is slow is counted. Nothing may be lost
or come twice: the ids of all accepted events are compared with those of all frames.

``--sustain`` looks for the highest rate at which everything arrives and no backlog grows.
"""

import argparse
import asyncio
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bench.load import Posted, Target, Watched, beside, post_at_rate, watch
from bench.measure import Result, main, progress
from bench.system import SECRET, System, system

__all__ = ["Run", "backlog", "grows", "percentile", "search"]

TOOLS = 8
#: Children have to start and build their requests before the first one is due.
LEAD_SECONDS = 3.0
ARRIVE_SECONDS = 15.0
FIRST_RATE = 500.0
#: The search ends when the rate is known to this share.
CLOSE_ENOUGH = 0.15
MAX_STEPS = 8
#: Shares of the rate that was found that are tried for longer, one after the other.
HELD_SHARES = (0.9, 0.8, 0.65, 0.5)
MAX_RATE = 20_000.0


@dataclass(frozen=True, slots=True)
class Run:
    """One run: latencies in order, and what went wrong."""

    rate: float
    latencies: list[float]
    lost: int
    doubled: int
    gaps: int
    refused: int
    growing: bool
    load_share: float
    latest_seconds: float
    #: µs of CPU an event, by part of the system.
    cpu_us: dict[str, float] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether everything was accepted and arrived, once."""
        return not (self.lost or self.doubled or self.gaps or self.refused)

    @property
    def is_sustained(self) -> bool:
        """Whether it could have gone on so."""
        return self.is_complete and not self.growing


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of all are not above."""
    at = min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))
    return ordered[at]


def backlog(due: Sequence[float], came: Sequence[float], now: float) -> int:
    """Events that were due by ``now`` and have not come by then; both in order of time."""
    return bisect_right(due, now) - bisect_right(came, now)


def grows(due: Sequence[float], came: Sequence[float], rate: float) -> bool:
    """Whether the backlog grew from the middle of the load to its end, by a tenth of a second."""
    middle = due[0] + (due[-1] - due[0]) / 2
    return backlog(due, came, due[-1]) - backlog(due, came, middle) > max(20.0, rate / 10)


def judge(rate: float, count: int, posted: Posted, watched: Watched) -> Run:
    """Compare what was accepted with what came."""
    shared = posted.due.keys() & watched.came.keys()
    due, came = sorted(posted.due.values()), sorted(watched.came.values())
    return Run(
        rate,
        sorted(watched.came[event_id] - posted.due[event_id] for event_id in shared),
        lost=len(posted.due) - len(shared),
        doubled=watched.again + len(watched.came) - len(shared),
        gaps=watched.gaps,
        refused=count - len(posted.due),
        growing=not due or grows(due, came, rate),
        load_share=posted.cpu_seconds / max(posted.seconds, 1e-9) * 100,
        latest_seconds=posted.latest_seconds,
    )


async def one(
    running: System, start: Any, tools: Sequence[str], rate: float, seconds: float
) -> Run:
    """One run at a rate, once the last one's events are all done."""
    async with running.client() as client:
        await running.until_settled(client)
    contexts = await running.last_seqs(f"{tool}-0" for tool in tools)
    count = max(1, int(rate * seconds))
    begin = time.monotonic() + LEAD_SECONDS
    until = begin + seconds + ARRIVE_SECONDS
    before = running.cpu_by_part()
    clients = start(watch, running.url, running.key, contexts, count, until)
    load = start(post_at_rate, Target(running.port, tools, SECRET, 64), rate, count, begin)
    posted = await asyncio.wrap_future(load)
    watched = await asyncio.wrap_future(clients)
    cpu = {name: now - before[name] for name, now in running.cpu_by_part().items()}
    cpu |= {"the load": posted.cpu_seconds, "the clients": watched.cpu_seconds}
    cpu_us = {name: seconds / count * 1e6 for name, seconds in cpu.items()}
    return replace(judge(rate, count, posted, watched), cpu_us=cpu_us)


async def search(attempt: Any, first: float, most: float = MAX_RATE) -> tuple[float, float]:
    """The highest rate for which ``attempt(rate)`` is true, and the lowest for which it is not.

    Doubles until it fails, then halves the difference. 0 when ``first`` fails already.
    """
    good, bad, rate = 0.0, 0.0, first
    for _ in range(MAX_STEPS):
        if await attempt(rate):
            good = rate
        else:
            bad = rate
        if bad and (not good or bad - good <= good * CLOSE_ENOUGH):
            break
        if not bad and good >= most:
            break
        rate = (good + bad) / 2 if bad else min(most, good * 2)
    return good, bad


async def measure(
    running: System, start: Any, given: argparse.Namespace
) -> tuple[list[Run], tuple[float, float] | None, float]:
    """All runs, the search where it was asked for, and the rate held afterwards (0: none)."""
    running.launch("receiver")
    tools = await running.tools(TOOLS)
    if not given.quick:
        progress("training compression dictionaries")
        await running.train(tools)
    running.launch("worker")
    runs = []
    for number in range(given.runs + (not given.quick)):
        found = await one(running, start, tools, given.rate, given.seconds)
        progress(
            f"{given.rate:g}/s: p99 {percentile(found.latencies or [0.0], 0.99) * 1000:.1f} ms, "
            f"{found.lost} lost, {found.doubled} doubled"
        )
        if number or given.quick:  # the first is to warm up
            runs.append(found)
    if not given.sustain:
        return runs, None, 0.0

    async def attempt(rate: float, seconds: float = given.step_seconds) -> bool:
        held = (await one(running, start, tools, rate, seconds)).is_sustained
        progress(f"{rate:.0f}/s for {seconds:g} s: {'sustained' if held else 'not sustained'}")
        return held

    good, bad = await search(attempt, given.first_rate)
    if good and given.hold_seconds:
        # what a few seconds take may be too much for a minute
        for rate in (round(good * share) for share in HELD_SHARES):
            if await attempt(rate, given.hold_seconds):
                return runs, (good, bad), rate
    return runs, (good, bad), 0.0


def run(given: argparse.Namespace) -> Result:
    """Everything, in one system."""
    if given.quick:
        given.rate, given.seconds, given.step_seconds = 100.0, 1.0, 1.0
    elif given.write:
        given.sustain, given.hold_seconds = True, given.hold_seconds or 60.0
    with system() as running, beside(2) as start:
        runs, sustained, held = asyncio.run(measure(running, start, given))
    for found in runs:
        if not found.is_complete:
            progress(
                f"INCOMPLETE: {found.lost} lost, {found.doubled} doubled, {found.gaps} gaps, "
                f"{found.refused} refused"
            )
    result = Result(
        f"{given.rate:g} signed GitHub events a second for {given.seconds:g} s, by the schedule, "
        f"on 64 connections, for {TOOLS} tools with a context and a client each; one receiver and "
        "one worker, with load, clients and servers on the same machine. From the due time of a "
        "request's first byte to its frame on the WebSocket. Sustained: everything arrives, and "
        "the backlog does not grow from the middle of a step to its end.",
        facts={
            "lost": sum(found.lost for found in runs),
            "doubled": sum(found.doubled for found in runs),
            "gaps": sum(found.gaps for found in runs),
            "refused": sum(found.refused for found in runs),
            "backlog_grew": sum(found.growing for found in runs),
        },
    )
    for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("worst", 1.0)):
        values = [percentile(found.latencies, share) * 1000 for found in runs if found.latencies]
        result.add(f"latency at {given.rate:g}/s, {name}", "ms", values)
    result.add(
        "lost, doubled or refused",
        "events",
        (found.lost + found.doubled + found.gaps + found.refused for found in runs),
    )
    for name in runs[0].cpu_us:
        result.add(name, "µs of CPU an event", (found.cpu_us[name] for found in runs))
    result.add("the load itself", "% of a core", (found.load_share for found in runs))
    late = (found.latest_seconds * 1000 for found in runs)
    result.add("request sent latest behind its schedule", "ms", late)
    if sustained is not None:
        good, bad = sustained
        result.add("highest sustained rate", "events/s", [good])
        result.facts["not_sustained"] = bad
        if given.hold_seconds:
            name = f"sustained for {given.hold_seconds:g} s"
            result.add(name, "events/s", [held])
        result.model = {"sustained_events_per_second": good}
    return result


OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--rate", {"type": float, "default": 2000.0, "help": "events a second"}),
    ("--seconds", {"type": float, "default": 10.0, "help": "seconds a run"}),
    ("--sustain", {"action": "store_true", "help": "look for the highest sustained rate"}),
    ("--step-seconds", {"type": float, "default": 4.0, "help": "seconds a step of the search"}),
    ("--hold-seconds", {"type": float, "default": 0.0, "help": "then hold it for so long"}),
    ("--first-rate", {"type": float, "default": FIRST_RATE, "help": "where the search begins"}),
)

if __name__ == "__main__":
    main("end_to_end", __doc__, run, *OPTIONS)
