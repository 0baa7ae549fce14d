"""A soak: attacks of all kinds mixed, beside honest traffic, and what is seen of both."""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil

from tests.chaos.ledger import Figures
from tests.chaos.system import System
from tests.hostile.attacks import ATTACKS, Attacker
from tests.hostile.honest import Honest, Latencies

__all__ = ["Soak", "run"]

#: No process of ours may take more.
MAX_MEGABYTES = 600
#: Honest events of which 99 in 100 have to be delivered within this.
P99_SECONDS = 1.0
#: An attack that has no answer by then is given up, and begun again.
ATTACK_SECONDS = 60.0
#: However many kinds there are: most are megabytes, and all of them share the machine.
ATTACKS_PER_SECOND = 25
SAMPLE_SECONDS = 0.5


@dataclass(slots=True)
class Soak:
    """What a soak came to. ``memory``: process → resident megabytes, a sample each half second."""

    figures: Figures = field(default_factory=Figures)
    latencies: Latencies = field(default_factory=Latencies)
    memory: dict[str, list[int]] = field(default_factory=dict)
    attacks: dict[str, Counter[str]] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)

    def wrong(self) -> list[str]:
        """What must not be, a sentence each."""
        found = list(self.ended)
        if self.figures.broken:
            found.append(f"honest events: {self.figures}")
        if self.latencies.at(0.99) > P99_SECONDS:
            found.append(f"99 in 100 honest events took up to {self.latencies.at(0.99):.2f} s")
        for name, sizes in self.memory.items():
            if "valkey" not in name and max(sizes) > MAX_MEGABYTES:
                found.append(f"{name} took {max(sizes)} MB")
        return found


async def run(
    folder: Path,
    seconds: float,
    attacks: Sequence[str],
    *,
    rate: float,
    say: Callable[[str], None],
    pause: float | None = None,
) -> Soak:
    """Start a supervised system, let honest and hostile traffic at it for so long, look at both.

    It goes on until each kind of attack was done once, if that takes longer. Each kind is done by
    one attacker after the other, all kinds together :data:`ATTACKS_PER_SECOND` times a second at
    most; or with ``pause`` seconds between them.
    """
    if pause is None:
        pause = len(attacks) / ATTACKS_PER_SECOND
    logs = folder / "logs"
    logs.mkdir(parents=True)
    system = System(folder, logs, supervised=True, workers=1)
    soak = Soak(attacks={name: Counter() for name in attacks})
    await system.start()
    honest = Honest(system, rate)
    door = system.doors[0]
    connector = aiohttp.TCPConnector(limit=0)
    try:
        async with aiohttp.ClientSession(
            f"http://127.0.0.1:{door.port}", connector=connector
        ) as session:
            attacker = Attacker(system, session)
            await attacker.prepare()
            await honest.start()
            await asyncio.sleep(1.0)
            tasks = [asyncio.create_task(_attack(attacker, soak, name, pause)) for name in attacks]
            tasks.append(asyncio.create_task(_sample(system, soak)))
            await _wait(seconds, soak, honest, say)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await honest.finish()
            soak.figures = await honest.ledger.check(_number_of(system))
            soak.latencies = honest.latencies
    finally:
        soak.ended += [f"{each.name} ended: {each.what}" for each in system.restarts()]
        await system.stop()
    return soak


async def _attack(attacker: Attacker, soak: Soak, name: str, pause: float) -> None:
    while True:
        try:
            async with asyncio.timeout(ATTACK_SECONDS):
                said = await ATTACKS[name](attacker)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            said = type(error).__name__
        soak.attacks[name][said] += 1
        await asyncio.sleep(pause)


async def _sample(system: System, soak: Soak) -> None:
    while True:
        for name, part in system.parts.items():
            pid = part.pid()
            with contextlib.suppress(psutil.Error):
                size = psutil.Process(pid).memory_info().rss // 2**20
                soak.memory.setdefault(name, []).append(size)
        with contextlib.suppress(psutil.Error):
            size = psutil.Process(system.redis.process.pid).memory_info().rss // 2**20
            soak.memory.setdefault("valkey", []).append(size)
        await asyncio.sleep(SAMPLE_SECONDS)


async def _wait(seconds: float, soak: Soak, honest: Honest, say: Callable[[str], None]) -> None:
    begun = time.monotonic()
    while (
        (passed := time.monotonic() - begun) < seconds
        or (passed < seconds + ATTACK_SECONDS and not all(soak.attacks.values()))
    ):  # fmt: skip
        await asyncio.sleep(min(30.0, max(1.0, seconds - passed)))
        done = sum(counts.total() for counts in soak.attacks.values())
        most = {name: sizes[-1] for name, sizes in soak.memory.items() if sizes}
        say(
            f"{time.monotonic() - begun:.0f} of {seconds:.0f} s: {done} attacks, "
            f"{len(honest.latencies.seconds)} honest events seen, {honest.waiting()} under way, "
            f"p99 {honest.latencies.at(0.99):.2f} s, MB {most}"
        )


def _number_of(system: System):  # type: ignore[no-untyped-def]
    async def number(_: str, event_id: str) -> int:
        payload = (await system.call("GET", f"/events/{event_id}"))["payload"]
        if isinstance(payload, str):
            payload = json.loads(payload)
        return int(payload["n"])

    return number
