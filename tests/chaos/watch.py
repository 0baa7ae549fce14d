"""Watches a run: what stands still for how long, what ends, and what /health says of it."""

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field

import aiohttp

from tests.chaos.mixed_load import MixedLoad
from tests.chaos.system import Process, System

__all__ = ["Watch"]

TICK_SECONDS = 0.5
#: Nothing may stand still longer than this once a fault is over.
STANDSTILL_SECONDS = 30.0
#: A client over a socket to which nothing came for this long is made to connect anew.
DEAF_SECONDS = STANDSTILL_SECONDS + 5.0
#: What stands still this long should show in /health.
TELLING_SECONDS = 6.0


@dataclass(slots=True)
class Watch:
    """``fault``: what is done now; "" between faults, when the clock of a standstill runs."""

    system: System
    load: MixedLoad
    fault: str = ""
    last_fault: str = ""
    free_since: float = field(default_factory=time.monotonic)
    #: (context, lane) → the longest standstill outside of faults, and after which fault it was
    longest: dict[tuple[str, str], tuple[float, str]] = field(default_factory=dict)
    #: fault → seconds in which something stood still and /health said "ok" everywhere
    silent: Counter[str] = field(default_factory=Counter)
    health: dict[str, str] = field(default_factory=dict)
    #: Clients whose connection stood open while nothing came: they are made to come back.
    deaf: list[str] = field(default_factory=list)
    #: Who was the last to see something newer after a fault.
    slowest: list[str] = field(default_factory=list)
    _given_up: set[str] = field(default_factory=set)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._tick())]
        for process in self.system.processes.values():
            self._tasks.append(asyncio.create_task(self._ask(process)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def begin(self, fault: str) -> None:
        self.fault = self.last_fault = fault

    def end(self) -> None:
        self.fault = ""
        self.free_since = time.monotonic()

    def stuck(self) -> list[str]:
        """What has stood still for too long, a sentence a context."""
        found: dict[str, list[tuple[str, float, str]]] = {}
        for (context, lane), (seconds, fault) in self.longest.items():
            if seconds > STANDSTILL_SECONDS:
                found.setdefault(context, []).append((lane, seconds, fault))
        return [
            f"{context} stood still for {max(s for _, s, _ in lanes):.0f} s after "
            f"{lanes[0][2]}: {' '.join(lane for lane, _, _ in lanes)}"
            for context, lanes in sorted(found.items())
        ]

    async def recovered(self, limit_seconds: float) -> float | None:
        """Seconds from now until everybody has seen something newer; None: not within the limit."""
        begun = time.monotonic()
        while time.monotonic() - begun < limit_seconds:
            behind = set(self.behind(begun))
            self._given_up &= behind
            self.slowest = sorted(behind - self._given_up) or self.slowest
            if not behind - self._given_up:
                return time.monotonic() - begun
            await asyncio.sleep(0.1)
        # they count once: what comes next is to be seen for itself
        self._given_up = set(self.behind(begun))
        return None

    def behind(self, since: float) -> list[str]:
        """Contexts and lanes that have shown nothing that was accepted after ``since``."""
        ledger = self.load.ledger
        found = []
        for view in ledger.views.values():
            for lane in list(ledger.lanes):
                newest = (view.progress if view.patient else view.newest).get(lane, 0.0)
                if lane[0] in view.sources and newest <= since:
                    found.append(f"{view.context} {lane[0]}/{lane[1]}")
        return found

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.system.watch()
            now = time.monotonic()
            base = now if self.fault else self.free_since
            stands = False
            for context, lane, since in self._waiting():
                seconds = now - max(since, base)
                key = (context, lane)
                if seconds > self.longest.get(key, (0.0, ""))[0]:
                    self.longest[key] = (seconds, self.last_fault)
                if seconds > DEAF_SECONDS and self.load.come_back(context):
                    self.deaf.append(f"{context} at {self.system.seconds():.0f} s")
                stands = stands or now - since > TELLING_SECONDS
            if stands and self.health and set(self.health.values()) == {"ok"}:
                self.silent[self.fault or f"after {self.last_fault}"] += TICK_SECONDS  # type: ignore[assignment]

    def _waiting(self) -> list[tuple[str, str, float]]:
        """What waits: (context, lane, since when nothing of it has moved)."""
        ledger = self.load.ledger
        found = []
        excused = {tool: ledger.excused(tool) for tool in ledger.sources}
        for view in ledger.views.values():
            for lane, accepted in list(ledger.lanes.items()):
                if lane[0] not in view.sources:
                    continue
                since = view.waits_since(lane, accepted, excused[lane[0]])
                if since is not None:
                    moved = max(since, view.progress.get(lane, 0.0), ledger.healed_at[lane[0]])
                    found.append((view.context, f"{lane[0]}/{lane[1]}", moved))
        if self.load.stopping_at is None:
            for lane, accepted in list(ledger.lanes.items()):
                found.append(("(posts)", f"{lane[0]}/{lane[1]}", accepted[-1][1]))
        return found

    async def _ask(self, process: Process) -> None:
        """Keep what a process's /health says; nothing while it does not answer."""
        while True:
            try:
                async with (
                    self.system.session(process, 4) as session,
                    session.get("/health") as response,
                ):
                    self.health[process.name] = str((await response.json())["status"])
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError):
                self.health[process.name] = "silent"
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.sleep(1.0)
