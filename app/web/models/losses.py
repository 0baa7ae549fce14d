"""What the event log has and Redis has lost."""

from hookstream.app.web.models.fields import PAGE_QUERY, Model

__all__ = [
    "LOST_DELIVERIES_QUERY",
    "LOST_EVENTS_QUERY",
    "LostDeliveryList",
    "LostDeliveryOut",
    "LostEventList",
    "LostEventOut",
]


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


LOST_EVENTS_QUERY = PAGE_QUERY
LOST_DELIVERIES_QUERY: dict[str, dict[str, object]] = {
    "context": {"type": "string", "description": "Whose feed."},
    **PAGE_QUERY,
}
