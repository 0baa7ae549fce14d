"""Tools, contexts and subscriptions, as every process keeps them in memory."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from hookstream.app.addresses import Network
from hookstream.app.ids import DEFAULT_TENANT
from hookstream.app.priority import PRIORITIES
from hookstream.app.privacy.rules import ALONG, MASKED, Rules
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.roles import Role
from hookstream.app.routing.daily_rule import DailyRule
from hookstream.app.routing.keeping import Keeping
from hookstream.app.routing.matching import Condition, TypePattern
from hookstream.app.routing.paths import Migration
from hookstream.app.routing.queues import SqsSource, SqsTarget
from hookstream.app.routing.tenants import Tenant
from hookstream.app.routing.topics import KafkaSource
from hookstream.app.summaries.templates import TemplateBook
from hookstream.codecs.envelope import Event
from hookstream.codecs.schemas import Parsed
from hookstream.tables.rates import Rate

__all__ = [
    "DEAD_LETTER",
    "MARK",
    "REJECT",
    "ApiKey",
    "Catalog",
    "Context",
    "PayloadRule",
    "Subscription",
    "Tool",
    "Ttl",
]

#: What becomes of a payload that breaks its tool's schema.
REJECT, DEAD_LETTER, MARK = "reject", "dead-letter", "mark"


@dataclass(frozen=True, slots=True)
class PayloadRule:
    """The subject whose newest version a tool's payloads must fit, and what becomes of others."""

    subject: str
    on_violation: str


@dataclass(frozen=True, slots=True)
class Ttl:
    """How long a tool's events stay in each tier, in milliseconds: one time after the other."""

    hot_ms: int = 2 * 3_600_000
    warm_ms: int = 24 * 3_600_000
    cold_ms: int = 365 * 24 * 3_600_000

    @property
    def whole_ms(self) -> int:
        """For how long an event is kept in all."""
        return self.hot_ms + self.warm_ms + self.cold_ms


@dataclass(frozen=True, slots=True)
class Tool:
    """A source of webhooks. ``window_ms``: 0 when nothing of it is ever a duplicate.

    ``tool_id`` is the one of the whole installation (:func:`hookstream.app.ids.full_tool_id`).
    """

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
    #: How far back an earlier event counts that the event log confirms; 0 for not at all.
    history_ms: int = 0
    payload_rule: PayloadRule | None = None
    #: How many of its webhooks a receiver process accepts; None where it is the installation's.
    webhooks_per_second: float | None = None
    ttl: Ttl = Ttl()
    #: Networks that its webhooks come from; none for any.
    allow_from: tuple[Network, ...] = ()
    #: What agents and models are shown of personal data; its tenant's rules stand behind these.
    masking: Rules = ALONG
    #: As its sender calls it: an address without a path stands for all that is asked for there.
    public_url: str = ""
    #: The queue, or the topic, that its events come out of, beside its door.
    source: SqsSource | KafkaSource | None = None
    #: The queue that its events are copied into.
    forward: SqsTarget | None = None
    #: Since when it has that; None where that is not known.
    forwarded_since: datetime | None = None
    #: How far it has moved from old workers to here; None where it does not move.
    migration: Migration | None = None

    @property
    def names_address(self) -> bool:
        """Whether ``public_url`` has a path, and so is the tool's whole address."""
        return bool(self.public_url.partition("://")[2].partition("/")[2])


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
    #: What its feed keeps, where that is not as in the whole installation.
    keeping: Keeping = field(default_factory=Keeping)


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
class ApiKey:
    """What the holder of a key may: its role in its tenant, and of an agent its contexts."""

    tenant: str
    #: None where it is no agent's: all of the tenant's.
    contexts: frozenset[str] | None
    key_id: str = ""
    name: str = ""
    role: Role = Role.AGENT
    #: Until when it counts, in Unix seconds.
    until: float = math.inf


@dataclass(frozen=True, slots=True)
class Catalog:
    """One consistent snapshot; replaced whole, never changed."""

    #: Goes up with each change, and back when PostgreSQL is restored from an older copy:
    #: ``token``, random and new with each change, tells two states of one number apart.
    version: int = 0
    token: int = 0
    tools: Mapping[str, Tool] = field(default_factory=dict)
    contexts: Mapping[tuple[str, str], Context] = field(default_factory=dict)
    by_tool: Mapping[str, tuple[Subscription, ...]] = field(default_factory=dict)
    #: Tenants' own summary templates.
    books: Mapping[str, TemplateBook] = field(default_factory=dict)
    #: Keys by their SHA-256; one that was renewed is there twice, as long as the old one counts.
    keys: Mapping[bytes, ApiKey] = field(default_factory=dict, repr=False)
    #: Priorities that the subscriptions of each context give.
    priorities: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    #: The most urgent priority that any subscription gives.
    most_urgent: str = PRIORITIES[-1]
    #: The schemas that tools' payloads must fit, by tenant and subject.
    schemas: Mapping[tuple[str, str], Parsed] = field(default_factory=dict, repr=False)
    #: Tools of which some subscription makes ``critical`` updates.
    urgent_tools: frozenset[str] = frozenset()
    #: Tools that there are, whose rows this program cannot read.
    unreadable_tools: frozenset[str] = frozenset()
    #: Of those, tools whose secrets cannot be opened here now, and why.
    sealed_tools: Mapping[str, str] = field(default_factory=dict)
    #: What there is, of any kind, and is not used since its row cannot be read: kind and name.
    passed_over: tuple[str, ...] = ()
    #: Subscriptions that reach nobody, by tenant, context and name, and why: they were switched
    #: off, or this program cannot use them.
    unused: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    #: Tenants by their ids.
    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    #: Tenants' own rules for personal data, of those that have any.
    masking: Mapping[str, Rules] = field(default_factory=dict)

    def tenant(self, tenant_id: str) -> Tenant:
        """A tenant; one of which there is no row has no quotas, and is not suspended."""
        return self.tenants.get(tenant_id) or Tenant(tenant_id)

    def rules_of(self, tenant: str, tool_id: str) -> Rules:
        """The rules for personal data that hold for a tool, also for one that is gone."""
        tool = self.tools.get(tool_id)
        own = tool.masking if tool is not None and tool.tenant == tenant else ALONG
        tenants = self.masking.get(tenant)
        return own if tenants is None else own.before(tenants)

    def keeps_masked(self, tool: Tool) -> bool:
        """Whether nothing is kept of a tool's events but what agents may see."""
        return MASKED in (tool.masking.keep, self.masking.get(tool.tenant, ALONG).keep)

    @property
    def has_others(self) -> bool:
        """Whether there are tenants beside the installation's own."""
        return len(self.tenants) > 1 or not self.tenants.keys() <= {DEFAULT_TENANT}

    def knows(self, version: int, token: int) -> bool:
        """Whether this is the state of that name, or a later one; ``token`` 0 is any."""
        if version == self.version:
            return token in (0, self.token)
        return version < self.version

    def is_known_by(self, version: int, token: int) -> bool:
        """Whether who has the state of that name has this one, or a later one."""
        return (version, token) == (self.version, self.token) or version > self.version

    def schema_for(self, event: Event, when: str) -> Parsed | None:
        """What a payload is measured by, if its tool's ``on_violation`` is ``when``; else None."""
        tool = self.tools.get(event.tool_id)
        rule = tool.payload_rule if tool else None
        if tool is None or rule is None or rule.on_violation != when:
            return None
        return self.schemas.get((tool.tenant, rule.subject))
