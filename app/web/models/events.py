"""Events, and what became of them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hookstream.app.status import Status
from hookstream.app.web.models.fields import Kind, Model

__all__ = ["EVENT_QUERY", "DeliveryOut", "EventList", "EventOut", "HistoryOut"]


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

    ``batch_id`` is that of the events that came with it in one request: the first one's id.
    ``payload`` and ``payload_bytes`` are of what was received. ``enrichment`` is what stages added
    (``GET`` of one). ``unparsed``: nothing could be read of the payload, so that rules and
    summaries see none of it. ``payload_changed``: a stage put another payload in its place for
    contexts. ``payload_kept``: "masked" where nothing was kept of what was received but what agents
    may see, which ``payload`` is then. ``source``: what brought it; only a webhook's signature was
    verified. ``deliveries`` are the first hundred; ``deliveries_more``:
    there are others.
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
    tier: Literal["hot", "warm", "cold", "gone", "erased"]
    payload_bytes: int
    payload_changed: bool
    stage: str
    error: str
    schema_errors: list[str]
    batch_id: str | None
    batch_index: int
    imported: bool
    headers: dict[str, str] | None = None
    content_type: str | None = None
    payload: Any = None
    payload_encoding: Literal["json", "text", "base64"] | None = None
    unparsed: bool | None = None
    payload_kept: Literal["original", "masked"] | None = None
    source: Literal["webhook", "queue", "topic", "import"] | None = None
    enrichment: dict[str, Any] | None = None
    deliveries: list[DeliveryOut] | None = None
    deliveries_more: bool | None = None


class EventList(Model):
    """A page of events, newest first; ``cursor`` leads to the next, until it is null.

    A page may have fewer than asked for, or none: so many events were looked at.
    """

    events: list[EventOut]
    cursor: str | None


class HistoryStep(BaseModel):
    """What happened, and when; ``at`` is null where that is not recorded."""

    model_config = ConfigDict(extra="allow")

    at: str | None
    step: str


class HistoryOut(Model):
    """What happened to an event. ``more``: there are more deliveries or rows than are shown.

    ``step`` is received, decided, deduplicated, failed, delivered, acknowledged, kept, or the
    ``action`` of a row of the audit trail. ``not_recorded``: what nobody can say.
    """

    event_id: str
    steps: list[HistoryStep]
    more: bool
    not_recorded: list[str]


EVENT_QUERY: dict[str, dict[str, object]] = {
    "tool": {"type": "string", "description": "Only of this tool."},
    "type": {"type": "string", "description": "Only of this type; `*` stands for anything."},
    "status": {"type": "string", "enum": [status.value for status in Status]},
    "context": {"type": "string", "description": "Only those that reached this context."},
    "batch": {
        "type": "string",
        "format": "uuid",
        "description": "Only those that came in one request: the id of the first of them.",
    },
    "since": {"type": "string", "format": "date-time"},
    "until": {"type": "string", "format": "date-time"},
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50},
    "cursor": {"type": "string", "description": "From the page before."},
}
