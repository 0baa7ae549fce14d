"""Tools, and their rules."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from hookstream.app.durations import duration_seconds
from hookstream.app.web.models.fields import (
    Duration,
    Model,
    Strict,
    Text,
)

__all__ = [
    "PURGE_QUERY",
    "AlertIn",
    "DedupIn",
    "DedupOut",
    "ForwardIn",
    "KafkaIn",
    "LearntSecretOut",
    "MaskingIn",
    "OrderingIn",
    "PayloadSchemaIn",
    "SourceIn",
    "SqsIn",
    "SqsTargetIn",
    "ToolIn",
    "ToolList",
    "ToolOut",
    "TtlIn",
]

MAX_WINDOW_SECONDS = 31 * 86400


def _window(text: str) -> str:
    if duration_seconds(text) > MAX_WINDOW_SECONDS:
        raise ValueError("a dedup window is at most 31d")
    return text


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


Action = Literal["pass", "mask", "pseudonym", "drop", "block"]


class MaskingIn(Strict):
    """What agents, and a model that writes summaries, are shown of personal data and secrets.

    By kind, family of kinds or ``*``; ``fields`` by path, with ``*`` for any name or item. What is
    left out of a tool's is its tenant's, then the default. What is stored is what was sent; with
    ``keep`` "masked" what agents may see, and nothing else of it.
    """

    agents: dict[Annotated[Text, Field(max_length=100)], Action] = Field({}, max_length=64)
    models: dict[Annotated[Text, Field(max_length=100)], Action] = Field({}, max_length=64)
    fields: dict[Annotated[Text, Field(max_length=1000)], Action] = Field({}, max_length=64)
    keep: Literal["original", "masked"] = "original"


class SqsIn(Strict):
    """A queue of Amazon SQS, one of HOOKSTREAM_SQS_QUEUES; ``region`` where its URL names none.

    ``format``: a message's body is the webhook's own ("raw"), or the JSON of Hookstream's
    predecessor. ``headers``: by header of the webhook, the attribute that has it, or the path.
    """

    queue_url: Annotated[
        Text,
        Field(
            max_length=1024,
            examples=["https://sqs.eu-west-1.amazonaws.com/123456789012/webhooks"],
        ),
    ]
    region: Annotated[Text, Field(max_length=32)] = ""
    format: Literal["raw", "predecessor"] = "raw"
    headers: dict[
        Annotated[Text, Field(max_length=100)], Annotated[Text, Field(max_length=256)]
    ] = Field({}, max_length=32)


class KafkaIn(Strict):
    """A topic of the installation's Kafka, one of HOOKSTREAM_KAFKA_TOPICS.

    A record's value is a webhook's body, its headers are the webhook's; ``headers``: by header of
    the webhook, the record's header that has it.
    """

    topic: Annotated[Text, Field(max_length=249, examples=["webhooks.orders"])]
    headers: dict[
        Annotated[Text, Field(max_length=100)], Annotated[Text, Field(max_length=256)]
    ] = Field({}, max_length=32)


class SourceIn(Strict):
    """Where a tool's events come from, beside its door: a queue, or a topic."""

    sqs: SqsIn | None = None
    kafka: KafkaIn | None = None


class SqsTargetIn(Strict):
    """A queue of Amazon SQS, one of HOOKSTREAM_SQS_QUEUES, and what its messages say of whom they
    are: ``auth_context`` of the predecessor's format."""

    queue_url: Annotated[Text, Field(max_length=1024)]
    region: Annotated[Text, Field(max_length=32)] = ""
    auth_context: dict[str, Any] = Field({}, max_length=32)
    #: While the tool moves: what is delivered here goes there, too, with the attribute
    #: hookstream_shadow. Set it once old workers leave such messages alone.
    shadow: bool = False


class ForwardIn(Strict):
    """Where a tool's events are copied to."""

    sqs: SqsTargetIn


class ToolIn(Strict):
    """A source of webhooks."""

    provider: Annotated[str, Field(examples=["github"], max_length=64)]
    secrets: list[Annotated[Text, Field(min_length=1, max_length=8192)]] = Field([], max_length=8)
    options: dict[str, Any] = Field({}, max_length=32)
    dedup: DedupIn = DedupIn(fields=[])
    ordering: OrderingIn = OrderingIn()
    ttl: TtlIn = TtlIn()
    alert: AlertIn = AlertIn()
    payload_schema: PayloadSchemaIn | None = Field(None, alias="schema")
    #: Of a receiver process; null for HOOKSTREAM_TOOL_WEBHOOKS_PER_SECOND, 0 for any number.
    webhooks_per_second: Annotated[float, Field(ge=0, le=1_000_000)] | None = None
    #: Networks in CIDR notation that its webhooks may come from; none for any.
    allow_from: list[Annotated[Text, Field(min_length=1, max_length=80)]] = Field(
        [], max_length=256, examples=[["192.0.2.0/24", "2001:db8::/32"]]
    )
    #: The address that the sender calls, where it is not the one in HOOKSTREAM_PUBLIC_URL.
    public_url: Annotated[Text, Field(max_length=2048)] = ""
    #: Null for what comes along: secrets, cards, IBANs and national ids are masked.
    masking: MaskingIn | None = None
    #: Null: its door alone.
    source: SourceIn | None = None
    #: Null: nowhere.
    forward: ForwardIn | None = None


class DedupOut(Model):
    """The dedup rule in force."""

    strategy: str
    fields: list[str]
    window: str
    name: str | None
    history: str | None


class ToolOut(Model):
    """A tool as it is kept; secrets never come out, only how many there are.

    ``weak_secret_count`` of them are short or simple: replace them by random ones. ``pending``: it
    has none yet, and learns it from its sender's first request; ``learnt_secret_waits``: it has
    learnt one that nobody has been shown. ``secrets_trouble``: why its secrets cannot be opened
    here now, so that its webhooks are refused with 503; else "". ``forwarded_since``: since when it
    has the queue in ``forward``.
    """

    tool_id: str
    provider: str
    secret_count: int
    weak_secret_count: int
    pending: bool
    learnt_secret_waits: bool
    secrets_trouble: str
    options: dict[str, Any]
    dedup: DedupOut
    ordering: OrderingIn
    ttl: TtlIn
    alert: AlertIn
    payload_schema: PayloadSchemaIn | None = Field(alias="schema")
    webhooks_per_second: float | None
    allow_from: list[str]
    public_url: str
    masking: MaskingIn | None
    source: SourceIn | None
    forward: ForwardIn | None
    forwarded_since: str | None
    path: str
    created_at: str
    updated_at: str


class LearntSecretOut(Model):
    """A secret that a sender has handed over; it is shown once."""

    secret: str


class ToolList(Model):
    """A page of the tools of the key's tenant, by their ids; ``cursor`` leads to the next."""

    tools: list[ToolOut]
    cursor: str | None


#: Whether what waits or died of a tool goes with it.
PURGE_QUERY: dict[str, dict[str, object]] = {
    "purge": {"type": "string", "enum": ["true", "false"]},
}
