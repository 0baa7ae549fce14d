"""The channels, in the order in which an event passes them."""

from hookstream.app.main import app

__all__ = ["audit", "checked", "deduped", "events", "routed", "updates"]

#: Accepted webhooks: ``events[p]`` in Redis.
events = app.stream_channel("events", codec="hookstream_envelope")
#: Batches whose duplicates are marked.
deduped = app.batch_channel("deduped")
#: Batches whose payloads were measured by their tools' schemas.
checked = app.batch_channel("checked")
#: Batches whose events know their contexts.
routed = app.batch_channel("routed")
#: Routed events on their way to feeds: ``updates[q]`` in Redis.
updates = app.stream_channel("updates", codec="hookstream_routed")
#: What was decided, on its way to PostgreSQL: ``audit[p]`` in Redis.
audit = app.stream_channel("audit", codec="hookstream_audit")
