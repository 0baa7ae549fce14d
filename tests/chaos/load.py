"""Senders and clients: each source has one of both."""

import asyncio
import contextlib
import json
import time
from typing import Any

import aiohttp

from tests.chaos.ledger import Ledger
from tests.support.stack import Stack, eventually

__all__ = ["Load"]


class Load:
    """``sources`` sequential senders at ``rate`` events a second in all, and a client for each.

    Every ``poison_every``-th event fails in the stage of :class:`~tests.support.fragile.Fragile`
    until it is cured. A sender goes on to the next number only when the last one got its 202; on
    503 or a lost connection it sends the same again, as a provider would.
    """

    def __init__(
        self,
        stack: Stack,
        *,
        sources: int = 4,
        rate: float = 200.0,
        tool: dict[str, Any] | None = None,
        poison_every: int = 0,
    ) -> None:
        self.stack = stack
        self.ledger = Ledger()
        self.names = [f"source-{number}" for number in range(sources)]
        self.pause = sources / rate
        self.tool = {"provider": "none", **(tool or {})}
        self.poison_every = poison_every
        self.stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._clients: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Make tools and contexts, and begin."""
        for name in self.names:
            await self.stack.context(name, self.tool)
        self._clients = [asyncio.create_task(self._watch(name)) for name in self.names]
        self._tasks = [asyncio.create_task(self._send(name)) for name in self.names]

    async def recovered(self, timeout_seconds: float) -> float:
        """Seconds until each client sees something that was posted after now."""
        begun = time.monotonic()
        marks = {name: len(self.ledger.accepted.get(name, ())) for name in self.names}

        async def all_seen() -> bool:
            return all(
                len(self.ledger.seen.get(name, ())) > mark + 1 for name, mark in marks.items()
            )

        await eventually(all_seen, "updates come again", timeout_seconds)
        return time.monotonic() - begun

    async def finish(self, timeout_seconds: float = 90.0) -> None:
        """Stop sending, and wait until the clients have seen as much as was accepted."""
        self.stopping = True
        await asyncio.gather(*self._tasks)

        async def all_seen() -> bool:
            return all(
                len(self.ledger.seen.get(name, ())) >= len(self.ledger.accepted[name])
                for name in self.names
            )

        # where it is not, the ledger says what is missing
        with contextlib.suppress(AssertionError):
            await eventually(all_seen, "everything is delivered", timeout_seconds)
        await asyncio.sleep(1.0)  # time for anything that would come twice
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _send(self, name: str) -> None:
        number = 0
        due = time.monotonic()
        async with aiohttp.ClientSession(self.stack.url) as session:
            while not self.stopping:
                body = json.dumps({"source": name, "n": number, **self._poison(number)}).encode()
                while True:
                    try:
                        async with session.post(f"/hooks/{name}", data=body) as response:
                            if response.status == 202:
                                answer = await response.json()
                                self.ledger.accept(name, number, answer["event_id"])
                                break
                            self.ledger.refused += 1
                    except (aiohttp.ClientError, TimeoutError):
                        pass
                    await asyncio.sleep(0.05)
                number += 1
                due = max(due + self.pause, time.monotonic() - 1.0)
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _poison(self, number: int) -> dict[str, str]:
        bad = self.poison_every and number % self.poison_every == self.poison_every - 1
        return {"poison": "cured"} if bad else {}

    async def _watch(self, name: str) -> None:
        while True:
            try:
                after = self.ledger.last_seq(name)
                async with (
                    self.stack.session() as session,
                    session.ws_connect(f"/contexts/{name}/updates?after={after}") as socket,
                ):
                    async for message in socket:
                        self.ledger.frame(name, message.data)
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            await asyncio.sleep(0.1)
