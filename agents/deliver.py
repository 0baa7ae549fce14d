"""Deliver: turns routed events into numbered updates in the feeds of their contexts.

In: batches of ``updates[q]``. Passes over what it has seen before (by origin), summarises the
rest, and writes feeds, audit and acknowledgement in one script. Sequence numbers have no gaps.
"""

import time
from collections import Counter
from dataclasses import dataclass, field

import orjson

from hookstream.app import channels, keys, metrics
from hookstream.app.batch import Batch, Partition
from hookstream.app.commit import bury_failed
from hookstream.app.errors import MovedError
from hookstream.app.feeds import feed_field
from hookstream.app.ids import entry_order
from hookstream.app.main import app
from hookstream.app.summary import estimate_tokens, summarise
from hookstream.codecs.envelope import Event
from hookstream.codecs.routed import Routed, Target
from hookstream.proto.pipeline_pb2 import AuditBatch, DeliveryAudit


@dataclass(slots=True)
class Plan:
    """What one batch writes: bodies by feed, in order, and how far each origin has come."""

    bodies: list[tuple[str, bytes]] = field(default_factory=list)
    feeds: dict[str, tuple[str, str]] = field(default_factory=dict)
    origins: dict[int, str] = field(default_factory=dict)
    deliveries: list[tuple[str, str, str, str]] = field(default_factory=list)
    priorities: Counter[str] = field(default_factory=Counter)
    received_ms: list[int] = field(default_factory=list)


@app.batches(channels.updates)
async def deliver(batch: Batch) -> None:
    """Writes updates to feeds: one script a batch."""
    await bury_failed(app.parts.scripts, batch)
    if not batch.entries:
        return batch.done()
    partition = batch.partition
    now_ms = time.time_ns() // 1_000_000
    work = plan([entry.value for entry in batch.entries], partition.origins)
    seqs = {name: partition.seqs.get(name, 0) for name in work.feeds}
    record = audit(partition.number, work, seqs, now_ms)
    try:
        await deliver_script(batch, work, seqs, record)
    except MovedError:
        await refresh(partition)
        raise
    for name, _ in work.bodies:
        partition.seqs[name] = partition.seqs.get(name, 0) + 1
    partition.origins.update(work.origins)
    for priority, count in work.priorities.items():
        metrics.UPDATES.labels(priority=priority).inc(count)
    for received_ms in work.received_ms:
        metrics.UPDATE_LATENCY_SECONDS.observe(max(0, now_ms - received_ms) / 1000)
    return batch.done()


def plan(batch: list[Routed], origins: dict[int, str]) -> Plan:
    """Bodies for what has not been seen. ``origins``: the highest entry seen of each partition.

    Outputs of one partition arrive in the order of their entries, so what is not higher than the
    highest is a repetition after a crash.
    """
    work = Plan()
    for routed in batch:
        p = routed.origin_partition
        if entry_order(routed.origin_entry_id) <= entry_order(
            work.origins.get(p) or origins.get(p, "0-0")
        ):
            continue
        work.origins[p] = routed.origin_entry_id
        event = routed.event
        for target in routed.targets:
            name = feed_field(event.tenant, target.context_id)
            work.feeds[name] = (event.tenant, target.context_id)
            work.bodies.append((name, update_body(event, target)))
            work.deliveries.append(
                (event.tenant, target.context_id, event.event_id, event.replay_id)
            )
            work.priorities[target.priority] += 1
        work.received_ms.append(event.received_at_ms)
    return work


def update_body(event: Event, target: Target) -> bytes:
    """The update as JSON, without ``type`` and ``seq``, which are added when it is sent."""
    summary, data = summarise(event)
    body = {
        "context_id": target.context_id,
        "event_id": event.event_id,
        "tool_id": event.tool_id,
        "event_type": event.type,
        "priority": target.priority,
        "summary": summary,
        "data": data,
        "received_at": event.received_at_ms,
        "tokens": estimate_tokens(summary, data),
    }
    if event.replay_id:
        body["replay_id"] = event.replay_id
    return orjson.dumps(body)


def audit(number: int, work: Plan, seqs: dict[str, int], now_ms: int) -> bytes:
    """The record of the deliveries, with the sequence numbers that the script will give."""
    if not work.deliveries:
        return b""
    at = dict(seqs)
    record = AuditBatch(partition=number)
    for (name, _), (tenant, context_id, event_id, replay_id) in zip(
        work.bodies, work.deliveries, strict=True
    ):
        at[name] += 1
        record.deliveries.append(
            DeliveryAudit(
                tenant=tenant,
                context_id=context_id,
                seq=at[name],
                event_id=event_id,
                delivered_at_ms=now_ms,
                replay_id=replay_id,
            )
        )
    return record.SerializeToString()


async def deliver_script(batch: Batch, work: Plan, seqs: dict[str, int], record: bytes) -> None:
    """Run ``deliver.lua``."""
    q = batch.partition.number
    feeds = list(work.feeds.items())
    index = {name: at + 1 for at, (name, _) in enumerate(feeds)}
    await app.parts.scripts.call(
        "deliver",
        [
            keys.lease(q),
            keys.updates(q),
            keys.audit(q),
            keys.origins(q),
            keys.seqs(q),
            *(keys.feed(q, tenant, context_id) for _, (tenant, context_id) in feeds),
        ],
        [
            batch.partition.epoch,
            batch.partition.nonce,
            keys.GROUP,
            record,
            len(feeds),
            *(
                part
                for name, (tenant, context_id) in feeds
                for part in (name, seqs[name], keys.feed_channel(tenant, context_id))
            ),
            len(work.bodies),
            *(part for name, body in work.bodies for part in (index[name], body)),
            len(work.origins),
            *(part for origin in work.origins.items() for part in origin),
            *(entry.entry_id for entry in batch.entries),
        ],
    )


async def refresh(partition: Partition) -> None:
    """Read sequence numbers and origins again, after a reply was lost."""
    redis = app.parts.redis
    seqs = await redis.hgetall(keys.seqs(partition.number))
    origins = await redis.hgetall(keys.origins(partition.number))
    partition.seqs = {name.decode(): int(seq) for name, seq in seqs.items()}
    partition.origins = {int(p): entry.decode() for p, entry in origins.items()}
