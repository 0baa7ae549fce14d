"""The channels, in the order in which an event passes them."""

from hookstream.app.main import app
from hookstream.app.priority import DEFERRABLE, channel_name

__all__ = [
    "audit",
    "checked",
    "deduped",
    "deferred",
    "events",
    "masked",
    "rendered",
    "routed",
    "updates",
]

#: Batches of what may wait are small: whatever is more urgent goes in between.
DEFERRED_BATCH_MAX = 64
#: The event log may be a moment late, and is written that often; in batches of one what reads and
#: acknowledges an entry costs more than its rows.
AUDIT_LINGER_SECONDS = 0.2

#: Accepted webhooks: ``events[p]`` in Redis.
events = app.pipeline_channel("events", codec="hookstream_envelope")
#: Batches whose duplicates are marked.
deduped = app.batch_channel("deduped")
#: Batches whose payloads were measured by their tools' schemas.
checked = app.batch_channel("checked")
#: Batches whose events are as agents may see them.
masked = app.batch_channel("masked")
#: Batches whose events know their contexts.
routed = app.batch_channel("routed")
#: Batches whose events' updates are finished.
rendered = app.batch_channel("rendered")
#: Finished updates, or routed events, on their way to feeds: ``updates[q]`` in Redis.
updates = app.pipeline_channel("updates", codec="hookstream_routed")
#: Updates that wait while more urgent ones go, by priority: ``deferred:low[q]`` and so on.
deferred = {
    priority: app.pipeline_channel(
        channel_name(priority),
        codec="hookstream_routed",
        batch_max=DEFERRED_BATCH_MAX,
        by_owner=True,
    )
    for priority in DEFERRABLE
}
#: What was decided, on its way to PostgreSQL: ``audit[p]`` in Redis.
audit = app.pipeline_channel(
    "audit", codec="hookstream_audit", linger_seconds=AUDIT_LINGER_SECONDS, by_owner=True
)
