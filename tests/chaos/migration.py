"""``python -m tests.chaos.migration``: tools move forth and back under load and faults.

A real system (`hookstream up`: two receivers, two workers, Redis, PostgreSQL), moto's SQS over
HTTP in a process of its own, old workers in processes of their own, and a ledger outside.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg
import psutil
from redis.asyncio import Redis

from hookstream.app import embedded
from tests.chaos.migration_load import TOOLS, MoveLoad
from tests.chaos.old_worker import open_ledger
from tests.chaos.path_ledger import PathFigures, Work
from tests.support.sqs_process import KINDS
from tests.support.stack import Stack, eventually, free_port

__all__ = ["Drill", "Move", "Outcome", "Plan", "run", "table"]

BEGIN, END = "<!-- proof -->", "<!-- end of proof -->"
PAGE: Final = Path("docs/migration.md")
#: All modes forward and back.
WAY: Final = (
    ("sqs", None), ("shadow", None), ("split", 5), ("split", 50), ("redis", None), ("only", None),
    ("redis", None), ("split", 50), ("split", 5), ("shadow", None), ("sqs", None),
)  # fmt: skip
#: As many events as so many modes have are left for a drill.
DRILL_STEPS: Final = 3
PARTS: Final = ("receiver", "worker", "redis", "postgres", "old worker")
OLD_WORKERS: Final = 3
#: Of what standard queues give, how much they give again.
TWICE: Final = 0.03


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is done. ``rounds``: through all modes; 0: one for each 60,000 events."""

    events: int = 200_000
    rate: float = 250.0
    seed: int = 1
    rounds: int = 0
    kill_seconds: float = 10.0
    sqs_every_seconds: float = 23.0
    sqs_seconds: float = 5.0
    #: How long SQS hides a message at most; receivers ask for a minute.
    most_hidden_seconds: float = 43_200.0
    drain_seconds: float = 240.0
    #: What has not come for so long does not come any more: after a rollback, and at the end.
    quiet_seconds: float = 4.0

    @property
    def times(self) -> int:
        """How often all modes are gone through."""
        return self.rounds or max(1, round(self.events / 60_000))


@dataclass(slots=True)
class Drill:
    """A rollback under load, from `redis`, where all is ours, to `sqs`. Seconds from its start."""

    during: str
    begun: float
    command: float = 0.0
    first: float = -1.0
    #: when the last event was delivered here
    none: float = 0.0
    until: float = 0.0
    keys: int = 0


@dataclass(slots=True)
class Outcome:
    """What came of a run."""

    plan: Plan
    figures: PathFigures
    minutes: float
    drain_seconds: float
    faults: Counter[str]
    shifts: Counter[str]
    drills: list[Drill]
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def broken(self) -> bool:
        """Whether a promise was broken."""
        return bool(self.figures.broken or self.counts["renumbered"] or self.counts["left"])


class OldWorkers:
    """Processes that are started again when they are killed."""

    def __init__(self, stack: Stack, server: str, ledger: Path, queues: dict[str, str]) -> None:
        self.given = {
            "server": server, "api": stack.url, "key": stack.key, "ledger": str(ledger),
            "queues": queues,
        }  # fmt: skip
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.log = stack.state_dir / "old-workers.log"

    def start(self) -> None:
        """Have all of them run."""
        for number in range(OLD_WORKERS):
            self._start(f"old-{number}")

    def _start(self, name: str) -> None:
        with self.log.open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.old_worker",
                 json.dumps({"name": name, **self.given})],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def kill(self, rng: random.Random) -> None:
        """kill -9 of one; another one of its name begins."""
        name = rng.choice(sorted(self.processes))
        process = self.processes[name]
        assert process.poll() is None, f"{name} ended by itself: {self.log.read_text()[-2000:]}"
        process.kill()
        process.wait(10)
        self._start(name)

    def stop(self) -> None:
        """End all."""
        for process in self.processes.values():
            process.kill()
            process.wait(10)


class Move:
    """A run: see :func:`run`."""

    def __init__(self, plan: Plan, folder: Path, say: Callable[[str], None]) -> None:
        self.plan, self.folder, self.say = plan, folder, say
        self.rng = random.Random(plan.seed)
        self.faults: Counter[str] = Counter()
        self.shifts: Counter[str] = Counter()
        self.drills: list[Drill] = []
        self.mode = ""
        #: During a drill only what it says is done.
        self.paused = False
        #: What is left of hand-overs and copies when all is over: by key of Redis, how many.
        self.left: dict[str, int] = {}
        self.begun = time.monotonic()
        port = free_port()
        self.server = f"http://127.0.0.1:{port}/"
        self.sqs = subprocess.Popen(
            [sys.executable, "-m", "tests.support.sqs_process", str(port),
             "--twice", str(TWICE), "--seed", str(plan.seed),
             "--most-hidden", str(plan.most_hidden_seconds)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        self.stack = Stack(
            folder,
            AWS_ACCESS_KEY_ID="hookstream",
            AWS_SECRET_ACCESS_KEY="secret",
            AWS_REGION="us-east-1",
            HOOKSTREAM_SQS_QUEUES=f"{self.server}123456789012/",
            HOOKSTREAM_RECEIVER_PROCESSES="2",
            HOOKSTREAM_WORKER_PROCESSES="2",
            HOOKSTREAM_PARTITIONS="4",
        )
        self.load = MoveLoad(
            self.stack, self.server, events=plan.events, rate=plan.rate, worked=self.worked
        )
        self.ledger_path = folder / "ledger.sqlite"
        self.ledger = open_ledger(self.ledger_path)
        self.old: OldWorkers | None = None

    async def start(self) -> None:
        """Everything, up to the first event."""
        await asyncio.to_thread(self.stack.start)
        await self.load.prepare()
        queues = {name: self.load.old(name) for name in TOOLS}
        self.old = OldWorkers(self.stack, self.server, self.ledger_path, queues)
        self.old.start()
        await self.shift("sqs", None)

    async def go(self) -> Outcome:
        """Send all of it, through all modes, and compare."""
        self.begun = time.monotonic()
        self.load.start()
        beside = [
            asyncio.create_task(each) for each in (self.kill_parts(), self.trouble(), self.tell())
        ]
        try:
            await self.through_all_modes(beside)
            for task in beside[:2]:
                task.cancel()
            sent_at = time.monotonic()
            await self.drained(beside)
            drained = time.monotonic() - sent_at
            await self.settled()
            await asyncio.sleep(self.plan.quiet_seconds)  # time for anything that would come twice
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        works = [*self.of_old(), *await self.of_ours()]
        figures = self.load.ledger.check(works, [f.seen for f in self.load.frames.values()])
        self.time_drills(works)
        outcome = Outcome(
            self.plan, figures, (sent_at - self.begun) / 60, drained, self.faults, self.shifts,
            self.drills, Counter(self.load.counts),
        )  # fmt: skip
        await self.count_more(outcome.counts)
        return outcome

    async def stop(self) -> None:
        """End everything that was started."""
        await self.load.stop()
        if self.old is not None:
            self.old.stop()
        await asyncio.to_thread(self.stack.stop)
        self.sqs.kill()
        self.sqs.wait(10)
        self.ledger.close()

    # Modes.

    async def through_all_modes(self, beside: list[asyncio.Task[None]]) -> None:
        """Each for its share of the events; a rollback drill at the end of each round."""
        steps = len(WAY) + DRILL_STEPS
        for turn in range(self.plan.times):
            for number, (mode, percent) in enumerate(WAY):
                await self.shift(mode, percent)
                share = (turn * steps + number + 1) / (steps * self.plan.times)
                await self.reached(share, beside)
            await self.drill(turn)
        await self.reached(1.0, beside)
        await self.load.stop_sending()

    async def reached(self, share: float, beside: list[asyncio.Task[None]]) -> None:
        """Wait until so much of all events was accepted."""
        while self.load.ledger.count < self.plan.events * share:
            self.load.look()
            for task in beside:
                if task.done():
                    task.result()
            await asyncio.sleep(0.1)

    async def shift(self, mode: str, percent: int | None) -> None:
        """Have all tools in a mode, whatever is away meanwhile."""
        body = {"mode": mode} if percent is None else {"mode": mode, "percent": percent}
        self.mode = mode if percent is None else f"{mode} {percent}"
        self.shifts[self.mode] += 1
        await asyncio.gather(*(self._shift(name, body) for name in TOOLS))

    async def _shift(self, tool: str, body: dict[str, Any]) -> None:
        async def done() -> bool:
            with contextlib.suppress(AssertionError, aiohttp.ClientError, OSError, TimeoutError):
                shown = await self.stack.put(f"/tools/{tool}/migration", body)
                return self.shifts.total() > 1 or not shown["workers_behind"]
            await asyncio.sleep(0.3)
            return False

        await eventually(done, f"{tool} is shifted to {body}", 90)

    async def drill(self, turn: int) -> None:
        """All of `door` is ours; `hookstream migrate rollback` has old workers work on it again."""
        frames, wanted = self.load.frames["door"], TOOLS["door"].keys(self.load.events)
        before = frames.last
        await self.shift("redis", None)

        async def ours() -> bool:
            await asyncio.sleep(0.25)
            shown = await self.shown("door")
            keys = {key for seq, (_, key, _) in list(frames.seen.items()) if seq > before}
            return bool(shown and not shown["waiting_keys"] and len(keys) == wanted)

        # with few events some keys may have none left
        with contextlib.suppress(AssertionError):
            await eventually(ours, "all keys are ours", 60)
        during = ("nothing else", "kill -9 of a worker", "SQS unreachable for 5 s")[turn % 3]
        self.paused = True
        drill = Drill(during, time.time())
        self.drills.append(drill)
        if turn % 3 == 1:
            self.kill("worker")
        elif turn % 3 == 2:
            await self.fault("unreachable", 5)
        self.mode = "rollback"
        self.shifts["rollback"] += 1
        await asyncio.gather(self._rollback(), *(
            self._shift(name, {"mode": "sqs"}) for name in TOOLS if name != "door"
        ))  # fmt: skip
        drill.command = time.time() - drill.begun
        last, quiet_since = -1, time.monotonic()
        deadline = quiet_since + 90
        while time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            if (now := len(self.load.frames["door"].seen)) != last:
                last, quiet_since = now, time.monotonic()
            quiet = time.monotonic() - quiet_since > self.plan.quiet_seconds
            if quiet and self.worked_since(drill):
                break
        self.paused = False
        drill.until = time.time()

    def worked_since(self, drill: Drill) -> bool:
        """Whether old workers have had events again since a rollback was done."""
        query = "SELECT 1 FROM work WHERE tool = 'door' AND begun > ? LIMIT 1"
        done = drill.begun + drill.command
        return self.ledger.execute(query, [done]).fetchone() is not None

    async def _rollback(self) -> None:
        async def done() -> bool:
            process = await asyncio.create_subprocess_exec(
                *self.stack.command("--quiet", "migrate", "rollback", "door"),
                env=self.stack.environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            return await process.wait() == 0

        await eventually(done, "door is rolled back", 90)
        shown = await eventually(lambda: self.shown("door"), "its mode can be asked", 60)
        assert shown["mode"] == "sqs", shown

    async def shown(self, tool: str) -> dict[str, Any] | None:
        """How far a tool is, if that can be asked now."""
        with contextlib.suppress(AssertionError, aiohttp.ClientError, OSError, TimeoutError):
            return await self.stack.get(f"/tools/{tool}/migration")
        return None

    # Faults.

    async def kill_parts(self) -> None:
        """kill -9 of each part in turn, in an order of the seed."""
        while True:
            for part in self.rng.sample(PARTS, len(PARTS)):
                await self.pause(self.plan.kill_seconds)
                self.kill(part)

    async def pause(self, seconds: float) -> None:
        """Wait so long; what a drill takes does not count."""
        while seconds > 0:
            await asyncio.sleep(0.25)
            seconds -= 0.25 * (not self.paused)

    def kill(self, part: str) -> None:
        """kill -9 of one process; `up` starts it again, an old worker we do."""
        if part == "old worker":
            assert self.old is not None
            self.old.kill(self.rng)
        elif found := self._processes(part):
            self.rng.choice(found).kill()
        else:
            # the last kill of it is not over
            return
        self.faults[part] += 1
        self.say(f"kill -9: {part}")

    def _processes(self, part: str) -> list[psutil.Process]:
        words = {"receiver": "receive", "worker": "worker"}
        found = []
        for process in self.stack.processes():
            with contextlib.suppress(psutil.Error):
                line, name = process.cmdline(), process.name()
                if part in words:
                    right = "hookstream.app.cli" in line and words[part] in line
                elif part == "redis":
                    right = "valkey" in name
                else:
                    parent = process.parent()
                    right = name == "postgres" and bool(parent and parent.name() != "postgres")
                if right and "guard" not in " ".join(line):
                    found.append(process)
        return found

    async def trouble(self) -> None:
        """SQS throttles, cannot be reached, or does not answer what it has done, for a while."""
        while True:
            for kind in self.rng.sample(KINDS, len(KINDS)):
                await self.pause(self.plan.sqs_every_seconds)
                await self.fault(kind, self.plan.sqs_seconds)

    async def fault(self, kind: str, seconds: float) -> None:
        """Have SQS in trouble from now on."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.server}fault", params={"kind": kind, "seconds": str(seconds)}),
        ):
            pass
        self.faults[f"sqs {kind}"] += 1
        self.say(f"SQS {kind} for {seconds:g} s")

    # What came of it.

    async def tell(self) -> None:
        """Progress, now and then."""
        while True:
            await asyncio.sleep(5)
            self.say(
                f"{self.load.ledger.count} accepted, {self.by_old()} by old workers, "
                f"{self.load.delivered} here, {self.load.ledger.count - self.worked()} under way; "
                f"mode {self.mode}; {sum(self.faults.values())} faults"
            )

    def worked(self) -> int:
        """How many events both paths are through with."""
        return self.by_old() + self.load.delivered

    def by_old(self) -> int:
        """How many events old workers have worked on."""
        return int(self.ledger.execute("SELECT max(at) FROM work").fetchone()[0] or 0)

    async def drained(self, beside: list[asyncio.Task[None]]) -> None:
        """Wait until all that was accepted was worked on, or nothing moves any more."""
        deadline = time.monotonic() + self.plan.drain_seconds
        while self.load.ledger.count > self.worked():
            if time.monotonic() > deadline:
                self.say("not all of it was worked on in time")
                return
            await asyncio.sleep(0.5)

    async def settled(self) -> None:
        """Wait until nothing is left of hand-overs and copies; say what is, after a while."""
        deadline = time.monotonic() + 30
        url = str(embedded.find_valkey(self.stack.state_dir / "state"))
        async with Redis.from_url(url) as redis:
            while True:
                self.left = {}
                async for key in redis.scan_iter(match="{*}:*", count=1000):
                    name = key.decode().partition("}:")[2]
                    if name == "hand-overs":
                        self.left[key.decode()] = await redis.hlen(key)
                    elif name.startswith("outbox:") and (lines := await redis.xlen(key)):
                        self.left[key.decode()] = lines
                    elif name.startswith("held:"):
                        self.left[key.decode()] = 1
                if not self.left or time.monotonic() > deadline:
                    break
                await asyncio.sleep(0.5)
        if self.left:
            self.say(f"left in Redis: {self.left}")

    def of_old(self) -> Iterator[Work]:
        """What old workers did."""
        query = "SELECT tool, key, n, begun, ended, at FROM work ORDER BY at"
        for tool, key, n, begun, ended, at in self.ledger.execute(query):
            yield Work("old", tool, key, n, begun, ended, at)

    async def of_ours(self) -> list[Work]:
        """What clients saw, and when the event log says that it was delivered."""
        frames = self.load.frames
        missing = True
        deadline = time.monotonic() + 60
        while missing and time.monotonic() < deadline:
            # the event log may be behind
            rows = await self._deliveries()
            missing = any((name, seq) not in rows for name, f in frames.items() for seq in f.seen)
            await asyncio.sleep(0.5 * missing)
        assert not missing, "the event log does not have all deliveries"
        return [
            Work("ours", name, key, n, rows[name, seq], rows[name, seq], seq)
            for name, of in frames.items()
            for seq, (_, key, n) in of.seen.items()
        ]

    async def _deliveries(self) -> dict[tuple[str, int], float]:
        url = embedded.find_postgres(self.stack.state_dir / "state")
        connection = await asyncpg.connect(url, timeout=10)
        try:
            query = "SELECT context_id, seq, extract(epoch FROM delivered_at) AS at FROM deliveries"
            rows = await connection.fetch(query)
        finally:
            await connection.close()
        return {(row["context_id"], row["seq"]): float(row["at"]) for row in rows}

    def time_drills(self, works: list[Work]) -> None:
        """When old workers had the first event again, and when the last one was delivered here."""
        by_key: dict[str, list[Work]] = defaultdict(list)
        for work in sorted(works, key=lambda work: work.n):
            if work.tool == "door":
                by_key[work.key].append(work)
        for drill in self.drills:
            first: list[float] = []
            none = [0.0]
            for done in by_key.values():
                before = [work for work in done if work.ended < drill.begun]
                if not before or before[-1].path != "ours":
                    continue
                drill.keys += 1
                during = [work for work in done if drill.begun <= work.ended < drill.until]
                first += [work.begun for work in during if work.path == "old"]
                none += [work.ended - drill.begun for work in during if work.path == "ours"]
            drill.first = min(first) - drill.begun if first else -1.0
            drill.none = max(none)

    async def count_more(self, counts: Counter[str]) -> None:
        """What is worth knowing besides."""
        frames = self.load.frames.values()
        counts["left"] = sum(self.left.values())
        counts["renumbered"] = sum(one.renumbered for one in frames)
        counts["frames shown again"] = sum(one.shown_again for one in frames)
        query = "SELECT message = first_message, count(*) FROM again GROUP BY 1"
        again = dict(self.ledger.execute(query).fetchall())
        counts["given again"], counts["copied again"] = again.get(1, 0), again.get(0, 0)
        query = "SELECT count(DISTINCT mark) FROM marks WHERE confirmed"
        counts["hand-overs"] = self.ledger.execute(query).fetchone()[0]
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.server}counts") as response,
        ):
            for name, count in (await response.json(content_type=None)).items():
                counts[f"sqs {name}"] = count


async def run(plan: Plan, folder: Path, say: Callable[[str], None]) -> Outcome:
    """Go through all modes under load and faults; ``folder`` has logs and the ledger afterwards."""
    move = Move(plan, folder, say)
    try:
        await move.start()
        return await move.go()
    finally:
        await move.stop()


def table(outcome: Outcome) -> str:
    """What came of a run, in Markdown."""
    f, c, plan = outcome.figures, outcome.counts, outcome.plan
    kills = ", ".join(f"{part} {outcome.faults[part]}" for part in PARTS)
    sqs = ", ".join(f"{kind} {outcome.faults[f'sqs {kind}']}" for kind in KINDS)
    doubled = ", ".join(f"{kind}: {count}" for kind, count in f.doubled.items())
    rows = [
        ("events accepted", f"{f.accepted} ({plan.rate:g}/s wanted, {outcome.minutes:.1f} min)"),
        ("through all modes forth and back", f"{plan.times} times: "
         f"{outcome.shifts.total()} shifts"),
        ("`kill -9`", kills),
        ("SQS in trouble", f"{sqs} ({plan.sqs_seconds:g} s each)"),
        ("requests to SQS", f"{c['sqs requests']}: throttled {c['sqs throttled']}, cut off "
         f"{c['sqs unreachable']}, done but not answered {c['sqs unanswered']}"),
        ("messages that standard queues gave twice", str(c["sqs given twice"])),
        ("worked on by old workers", str(f.by_path["old"])),
        ("delivered here", str(f.by_path["ours"])),
        ("hand-overs", f"{c['hand-overs']} confirmed; {f.changes} times a key's next event was the "
         "other path's"),
        ("**lost**", f"**{f.lost}**"),
        ("**worked on twice, in whichever path**", f"**{f.doubled.total()}** {doubled}".strip()),
        ("**out of order within a key**", f"**{f.out_of_order}**"),
        ("**gaps in feeds**", f"**{f.gaps}**"),
        ("left of hand-overs and copies in Redis", str(c["left"])),
        ("came to old workers again, and they knew it", f"{c['given again']} given again by SQS, "
         f"{c['copied again']} copied again from here"),
        ("posts sent again", f"{c['refused']} after a refusal, {c['cut off']} after a lost answer"),
        ("until all was worked on, after the last event", f"{outcome.drain_seconds:.0f} s"),
    ]  # fmt: skip
    text = "| | |\n| --- | --- |\n" + "".join(f"| {name} | {value} |\n" for name, value in rows)
    text += (
        "\n| rollback drill, `redis` to `sqs`, during | keys that were ours | the command "
        "| the first event of these with old workers | the last event delivered here |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
    )
    for drill in outcome.drills:
        text += (
            f"| {drill.during} | {drill.keys} | {drill.command:.1f} s | {drill.first:.1f} s "
            f"| {drill.none:.1f} s |\n"
        )
    return text


def main() -> int:
    """The exit status is 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.migration", description=__doc__)
    usual = Plan()
    parser.add_argument("--events", type=int, default=usual.events)
    parser.add_argument("--rate", type=float, default=usual.rate, help="events a second")
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--rounds", type=int, default=usual.rounds, help="through all modes")
    parser.add_argument("--write", action="store_true", help=f"keep the table in {PAGE}")
    options = parser.parse_args()
    plan = Plan(options.events, options.rate, options.seed, options.rounds)
    folder = Path(tempfile.mkdtemp(prefix="hookstream-move-"))
    begun = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - begun:6.0f} s  {text}", file=sys.stderr, flush=True)

    say(f"logs and ledger in {folder}")
    outcome = asyncio.run(run(plan, folder, say))
    text = table(outcome)
    print(text)
    for example in outcome.figures.examples:
        print(example)
    if options.write and not outcome.broken:
        write(text, plan)
    return int(outcome.broken)


def write(text: str, plan: Plan) -> None:
    """Keep the table in the page."""
    page = PAGE.read_text()
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    stamp = f"{datetime.now(UTC):%Y-%m-%d}, seed {plan.seed}, {os.cpu_count()} cores."
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n{stamp}\n\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
