"""Deliver: turns routed events into numbered updates in the feeds of their contexts.

In: batches of ``updates[q]``, and of what was deferred while more urgent updates went. Passes over
what it has seen before (by source position), summarises the rest, and writes feeds, audit and
acknowledgement in one script. What is critical takes along what waits about the same thing.
Sequence numbers have no gaps. Drops nothing: what exceeds a context's rate is throttled and
coalesced into a digest update.
"""

from hookstream.app import channels, metrics
from hookstream.app.failures.failed_events import log_failures
from hookstream.app.feeds.delivery import Delivered
from hookstream.app.main import app
from hookstream.app.priority import DEFERRABLE
from hookstream.app.streams.batch import Batch
from hookstream.app.streams.group import Group


async def deliver_together(group: Group) -> None:
    """The same for several batches; those are left that wait for PostgreSQL or a model."""
    going = list(group)
    for batch, done in zip(going, await app.worker.delivery.deliver_all(going), strict=True):
        if done is None:
            group.leave(batch)
        elif isinstance(done, Exception):
            batch.fail(done)
        else:
            over(batch, done)


@app.batches(channels.updates, together=deliver_together)
async def deliver(batch: Batch) -> None:
    """Writes updates to feeds: one script a batch."""
    await work(batch)


for priority in DEFERRABLE:
    # one at a time: several would be in the way of what is more urgent
    @app.batches(channels.deferred[priority], name=f"deliver_{priority}", concurrency=1)
    async def deliver_deferred(batch: Batch, priority: str = priority) -> None:
        """Writes updates that waited while more urgent ones went."""
        await work(batch, priority)


async def work(batch: Batch, source: str | None = None) -> None:
    """Deliver a batch."""
    over(batch, await app.worker.delivery.deliver(batch, source), source)


def over(batch: Batch, done: Delivered, source: str | None = None) -> None:
    """End a batch that is delivered, and count what came of it."""
    log_failures(batch)
    app.worker.alerts.failed(batch)
    now_ms = app.services.clock.now_ms()
    for priority, count in done.plan.priorities.items():
        metrics.UPDATES.labels(priority=priority).inc(count)
    metrics.UPDATES_THROTTLED.inc(done.plan.throttled_now)
    metrics.UPDATES_COALESCED.inc(done.plan.coalesced)
    if source is None:
        metrics.UPDATES_DEFERRED.inc(done.deferred)
        metrics.UPDATES_TAKEN_ALONG.inc(done.taken_along)
    for received_ms in done.received_ms:
        metrics.UPDATE_LATENCY_SECONDS.observe(max(0, now_ms - received_ms) / 1000)
    batch.done()
