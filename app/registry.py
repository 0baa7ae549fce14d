"""Tools, contexts and subscriptions, as every process keeps them in memory."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mode import Service
from mode.utils.locks import Event as Signal
from mode.utils.logging import get_logger

from hookstream.app import metrics
from hookstream.app.backoff import backoff_seconds
from hookstream.app.daily import DailyRule
from hookstream.app.errors import HookstreamError, NotFoundError, UnavailableError
from hookstream.app.matching import Condition, TypePattern, compile_condition, compile_types
from hookstream.app.priority import PRIORITIES, rank
from hookstream.app.signatures import SignatureOptions
from hookstream.app.stores.postgres import Postgres
from hookstream.app.stores.schemas import SchemaStore
from hookstream.app.summaries.templates import Template, TemplateBook, compile_template
from hookstream.codecs.envelope import Event
from hookstream.codecs.schemas import Parsed
from hookstream.tables.rates import Rate

__all__ = [
    "DEAD_LETTER",
    "MARK",
    "REJECT",
    "AgentKey",
    "Context",
    "PayloadRule",
    "Registry",
    "RegistryCache",
    "Subscription",
    "Tool",
]

logger = get_logger(__name__)

#: What becomes of a payload that breaks its tool's schema.
REJECT, DEAD_LETTER, MARK = "reject", "dead-letter", "mark"
#: Of a larger payload the first place alone is told where it breaks a schema: a sender could make
#: more take seconds.
EXPLAINED_BYTES = 32 * 1024
#: How long a batch waits for this worker to learn of a change that the receiver knew.
REGISTRY_WAIT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class PayloadRule:
    """The subject whose newest version a tool's payloads must fit, and what becomes of others."""

    subject: str
    on_violation: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A source of webhooks. ``window_ms``: 0 when nothing of it is ever a duplicate."""

    tool_id: str
    tenant: str
    provider: str
    secrets: tuple[str, ...] = field(repr=False)
    options: SignatureOptions
    strategy: str
    fields: tuple[str, ...]
    window_ms: int
    order_by: str
    order_field: str
    on_error: str = "skip"
    #: ``failures`` and ``window_seconds`` where they are not the installation's.
    alert: Mapping[str, float] = field(default_factory=dict)
    #: The dedup function of strategy ``custom``.
    function: str = ""
    #: How far back an earlier event counts that the record confirms; 0 for not at all.
    history_ms: int = 0
    payload_rule: PayloadRule | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What one agent session watches."""

    tenant: str
    context_id: str
    name: str
    priority: str
    #: Most tokens of an update; None where it may be any.
    token_budget: int | None = None
    #: How many updates it takes; None for all.
    rate: Rate | None = None
    #: When it wants the summary of its day.
    daily: DailyRule | None = None


@dataclass(frozen=True, slots=True)
class Subscription:
    """Which events of one tool reach one context. ``priority`` is already the one that counts.

    ``follow`` is the correlation key that an event must have; "" for any.
    """

    tenant: str
    context_id: str
    name: str
    tool_id: str
    types: TypePattern
    condition: Condition | None
    priority: str
    follow: str = ""


@dataclass(frozen=True, slots=True)
class AgentKey:
    """Which contexts of which tenant the holder of a key may read."""

    tenant: str
    contexts: frozenset[str]


@dataclass(frozen=True, slots=True)
class Registry:
    """One consistent picture; replaced whole, never changed."""

    version: int = 0
    tools: Mapping[str, Tool] = field(default_factory=dict)
    contexts: Mapping[tuple[str, str], Context] = field(default_factory=dict)
    by_tool: Mapping[str, tuple[Subscription, ...]] = field(default_factory=dict)
    #: Tenants' own summary templates.
    books: Mapping[str, TemplateBook] = field(default_factory=dict)
    #: Agents' keys by their SHA-256.
    keys: Mapping[bytes, AgentKey] = field(default_factory=dict, repr=False)
    #: Priorities that the subscriptions of each context give.
    priorities: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    #: The most urgent priority that any subscription gives.
    most_urgent: str = PRIORITIES[-1]
    #: The schemas that tools' payloads must fit, by tenant and subject.
    schemas: Mapping[tuple[str, str], Parsed] = field(default_factory=dict, repr=False)
    #: Tools of which some subscription makes ``critical`` updates.
    urgent_tools: frozenset[str] = frozenset()

    def violations(self, event: Event, *when: str) -> list[str]:
        """Where a payload breaks its tool's schema, if the tool's ``on_violation`` is in ``when``.

        Nothing is parsed where the tool has no schema.
        """
        tool = self.tools.get(event.tool_id)
        rule = tool.payload_rule if tool else None
        if tool is None or rule is None or rule.on_violation not in when:
            return []
        schema = self.schemas.get((tool.tenant, rule.subject))
        if schema is None:
            return []
        data = event.data()
        if data is None and event.payload.strip() != b"null":
            return ["the payload is neither JSON nor a form"]
        return schema.violations(data, all_of_them=event.payload_bytes <= EXPLAINED_BYTES)


class RegistryCache(Service):
    """Keeps a :class:`Registry` that follows PostgreSQL by LISTEN, within milliseconds.

    While PostgreSQL is away the last picture serves.
    """

    mundane_level = "debug"

    #: A lost notification is made good within this time.
    poll_seconds = 1.0

    def __init__(self, postgres: Postgres, schemas: SchemaStore, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.postgres = postgres
        self.schemas = schemas
        self.current = Registry()
        self._notified = Signal()
        self._reloading = asyncio.Lock()
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def loaded(self) -> bool:
        """Whether there is a picture at all yet."""
        return self.current.version > 0

    async def on_start(self) -> None:
        """Load the first picture, if PostgreSQL is there."""
        try:
            await self.reload()
        except UnavailableError as error:
            logger.warning("starting without PostgreSQL: %s", error)

    async def reload(self) -> Registry:
        """Load the newest picture. Raises UnavailableError while PostgreSQL is away."""
        async with self._reloading:
            row = await self.postgres.fetchrow("SELECT version FROM registry_version")
            version = int(row["version"]) if row else 0
            if version != self.current.version:
                # read after the version: a change in between is in the picture already,
                # and its notification loads it once more
                self.schemas.forget()
                self.current = await self._load(version)
                metrics.REGISTRY_VERSION.set(version)
                self._wake_waiters()
            return self.current

    async def context(self, tenant: str, context_id: str) -> Context:
        """A context; one that is not known here yet is looked for in PostgreSQL.

        Raises:
            NotFoundError: there is none.
            UnavailableError: PostgreSQL is away.
        """
        found = self.current.contexts.get((tenant, context_id))
        if found is None:
            found = (await self.reload()).contexts.get((tenant, context_id))
        if found is None:
            raise NotFoundError(f"there is no context {context_id}")
        return found

    async def catch_up(self, version: int) -> Registry:
        """The picture, at least as new as ``version``, which an event's receiver knew.

        Raises:
            UnavailableError: this process did not learn of it in time.
        """
        if not self.loaded:
            await self.reload()
        if not await self.wait_for(version, REGISTRY_WAIT_SECONDS):
            raise UnavailableError(
                f"this worker knows version {self.current.version} of the subscriptions and the "
                f"events ask for {version}: is PostgreSQL reachable from here?"
            )
        return self.current

    async def wait_for(self, version: int, timeout_seconds: float) -> bool:
        """Wait until this process knows ``version``; False when time ran out first."""
        if self.current.version >= version:
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((version, waiter))
        self._notified.set()
        try:
            await asyncio.wait_for(waiter, timeout_seconds)
        except TimeoutError:
            return False
        return True

    def _wake_waiters(self) -> None:
        late = []
        for version, waiter in self._waiters:
            if version > self.current.version:
                late.append((version, waiter))
            elif not waiter.done():
                waiter.set_result(None)
        self._waiters = [(version, waiter) for version, waiter in late if not waiter.done()]

    async def _load(self, version: int) -> Registry:
        tools = {
            row["tool_id"]: tool_from_row(row)
            for row in await self.postgres.fetch("SELECT * FROM tools")
        }
        contexts = {
            (row["tenant"], row["context_id"]): Context(
                row["tenant"],
                row["context_id"],
                row["name"],
                row["priority"],
                row["token_budget"],
                Rate(**row["rate"]) if row["rate"] else None,
                DailyRule.from_dict(row["daily"]) if row["daily"] else None,
            )
            for row in await self.postgres.fetch("SELECT * FROM contexts")
        }
        by_tool: dict[str, list[Subscription]] = {}
        priorities: dict[tuple[str, str], set[str]] = {}
        for row in await self.postgres.fetch(
            "SELECT * FROM subscriptions ORDER BY tenant, context_id, name"
        ):
            context = contexts.get((row["tenant"], row["context_id"]))
            if context is None:
                continue
            # a subscription never reaches over to another tenant's tool
            wanted = [
                tool.tool_id
                for tool in tools.values()
                if row["tool_id"] in ("*", tool.tool_id) and tool.tenant == context.tenant
            ]
            try:
                subscription = _subscription(row, context)
            except HookstreamError as error:
                logger.error(
                    "subscription %s of context %s cannot be used: %s",
                    row["name"],
                    row["context_id"],
                    error,
                )
                continue
            for tool_id in wanted:
                by_tool.setdefault(tool_id, []).append(subscription)
            name = (context.tenant, context.context_id)
            priorities.setdefault(name, set()).add(subscription.priority)
        return Registry(
            version,
            tools,
            contexts,
            {tool: tuple(subs) for tool, subs in by_tool.items()},
            _books(await self.postgres.fetch("SELECT * FROM templates")),
            {
                bytes(row["hash"]): AgentKey(row["tenant"], frozenset(row["contexts"]))
                for row in await self.postgres.fetch("SELECT * FROM api_keys")
            },
            {name: frozenset(found) for name, found in priorities.items()},
            min(set().union(*priorities.values()), key=rank, default=PRIORITIES[-1]),
            await self.schemas.of_tools() if any(t.payload_rule for t in tools.values()) else {},
            frozenset(
                tool
                for tool, subscriptions in by_tool.items()
                if any(subscription.priority == "critical" for subscription in subscriptions)
            ),
        )

    @Service.task
    async def _follow(self) -> None:
        failures = 0
        while not self.should_stop:
            try:
                async with self.postgres.listening("hookstream_registry", self._notified.set) as at:
                    while not self.should_stop and not at.is_closed():
                        self._notified.clear()
                        await self.reload()
                        failures = 0
                        await self.wait_first(self._notified, timeout=self.poll_seconds)
            except UnavailableError as error:
                failures += 1
                if failures == 1:
                    logger.warning("cannot follow the registry: %s; trying on", error)
                await self.sleep(backoff_seconds(failures))


def tool_from_row(row: Mapping[str, Any]) -> Tool:
    """A tool as the database holds it."""
    dedup, ordering = row["dedup"], row["ordering"]
    return Tool(
        tool_id=row["tool_id"],
        tenant=row["tenant"],
        provider=row["provider"],
        secrets=tuple(row["secrets"]),
        options=SignatureOptions(**row["options"]),
        strategy=dedup["strategy"],
        fields=tuple(dedup["fields"]),
        window_ms=0 if dedup["strategy"] == "none" else dedup["window_seconds"] * 1000,
        order_by=ordering["by"],
        order_field=ordering["field"],
        on_error=ordering.get("on_error", "skip"),
        alert=row["alert"],
        function=dedup.get("name", ""),
        history_ms=dedup.get("history_seconds", 0) * 1000,
        payload_rule=PayloadRule(**row["payload_schema"]) if row["payload_schema"] else None,
    )


def _books(rows: Iterable[Mapping[str, Any]]) -> dict[str, TemplateBook]:
    found: dict[str, dict[str, list[Template]]] = {}
    for row in rows:
        try:
            template = compile_template(row["types"], row["source"])
        except HookstreamError as error:
            logger.error(
                "template %s of tenant %s cannot be used: %s", row["name"], row["tenant"], error
            )
            continue
        found.setdefault(row["tenant"], {}).setdefault(row["provider"], []).append(template)
    return {tenant: TemplateBook(templates) for tenant, templates in found.items()}


def _subscription(row: Mapping[str, Any], context: Context) -> Subscription:
    return Subscription(
        tenant=row["tenant"],
        context_id=row["context_id"],
        name=row["name"],
        tool_id=row["tool_id"],
        types=compile_types(tuple(row["types"])),
        condition=compile_condition(row["condition"]) if row["condition"] else None,
        priority=row["priority"] or context.priority,
        follow=row["follow"],
    )
