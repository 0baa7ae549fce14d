"""Commit: makes a batch's outcome durable, all of it or none of it.

In: routed batches. First the outputs go to ``updates[q]``, each with its origin; then one script
writes changelog, audit and dead letters and acknowledges the batch; then RocksDB follows. A crash
between any two of these repeats outputs, and deliver recognises them by their origin.
"""

from collections import Counter
from collections.abc import Iterable

from hookstream.app import channels, keys, metrics
from hookstream.app.batch import Batch, Entry
from hookstream.app.commit import commit_batch, dead_letters
from hookstream.app.ids import partition_of
from hookstream.app.main import app
from hookstream.codecs.envelope import Event, encode_event
from hookstream.codecs.routed import Target, encode_changes, encode_routed
from hookstream.proto.pipeline_pb2 import AuditBatch, EventAudit


@app.batches(channels.routed)
async def commit(batch: Batch) -> None:
    """Writes the outcome and acknowledges: one round trip for outputs, one script a batch."""
    number = batch.partition.number
    await send_outputs(batch)
    appends = [(keys.audit(number), audit(batch).SerializeToString())]
    if batch.changes:
        appends.append((keys.changelog(number), encode_changes("dedup", batch.changes)))
    appends += dead_letters(batch)
    ids = await commit_batch(app.parts.scripts, batch, batch.entries, appends)
    if batch.changes:
        table = batch.partition.dedup
        table.apply(batch.changes, ids[1].decode() if ids else table.position())
    for status, count in Counter(entry.status for entry in batch.entries).items():
        metrics.EVENTS.labels(status=status).inc(count)
    batch.done()


async def send_outputs(batch: Batch) -> None:
    """Append each event once to every ``updates[q]`` that holds one of its contexts.

    In one MULTI: were an append refused (memory full) and a later one taken, the mark of what has
    been seen would move past the one that is missing.
    """
    pipe = app.parts.redis.pipeline(transaction=True)
    for entry in batch.live():
        event: Event = entry.value
        envelope = encode_event(event) if entry.changed else entry.raw
        for q, group in by_partition(event.tenant, entry.targets).items():
            pipe.xadd(
                keys.updates(q),
                {"d": encode_routed(batch.partition.number, entry.entry_id, envelope, group)},
            )
    if len(pipe):
        await pipe.execute()


def by_partition(tenant: str, targets: Iterable[Target]) -> dict[int, list[Target]]:
    """Targets by the partition that holds their context's feed."""
    groups: dict[int, list[Target]] = {}
    for target in targets:
        q = partition_of(app.settings.partitions, tenant, target.context_id)
        groups.setdefault(q, []).append(target)
    return groups


def audit(batch: Batch) -> AuditBatch:
    """What became of each event of the batch."""
    return AuditBatch(
        partition=batch.partition.number,
        events=[event_audit(entry) for entry in batch.entries if entry.value is not None],
    )


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
        payload_bytes=len(event.payload),
        error=failure.error if failure else "",
        stage=failure.stage if failure else entry.dropped_by,
        replay_id=event.replay_id,
    )
