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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hookstream.app import channels, metrics
from hookstream.app.deduplication.state import write_dedup
from hookstream.app.failures.blocking import judge
from hookstream.app.failures.failed_events import is_first, log_failures, write_failures
from hookstream.app.failures.hand_overs import settle_old, write_paths
from hookstream.app.failures.rules import Decision
from hookstream.app.failures.state import FailureState
from hookstream.app.kafka.outbox import write_events
from hookstream.app.main import app
from hookstream.app.priority import most_urgent
from hookstream.app.redis.durability import append_all
from hookstream.app.settings import Settings
from hookstream.app.sqs.outbox import write_outbox
from hookstream.app.stage_tables.state import settle as settle_tables
from hookstream.app.stage_tables.state import write_tables
from hookstream.app.streams.batch import Batch
from hookstream.app.streams.commit import Commit, Writes, commit_all
from hookstream.app.streams.event_log import write_audit_entry
from hookstream.app.streams.group import Group
from hookstream.app.streams.outputs import outputs, partitions_of
from hookstream.app.streams.scheduler import TimeSlot
from hookstream.codecs.routed import Change

if TYPE_CHECKING:
    from hookstream.app.services import Services

#: Updates that wait in this worker while no more are sent, and how long that may last.
PREFETCHED_MAX = 64
CATCH_UP_SECONDS = 0.5


async def commit_together(group: Group) -> None:
    """The same for several batches: one round trip for the outputs of all, one for their scripts.

    Those are left whose partition somebody else decides about at the moment, that wait for
    deliver, or that read a changelog.
    """
    for batch in group:
        state = batch.partition[FailureState]
        if batch.tables or not state.lock.free or (not _is_critical(batch) and is_behind(batch)):
            group.leave(batch)
    if going := list(group):
        priority = most_urgent(t.priority for b in going for e in b.live() for t in e.targets)
        async with app.worker.scheduler.slot_for(going, priority) as slot:
            await _settle_free(group, slot)


async def _settle_free(group: Group, slot: TimeSlot) -> None:
    """Settle those batches of which nobody else decides anything at the moment."""
    held = []
    try:
        for batch in group:
            lock = batch.partition[FailureState].lock
            # where it is free it is not waited for
            if lock.free:
                await lock.acquire()
                held.append(lock)
            else:
                group.leave(batch)
        going = list(group)
        errors = await settle_all(going, slot, app.services, app.settings)
    finally:
        for lock in held:
            lock.release()
    for batch, error in zip(going, errors, strict=True):
        if error is None:
            _over(batch)
        else:
            batch.fail(error)


@app.batches(channels.rendered, together=commit_together)
async def commit(batch: Batch) -> None:
    """Writes the outcome and acknowledges: one round trip for outputs, one script a batch."""
    if not _is_critical(batch):
        await let_deliver_catch_up(batch)
    priority = most_urgent(target.priority for e in batch.live() for target in e.targets)
    slot = app.worker.scheduler.slot_for([batch], priority)
    async with slot as held, batch.partition[FailureState].lock:
        await settle(batch, held, app.services, app.settings)
    _over(batch)


def _is_critical(batch: Batch) -> bool:
    return any(target.priority == "critical" for e in batch.live() for target in e.targets)


def _over(batch: Batch) -> None:
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
    [error] = await settle_all([batch], slot, services, settings)
    if error is not None:
        raise error


async def settle_all(
    batches: Sequence[Batch], slot: TimeSlot, services: "Services", settings: Settings
) -> list[Exception | None]:
    """As :func:`settle` for batches of different partitions; what it would raise for each."""
    now_ms = services.clock.now_ms()
    failed: dict[Batch, Exception] = {}
    settling: list[Settling] = []
    for batch in batches:
        try:
            settling.append(await _begin(batch, slot, services, settings, now_ms))
        except Exception as error:  # noqa: BLE001 it is told
            failed[batch] = error
    appends = [group for each in settling for group in each.sent]
    replies = iter(await append_all(services.durability, services.scripts, appends))
    commits: list[tuple[Batch, Commit]] = []
    for each in settling:
        batch = each.batch
        errors = [reply for _ in each.sent if (reply := next(replies)) is not None]
        try:
            if errors:
                raise errors[0]
            commits.append((batch, await _finish(each, services, settings, now_ms)))
        except Exception as error:  # noqa: BLE001 it is told
            failed[batch] = error
    found = await commit_all(services.scripts, [made for _, made in commits])
    failed |= {
        batch: reply for (batch, _), reply in zip(commits, found, strict=True) if reply is not None
    }
    return [failed.get(batch) for batch in batches]


@dataclass(slots=True)
class Settling:
    """A batch whose outputs are sent: what goes to each stream, and what is decided."""

    batch: Batch
    decision: Decision
    in_tables: Sequence[Change]
    sent: Sequence[tuple[str, Sequence[bytes]]]


async def _begin(
    batch: Batch, slot: TimeSlot, services: "Services", settings: Settings, now_ms: int
) -> Settling:
    partition = batch.partition
    settle_old(batch.entries, now_ms)
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
    return Settling(batch, decision, in_tables, sent)


async def _finish(
    settling: Settling, services: "Services", settings: Settings, now_ms: int
) -> Commit:
    """What is committed once the outputs are sent."""
    batch = settling.batch
    for stream, _ in settling.sent:
        batch.partition.on_append(stream)
    writes = Writes()
    write_dedup(writes, batch)
    await write_tables(services.redis, writes, batch, settling.in_tables)
    errors = services.error_texts
    write_failures(writes, batch, settling.decision, settings, now_ms, errors)
    write_audit_entry(writes, batch, errors)
    write_paths(writes, batch, settling.decision, now_ms)
    write_outbox(
        writes,
        batch.partition.number,
        batch.entries,
        services.catalog.current,
        modes=batch.modes,
        first=is_first,
    )
    if settings.kafka_events_topic:
        write_events(writes, batch.partition.number, batch.entries, first=is_first)
    return Commit(batch.partition, batch.channel, writes, batch.entries)


def is_behind(batch: Batch) -> bool:
    """Whether this worker has much to deliver of what this batch would send."""
    return any(
        app.worker.assignment.prefetched(channels.updates.name, q) > PREFETCHED_MAX
        for q in partitions_of(batch, app.settings.partitions)
    )


async def let_deliver_catch_up(batch: Batch) -> None:
    """Wait while this worker has much to deliver; not for batches with something critical.

    What waits in ``updates[q]`` is in the way of the next critical update; in ``events[p]`` it is
    in the way of its own tool's only.
    """
    until = time.monotonic() + CATCH_UP_SECONDS
    while is_behind(batch):
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
