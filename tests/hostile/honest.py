"""Honest senders and clients, who are not to notice what goes on beside them."""

import asyncio
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field

import aiohttp

from tests.chaos.ledger import Ledger
from tests.chaos.system import System

__all__ = ["Honest", "Latencies"]

#: Signs what honest senders post: strangers do not know it.
SECRET = "a-secret-of-honest-senders"
SOURCES = 4


@dataclass(slots=True)
class Latencies:
    """Seconds from the first try to post an event until its client saw it."""

    seconds: list[float] = field(default_factory=list)

    def at(self, share: float) -> float:
        """The latency that ``share`` of all events do not exceed; seconds."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Honest:
    """Senders of 0, 1, 2, … at ``rate`` events a second in all, and a client for each."""

    def __init__(self, system: System, rate: float) -> None:
        self.system = system
        self.pause = SOURCES / rate
        self.names = [f"honest-{number}" for number in range(SOURCES)]
        self.ledger = Ledger()
        self.latencies = Latencies()
        self.stopping = False
        self._posted: dict[tuple[str, int], float] = {}
        self._seen: dict[str, int] = dict.fromkeys(self.names, 0)
        self._senders: list[asyncio.Task[None]] = []
        self._clients: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Make tools and contexts, and begin."""
        for name in self.names:
            tool = {"provider": "github", "secrets": [SECRET]}
            await self.system.call("PUT", f"/tools/{name}", tool)
            await self.system.call("PUT", f"/contexts/{name}", {})
            await self.system.call("PUT", f"/contexts/{name}/subscriptions/s", {"tool": name})
        self._clients = [asyncio.create_task(self._watch(name)) for name in self.names]
        self._senders = [asyncio.create_task(self._send(name)) for name in self.names]

    async def finish(self, seconds: float = 60.0) -> None:
        """Stop sending, and wait until the clients have seen what was accepted."""
        self.stopping = True
        await asyncio.gather(*self._senders)
        deadline = time.monotonic() + seconds
        while self.waiting() and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    def waiting(self) -> int:
        """Events that were accepted and not seen so far."""
        return sum(
            max(0, len(numbers) - self._seen[name])
            for name, numbers in self.ledger.accepted.items()
        )

    async def _send(self, name: str) -> None:
        door = self.system.doors[0]
        number, due = 0, time.monotonic()
        async with aiohttp.ClientSession(f"http://127.0.0.1:{door.port}") as session:
            while not self.stopping:
                body = json.dumps({"ref": "refs/heads/main", "source": name, "n": number}).encode()
                digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
                headers = {
                    "X-Hub-Signature-256": f"sha256={digest}",
                    "X-GitHub-Event": "push",
                    "X-GitHub-Delivery": f"{name}-{number}",
                }
                self._posted.setdefault((name, number), time.monotonic())
                try:
                    async with session.post(
                        f"/hooks/{name}", data=body, headers=headers
                    ) as response:
                        if response.status == 202:
                            event_id = (await response.json())["event_id"]
                            self.ledger.accept(name, number, event_id)
                            number += 1
                        else:
                            self.ledger.refused += 1
                except (aiohttp.ClientError, TimeoutError):
                    self.ledger.refused += 1
                due = max(due + self.pause, time.monotonic() - 1.0)
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _watch(self, name: str) -> None:
        while True:
            try:
                after = self.ledger.last_seq(name)
                async with (
                    self.system.session(self.system.doors[0], None) as session,
                    session.ws_connect(f"/contexts/{name}/updates?after={after}") as socket,
                ):
                    async for message in socket:
                        self.ledger.frame(name, message.data)
                        # in order: the ledger finds where that is not so
                        posted = self._posted.get((name, self._seen[name]))
                        self._seen[name] += 1
                        if posted is not None:
                            self.latencies.seconds.append(time.monotonic() - posted)
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            await asyncio.sleep(0.1)
