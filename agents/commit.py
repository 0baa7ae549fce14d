"""Commit: makes a batch's outcome durable, all of it or none of it.

In: routed batches. First the outputs go to ``updates[q]``, each with its origin; then one script
writes changelog, audit and letters and acknowledges the batch; then RocksDB follows. A crash
between any two of these repeats outputs, and deliver recognises them by their origin.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable

from hookstream.app import channels, keys, metrics
from hookstream.app.batch import Batch, Entry
from hookstream.app.commit import Writes
from hookstream.app.commit import commit as run_commit
from hookstream.app.durable import append_groups
from hookstream.app.ids import partition_of
from hookstream.app.letters import log_failures, write_letters
from hookstream.app.main import app
from hookstream.app.priority import most_urgent
from hookstream.app.status import Status
from hookstream.app.turns import Turn, due
from hookstream.app.waiting import judge_breakers, write_holds
from hookstream.codecs.envelope import Event
from hookstream.codecs.routed import Target, encode_changes, encode_routed, recently_routed
from hookstream.proto.pipeline_pb2 import AuditBatch, EventAudit

#: Updates that wait in this worker while no more are sent, and how long that may last.
READ_AHEAD_MAX = 64
CATCH_UP_SECONDS = 0.5


@app.batches(channels.routed)
async def commit(batch: Batch) -> None:
    """Writes the outcome and acknowledges: one round trip for outputs, one script a batch."""
    partition, parts = batch.partition, app.parts
    priority = most_urgent(target.priority for e in batch.live() for target in e.targets)
    if priority != "critical":
        await let_deliver_catch_up(batch)
    due_at = due(time.monotonic(), len(batch), priority)
    async with app.turns.turn(due_at) as turn, partition.lock:
        now_ms = parts.clock.now_ms()
        writes = Writes()
        if batch.changes:
            writes.append(keys.changelog(partition.number), encode_changes("dedup", batch.changes))
        history = partition.history
        remembering = history.write(writes, batch.remembered) if history else None
        holds = write_holds(writes, batch, parts.registry.current)
        breakers = judge_breakers(writes, batch, app.settings, now_ms)
        await append_groups(parts.durability, parts.scripts, await outputs(batch, turn))
        write_letters(writes, batch, app.settings, now_ms)
        record = audit(batch)
        if record.events:
            writes.append(keys.audit(partition.number), record.SerializeToString())
        ids = await run_commit(parts.scripts, partition, batch.channel, writes, batch.entries)
        partition.holds.update({key: name or "" for key, name in holds.items()})
        partition.breakers.update({tool: kept for tool, kept in breakers.items() if kept})
        if batch.changes:
            partition.dedup.apply(batch.changes, ids[0])
        if history and remembering and remembering.keys:
            history.written(remembering, ids[1 if batch.changes else 0])
    log_failures(batch)
    app.alerts.failed(batch)
    for status, count in Counter(entry.status for entry in batch.entries).items():
        metrics.EVENTS.labels(status=status).inc(count)
    count_duplicates(batch)
    batch.done()


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
    number = batch.partition.number
    for entry in list(batch.live()):
        event: Event = entry.value
        if entry.changed:
            envelope = app.parts.payloads.encode(event)
        else:
            envelope = entry.raw
            recently_routed.keep(envelope, event)
        for q, targets in by_partition(event.tenant, entry.targets).items():
            groups.setdefault(q, []).append(
                encode_routed(number, entry.entry_id, batch.floor, envelope, targets)
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
