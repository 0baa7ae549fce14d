"""Commit: makes a batch's outcome durable, all of it or none of it.

In: routed batches. First the outputs go to ``updates[q]``, each with its origin; then one script
writes changelog, audit and dead letters and acknowledges the batch; then RocksDB follows. A crash
between any two of these repeats outputs, and deliver recognises them by their origin.
"""

import time
from collections import Counter
from collections.abc import Iterable

from hookstream.app import channels, keys, metrics
from hookstream.app.batch import Batch, Entry
from hookstream.app.ids import partition_of
from hookstream.app.main import app
from hookstream.codecs.envelope import Event, encode_event
from hookstream.codecs.routed import Target, encode_changes, encode_routed
from hookstream.proto.pipeline_pb2 import AuditBatch, DeadLetter, EventAudit


@app.batches(channels.routed)
async def commit(batch: Batch) -> None:
    """Writes the outcome and acknowledges: one round trip for outputs, one script a batch."""
    number = batch.partition.number
    await send_outputs(batch)
    appends = [(keys.audit(number), audit(batch).SerializeToString())]
    if batch.changes:
        appends.append((keys.changelog(number), encode_changes("dedup", batch.changes)))
    now_ms = time.time_ns() // 1_000_000
    for entry in batch.entries:
        if entry.failure:
            appends.append((keys.dead(number), dead_letter(entry, now_ms)))
    ids = await commit_script(batch, appends)
    if batch.changes:
        table = batch.partition.dedup
        table.apply(batch.changes, ids[1].decode() if ids else table.position())
    for status, count in Counter(entry.status for entry in batch.entries).items():
        metrics.EVENTS.labels(status=status).inc(count)
    batch.done()


async def send_outputs(batch: Batch) -> None:
    """Append each event once to every ``updates[q]`` that holds one of its contexts."""
    pipe = app.parts.redis.pipeline(transaction=False)
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


async def commit_script(batch: Batch, appends: list[tuple[str, bytes]]) -> list[bytes]:
    """Run ``commit.lua``; returns the ids of the appends, none if it was committed before."""
    names = sorted({key for key, _ in appends})
    key_index = {key: at + 3 for at, key in enumerate(names)}
    flat = [part for key, value in appends for part in (key_index[key], value)]
    partition = batch.partition
    result: list[bytes] = await app.parts.scripts.call(
        "commit",
        [keys.lease(partition.number), keys.stream(batch.channel, partition.number), *names],
        [
            partition.epoch,
            partition.nonce,
            keys.GROUP,
            len(appends),
            *flat,
            0,
            *(entry.entry_id for entry in batch.entries),
        ],
    )
    return result


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


def dead_letter(entry: Entry, now_ms: int) -> bytes:
    """The dead letter of an entry that failed."""
    failure = entry.failure
    assert failure is not None
    return DeadLetter(
        envelope=entry.raw,
        entry_id=entry.entry_id,
        stage=failure.stage,
        error=failure.error,
        attempts=failure.attempts,
        first_failed_at_ms=now_ms,
        last_failed_at_ms=now_ms,
    ).SerializeToString()
