"""Deliver: turns routed events into numbered updates in the feeds of their contexts.

In: batches of ``updates[q]``, and of what was deferred while more urgent updates went. Passes over
what it has seen before (by source position), summarises the rest, and writes feeds, audit and
acknowledgement in one script. Sequence numbers have no gaps. Drops nothing: what exceeds a
context's rate is throttled and coalesced into a digest update.
"""

from hookstream.app import channels, metrics
from hookstream.app.failures.failed_events import log_failures
from hookstream.app.main import app
from hookstream.app.priority import DEFERRABLE
from hookstream.app.streams.batch import Batch


@app.batches(channels.updates)
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
    """Deliver a batch, and count what came of it."""
    done = await app.worker.delivery.deliver(batch, source)
    log_failures(batch)
    app.worker.alerts.failed(batch)
    now_ms = app.services.clock.now_ms()
    for priority, count in done.plan.priorities.items():
        metrics.UPDATES.labels(priority=priority).inc(count)
    metrics.UPDATES_THROTTLED.inc(done.plan.throttled_now)
    metrics.UPDATES_COALESCED.inc(done.plan.coalesced)
    if source is None:
        metrics.UPDATES_DEFERRED.inc(done.deferred)
    for received_ms in done.received_ms:
        metrics.UPDATE_LATENCY_SECONDS.observe(max(0, now_ms - received_ms) / 1000)
    batch.done()
