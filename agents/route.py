"""Route: decides which contexts each event concerns, by the owner's subscriptions alone.

In: batches with duplicates marked. Out: the same, with targets. An event that no context wants
becomes ``unrouted``. Nothing in a payload can name a context: it only meets conditions.
"""

import time

from hookstream.app import channels
from hookstream.app.main import app
from hookstream.app.priority import rank
from hookstream.app.routing.catalog import Catalog
from hookstream.app.routing.matching import Matcher
from hookstream.app.streams.batch import Batch
from hookstream.app.streams.outcome import Dropped
from hookstream.app.streams.scheduler import due
from hookstream.codecs.envelope import Event
from hookstream.codecs.routed import Target


@app.batches(channels.checked, out=channels.routed)
async def route(batch: Batch) -> None:
    """Finds the contexts that each event concerns."""
    catalog = await app.services.catalog.catch_up(*batch.registry_version)
    urgent = any(entry.value.tool_id in catalog.urgent_tools for entry in batch.live())
    due_at = due(time.monotonic(), len(batch), "critical" if urgent else "normal")
    async with app.scheduler.slot(due_at) as slot:
        for entry in list(batch.live()):
            try:
                entry.targets = targets(entry.value, catalog)
            except Exception as error:  # noqa: BLE001 one event's trouble is not its neighbours'
                entry.fail("route", error)
                continue
            if not entry.targets:
                entry.outcome = Dropped()
            await slot.pause()


def targets(event: Event, catalog: Catalog) -> tuple[Target, ...]:
    """The contexts of an event, each once, in the order of their ids.

    Where several subscriptions of a context match, the one of the highest priority counts.

    A replay that names a context goes to it alone, whatever it subscribes to, within the tenant.
    """
    if event.replay_context_id:
        context = catalog.contexts.get((event.tenant, event.replay_context_id))
        return (Target(context.context_id, context.priority, ""),) if context else ()
    matcher = Matcher(event)
    found: dict[str, Target] = {}
    for subscription in catalog.by_tool.get(event.tool_id, ()):
        known = found.get(subscription.context_id)
        if known is not None and rank(known.priority) <= rank(subscription.priority):
            continue
        if not matcher.matches(subscription.types, subscription.condition, subscription.follow):
            continue
        found[subscription.context_id] = Target(
            subscription.context_id, subscription.priority, subscription.name
        )
    return tuple(found.values())
