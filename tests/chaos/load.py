"""Senders and clients: each source has one of both."""

import asyncio
import contextlib
import json
import time
from collections.abc import Sequence
from typing import Any

import aiohttp

from tests.chaos.ledger import Figures, Ledger
from tests.chaos.tenants import DEFAULT_TENANT, full, new_tenant, own, tenant_of
from tests.support.stack import Stack, eventually

__all__ = ["Load"]


class Load:
    """``sources`` sequential senders at ``rate`` events a second in all, and a client for each.

    Every ``poison_every``-th event fails in the stage of :class:`~tests.support.fragile.Fragile`
    until it is cured. A sender goes on to the next number only when the last one got its 202; on
    503 or a lost connection it sends the same again, as a provider would. ``tenants`` have sources
    of the same ids, in turn; clients have a key of their tenant.
    """

    def __init__(
        self,
        stack: Stack,
        *,
        sources: int = 4,
        rate: float = 200.0,
        tool: dict[str, Any] | None = None,
        poison_every: int = 0,
        tenants: Sequence[str] = (DEFAULT_TENANT,),
    ) -> None:
        self.stack = stack
        self.ledger = Ledger()
        self.tenants = tenants
        self.names = [
            full(tenants[number % len(tenants)], f"source-{number // len(tenants)}")
            for number in range(sources)
        ]
        self.keys = {DEFAULT_TENANT: stack.key}
        self.pause = sources / rate
        self.tool = {"provider": "none", **(tool or {})}
        self.poison_every = poison_every
        self.stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._clients: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Make tenants, tools and contexts, and begin."""
        for tenant in self.tenants:
            if tenant not in self.keys:
                self.keys[tenant] = await new_tenant(self._call, tenant)
        for name in self.names:
            await self.stack.context(own(name), self.tool, key=self.key_of(name))
        self._clients = [asyncio.create_task(self._watch(name)) for name in self.names]
        self._tasks = [asyncio.create_task(self._send(name)) for name in self.names]

    def key_of(self, name: str) -> str:
        """The key of a source's tenant."""
        return self.keys[tenant_of(name)]

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

    async def check(self) -> Figures:
        """What the ledger says, after :meth:`finish`."""

        async def number_of(name: str, event_id: str) -> int | None:
            async with (
                self.stack.session(self.key_of(name)) as session,
                session.get(f"/api/v1/events/{event_id}") as response,
            ):
                if response.status == 404:
                    return None
                assert response.status == 200, await response.text()
                return int((await response.json())["payload"]["n"])

        return await self.ledger.check(number_of)

    async def _call(self, method: str, path: str, body: Any, *, headers: dict[str, str]) -> Any:
        async with (
            self.stack.session() as session,
            session.request(method, f"/api/v1{path}", json=body, headers=headers) as response,
        ):
            assert response.status == 201, await response.text()
            return await response.json()

    async def _send(self, name: str) -> None:
        number = 0
        due = time.monotonic()
        async with aiohttp.ClientSession(self.stack.url) as session:
            while not self.stopping:
                # the same bytes of each tenant's
                event = {"source": own(name), "n": number, **self._poison(number)}
                body = json.dumps(event).encode()
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
                    self.stack.session(self.key_of(name)) as session,
                    session.ws_connect(f"/contexts/{own(name)}/updates?after={after}") as socket,
                ):
                    async for message in socket:
                        self.ledger.frame(name, message.data)
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            await asyncio.sleep(0.1)
