"""Commit: makes a batch's outcome durable, all of it or none of it.

In: rendered batches. First the outputs go to ``updates[q]``, each with its source position; then
one script writes changelogs, audit and failed events and acknowledges the batch; then RocksDB
follows. A crash between any two of these repeats outputs, and deliver recognises them by their
source position: whatever becomes of an event whose outputs may have been sent, it keeps that one
(``FailureState.pins``).
"""

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

from hookstream.app import channels, metrics
from hookstream.app.deduplication.state import write_dedup
from hookstream.app.failures.blocking import judge
from hookstream.app.failures.failed_events import log_failures, write_failures
from hookstream.app.failures.state import FailureState
from hookstream.app.main import app
from hookstream.app.priority import most_urgent
from hookstream.app.redis.durability import append_groups
from hookstream.app.settings import Settings
from hookstream.app.stage_tables.state import settle as settle_tables
from hookstream.app.stage_tables.state import write_tables
from hookstream.app.streams.batch import Batch
from hookstream.app.streams.commit import Writes
from hookstream.app.streams.commit import commit as run_commit
from hookstream.app.streams.event_log import write_audit_entry
from hookstream.app.streams.outputs import outputs, partitions_of
from hookstream.app.streams.scheduler import TimeSlot, begins, due

if TYPE_CHECKING:
    from hookstream.app.services import Services

#: Updates that wait in this worker while no more are sent, and how long that may last.
PREFETCHED_MAX = 64
CATCH_UP_SECONDS = 0.5


@app.batches(channels.rendered)
async def commit(batch: Batch) -> None:
    """Writes the outcome and acknowledges: one round trip for outputs, one script a batch."""
    priority = most_urgent(target.priority for e in batch.live() for target in e.targets)
    if priority != "critical":
        await let_deliver_catch_up(batch)
    due_at = due(time.monotonic(), len(batch), priority)
    slot = app.worker.scheduler.slot(due_at, len(batch), at_once=begins(len(batch), priority))
    async with slot as held, batch.partition[FailureState].lock:
        await settle(batch, held, app.services, app.settings)
    log_failures(batch)
    app.worker.alerts.failed(batch)
    count_outcomes(batch)
    batch.done()


async def settle(batch: Batch, slot: TimeSlot, services: "Services", settings: Settings) -> None:
    """Send the outputs, then write what became of every event. With the partition's lock held.

    Raises:
        FencedError, OutdatedError: this worker has lost the partition.
        SplitBatchError: an event has built on what one that comes again wrote to a table.
        redis.exceptions.RedisError: outputs may have been sent; the batch is still pending.
    """
    partition, now_ms = batch.partition, services.clock.now_ms()
    decision = judge(batch, settings, now_ms, services.catalog.current)
    in_tables = settle_tables(batch)
    sent = await outputs(
        batch,
        slot,
        encode=lambda event: services.payloads.encode(event),
        pins=partition[FailureState].pins,
        partitions=settings.partitions,
    )
    partition.check()
    for entry in batch.live():
        entry.sent = True
    await append_groups(services.durability, services.scripts, sent)
    for stream, _ in sent:
        partition.on_append(stream)
    writes = Writes()
    write_dedup(writes, batch)
    await write_tables(services.redis, writes, batch, in_tables)
    write_failures(writes, batch, decision, settings, now_ms)
    write_audit_entry(writes, batch)
    await run_commit(services.scripts, partition, batch.channel, writes, batch.entries)


async def let_deliver_catch_up(batch: Batch) -> None:
    """Wait while this worker has much to deliver; not for batches with something critical.

    What waits in ``updates[q]`` is in the way of the next critical update; in ``events[p]`` it is
    in the way of its own tool's only.
    """
    qs = partitions_of(batch, app.settings.partitions)
    until = time.monotonic() + CATCH_UP_SECONDS
    while any(
        app.worker.assignment.prefetched(channels.updates.name, q) > PREFETCHED_MAX for q in qs
    ):
        await asyncio.sleep(CATCH_UP_SECONDS / 100)
        if time.monotonic() > until:
            break


def count_outcomes(batch: Batch) -> None:
    """Events by status; duplicates by tool and by layer: the window, or history."""
    for status, count in Counter(entry.status for entry in batch.entries).items():
        metrics.EVENTS.labels(status=status).inc(count)
    found = Counter(
        (entry.value.tool_id, entry.dedup) for entry in batch.entries if entry.duplicate_of
    )
    for (tool_id, layer), count in found.items():
        metrics.DUPLICATES.labels(tool=tool_id, layer=layer).inc(count)
