"""Faults of all kinds on all parts, drawn from a seed, under a load with everything in it."""

import asyncio
import contextlib
import json
import os
import random
import shutil
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.faults import KINDS, CannotError, Kind
from tests.chaos.ledger import Figures
from tests.chaos.mixed_ledger import Broken
from tests.chaos.mixed_load import MixedLoad
from tests.chaos.system import System
from tests.chaos.tenants import own
from tests.chaos.watch import STANDSTILL_SECONDS, Watch

__all__ = ["Run", "Wanted", "drain", "run_seed"]

RATE = 40.0
#: How long it is looked for that all that stood still moves again, before the run goes on.
LOOK_SECONDS = 45.0
#: A recovery that takes longer names who was the last.
SLOW_SECONDS = 12.0
DRAIN_SECONDS = 120.0
LOG_TAIL_BYTES = 400_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for. ``only``: names of kinds; none: all of them."""

    seed: int
    minutes: float
    rate: float = RATE
    only: tuple[str, ...] = ()
    supervised: bool | None = None
    without: tuple[str, ...] = ()

    def command(self) -> str:
        """What repeats this run."""
        more = f" --faults {' '.join(self.only)}" if self.only else ""
        more += f" --without {' '.join(self.without)}" if self.without else ""
        if self.supervised is not None:
            more += " --supervised" if self.supervised else " --unsupervised"
        return f"python -m tests.chaos --random --seed {self.seed} --minutes {self.minutes:g}{more}"


@dataclass(slots=True)
class Done:
    """A fault that was done: when (seconds since the start), to what, and how it was overcome."""

    at: float
    kind: str
    part: str
    seconds: float
    note: str = ""
    #: Seconds from its end until everybody saw something newer; None: not in LOOK_SECONDS.
    recovery: float | None = 0.0
    #: How many processes of the machine wanted to run: times mean little where it is large.
    load: float = 0.0

    def line(self) -> str:
        """For the log of faults."""
        after = "not recovered" if self.recovery is None else f"recovered in {self.recovery:.1f} s"
        return (
            f"{self.at:7.1f} s  {self.kind:24} {self.part:14} {self.seconds:5.1f} s  "
            f"{after}, load {self.load:.0f}  {self.note}"
        )


@dataclass(slots=True)
class Run:
    """What came of a seed."""

    wanted: Wanted
    supervised: bool
    figures: Figures = field(default_factory=Figures)
    faults: list[Done] = field(default_factory=list)
    broken: Broken = field(default_factory=Broken)
    #: What else is wrong, one sentence each.
    wrong: list[str] = field(default_factory=list)
    silent: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    minutes: float = 0.0
    folder: Path = Path()

    @property
    def failed(self) -> bool:
        return bool(self.wrong or self.figures.broken)


def draw(system: System, rng: random.Random, kinds: list[Kind]) -> list[tuple[Kind, str, float]]:
    """The next fault, or two of different groups at once."""
    found: list[tuple[Kind, str, float]] = []
    for _ in range(2 if rng.random() < 0.2 else 1):
        [kind] = rng.choices(kinds, [kind.weight for kind in kinds])
        parts = kind.parts(system)
        part, share = rng.choice(parts), rng.random()
        low, high = kind.seconds
        groups = {each.group for each, _, _ in found}
        if kind.group in groups or (found and "start" in {*groups, kind.group}):
            continue
        found.append((kind, part, low + share * share * (high - low)))
    return found


async def run_seed(wanted: Wanted, folder: Path, log: Any) -> Run:
    """One seed, from a system of its own to the ledger's check."""
    rng = random.Random(wanted.seed)
    supervised = rng.random() < 0.35 if wanted.supervised is None else wanted.supervised
    logs = folder / "logs"
    logs.mkdir(parents=True)
    system = System(folder / "state", logs, supervised, receivers=2, workers=rng.choice((2, 2, 3)))
    run = Run(wanted, supervised, folder=logs)
    begun = time.monotonic()
    load = MixedLoad(system, wanted.rate, wanted.seed)
    watch = Watch(system, load)
    try:
        await system.start()
        await load.start()
        watch.start()
        if await watch.recovered(60) is None:
            run.wrong.append(f"no start: {watch.behind(0)[:5]}")
            return run
        await _break(system, load, watch, run, rng, log)
        run.broken, unsettled = await drain(system, load)
        run.figures = run.broken.figures(load.ledger.sent, load.ledger.refused)
        run.wrong += unsettled
    except Exception:  # noqa: BLE001 it must be told, and the system stopped
        run.wrong.append(traceback.format_exc())
    finally:
        await watch.stop()
        await load.stop_reading()
        killed = await system.stop()
        run.wrong += [f"{name} did not stop at the end: killed" for name in killed]
        run.wrong += [f"at {e.at:.0f} s {e.name} ended: {e.what}" for e in system.ended]
        run.wrong += [e.what for e in system.restarts()]
        run.wrong += load.failed()
        run.silent = watch.silent
        run.slowest = max((seconds for seconds, _ in watch.longest.values()), default=0.0)
        run.wrong += watch.stuck()
        if watch.deaf:
            run.wrong.append(f"deaf, and made to come back: {'; '.join(watch.deaf)}")
        run.minutes = (time.monotonic() - begun) / 60
        _keep(run, system)
    return run


async def _break(
    system: System, load: MixedLoad, watch: Watch, run: Run, rng: random.Random, log: Any
) -> None:
    kinds = [KINDS[name] for name in run.wanted.only or KINDS if name not in run.wanted.without]
    until = time.monotonic() + run.wanted.minutes * 60
    while time.monotonic() < until:
        await asyncio.sleep(rng.uniform(0.5, 3))
        drawn = draw(system, rng, kinds)
        details = random.Random(rng.random())
        watch.begin(" and ".join(kind.name for kind, _, _ in drawn))
        done = [Done(system.seconds(), kind.name, part, s) for kind, part, s in drawn]
        await asyncio.gather(
            *(
                _do(system, kind, one, details)
                for (kind, _, _), one in zip(drawn, done, strict=True)
            )
        )
        watch.end()
        recovery = await watch.recovered(LOOK_SECONDS)
        for one in done:
            one.recovery, one.load = recovery, os.getloadavg()[0]
            log(one.line())
        if recovery is None or recovery > SLOW_SECONDS:
            log(f"          the last: {'; '.join(watch.slowest[:6])}")
        run.faults += done
        if recovery is None or recovery > STANDSTILL_SECONDS:
            run.wrong.append(
                f"not recovered within {STANDSTILL_SECONDS:g} s: {done[0].line().strip()}"
            )


async def _do(system: System, kind: Kind, one: Done, rng: random.Random) -> None:
    begun = time.monotonic()
    try:
        async with asyncio.timeout(180):
            one.note = await kind.act(system, one.part, one.seconds, rng) or ""
    except CannotError as reason:
        one.note = f"skipped: {reason}"
    one.seconds = time.monotonic() - begun


async def drain(system: System, load: MixedLoad) -> tuple[Broken, list[str]]:
    """Stop the load, wait until nothing is missing, and compare; what has not ended besides."""
    await load.stop_sending()
    ledger = load.ledger
    for context in ledger.views:
        if own(context) == "replayed":
            # nothing tells that it is deaf: what comes to it comes rarely
            load.come_back(context)
    deadline = time.monotonic() + DRAIN_SECONDS
    running: list[str] = []
    least, moved_at = -1, time.monotonic()
    while True:
        await asyncio.sleep(1)
        missing, now = ledger.missing(), time.monotonic()
        if missing != least:
            least, moved_at = missing, now
        over = now > deadline or now - moved_at > STANDSTILL_SECONDS
        if missing and not over:
            continue
        running = await load.settle_replays()
        broken = ledger.check(await _recorded(system))
        if over or not (running or broken.counts):
            break
    await asyncio.sleep(2)  # time for anything that would come twice
    left = await asyncio.to_thread(_left, system)
    unsettled = [f"replay {replay} has not ended" for replay in running]
    unsettled += [f"left in Redis: {line}" for line in left]
    unsettled += [f"tiers: {line}" for line in await _differences(system)]
    return ledger.check(await _recorded(system)), unsettled


async def _differences(system: System) -> list[str]:
    """What `hookstream lifecycle verify` finds where event log, archive and Redis differ."""
    found: list[str] = []
    cursor: str | None = "events:"
    while cursor is not None:
        part = await system.call("GET", f"/lifecycle/verify?read=1&cursor={cursor}")
        found += part["differences"]
        cursor = part["next"]
    return found[:20]


async def _recorded(system: System) -> dict[str, tuple[str, str]]:
    rows = await system.postgres.rows("SELECT event_id, status, duplicate_of FROM events")
    return {
        str(row["event_id"]): (str(row["status"]), str(row["duplicate_of"] or "")) for row in rows
    }


def _left(system: System) -> list[str]:
    """What should be empty once all is done: pending entries, what is throttled, held, retried."""
    client = system.redis.ask()
    found = []
    for key in sorted(client.scan_iter(count=500)):
        name = key.partition("}:")[2]
        if name in ("events", "updates", "audit") or name.startswith("deferred:"):
            if client.type(key) != "stream":
                continue
            for group in client.xinfo_groups(key):
                if group["pending"] or group.get("lag"):
                    found.append(f"{key}: {group['pending']} pending, lag {group.get('lag')}")
        elif name.startswith(("withheld:", "held:", "parked:")) or name in ("retries", "holds"):
            found.append(f"{key} ({client.type(key)})")
    return found[:20]


def _keep(run: Run, system: System) -> None:
    """Write what a person needs to find the cause, and delete the rest."""
    folder = run.folder
    for path in folder.glob("*.log"):
        if path.stat().st_size > LOG_TAIL_BYTES:
            path.write_bytes(path.read_bytes()[-LOG_TAIL_BYTES:])
    text = "\n".join(done.line() for done in run.faults)
    (folder / "faults.txt").write_text(f"{run.wanted.command()}\n\n{text}\n")
    report = {
        "command": run.wanted.command(),
        "supervised": run.supervised,
        "wrong": run.wrong,
        "broken": run.broken.counts,
        "examples": run.broken.examples,
        "ok_while_standing_still": run.silent,
    }
    (folder / "report.json").write_text(json.dumps(report, indent=1, default=str))
    for log in (system.folder / "redis").glob("*.log"):
        shutil.copy(log, folder / "redis.log")
    with contextlib.suppress(OSError):
        shutil.copy(system.folder / "pg" / "postgres" / "server.log", folder / "postgres.log")
    shutil.rmtree(system.folder, ignore_errors=True)
