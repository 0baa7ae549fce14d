"""Commit: makes a batch's outcome durable, all of it or none of it.

In: routed batches. First the outputs go to ``updates[q]``, each with its origin; then one script
writes changelog, audit and letters and acknowledges the batch; then RocksDB follows. A crash
between any two of these repeats outputs, and deliver recognises them by their origin: whatever
becomes of an event whose outputs may have been sent, it keeps that one (``FailureState.pins``).
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from hookstream.app import channels, metrics
from hookstream.app.deduplication.state import DedupState
from hookstream.app.failures.blocking import judge_breakers, write_holds
from hookstream.app.failures.failed_events import log_failures, write_letters
from hookstream.app.failures.state import FailureState
from hookstream.app.ids import partition_of
from hookstream.app.main import app
from hookstream.app.priority import most_urgent
from hookstream.app.redis import keys
from hookstream.app.redis.durability import append_groups
from hookstream.app.settings import Settings
from hookstream.app.status import Status
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.commit import Writes
from hookstream.app.streams.commit import commit as run_commit
from hookstream.app.streams.scheduler import Turn, due
from hookstream.codecs.envelope import Event
from hookstream.codecs.routed import Target, encode_changes, encode_routed, recently_routed
from hookstream.proto.pipeline_pb2 import AuditBatch, EventAudit

if TYPE_CHECKING:
    from hookstream.app.services import Parts

#: Updates that wait in this worker while no more are sent, and how long that may last.
READ_AHEAD_MAX = 64
CATCH_UP_SECONDS = 0.5


@app.batches(channels.routed)
async def commit(batch: Batch) -> None:
    """Writes the outcome and acknowledges: one round trip for outputs, one script a batch."""
    priority = most_urgent(target.priority for e in batch.live() for target in e.targets)
    if priority != "critical":
        await let_deliver_catch_up(batch)
    due_at = due(time.monotonic(), len(batch), priority)
    async with app.turns.turn(due_at) as turn, batch.partition[FailureState].lock:
        await settle(batch, turn, app.parts, app.settings)
    log_failures(batch)
    app.alerts.failed(batch)
    for status, count in Counter(entry.status for entry in batch.entries).items():
        metrics.EVENTS.labels(status=status).inc(count)
    count_duplicates(batch)
    batch.done()


async def settle(batch: Batch, turn: Turn, parts: "Parts", settings: Settings) -> None:
    """Send the outputs, then write what became of every event. With the partition's lock held.

    Raises:
        FencedError, OutdatedError: this worker has lost the partition.
        redis.exceptions.RedisError: outputs may have been sent; the batch is still pending.
    """
    partition, now_ms = batch.partition, parts.clock.now_ms()
    writes = Writes()
    dedup = partition[DedupState]
    if batch.changes:
        writes.append(
            keys.changelog(partition.number),
            encode_changes("dedup", batch.changes),
            then=lambda entry_id: dedup.table.apply(batch.changes, entry_id),
        )
    if dedup.history:
        dedup.history.write(writes, batch.remembered)
    write_holds(writes, batch, parts.registry.current)
    judge_breakers(writes, batch, settings, now_ms)
    sent = await outputs(batch, turn)
    partition.check()
    for entry in batch.live():
        entry.sent = True
    await append_groups(parts.durability, parts.scripts, sent)
    write_letters(writes, batch, settings, now_ms)
    record = audit(batch)
    if record.events:
        writes.append(keys.audit(partition.number), record.SerializeToString())
    await run_commit(parts.scripts, partition, batch.channel, writes, batch.entries)


def count_duplicates(batch: Batch) -> None:
    """By tool and layer: what the window found, and what history found."""
    found = Counter(
        (entry.value.tool_id, entry.dedup)
        for entry in batch.entries
        if entry.status is Status.DUPLICATE
    )
    for (tool_id, layer), count in found.items():
        metrics.DUPLICATES.labels(tool=tool_id, layer=layer).inc(count)


async def let_deliver_catch_up(batch: Batch) -> None:
    """Wait while this worker has much to deliver; not for batches with something critical.

    What waits in ``updates[q]`` is in the way of the next critical update; in ``events[p]`` it is
    in the way of its own tool's only.
    """
    wanted = {(e.value.tenant, t.context_id) for e in batch.live() for t in e.targets}
    qs = {partition_of(app.settings.partitions, *names) for names in wanted}
    until = time.monotonic() + CATCH_UP_SECONDS
    while any(app.ownership.read_ahead(channels.updates.name, q) > READ_AHEAD_MAX for q in qs):
        await asyncio.sleep(CATCH_UP_SECONDS / 100)
        if time.monotonic() > until:
            break


async def outputs(batch: Batch, turn: Turn) -> list[tuple[str, list[bytes]]]:
    """What goes to each ``updates[q]``: every event once for all of its contexts there.

    A partition's group is appended all or none: were one refused and a later one taken, the
    missing one would come behind it.
    """
    groups: dict[int, list[bytes]] = {}
    number, pins = batch.partition.number, batch.partition[FailureState].pins
    pinned = tuple(pins.values())
    for entry in list(batch.live()):
        event: Event = entry.value
        if entry.changed:
            envelope = app.parts.payloads.encode(event)
        else:
            envelope = entry.raw
            recently_routed.keep(envelope, event)
        # what may have been sent before is sent under the same origin
        origin = pins.get(entry.letter_id, entry.entry_id)
        for q, targets in by_partition(event.tenant, entry.targets).items():
            groups.setdefault(q, []).append(
                encode_routed(number, origin, batch.floor, envelope, targets, pinned)
            )
        await turn.pause()
    return [(keys.updates(q), values) for q, values in groups.items()]


def by_partition(tenant: str, targets: Iterable[Target]) -> dict[int, list[Target]]:
    """Targets by the partition that holds their context's feed."""
    groups: dict[int, list[Target]] = {}
    for target in targets:
        q = partition_of(app.settings.partitions, tenant, target.context_id)
        groups.setdefault(q, []).append(target)
    return groups


def audit(batch: Batch) -> AuditBatch:
    """What became of each event of the batch; a second append of the same event is no news."""
    return AuditBatch(
        partition=batch.partition.number,
        events=[event_audit(entry) for entry in batch.entries if is_news(entry)],
    )


def is_news(entry: Entry) -> bool:
    """Whether an entry says something about its event that is not known."""
    if not isinstance(entry.value, Event):
        return False
    return entry.status is not Status.DUPLICATE or entry.duplicate_of != entry.value.event_id


def event_audit(entry: Entry) -> EventAudit:
    """The record of one event."""
    event: Event = entry.value
    failure = entry.failure
    return EventAudit(
        event_id=event.event_id,
        tenant=event.tenant,
        tool_id=event.tool_id,
        provider=event.provider,
        type=event.type,
        status=entry.status,
        duplicate_of=entry.duplicate_of,
        message_id=event.message_id,
        delivery_id=event.delivery_id,
        received_at_ms=event.received_at_ms,
        entry_id=entry.entry_id,
        payload_bytes=event.payload_bytes,
        error=failure.error if failure else "",
        stage=failure.stage if failure else entry.waits or entry.dropped_by,
        replay_id=event.replay_id,
        dedup=entry.dedup,
        schema_errors=event.schema_errors,
    )
