"""What a sender of webhooks is told."""

from typing import Literal

from hookstream.app.web.models.fields import Model

__all__ = ["Accepted"]


class Accepted(Model):
    """A webhook that is durable.

    ``event_id`` is its event's, of a batch the first one's; ``event_ids`` are those of all events
    of a batch, in its order.
    """

    event_id: str
    event_ids: list[str] | None = None
    status: Literal["accepted"]
