"""What goes in and out of ``/api/v1``, as pydantic models; the OpenAPI document is made of them."""

import re
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from hookstream.app.status import Status

__all__ = [
    "DIGEST_QUERY",
    "EVENT_QUERY",
    "FEED_QUERY",
    "LETTER_QUERY",
    "LIMIT_QUERY",
    "LOST_DELIVERIES_QUERY",
    "LOST_EVENTS_QUERY",
    "PURGE_QUERY",
    "REFUSAL_QUERY",
    "UPDATES_QUERY",
    "Accepted",
    "AckIn",
    "AckOut",
    "ContextIn",
    "ContextList",
    "ContextOut",
    "DailyList",
    "DedupIn",
    "DigestOut",
    "DryRunIn",
    "DryRunOut",
    "EventList",
    "EventOut",
    "FoldedList",
    "KeyIn",
    "KeyList",
    "KeyMade",
    "KeyOut",
    "LetterChanged",
    "LetterFilterIn",
    "LetterList",
    "LetterOut",
    "OrderingIn",
    "PartitionList",
    "Priority",
    "Problem",
    "RefusalList",
    "RefusalOut",
    "ReplayIn",
    "ReplayList",
    "ReplayOut",
    "SubscriptionIn",
    "SubscriptionList",
    "SubscriptionOut",
    "TemplateIn",
    "TemplateList",
    "TemplateOut",
    "TemplatePreview",
    "TemplateVersion",
    "ToolIn",
    "ToolList",
    "ToolOut",
    "TtlIn",
    "UpdateList",
    "duration_seconds",
    "duration_text",
]

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
DURATION_PATTERN = r"^[1-9][0-9]{0,7}[smhd]$"
MAX_WINDOW_SECONDS = 31 * 86400
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

Priority = Literal["critical", "high", "normal", "low"]


def duration_seconds(text: str) -> int:
    """Seconds in a duration such as ``24h``. Raises ValueError for another form."""
    if not re.match(DURATION_PATTERN, text):
        raise ValueError("a duration is a whole number and s, m, h or d, as in 24h")
    return int(text[:-1]) * _UNITS[text[-1]]


def duration_text(seconds: int) -> str:
    """``seconds`` in hours where it is whole hours, else minutes, else seconds."""
    for unit in ("h", "m"):
        if seconds % _UNITS[unit] == 0:
            return f"{seconds // _UNITS[unit]}{unit}"
    return f"{seconds}s"


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("the character NUL cannot be stored")
    return text


def _zone(text: str) -> str:
    if text not in available_timezones():
        raise ValueError("a time zone of the IANA database, as in Europe/Berlin")
    return text


def _window(text: str) -> str:
    if duration_seconds(text) > MAX_WINDOW_SECONDS:
        raise ValueError("a dedup window is at most 31d")
    return text


Text = Annotated[str, AfterValidator(_storable)]
Duration = Annotated[str, Field(pattern=DURATION_PATTERN, examples=["24h"])]
Id = Annotated[str, Field(pattern=ID_PATTERN)]


class Model(BaseModel):
    """Validators are built with the first request that needs them, not with each process."""

    model_config = ConfigDict(defer_build=True)


class Strict(Model):
    """Unknown fields are an error: a misspelt one would silently do nothing."""

    model_config = ConfigDict(extra="forbid")


class DedupIn(Strict):
    """When a second webhook is a duplicate. What is left out is the provider's default.

    ``name`` is the dedup function of strategy ``custom``. ``history``: how far back beyond the
    window an earlier event counts, if the event log confirms it.
    """

    strategy: Literal["payload", "delivery", "fields", "none", "custom"] | None = None
    fields: list[Annotated[Text, Field(min_length=1, max_length=200)]] = Field([], max_length=16)
    window: Annotated[Duration, AfterValidator(_window)] | None = None
    name: Annotated[Text, Field(max_length=200)] | None = None
    history: Duration | None = None


class OrderingIn(Strict):
    """Which events of a tool keep their order among each other, and what a failure does to it.

    With ``skip`` the others go on while one that failed waits for its next attempt; with ``hold``
    those behind it wait until it has succeeded or was discarded.
    """

    by: Literal["tool", "field", "none"] = "tool"
    field: Annotated[Text, Field(max_length=200)] = ""
    on_error: Literal["skip", "hold"] = "skip"


class TtlIn(Strict):
    """How long an event stays in each tier."""

    hot: Duration = "2h"
    warm: Duration = "24h"
    cold: Duration = "365d"


class AlertIn(Strict):
    """How many failures of a tool within how long are told to HOOKSTREAM_ALERT_URL.

    What is left out is the installation's setting; 0 failures: never.
    """

    failures: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    window_seconds: Annotated[int, Field(ge=1, le=86_400)] | None = None


class PayloadSchemaIn(Strict):
    """The subject whose newest schema a tool's payloads must fit, and what becomes of others.

    ``reject``: the sender gets 422. ``dead-letter``: accepted, and a dead letter of stage
    "schema". ``mark``: passes, with ``schema_errors``.
    """

    subject: Annotated[Text, Field(min_length=1, max_length=249)]
    on_violation: Literal["reject", "dead-letter", "mark"] = "mark"


class ToolIn(Strict):
    """A source of webhooks."""

    provider: Annotated[str, Field(examples=["github"], max_length=64)]
    secrets: list[Annotated[Text, Field(min_length=1, max_length=8192)]] = Field([], max_length=8)
    options: dict[str, Any] = Field({}, max_length=16)
    dedup: DedupIn = DedupIn(fields=[])
    ordering: OrderingIn = OrderingIn()
    ttl: TtlIn = TtlIn()
    alert: AlertIn = AlertIn()
    payload_schema: PayloadSchemaIn | None = Field(None, alias="schema")


class DedupOut(Model):
    """The dedup rule in force."""

    strategy: str
    fields: list[str]
    window: str
    name: str | None
    history: str | None


class ToolOut(Model):
    """A tool as it is kept; secrets never come out, only how many there are."""

    tool_id: str
    provider: str
    secret_count: int
    options: dict[str, Any]
    dedup: DedupOut
    ordering: OrderingIn
    ttl: TtlIn
    alert: AlertIn
    payload_schema: PayloadSchemaIn | None = Field(alias="schema")
    path: str
    created_at: str
    updated_at: str


class RateIn(Strict):
    """How many updates a context takes."""

    updates_per_second: Annotated[float, Field(ge=0.000001, le=100_000)]
    burst: Annotated[int, Field(ge=1, le=1_000_000)] = 1


class DailyIn(Strict):
    """When a context gets the summary of its day, in its own time zone, and in how many tokens."""

    at: Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", examples=["08:00"])]
    timezone: Annotated[
        str, Field(max_length=64, examples=["Europe/Berlin"]), AfterValidator(_zone)
    ] = "UTC"
    token_budget: Annotated[int, Field(ge=64, le=100_000)] | None = None


class ContextIn(Strict):
    """What one AI agent session watches."""

    name: Annotated[Text, Field(max_length=200)] = ""
    priority: Priority = "normal"
    rate: RateIn | None = None
    token_budget: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    daily: DailyIn | None = None


class ContextOut(ContextIn):
    """A context as it is kept, with how far its feed has come."""

    model_config = ConfigDict(extra="ignore")

    context_id: str
    last_seq: int
    acknowledged_seq: int
    created_at: str
    updated_at: str


Kind = Literal["update", "digest", "daily"]


class FoldedOut(Model):
    """What an update stands for that is not one event's: how many, when, the first of their ids."""

    count: int
    first_at: int
    last_at: int
    event_ids: list[str]
    more: int


class UpdateOut(Model):
    """An update as it is in a context's feed.

    ``kind`` is ``update`` for one event's own, ``digest`` for one that stands for several which
    came faster than the context's rate (they can be read by its number), ``daily`` for a day's
    summary; those have no ``event_id`` and ``tool_id``, and say in ``folded`` what they stand for.
    """

    model_config = ConfigDict(extra="allow")

    type: Literal["update"]
    kind: Kind = "update"
    seq: int
    generation: int
    context_id: str
    event_id: str | None
    tool_id: str | None
    event_type: str
    priority: Priority
    summary: str
    data: dict[str, Any]
    received_at: int
    tokens: int


class MissingOut(Model):
    """An update that was delivered and that Redis has lost, as the event log has it."""

    seq: int
    event_id: str
    tool_id: str | None
    event_type: str | None
    received_at: int | None


class ResetOut(Model):
    """That Redis has lost data of a feed, which goes on ``after`` a number of ``generation``.

    ``missing`` are the first updates that are known to be missing behind where the client was,
    ``missing_count`` says how many there are (null: the event log did not answer).
    """

    type: Literal["reset"]
    context_id: str
    generation: int
    previous_generation: int | None
    after: int
    missing: list[MissingOut]
    missing_count: int | None


class LostDeliveryOut(Model):
    """An update that the event log has and the feed has no more."""

    seq: int
    event_id: str
    tool_id: str | None
    type: str | None
    received_at: str | None
    delivered_at: str


class LostDeliveryList(Model):
    """A page of them, in the order of their numbers; ``cursor`` is where to go on."""

    deliveries: list[LostDeliveryOut]
    cursor: str | None


class LostEventOut(Model):
    """An event that should be on its way by the event log, and is nowhere in Redis."""

    event_id: str
    tool_id: str
    type: str
    status: str
    received_at: str


class LostEventList(Model):
    """A page of them, the oldest first; ``cursor`` is where to go on.

    Not ``complete``: more waits than was looked through, and some of them may be in that.
    """

    events: list[LostEventOut]
    cursor: str | None
    complete: bool


class UpdateList(Model):
    """A page of updates, none of two generations; the next one begins past ``next_after``.

    ``generation`` is the newest one of the feed. ``reset``, where there is one, comes before them.
    """

    updates: list[UpdateOut]
    generation: int
    next_after: int
    reset: ResetOut | None = None


class FoldedUpdateOut(Model):
    """An update that a digest stands for, with its place in it (from 1)."""

    model_config = ConfigDict(extra="allow")

    place: int
    context_id: str
    event_id: str
    tool_id: str
    event_type: str
    priority: Priority
    summary: str
    data: dict[str, Any]
    received_at: int
    tokens: int


class FoldedList(Model):
    """A page of what a digest stands for; the next one begins ``after`` the last place."""

    seq: int
    updates: list[FoldedUpdateOut]


class DailyOut(Model):
    """The summary of one context's day, which its feed has as the update ``seq``."""

    day: str
    seq: int
    summary: str
    tokens: int
    updates: int
    from_seq: int
    to_seq: int
    created_at: str
    untrusted: list[str]


class DailyList(Model):
    """A context's daily summaries, the newest first."""

    dailies: list[DailyOut]


class GroupOut(Model):
    """Updates about one thing; each can be fetched by its event id."""

    key: str
    priority: Priority
    count: int
    types: dict[str, int]
    seqs: list[int]
    event_ids: list[str]
    first_at: int
    last_at: int
    summary: str


class AckIn(Strict):
    """Everything up to a sequence number (of a generation; 0: whichever) has been handled."""

    seq: Annotated[int, Field(ge=0, le=2**53)]
    generation: Annotated[int, Field(ge=0, le=2**53)] = 0


class AckOut(Model):
    """What counts as acknowledged now: it never goes back, nor beyond what was sent."""

    acknowledged_seq: int


class DigestOut(Model):
    """What is new in a context. ``text`` has at most ``budget`` tokens, ``tokens`` exactly.

    ``updates`` of the feed stand for ``events``. ``groups`` are what ``text`` shows, ``omitted``
    what it only counts. ``skipped`` updates past ``after`` are older than a digest looks back.
    """

    context_id: str
    budget: int
    tokens: int
    text: str
    untrusted: list[str]
    updates: int
    events: int
    skipped: int
    after: int
    last_seq: int
    generation: int
    groups: list[GroupOut]
    omitted: list[GroupOut]


class KeyIn(Strict):
    """A key for an agent: the contexts that it may read."""

    name: Annotated[Text, Field(max_length=200)] = ""
    contexts: list[Id] = Field(min_length=1, max_length=1000)


class KeyOut(Model):
    """A key as it is listed; the key itself is shown once, when it is made."""

    key_id: str
    name: str
    contexts: list[str]
    created_at: str


class KeyMade(KeyOut):
    """A new key."""

    key: str


class KeyList(Model):
    """The keys of a tenant."""

    keys: list[KeyOut]


class TemplateIn(Strict):
    """A summary template for the events of a provider whose type fits the glob ``types``."""

    provider: Annotated[Text, Field(max_length=64)]
    types: Annotated[Text, Field(min_length=1, max_length=200)] = "*"
    template: Annotated[Text, Field(min_length=1, max_length=4096)]


class TemplateVersion(TemplateIn):
    """A template as it is, or once was."""

    model_config = ConfigDict(extra="ignore")

    name: str
    version: int
    created_at: str


class TemplateOut(TemplateVersion):
    """A template with its history, the newest version first."""

    versions: list[TemplateVersion]


class TemplateList(Model):
    """A tenant's own templates, and those that come along."""

    templates: list[TemplateVersion]
    builtin: list[TemplateIn]


class PreviewLine(Model):
    """What a template would say of a past event."""

    event_id: str
    type: str
    summary: str
    tokens: int
    template: str


class TemplatePreview(Model):
    """A template tried on the newest events."""

    examined: int
    events: list[PreviewLine]


class SubscriptionIn(Strict):
    """Which events reach the context: of a tool, or with ``*`` of every tool of the tenant."""

    tool: Id | Literal["*"]
    types: list[Annotated[Text, Field(min_length=1, max_length=200)]] = Field(
        ["*"], min_length=1, max_length=64
    )
    where: Annotated[Text, Field(max_length=4096)] = ""
    follow: Annotated[Text, Field(max_length=200)] = ""
    priority: Priority | None = None


class DryRunIn(SubscriptionIn):
    """A subscription that is not saved, and the past events to try it on, the newest first."""

    since: Annotated[str, Field(max_length=64)] | None = None
    until: Annotated[str, Field(max_length=64)] | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 200


class DryRunMatch(Model):
    """A past event that a subscription would have matched."""

    event_id: str
    tool_id: str
    type: str
    received_at: str
    summary: str
    keys: list[str]


class DryRunOut(Model):
    """What a subscription would have matched; ``unreadable`` events' payloads are gone."""

    examined: int
    matched: int
    unreadable: int
    events: list[DryRunMatch]


class SubscriptionOut(SubscriptionIn):
    """A subscription as it is kept."""

    model_config = ConfigDict(extra="ignore")

    name: str
    context_id: str
    created_at: str
    updated_at: str


class DeliveryOut(Model):
    """One update that an event became."""

    context_id: str
    seq: int
    kind: Annotated[Kind, Field(alias="as")]
    delivered_at: str
    acknowledged_at: str | None
    replay_id: str | None


class EventOut(Model):
    """An event: what became of it, where its payload is, and in ``GET`` of one, the payload.

    ``payload`` and ``payload_bytes`` are of what was received. ``enrichment`` is what stages added
    (``GET`` of one). ``payload_changed``: a stage put another payload in its place for contexts.
    """

    event_id: str
    tool_id: str
    provider: str
    type: str
    status: Status
    duplicate_of: str | None
    dedup: Literal["window", "history", "unconfirmed"] | None
    message_id: str
    delivery_id: str
    received_at: str
    tier: Literal["hot", "warm", "cold"]
    payload_bytes: int
    payload_changed: bool
    stage: str
    error: str
    schema_errors: list[str]
    headers: dict[str, str] | None = None
    content_type: str | None = None
    payload: Any = None
    payload_encoding: Literal["json", "text", "base64"] | None = None
    enrichment: dict[str, Any] | None = None
    deliveries: list[DeliveryOut] | None = None


class EventList(Model):
    """A page of events, newest first; ``cursor`` leads to the next."""

    events: list[EventOut]
    cursor: str | None


class ReplayIn(Strict):
    """What to send again: one event, or what matches all that is given of the filter.

    To where the subscriptions say now; to ``context_id`` alone when it is given; what a filter
    finds by its ``context``, to that one alone.
    """

    event_id: Annotated[str, Field(pattern=r"^[0-9a-f-]{36}$")] | None = None
    context_id: Id | None = None
    tool: Id | None = None
    type: Annotated[Text, Field(min_length=1, max_length=200)] | None = None
    status: Status | None = None
    context: Id | None = None
    since: Annotated[str, Field(max_length=64)] | None = None
    until: Annotated[str, Field(max_length=64)] | None = None
    rate: Annotated[float, Field(ge=0.1, le=10_000, allow_inf_nan=False)] | None = None


class ReplayOut(Model):
    """A replay and how far it has come.

    ``matched`` events were found when it began. ``sent`` of them are in their streams again,
    ``missing`` ones have no payload any more, ``processed`` ones are through, ``dead`` ones failed.
    """

    replay_id: str
    event_id: str | None
    filter: dict[str, str] | None
    context_id: str | None
    rate: float | None
    status: Literal["running", "done", "failed", "cancelled"]
    error: str
    matched: int
    sent: int
    missing: int
    processed: int
    dead: int
    deliveries: int
    created_at: str
    finished_at: str | None


class ReplayList(Model):
    """The newest replays."""

    replays: list[ReplayOut]


class Problem(Model):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


class Accepted(Model):
    """A webhook that is durable."""

    event_id: str
    status: Literal["accepted"]


class ToolList(Model):
    """All tools of the key's tenant."""

    tools: list[ToolOut]


class ContextList(Model):
    """All contexts of the key's tenant."""

    contexts: list[ContextOut]


class SubscriptionList(Model):
    """All subscriptions of a context."""

    subscriptions: list[SubscriptionOut]


class LetterFilterIn(Strict):
    """Which dead letters: those that match all that is given."""

    tool: Id | None = None
    stage: Annotated[Text, Field(max_length=200)] | None = None
    since: Annotated[str, Field(max_length=64)] | None = None
    until: Annotated[str, Field(max_length=64)] | None = None


class LetterChanged(Model):
    """How many dead letters a call was about; ``more`` when it has to be made again."""

    matched: int
    changed: int
    more: bool


class AttemptOut(Model):
    """One attempt that failed."""

    attempt: int
    at: str
    stage: str
    error: str


class LetterOut(Model):
    """An event that failed; in ``GET`` of one with its history and payload."""

    letter_id: str
    event_id: str | None
    tool_id: str
    type: str
    replay_id: str | None
    channel: str
    state: str
    stage: str
    error: str
    attempts: int
    first_failed_at: str
    last_failed_at: str
    traceback: str | None = None
    history: list[AttemptOut] | None = None
    headers: dict[str, str] | None = None
    content_type: str | None = None
    payload: Any = None
    payload_encoding: Literal["json", "text", "base64"] | None = None


class LetterList(Model):
    """A page of dead letters; ``cursor`` leads to the next."""

    letters: list[LetterOut]
    cursor: str | None


class RefusalOut(Model):
    """A webhook that was refused. ``headers`` are shown in full where they can hold no secret.

    Others, and the values in the query of ``path``, are masked. ``body_bytes`` came, or were
    announced; ``kept_bytes`` of them are kept. ``replayable``: all of it is.
    """

    refusal_id: str
    tool_id: str
    refused_at: str
    status: int
    reason: str
    detail: str
    address: str
    method: str
    path: str
    headers: dict[str, str]
    body_bytes: int
    kept_bytes: int
    replayable: bool
    body: str | None = None
    body_encoding: Literal["text", "base64"] | None = None


class RefusalList(Model):
    """A page of refused webhooks, the newest first; ``cursor`` leads to the next."""

    refusals: list[RefusalOut]
    cursor: str | None


class PartitionOut(Model):
    """Who owns a partition, and how far behind each of its streams is."""

    partition: int
    owner: str | None
    epoch: int
    lease_seconds: float
    streams: dict[str, dict[str, float | None]]


class PartitionList(Model):
    """All partitions, and the workers that are alive."""

    workers: list[str]
    partitions: list[PartitionOut]


LETTER_QUERY: dict[str, dict[str, object]] = {
    "tool": {"type": "string", "description": "Only of this tool."},
    "stage": {"type": "string", "description": "Only those that failed in this stage."},
    "since": {"type": "string", "format": "date-time"},
    "until": {"type": "string", "format": "date-time"},
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50},
    "cursor": {"type": "string", "description": "From the page before."},
}
EVENT_QUERY: dict[str, dict[str, object]] = {
    "tool": {"type": "string", "description": "Only of this tool."},
    "type": {"type": "string", "description": "Only of this type; `*` stands for anything."},
    "status": {"type": "string", "enum": [status.value for status in Status]},
    "context": {"type": "string", "description": "Only those that reached this context."},
    "since": {"type": "string", "format": "date-time"},
    "until": {"type": "string", "format": "date-time"},
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50},
    "cursor": {"type": "string", "description": "From the page before."},
}

_AFTER = {"type": "integer", "minimum": 0, "maximum": 2**53}
DIGEST_QUERY: dict[str, dict[str, object]] = {
    "budget": {"type": "integer", "minimum": 64, "maximum": 100_000},
    "after": _AFTER,
}
FEED_QUERY: dict[str, dict[str, object]] = {
    "after": _AFTER,
    "generation": {**_AFTER, "description": "That of the update `after`, where it is known."},
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50},
}
_PAGE: dict[str, dict[str, object]] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50},
    "cursor": {"type": "string", "description": "From the page before."},
}
LOST_EVENTS_QUERY = _PAGE
REFUSAL_QUERY = _PAGE
LOST_DELIVERIES_QUERY: dict[str, dict[str, object]] = {
    "context": {"type": "string", "description": "Whose feed."},
    **_PAGE,
}
UPDATES_QUERY: dict[str, dict[str, object]] = {
    "after": _AFTER,
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50},
}
LIMIT_QUERY: dict[str, dict[str, object]] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50},
}

#: Whether what waits or died of a tool goes with it.
PURGE_QUERY: dict[str, dict[str, object]] = {
    "purge": {"type": "string", "enum": ["true", "false"]},
}
