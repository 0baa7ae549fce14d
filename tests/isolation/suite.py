"""Runs everything as tenant B against tenant A, and says what came through."""

import asyncio
import json
import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from hookstream.app.roles import ROUTES
from hookstream.app.web.access import TENANT_HEADER
from tests.isolation.calls import APART, Call, absent, calls
from tests.isolation.sockets import over_mcp, over_websocket
from tests.isolation.state import at_rest, difference, snapshot
from tests.isolation.tenants import Tenant, make_tenant, unmake_tenant
from tests.isolation.things import Client, Things, make_things
from tests.support.stack import Stack

__all__ = ["KINDS", "Report", "Watch", "run"]

#: Who asks: B's owner, the same who says to act for A, an agent of B whose key names A's context,
#: and somebody without a key.
KINDS = ("owner", "owner, for A", "agent", "nobody")
#: A key makes 500 calls at once, and then 50 a second.
OWNERS, AGENTS = 5, 5
#: How often a call is made again that came too soon.
ASKED_AGAIN = 30
#: Routes that tell B whether an id of A's is there, and why that is not mended.
KNOWN_TO_BE_THERE = {
    "GET /hooks/{tool_id}": "a provider is told whether its address is right",
    "GET /hooks/{tool_id}/": "a provider is told whether its address is right",
    "GET /hooks/{tenant}/{tool_id}": "a provider is told whether its address is right",
    "GET /hooks/{tenant}/{tool_id}/": "a provider is told whether its address is right",
}


@dataclass(slots=True)
class Cell:
    """What one kind of access came to at one route."""

    calls: int = 0
    leaks: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """By route and kind of access; and what of A was changed."""

    cells: dict[str, dict[str, Cell]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Cell))
    )
    changed: list[str] = field(default_factory=list)

    @property
    def leaks(self) -> list[str]:
        return [leak for row in self.cells.values() for cell in row.values() for leak in cell.leaks]

    @property
    def calls(self) -> int:
        return sum(cell.calls for row in self.cells.values() for cell in row.values())

    @property
    def missing(self) -> set[str]:
        """Routes that nobody has tried."""
        apart = {route for route, why in APART.items() if why.startswith("senders'")}
        return set(ROUTES) - set(self.cells) - apart

    def table(self) -> Iterable[str]:
        """A row a route: how many calls, and after the slash how many leaks."""
        width = max(map(len, self.cells))
        yield f"{'route':{width}}  " + "  ".join(f"{kind:>9}" for kind in KINDS)
        for route in sorted(self.cells, key=lambda route: route.split(" ", 1)[::-1]):
            cells = [self.cells[route].get(kind, Cell()) for kind in KINDS]
            said = (f"{cell.calls}/{len(cell.leaks)}" for cell in cells)
            yield f"{route:{width}}  " + "  ".join(f"{text:>9}" for text in said)
        yield f"{self.calls} calls, {len(self.leaks)} leaks, {len(self.changed)} changes"


class Watch:
    """Looks for words of A in answers. What was sent once may come back in any later answer."""

    def __init__(self, things: Things, sent: Iterable[str] = ()) -> None:
        self._canaries = sorted(things.canaries, key=len, reverse=True)
        self._sent = set(sent)

    def leaks(self, answer: str, sent: Iterable[str]) -> list[str]:
        """Words of A in an answer that were not in what was sent."""
        self._sent.update(sent)
        for word in sorted(self._sent, key=len, reverse=True):
            answer = answer.replace(word, "")
        return [word for word in self._canaries if word in answer]


@dataclass(slots=True)
class Somebody:
    """One kind of access; keys that take turns."""

    kind: str
    keys: list[str]
    #: The tenant that it says to act for.
    named: str = ""
    _turn: int = 0

    def headers(self) -> dict[str, str]:
        if not self.keys:
            return {}
        self._turn += 1
        named = {TENANT_HEADER: self.named} if self.named else {}
        return named | {"Authorization": f"Bearer {self.keys[self._turn % len(self.keys)]}"}


async def run(stack: Stack) -> Report:
    """Make two tenants, try everything, and take them away again."""
    a, b = [
        await make_tenant(stack, f"{n}{secrets.token_hex(6)}") for n in ("tenant-a", "tenant-b")
    ]
    try:
        things = await make_things(stack, a, f"canary{secrets.token_hex(6)}")
        nobodys = absent(things)
        who = await everybody(stack, b, things, nobodys)
        return await try_all(stack, things, nobodys, who, other=b.name)
    finally:
        for tenant in (a, b):
            await unmake_tenant(stack, tenant)


async def everybody(stack: Stack, b: Tenant, things: Things, nobodys: Things) -> list[Somebody]:
    """Keys of B. An agent's key may name any id: also one that A has for a context."""
    own = Client(stack, b.key)
    await own.call("PUT", "/api/v1/contexts/mine", {"name": "of b"})
    owners = [
        (await own.call("POST", "/api/v1/api-keys", {"role": "owner"}))["key"]
        for _ in range(OWNERS)
    ]
    named = {"contexts": ["mine", things.ids["context_id"], nobodys.ids["context_id"]]}
    agents = [
        (await own.call("POST", "/api/v1/keys", {**named, "name": "of b"}))["key"]
        for _ in range(AGENTS)
    ]
    return [
        Somebody("owner", owners),
        Somebody("owner, for A", owners, things.tenant),
        Somebody("agent", agents),
        Somebody("nobody", []),
    ]


async def try_all(
    stack: Stack, things: Things, nobodys: Things, who: list[Somebody], *, other: str = ""
) -> Report:
    """Every call by everybody; what names nothing first, while nothing of A was ever sent.

    ``nobodys``: ids that nobody has; ``other``: the tenant that asks.
    """
    # B has named it as a context of its agent's key
    report, watch = Report(), Watch(things, [things.ids["context_id"]])
    document = await stack.get("/openapi.json")
    every = sorted(calls(document, things), key=_order)
    twins = sorted(calls(document, nobodys), key=_order)
    before = await at_rest(stack, things, other)
    async with aiohttp.ClientSession(stack.url) as session:

        async def by_everybody(call: Call, twin: Call | None = None) -> None:
            await asyncio.gather(*(_try(session, one, call, twin, report, watch) for one in who))

        lists = [call for call in every if call.lists]
        for call in lists:
            await by_everybody(call)
        for somebody in who:
            await _sockets(stack, somebody, things, report, watch)
        for call, twin in zip(every, twins, strict=True):
            told = not call.sent or call.route in KNOWN_TO_BE_THERE
            await by_everybody(call, None if told else twin)
        for call in lists:
            await by_everybody(call)
    report.changed = difference(before, await snapshot(stack, things, other))
    return report


def _order(call: Call) -> int:
    """What reads first, what deletes last: what is gone could not be read."""
    return {"GET": 0, "DELETE": 2}.get(call.method, 1)


async def _try(
    session: aiohttp.ClientSession,
    somebody: Somebody,
    call: Call,
    twin: Call | None,
    report: Report,
    watch: Watch,
) -> None:
    """One call; and ``twin``, which asks the same of what is not there."""
    status, text = await _ask(session, somebody, call)
    cell = report.cells[call.route][somebody.kind]
    cell.calls += 1
    cell.leaks += [
        f"{somebody.kind}, {call.method} {call.path} {dict(call.query)}: {word} in {text[:300]}"
        for word in watch.leaks(text, call.sent)
    ]
    if twin is not None:
        of_nothing, _ = await _ask(session, somebody, twin)
        if of_nothing != status:
            asked = f"{somebody.kind}, {call.method} {call.path} {dict(call.query)}"
            cell.leaks.append(f"{asked}: {status}, and {of_nothing} for what is not there")


async def _ask(session: aiohttp.ClientSession, somebody: Somebody, call: Call) -> tuple[int, str]:
    """Status, and headers and body as one text; a key that has asked too often asks again."""
    body: Mapping[str, Any] = {} if call.body is None else {"json": call.body}
    for _ in range(ASKED_AGAIN):
        async with session.request(
            call.method, call.path, params=call.query, headers=somebody.headers(),
            allow_redirects=False, **body,
        ) as response:  # fmt: skip
            head = json.dumps(dict(response.headers))
            text = (await response.read()).decode("utf-8", "replace")
            assert response.status < 500, (call, text)
            if response.status != 429:
                return response.status, f"{head}\n{text}"
            await asyncio.sleep(float(response.headers.get("Retry-After", "1")))
    raise AssertionError((call, text))


async def _sockets(
    stack: Stack, somebody: Somebody, things: Things, report: Report, watch: Watch
) -> None:
    key = somebody.headers().get("Authorization", "").removeprefix("Bearer ")
    # what is sent comes back in errors
    sent = {things.ids[name] for name in ("context_id", "event_id", "tool_id")}
    for route, speak in (
        ("GET /contexts/{context_id}/updates", over_websocket),
        ("* /mcp", over_mcp),
    ):
        cell = report.cells[route][somebody.kind]
        for asked, heard in await speak(stack, key, things):
            cell.calls += 1
            cell.leaks += [
                f"{somebody.kind}, {route} {asked}: {word} in {heard[:300]}"
                for word in watch.leaks(heard, sent)
            ]
