"""What is broken, one scenario a function."""

import asyncio
import os
import random
import signal
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.chaos.ledger import Figures
from tests.chaos.load import Load
from tests.chaos.tenants import TENANTS
from tests.support.fragile import Fragile
from tests.support.servers import ClusterSet, Node, SentinelSet
from tests.support.stack import Stack, eventually, free_port

__all__ = ["SCENARIOS", "Outcome", "Scenario", "run"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Figures of a run, how many faults it had, and the slowest recovery in seconds."""

    figures: Figures
    faults: int
    slowest_seconds: float


class World:
    """A system with two workers, the servers it stands on, and the load on it."""

    def __init__(
        self,
        folder: Path,
        rate: float,
        servers: Any = None,
        *,
        poison: bool = False,
        **settings: str,
    ) -> None:
        self.folder = folder
        self.servers = servers
        if servers is not None:
            settings["HOOKSTREAM_REDIS_URL"] = servers.url
        if poison:
            settings["HOOKSTREAM_RETRY_MAX_ATTEMPTS"] = "1000"
        self.stack = (Fragile if poison else Stack)(folder, **settings)
        hold = {"ordering": {"by": "tool", "on_error": "hold"}}
        self.load = Load(
            self.stack,
            rate=rate,
            tool=hold if poison else None,
            poison_every=50 if poison else 0,
            tenants=TENANTS,
        )
        self.second: subprocess.Popen[bytes] | None = None
        self.slowest = 0.0
        self.faults = 0

    def start_second(self, **settings: str) -> None:
        """A second worker, with a state folder of its own on the same Redis and PostgreSQL."""
        self.second = self.stack.another(
            self.folder / "second", "worker", "--web-port", str(free_port()), **settings
        )

    async def fault(self, limit_seconds: float, already: float = 0.0) -> None:
        """Count a fault that was ``already`` seconds ago, and wait until updates come again."""
        self.faults += 1
        seconds = await self.load.recovered(limit_seconds)
        self.slowest = max(self.slowest, already + seconds)

    def stop(self) -> None:
        if self.second is not None and self.second.poll() is None:
            self.second.send_signal(signal.SIGCONT)
            self.second.terminate()
            self.second.wait(60)
        self.stack.stop()
        if self.servers is not None:
            self.servers.kill() if isinstance(self.servers, Node) else self.servers.stop()


async def kill_worker(world: World, faults: int, rng: random.Random) -> None:
    """kill -9 of one of two workers; both are started again"""
    world.start_second()
    await asyncio.sleep(5)
    for _ in range(faults):
        assert world.second is not None
        if rng.random() < 0.5:
            world.stack.find("worker").kill()
            await world.fault(30)
        else:
            world.second.kill()
            world.second.wait(10)
            await world.fault(30)
            world.start_second()
        await asyncio.sleep(rng.uniform(1, 3))


async def kill_receiver(world: World, faults: int, rng: random.Random) -> None:
    """kill -9 of the receiver, which is started again"""
    for _ in range(faults):
        await asyncio.sleep(rng.uniform(1, 2))
        world.stack.find("receive").kill()
        await world.fault(30)


async def kill_redis(world: World, faults: int, rng: random.Random) -> None:
    """kill -9 of the only Redis, which is started again after a second"""
    for _ in range(faults):
        await asyncio.sleep(rng.uniform(1, 2))
        world.servers.kill()
        await asyncio.sleep(1)
        await asyncio.to_thread(world.servers.start)
        await world.fault(30)


async def zombie_worker(world: World, faults: int, rng: random.Random) -> None:
    """SIGSTOP of a worker past its lease, then SIGCONT"""
    world.start_second()
    await asyncio.sleep(5)
    for _ in range(faults):
        assert world.second is not None
        world.second.send_signal(signal.SIGSTOP)
        await world.fault(30)
        await asyncio.sleep(2)
        world.second.send_signal(signal.SIGCONT)
        await asyncio.sleep(rng.uniform(3, 5))


async def redis_away(world: World, seconds: int, rng: random.Random) -> None:
    """Redis stopped (SIGSTOP) for the given seconds; every post must get 202"""
    await asyncio.sleep(2)
    world.servers.signal(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    world.servers.signal(signal.SIGCONT)
    await world.fault(90)


async def postgres_away(world: World, seconds: int, rng: random.Random) -> None:
    """PostgreSQL stopped (SIGSTOP) for the given seconds; delivery must go on"""
    mine = str(world.stack.state_dir)
    stopped = [
        process
        for process in psutil.process_iter()
        if process.name() == "postgres" and mine in " ".join(_family(process))
    ]
    assert stopped
    for process in stopped:
        process.suspend()
    await world.fault(10)
    await asyncio.sleep(seconds)
    for process in stopped:
        process.resume()


def _family(process: psutil.Process) -> list[str]:
    line = list(process.cmdline())
    for parent in process.parents()[:1]:
        line += parent.cmdline()
    return line


async def corrupt_table(world: World, faults: int, rng: random.Random) -> None:
    """kill -9 of the worker, garbage written over its RocksDB files"""
    for _ in range(faults):
        await asyncio.sleep(2)
        worker = world.stack.find("worker")
        worker.kill()
        tables = world.stack.state_dir / "state" / "tables"
        for path in tables.rglob("*"):
            if path.suffix in (".sst", ".log") or path.name.startswith("MANIFEST"):
                size = path.stat().st_size
                with path.open("r+b") as file:
                    file.seek(size // 2)
                    file.write(os.urandom(min(64, size)))
        await world.fault(30)


async def poison(world: World, faults: int, rng: random.Random) -> None:
    """one event in 50 raises until it is cured; its tool holds its order (`on_error: hold`)"""
    stack = world.stack
    assert isinstance(stack, Fragile)
    for _ in range(faults):
        await asyncio.sleep(rng.uniform(2, 4))
        stack.heal("cured")
        await world.fault(30)
        (stack.stages / "cured").unlink()
    await asyncio.sleep(1)
    stack.heal("cured")


#: Python's own clocks, moved. What Redis, PostgreSQL and the event loop use stays right.
SHIFTED = """
import time
real, real_ns = time.time, time.time_ns
time.time = lambda: real() + {seconds}
time.time_ns = lambda: real_ns() + {seconds} * 10**9
"""


async def clock_off(world: World, faults: int, rng: random.Random) -> None:
    """a second worker whose clock is an hour ahead, then one an hour behind; kill -9 of each"""
    for number in range(faults):
        site = world.folder / f"site-{number}"
        site.mkdir()
        seconds = 3600 if number % 2 == 0 else -3600
        (site / "sitecustomize.py").write_text(SHIFTED.format(seconds=seconds))
        world.start_second(PYTHONPATH=f"{site}:{Path.cwd()}")
        await asyncio.sleep(6)
        assert world.second is not None
        world.second.kill()
        world.second.wait(10)
        await world.fault(30)


async def full_disk(world: World, faults: int, rng: random.Random) -> None:
    """Redis away (SIGSTOP), and the receiver's disk full a few seconds later: 503 is right then"""
    for _ in range(faults):
        await asyncio.sleep(1)
        receiver = world.stack.find("receive")
        world.servers.signal(signal.SIGSTOP)

        async def spooled() -> bool:
            return bool((await world.stack.health())["parts"]["spool"]["entries"] > 100)

        await eventually(spooled, "the spool fills")
        before = world.load.ledger.refused
        # no file of the receiver may grow any more: the nearest to a full disk without root
        receiver.rlimit(psutil.RLIMIT_FSIZE, (0, -1))

        async def refused(before: int = before) -> bool:
            return world.load.ledger.refused > before

        await eventually(refused, "the receiver says 503")
        await asyncio.sleep(2)
        receiver.rlimit(psutil.RLIMIT_FSIZE, (-1, -1))
        world.servers.signal(signal.SIGCONT)
        await world.fault(30)


async def kill_master(world: World, faults: int, rng: random.Random) -> None:
    """kill -9 of a Redis master; a replica takes over, the killed one comes back as a replica"""
    for _ in range(faults):
        await asyncio.sleep(2)
        servers = world.servers
        if isinstance(servers, SentinelSet):
            node = await asyncio.to_thread(servers.master)
        else:
            node = rng.choice(await asyncio.to_thread(servers.masters))
        node.kill()
        if isinstance(servers, ClusterSet):
            # its only replica takes over, and has none of its own until it is back
            await asyncio.sleep(5)
            await asyncio.to_thread(servers.revive, node)
            await world.fault(45, already=5.0)
        else:
            await world.fault(45)
            await asyncio.to_thread(servers.revive, node)


@dataclass(frozen=True, slots=True)
class Scenario:
    """``amount``: how many faults, or how many seconds; the second one in a short run."""

    act: Callable[[World, int, random.Random], Awaitable[None]]
    amount: tuple[int, int]
    rate: float = 200.0
    servers: Callable[[Path], Any] | None = None
    durability: str = "local"
    #: Nothing may be refused: the spool takes it.
    always_202: bool = False
    #: Some events raise in a stage until they are cured.
    poison: bool = False


def _one(folder: Path) -> Node:
    return Node(folder).start()


SCENARIOS = {
    "kill-worker": Scenario(kill_worker, (8, 2)),
    "kill-receiver": Scenario(kill_receiver, (4, 1)),
    "kill-redis": Scenario(kill_redis, (4, 1), servers=_one, always_202=True),
    "zombie-worker": Scenario(zombie_worker, (2, 1)),
    "redis-away": Scenario(redis_away, (60, 8), rate=500, servers=_one, always_202=True),
    "postgres-away": Scenario(postgres_away, (60, 5), always_202=True),
    "corrupt-table": Scenario(corrupt_table, (3, 1)),
    "poison": Scenario(poison, (10, 2), poison=True, always_202=True),
    "clock-off": Scenario(clock_off, (2, 1), always_202=True),
    "full-disk": Scenario(full_disk, (3, 1), servers=_one),
    "sentinel-kill-master": Scenario(
        kill_master, (4, 1), servers=SentinelSet, durability="replicated", always_202=True
    ),
    "cluster-kill-master": Scenario(
        kill_master, (4, 1), servers=ClusterSet, durability="replicated", always_202=True
    ),
}


async def explain(world: World) -> None:
    """Say what there is to say about a broken promise, before the system is gone."""
    ledger = world.load.ledger
    for source, accepted in ledger.accepted.items():
        seen = {event_id for _, event_id in ledger.seen.get(source, [])}
        missing = [(n, event_id) for n, event_id in accepted.items() if event_id not in seen]
        for number, event_id in missing[:5]:
            try:
                event = await world.stack.get(f"/events/{event_id}", key=world.load.key_of(source))
                said = {name: event[name] for name in ("status", "duplicate_of", "stage")}
            except AssertionError as error:
                said = {"error": str(error)[:200]}
            print(f"{source}: {number} {event_id} was not seen: {said}")
    print((await world.stack.health())["parts"])
    print(world.stack.log.read_text()[-8000:])


async def run(name: str, folder: Path, *, short: bool = False, seed: int = 1) -> Outcome:
    """Run a scenario from start to the ledger's check."""
    scenario = SCENARIOS[name]
    servers = scenario.servers(folder / "servers") if scenario.servers else None
    world = World(
        folder,
        scenario.rate,
        servers,
        poison=scenario.poison,
        HOOKSTREAM_DURABILITY=scenario.durability,
    )
    try:
        await asyncio.to_thread(world.stack.start)
        await world.load.start()
        await world.load.recovered(30)
        await scenario.act(world, scenario.amount[short], random.Random(seed))
        await world.load.finish()
        figures = await world.load.check()
        if figures.broken:
            await explain(world)
        if scenario.always_202:
            assert figures.refused == 0, f"{figures.refused} posts were refused"
        return Outcome(figures, world.faults, world.slowest)
    finally:
        await asyncio.to_thread(world.stop)
