"""Scenarios on a system of separate processes under the mixed load: what random faults only meet.

They are for kinds of faults that need several steps, or a moment that is rare.
"""

import asyncio
import contextlib
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from hookstream.app.ids import partition_of, partition_of_event
from hookstream.app.streams.commit_scripts import COMMITS
from tests.chaos.faults import KINDS, redis_keys
from tests.chaos.mixed_load import MixedLoad
from tests.chaos.random_mode import LOOK_SECONDS, drain
from tests.chaos.scenarios import Outcome
from tests.chaos.system import PARTITIONS, Part, System
from tests.chaos.tenants import own, tenant_of
from tests.chaos.watch import STANDSTILL_SECONDS, Watch
from tests.support.stack import eventually

__all__ = ["MIXED", "Mixed", "run_mixed"]


@dataclass(slots=True)
class Stage:
    """A running system, what it is given, who watches it, and how it has gone."""

    system: System
    load: MixedLoad
    watch: Watch
    rng: random.Random
    faults: int = 0
    slowest: float = 0.0
    wrong: list[str] = field(default_factory=list)

    async def over(self, what: str) -> None:
        """A fault is over: wait until everybody sees something newer."""
        self.faults += 1
        self.watch.end()
        seconds = await self.watch.recovered(LOOK_SECONDS)
        if seconds is None or seconds > STANDSTILL_SECONDS:
            behind = "; ".join(self.watch.behind(self.watch.free_since)[:5])
            self.wrong.append(f"not recovered within {STANDSTILL_SECONDS:g} s: {what}: {behind}")
        self.slowest = max(self.slowest, LOOK_SECONDS if seconds is None else seconds)

    async def do(self, kind: str, part: str, seconds: float) -> None:
        """One of the faults of the random mode."""
        self.watch.begin(kind)
        note = await KINDS[kind].act(self.system, part, seconds, self.rng)
        await self.over(f"{kind} {part} {note or ''}")

    def worker(self) -> Part:
        return next(part for part in self.system.parts.values() if part.kind == "worker")


async def rated_terms(stage: Stage, times: int) -> None:
    """SIGTERM and start of the only worker, with twenty rated contexts; nothing else"""
    for _ in range(times):
        await stage.do("process-term", stage.worker().name, 0.0)


async def lost_folds(stage: Stage, times: int) -> None:
    """the reply of a commit that folds what was throttled is lost, again and again"""
    await _lose(stage, times, b"RENAME")


async def lost_retries(stage: Stage, times: int) -> None:
    """the reply of a commit that brings failed or held events back is lost (`on_error: hold`)"""
    await _lose(stage, times, b"\r\nletters\r\n")


async def _lose(stage: Stage, times: int, containing: bytes) -> None:
    proxy = stage.worker().process.proxy
    for _ in range(times):
        stage.watch.begin("a reply is lost")
        rule = proxy.on_reply("close", *COMMITS, containing=containing)
        async with asyncio.timeout(30):
            await rule.hit.wait()
        proxy.rules.remove(rule)
        await stage.over("a reply is lost")


async def failed_claims(stage: Stage, times: int) -> None:
    """a commit's reply is lost, and another one while the partition is opened anew"""
    proxy = stage.worker().process.proxy
    for _ in range(times):
        stage.watch.begin("two replies are lost")
        first = proxy.on_reply("close", *COMMITS, skip=7)
        async with asyncio.timeout(30):
            await first.hit.wait()
        second = proxy.on_reply("close", stage.rng.choice(("deferred_index", "claim", "HGETALL")))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3):
                await second.hit.wait()
        proxy.rules.clear()
        await stage.over("two replies are lost")


async def bad_partition(stage: Stage, seconds: int) -> None:
    """a wrong type in one partition, and its worker restarted: the other partitions go on"""
    number = stage.rng.randrange(PARTITIONS)
    key = f"{{hs:{number}}}:seqs"
    client = stage.system.redis.ask()
    stage.watch.begin("bad partition")
    worker = stage.worker()
    await asyncio.to_thread(worker.end, signal.SIGKILL)
    had = bool(client.exists(key))
    if had:
        client.rename(key, f"{key}.kept")
    client.set(key, "planted")
    worker.start()
    begun = asyncio.get_running_loop().time()

    async def others_move() -> bool:
        view = stage.load.ledger.views
        lanes = [lane for lane, at in _partitions(stage).items() if at != number]
        of = [name for name in view if own(name).startswith("of-") and not _in(name, number)]
        return all(
            view[name].newest.get(lane, 0) > begun
            for name in of
            for lane in lanes
            if lane[0] in view[name].sources
        )

    try:
        await eventually(others_move, "the other partitions go on", seconds)
    except AssertionError as error:
        stage.wrong.append(str(error))
    client.delete(key)
    if had:
        client.rename(f"{key}.kept", key)
    await stage.over("bad partition")


def _partitions(stage: Stage) -> dict[tuple[str, int], int]:
    """Where each lane's events are."""
    found = {}
    for tool, numbers in stage.load.ledger.accepted.items():
        for number, ids in list(numbers.items())[-20:]:
            found[stage.load.ledger.sources[tool].lane(number)] = partition_of_event(ids[0])
    return found


def _in(context: str, number: int) -> bool:
    return partition_of(PARTITIONS, tenant_of(context), own(context)) == number


async def keys_gone(stage: Stage, times: int) -> None:
    """workers killed, keys that can be derived deleted, workers started"""
    for _ in range(times):
        stage.watch.begin("keys gone")
        name = await redis_keys(stage.system, "", 0.0, stage.rng)
        await stage.over(f"keys gone: {name}")


async def older_postgres(stage: Stage, times: int) -> None:
    """PostgreSQL comes back from a copy that is three edits of the catalog older"""
    postgres, worker = stage.system.postgres, stage.worker()
    for _ in range(times):
        stage.watch.begin("older PostgreSQL")
        version = (await postgres.rows("SELECT version FROM registry_version"))[0]["version"]
        for edit in range(3):
            await stage.system.call("PUT", "/contexts/of-payload", {"name": f"edit {edit}"})
        await asyncio.sleep(2)  # events are accepted under the newer version
        await asyncio.to_thread(worker.end, signal.SIGKILL)
        await asyncio.sleep(1)
        async with postgres.admin("hookstream") as connection:
            await connection.execute(f"UPDATE registry_version SET version = {version}")
        worker.start()
        await stage.over("older PostgreSQL")


async def deaf_sockets(stage: Stage, times: int) -> None:
    """BUSY, NOPERM and WRONGTYPE for three seconds each, while clients listen"""
    for _ in range(times):
        await stage.do("redis-busy", "redis", 3.0)
        await stage.do("redis-noperm", "redis", 3.0)
        stage.watch.begin("WRONGTYPE in a feed")
        client = stage.system.redis.ask()
        feed = next(client.scan_iter(match="*:feed:*of-payload"))
        client.rename(feed, f"{feed}.kept")
        client.set(feed, "planted")
        await asyncio.sleep(3)
        client.rename(f"{feed}.kept", feed)
        await stage.over("WRONGTYPE in a feed")


async def unwritable_disk(stage: Stage, seconds: int) -> None:
    """one of two workers cannot write its tables when it starts: the other one has its share"""
    worker = stage.worker()
    stage.watch.begin("unwritable disk")
    await asyncio.to_thread(worker.end, signal.SIGKILL)
    worker.start()
    for _ in range(200):
        if worker.limit_files(0):
            break
        await asyncio.sleep(0.02)
    try:
        await stage.over("unwritable disk, while it lasts")
        await asyncio.sleep(max(0, seconds - stage.slowest))
    finally:
        worker.limit_files(-1)
    await stage.over("unwritable disk")


async def errors_by_class(stage: Stage, seconds: int) -> None:
    """each way in which PostgreSQL and Redis say no, for some seconds, one after the other"""
    for name in (
        "postgres-readonly", "postgres-nologin", "postgres-closed", "postgres-lock",
        "postgres-slow", "postgres-connections", "redis-noperm", "redis-readonly",
        "redis-misconf", "redis-full", "redis-wrongtype", "redis-busy", "redis-garbage",
    ):  # fmt: skip
        await stage.do(name, name.split("-")[0], float(seconds))


async def starts_during(stage: Stage, seconds: int) -> None:
    """a receiver, then a worker starts while Redis or PostgreSQL is away or says no"""
    for name in sorted(KINDS):
        if name.startswith("start-"):
            for part in ("receiver-0", "worker-0"):
                await stage.do(name, part, float(seconds))


@dataclass(frozen=True, slots=True)
class Mixed:
    """``amount``: how many faults, or for how long; the second one in a short run."""

    act: Callable[[Stage, int], Awaitable[None]]
    amount: tuple[int, int]
    workers: int = 1
    tools: tuple[str, ...] = ()
    rated: int = 4
    rate: float = 40.0
    supervised: bool = False


#: Few tools, so that what is rated gets enough to fold all the time.
FEW = ("payload", "lanes", "urgent")

MIXED = {
    "rated-terms": Mixed(rated_terms, (12, 4), tools=FEW, rated=20),
    "lost-folds": Mixed(lost_folds, (10, 3), tools=FEW),
    "lost-retries": Mixed(lost_retries, (10, 3), tools=("held", "held-lanes", "payload")),
    "failed-claims": Mixed(failed_claims, (12, 3)),
    "bad-partition": Mixed(bad_partition, (30, 30)),
    "keys-gone": Mixed(keys_gone, (6, 2)),
    "older-postgres": Mixed(older_postgres, (3, 1), tools=FEW),
    "deaf-sockets": Mixed(deaf_sockets, (3, 1)),
    "unwritable-disk": Mixed(unwritable_disk, (40, 15), workers=2),
    "errors-by-class": Mixed(errors_by_class, (6, 3), workers=2),
    "errors-by-class-up": Mixed(errors_by_class, (6, 3), workers=2, supervised=True),
    "starts-during": Mixed(starts_during, (8, 4), workers=2),
}


async def run_mixed(name: str, folder: Path, *, short: bool = False, seed: int = 1) -> Outcome:
    """Run one from start to the ledger's check.

    Raises:
        AssertionError: something stood still, or a process ended by itself.
    """
    scenario = MIXED[name]
    logs = folder / "logs"
    logs.mkdir(parents=True)
    system = System(
        folder / "state", logs, scenario.supervised, receivers=1, workers=scenario.workers
    )
    load = MixedLoad(system, scenario.rate, seed, scenario.tools, scenario.rated)
    watch = Watch(system, load)
    stage = Stage(system, load, watch, random.Random(seed))
    try:
        await system.start()
        await load.start()
        watch.start()
        assert await watch.recovered(60) is not None, "it does not start"
        await scenario.act(stage, scenario.amount[short])
        broken, unsettled = await drain(system, load)
    finally:
        await watch.stop()
        await load.stop_reading()
        killed = await system.stop()
    wrong = [
        *stage.wrong,
        *watch.stuck(),
        *unsettled,
        *(f"{each.name} ended at {each.at:.0f} s: {each.what}" for each in system.ended),
        *(each.what for each in system.restarts()),
        *(f"{each} had to be killed at the end" for each in killed),
        *load.failed(),
    ]
    for kind, examples in broken.examples.items():
        print(f"{kind}: {broken.counts[kind]}: {examples[:5]}")
    figures = broken.figures(load.ledger.sent, load.ledger.refused)
    assert not wrong, "\n".join([str(figures), *wrong, f"logs: {logs}"])
    return Outcome(figures, stage.faults, stage.slowest)
