"""A load with everything in it: every dedup strategy, order, priority, rate; replays, large events.

Two tenants share it, and have tools and contexts of the same ids; the second one has fewer.
Each source has one sender, which goes on to its next number when the last one got its 202 and
sends again what did not, to the same receiver: order is promised behind one door.
"""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.chaos.mixed_ledger import MixedLedger, Source, View
from tests.chaos.system import KEY, Process, System
from tests.chaos.tenants import DEFAULT_TENANT, SECOND, TENANTS, full, new_tenant, own, tenant_of
from tests.integration.mcp.test_mcp import use

__all__ = ["SECOND_TOOLS", "MixedLoad", "sources"]

POST_SECONDS = 12.0
#: What has not got its 202 this long after the load was told to stop is given up.
GIVE_UP_SECONDS = 30.0
READ_PAUSE_SECONDS = 0.3
#: Events go through all tiers while faults happen.
TTL = {"hot": "10s", "warm": "20s", "cold": "365d"}
#: An event over HOOKSTREAM_CLAIM_CHECK_BYTES, whatever it is packed with.
LARGE_BYTES = 24_000

#: What the second tenant has, by the same ids, beside a context for each of its tools.
SECOND_TOOLS = ("payload", "deliveries", "fields", "lanes", "held", "urgent")
SECOND_CONTEXTS = ("all", "low", "rated-all", "rated-held", "over-mcp", "replayed")


def sources() -> list[Source]:
    """The tools; ``exact`` where no copy of theirs may ever pass."""
    hold = {"by": "tool", "on_error": "hold"}
    delivery = {"provider": "none", "options": {"delivery_header": "X-Delivery"}}
    return [
        Source("payload", {"provider": "none"}, copies=0.05),
        Source("deliveries", {**delivery, "dedup": {"strategy": "delivery"}}, copies=0.05),
        Source(
            "fields",
            {"provider": "none", "dedup": {"strategy": "fields", "fields": ["id"]}},
            copies=0.05,
        ),
        Source("plain", {"provider": "none", "dedup": {"strategy": "none"}}, exact=False),
        Source(
            "short",
            {"provider": "none", "dedup": {"strategy": "payload", "window": "2s"}},
            exact=False,
            keys=0,
            copies=0.1,
        ),
        Source(
            "history",
            {"provider": "none", "dedup": {"window": "2s", "history": "1d"}},
            exact=False,
            keys=0,
            copies=0.1,
            share=0.5,
        ),
        Source(
            "lanes",
            {"provider": "none", "ordering": {"by": "field", "field": "key"}},
            keys=3,
            copies=0.03,
            share=1.5,
        ),
        Source("loose", {"provider": "none", "ordering": {"by": "none"}}, keys=0, copies=0.03),
        Source("held", {"provider": "none", "ordering": hold}, poison=0.02, copies=0.02),
        Source(
            "held-lanes",
            {"provider": "none", "ordering": {**hold, "by": "field", "field": "key"}},
            keys=3,
            poison=0.01,
        ),
        Source("skipping", {"provider": "none"}, poison=0.03, copies=0.02),
        Source("large", {"provider": "none"}, large=0.2, copies=0.03, share=0.5),
        Source("urgent", {"provider": "none"}, share=0.5),
    ]


def of_both(chosen: list[Source]) -> list[Source]:
    """The same of the second tenant, too."""
    second = [source for source in chosen if source.name in SECOND_TOOLS]
    return chosen + [replace(source, name=full(SECOND, source.name)) for source in second]


#: context → its settings, its subscriptions as (tool, more), and how its client reads
Contexts = dict[str, tuple[dict[str, Any], list[tuple[str, dict[str, Any]]], str]]


def contexts(names: list[str], begun: datetime, rated: int) -> Contexts:
    """A context for each tool, and those that are rated, prioritised, daily, or replayed to.

    Tools that are not among ``names`` are left out, and so are contexts that want none of the rest.
    ``rated``: how many more there are that take one update in two seconds.
    """
    fast, slow = {"updates_per_second": 2, "burst": 2}, {"updates_per_second": 0.5, "burst": 1}
    daily = {"at": (begun + timedelta(minutes=2)).strftime("%H:%M"), "timezone": "UTC"}
    everything: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in names]
    made: Contexts = {f"of-{name}": ({}, [(name, {})], "socket") for name in names}
    made |= {
        "all": ({"priority": "normal"}, everything, "socket"),
        "low": ({"priority": "low"}, everything, "pages"),
        "critical": ({"priority": "critical"}, [("urgent", {}), ("payload", {})], "socket"),
        "mixed": (
            {},
            [
                ("urgent", {"priority": "critical"}),
                ("lanes", {"priority": "high"}),
                ("loose", {"priority": "low"}),
                ("plain", {}),
            ],
            "socket",
        ),
        "rated-all": ({"rate": fast}, everything, "pages"),
        "rated-held": ({"rate": slow}, [("held", {}), ("held-lanes", {})], "pages"),
        "rated-socket": ({"rate": fast}, [("payload", {}), ("large", {})], "socket"),
        "rated-urgent": (
            {"rate": slow},
            [("urgent", {"priority": "critical"}), ("fields", {"priority": "low"})],
            "socket",
        ),
        "rated-low": ({"rate": fast, "priority": "low"}, [("lanes", {}), ("short", {})], "pages"),
        "daily": ({"daily": daily}, [("fields", {}), ("skipping", {})], "socket"),
        "over-mcp": ({}, [("payload", {}), ("lanes", {})], "mcp"),
        "replayed": ({}, [], "socket"),
    }
    for number in range(rated):
        made[f"rated-{number}"] = ({"rate": slow}, [(names[number % len(names)], {})], "pages")
    kept = {
        context: (settings, [(tool, more) for tool, more in wanted if tool in names], how)
        for context, (settings, wanted, how) in made.items()
    }
    return {name: made for name, made in kept.items() if made[1] or name == "replayed"}


class MixedLoad:
    """``rate`` events a second in all, of the ``tools`` named; of all of them where none is."""

    def __init__(
        self, system: System, rate: float, seed: int, tools: Sequence[str] = (), rated: int = 4
    ) -> None:
        self.system, self.rate, self.seed, self.rated = system, rate, seed, rated
        chosen = [source for source in sources() if not tools or source.name in tools]
        self.ledger = MixedLedger(of_both(chosen))
        #: tenant → the key by which all that is its own is made and read
        self.keys = {DEFAULT_TENANT: KEY}
        self.stopping_at: float | None = None
        self._senders: list[asyncio.Task[None]] = []
        self._others: list[asyncio.Task[None]] = []
        self._readers: list[asyncio.Task[None]] = []
        self._heals: list[tuple[float, str, int]] = []
        #: context → what closes the connection over which its client listens
        self._closers: dict[str, Callable[[], object]] = {}

    async def start(self) -> None:
        """Make tenants, tools and contexts, and begin."""
        for tenant in TENANTS:
            if tenant not in self.keys:
                self.keys[tenant] = await new_tenant(self.system.call, tenant)
            await self._furnish(tenant)
        shares = sum(source.share for source in self.ledger.sources.values())
        for number, source in enumerate(self.ledger.sources.values()):
            pause = shares / source.share / self.rate
            door = self.system.doors[number % len(self.system.doors)]
            self._senders.append(asyncio.create_task(self._send(source, door, pause)))
        self._others = [asyncio.create_task(self._heal()), asyncio.create_task(self._replay())]

    async def _furnish(self, tenant: str) -> None:
        """Make a tenant's tools and contexts, and begin to read these."""
        call, key = self.system.call, self.keys[tenant]
        names = []
        for source in self.ledger.sources.values():
            if tenant_of(source.name) == tenant:
                names.append(own(source.name))
                body = {**source.tool, "ttl": TTL}
                await call("PUT", f"/tools/{names[-1]}", body, key=key)
        made = contexts(names, datetime.now(UTC), self.rated)
        if tenant == SECOND:
            kept = {*SECOND_CONTEXTS, *(f"of-{name}" for name in names)}
            made = {name: settings for name, settings in made.items() if name in kept}
        for context, (settings, wanted, how) in made.items():
            await call("PUT", f"/contexts/{context}", {"name": context, **settings}, key=key)
            path = f"/contexts/{context}/subscriptions"
            await asyncio.gather(
                *(
                    call("PUT", f"{path}/{tool}", {"tool": tool, "types": ["*"], **more}, key=key)
                    for tool, more in wanted
                )
            )
            patient = "low" in (settings.get("priority"), *(m.get("priority") for _, m in wanted))
            told = frozenset(full(tenant, tool) for tool, _ in wanted)
            view = View(full(tenant, context), told, patient)
            self.ledger.views[view.context] = view
            reader = {"socket": self._socket, "pages": self._pages, "mcp": self._agent}[how](view)
            self._readers.append(asyncio.create_task(reader, name=f"reader of {view.context}"))

    def key_of(self, name: str) -> str:
        """The key of the tenant whose a tool, a context or a replay is."""
        return self.keys[tenant_of(name)]

    async def stop_sending(self) -> None:
        """Stop, and heal all that fails."""
        self.stopping_at = time.monotonic()
        await asyncio.gather(*self._senders)
        for task in self._others:
            task.cancel()
        await asyncio.gather(*self._others, return_exceptions=True)
        for _, tool, number in self._heals:
            self._cure(tool, number)
        self._heals.clear()

    async def stop_reading(self) -> None:
        for task in self._readers:
            task.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    def failed(self) -> list[str]:
        """What has gone wrong in the load itself, which would hide what it is there to find."""
        tasks = [*self._senders, *self._others, *self._readers]
        return [
            f"{task.get_name()}: {task.exception()!r}"
            for task in tasks
            if task.done() and not task.cancelled() and task.exception()
        ]

    async def _send(self, source: Source, door: Process, pause: float) -> None:
        rng = random.Random(f"{self.seed} {source.name}")
        copies: list[tuple[float, int, bytes]] = []
        number, due = 0, time.monotonic()
        timeout = aiohttp.ClientTimeout(POST_SECONDS, sock_connect=3)
        async with aiohttp.ClientSession(
            f"http://127.0.0.1:{door.port}", timeout=timeout
        ) as session:
            while self.stopping_at is None:
                body = self._event(source, number, rng)
                await self._post(session, source, number, json.dumps(body).encode())
                if rng.random() < source.copies:
                    if own(source.name) in ("deliveries", "fields"):
                        body["attempt"] = 2
                    later = time.monotonic() + rng.choice((0.1, 1.0, rng.uniform(2, 8)))
                    copies.append((later, number, json.dumps(body).encode()))
                if copies and copies[0][0] < time.monotonic():
                    _, again, copy = copies.pop(0)
                    self.ledger.copies += 1
                    await self._post(session, source, again, copy)
                number += 1
                due = max(due + pause, time.monotonic() - 0.5)
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _event(self, source: Source, number: int, rng: random.Random) -> dict[str, Any]:
        body: dict[str, Any] = {
            "title": f"{source.name} n{number}",
            "n": number,
            "id": f"{own(source.name)}-{number}",
            "key": f"key {number % max(1, source.keys)}",
        }
        if rng.random() < source.poison:
            body["poison"] = healer(source.name, number)
            self.ledger.failing[source.name].add(number)
            self.ledger.poisoned[source.name].add(number)
            self._heals.append((time.monotonic() + rng.uniform(0.5, 6), source.name, number))
        if rng.random() < source.large:
            body["pad"] = rng.randbytes(LARGE_BYTES).hex()
        return body

    async def _post(
        self, session: aiohttp.ClientSession, source: Source, number: int, body: bytes
    ) -> None:
        headers = {"X-Delivery": f"{own(source.name)}-{number}"}
        while True:
            self.ledger.posts += 1
            try:
                async with session.post(
                    f"/hooks/{source.name}", data=body, headers=headers
                ) as response:
                    if response.status == 202:
                        self.ledger.accept(
                            source.name, number, str((await response.json())["event_id"])
                        )
                        return
                    self.ledger.refused += 1
                    await response.read()
            except aiohttp.ClientConnectorError:
                pass
            except (aiohttp.ClientError, TimeoutError, OSError):
                self.ledger.unknown += 1
            if self.stopping_at and time.monotonic() - self.stopping_at > GIVE_UP_SECONDS:
                return
            await asyncio.sleep(0.1)

    async def _heal(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            now = time.monotonic()
            for entry in [entry for entry in self._heals if entry[0] < now]:
                self._heals.remove(entry)
                self._cure(entry[1], entry[2])

    def _cure(self, tool: str, number: int) -> None:
        (self.system.stages / healer(tool, number)).touch()
        self.ledger.failing[tool].discard(number)
        self.ledger.healed_at[tool] = time.monotonic()

    async def _replay(self) -> None:
        """Now and then what one tool has sent in the last seconds, to a context for that."""
        rng = random.Random(f"{self.seed} replays")
        named = self.ledger.sources.items()
        names = [name for name, source in named if not source.poison] or [*self.ledger.sources]
        while True:
            await asyncio.sleep(rng.uniform(6, 12))
            name = rng.choice(names)
            body = {
                "tool": own(name),
                "since": (datetime.now(UTC) - timedelta(seconds=15)).isoformat(),
                "context_id": "replayed",
                "rate": 50,
            }
            with contextlib.suppress(AssertionError):
                made = await self.system.call(
                    "POST", "/replays", body, seconds=5, key=self.key_of(name)
                )
                self.ledger.replays[full(tenant_of(name), made["replay_id"])] = 0

    async def settle_replays(self) -> list[str]:
        """How many events each replay has sent; the ids of those that have not ended."""
        running = []
        for name in self.ledger.replays:
            path = f"/replays/{own(name)}"
            shown = await self.system.call("GET", path, key=self.key_of(name))
            if shown["status"] == "running":
                running.append(name)
            self.ledger.replays[name] = shown["matched"] - shown["missing"] - shown["dead"]
        return running

    async def _socket(self, view: View) -> None:
        """A WebSocket client, which comes back where it was whenever it is closed."""
        rng = random.Random(f"{self.seed} {view.context}")
        while True:
            process = rng.choice(self._readable())
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                async with self._reading(process, view) as session:
                    async with asyncio.timeout(8):
                        socket = await session.ws_connect(
                            f"/contexts/{own(view.context)}/updates?after={view.last}", heartbeat=8
                        )
                    self._closers[view.context] = socket.close
                    async with socket:
                        async for message in socket:
                            if message.type is not aiohttp.WSMsgType.TEXT:
                                break
                            await self._show(session, view, json.loads(message.data))
            self._closers.pop(view.context, None)
            await asyncio.sleep(0.2)

    async def _agent(self, view: View) -> None:
        """A client over MCP: hears that its context has moved, then reads from where it was."""
        rng = random.Random(f"{self.seed} {view.context}")
        while True:
            process = rng.choice(self._readable())
            reading = asyncio.create_task(self._listen(process, view))
            self._closers[view.context] = reading.cancel
            try:
                await asyncio.wait([reading])
            finally:
                reading.cancel()
                # the SDK says in many ways that a connection has ended
                await asyncio.gather(reading, return_exceptions=True)
            self._closers.pop(view.context, None)
            await asyncio.sleep(0.5)

    async def _listen(self, process: Process, view: View) -> None:
        headers = {"Authorization": f"Bearer {self.key_of(view.context)}"}
        uri = f"hookstream://contexts/{own(view.context)}"
        async with (
            httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(15, read=60)) as http,
            Client(
                streamable_http_client(f"http://127.0.0.1:{process.port}/mcp", http_client=http)
            ) as agent,
            agent.listen(resource_subscriptions=[uri]) as heard,
        ):
            await self._catch_up(agent, view)
            async for _ in heard:
                await self._catch_up(agent, view)

    async def _catch_up(self, agent: Client, view: View) -> None:
        while page := (
            await use(
                agent, "get_updates", context_id=own(view.context), after=view.last, limit=100
            )
        )["updates"]:
            for update in page:
                self.ledger.frame(view.context, update)

    def come_back(self, context: str) -> bool:
        """Have a context's client connect anew; False when it has no connection."""
        close = self._closers.pop(context, None)
        if close is None:
            return False
        closing = close()
        if asyncio.iscoroutine(closing):
            self._others.append(asyncio.create_task(closing, name=f"closing {context}"))
        return True

    async def _pages(self, view: View) -> None:
        """A client that asks, of any process."""
        rng = random.Random(f"{self.seed} {view.context}")
        while True:
            process = rng.choice(self._readable())
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                async with self._reading(process, view) as session, asyncio.timeout(15):
                    path = f"/api/v1/contexts/{own(view.context)}/updates"
                    asked = {"after": view.last, "limit": 200}
                    async with session.get(path, params=asked) as response:
                        found = (await response.json())["updates"] if response.ok else []
                    inside = await asyncio.gather(
                        *(self._inside(session, view.context, update) for update in found)
                    )
                    for update, opened in zip(found, inside, strict=True):
                        self.ledger.frame(view.context, update, opened)
            await asyncio.sleep(READ_PAUSE_SECONDS)

    def _readable(self) -> list[Process]:
        return list(self.system.processes.values())

    def _reading(self, process: Process, view: View) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            f"http://127.0.0.1:{process.port}",
            headers={"Authorization": f"Bearer {self.key_of(view.context)}"},
            timeout=aiohttp.ClientTimeout(None, sock_connect=3),
        )

    async def _show(
        self, session: aiohttp.ClientSession, view: View, update: dict[str, Any]
    ) -> None:
        """Keep an update; a digest is opened first, so that what it stands for counts.

        What cannot be opened now is not kept: the client comes back for it.
        """
        if update.get("type") == "update":
            inside = await self._inside(session, view.context, update)
            self.ledger.frame(view.context, update, inside)

    async def _inside(
        self, session: aiohttp.ClientSession, context: str, update: dict[str, Any]
    ) -> list[dict[str, Any]] | None:
        """What a digest stands for; None for any other update."""
        if update.get("kind") != "digest":
            return None
        return await self._open(session, context, update)

    async def _open(
        self, session: aiohttp.ClientSession, context: str, update: dict[str, Any]
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        path = f"/api/v1/contexts/{own(context)}/updates/{update['seq']}/folded"
        async with asyncio.timeout(15):
            while True:
                async with session.get(path, params={"after": len(found), "limit": 500}) as got:
                    if not got.ok:
                        raise aiohttp.ClientError(f"{got.status} for {path}")
                    page = (await got.json())["updates"]
                found += page
                if len(page) < 500:
                    return found


def healer(tool: str, number: int) -> str:
    """The name of the file by which the stage lets a poisoned event pass."""
    return f"{tool.replace('/', '-')}-{number}"
