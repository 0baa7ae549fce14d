"""Deliver: turns routed events into numbered updates in the feeds of their contexts.

In: batches of ``updates[q]``. Passes over what it has seen before (by origin), summarises the
rest, and writes feeds, audit and acknowledgement in one script. Sequence numbers have no gaps.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from hookstream.app import channels, keys, metrics
from hookstream.app.batch import Batch, Entry
from hookstream.app.commit import Writes, commit
from hookstream.app.feeds import feed_field
from hookstream.app.letters import log_failures, write_letters
from hookstream.app.main import app
from hookstream.app.origins import OriginMark
from hookstream.app.providers import is_signed
from hookstream.app.summaries.summariser import Summariser
from hookstream.codecs.envelope import Event
from hookstream.codecs.routed import Routed, Target, routed_origin
from hookstream.proto.pipeline_pb2 import AuditBatch, DeliveryAudit

summaries = Summariser()
#: Parts of an update that strangers wrote.
UNTRUSTED = ("summary", "data")


@dataclass(slots=True)
class Plan:
    """What one batch writes: updates in order, last sequence numbers, and what has been seen."""

    updates: list[tuple[str, str, int, bytes]] = field(default_factory=list)
    seqs: dict[str, int] = field(default_factory=dict)
    origins: dict[int, OriginMark] = field(default_factory=dict)
    deliveries: list[DeliveryAudit] = field(default_factory=list)
    priorities: Counter[str] = field(default_factory=Counter)
    received_ms: list[int] = field(default_factory=list)


@app.batches(channels.updates)
async def deliver(batch: Batch) -> None:
    """Writes updates to feeds: one script a batch."""
    partition, parts = batch.partition, app.parts
    now_ms = parts.clock.now_ms()
    work = plan(batch.entries, partition.origins, partition.seqs, now_ms, update_body)
    writes = write_plan(partition.number, work)
    write_letters(writes, batch, app.settings, now_ms)
    await commit(parts.scripts, partition, batch.channel, writes, batch.entries, trim=True)
    partition.seqs.update(work.seqs)
    partition.origins.update(work.origins)
    log_failures(batch)
    app.alerts.failed(batch)
    for priority, count in work.priorities.items():
        metrics.UPDATES.labels(priority=priority).inc(count)
    for received_ms in work.received_ms:
        metrics.UPDATE_LATENCY_SECONDS.observe(max(0, now_ms - received_ms) / 1000)
    batch.done()


def plan(
    entries: list[Entry],
    origins: dict[int, OriginMark],
    seqs: dict[str, int],
    now_ms: int,
    describe: Callable[[Event, Target], bytes],
) -> Plan:
    """Updates for what has not been seen. Changes neither ``origins`` nor ``seqs``.

    ``describe`` gives an update's JSON.

    An entry whose summary fails is marked as failed; its origin has been seen all the same, for
    it comes again as a letter, which is taken without asking for its origin.
    """
    work = Plan()
    for entry in entries:
        if entry.failure:
            continue
        p, entry_id, floor = routed_origin(entry.raw) if entry.waits else origin(entry.value)
        if not entry.letter_id:
            mark = work.origins.get(p)
            if mark is None:
                mark = work.origins[p] = origins[p].copy() if p in origins else OriginMark()
            if not mark.accept(entry_id, floor):
                # a copy of what was delivered, or is held
                entry.waits = ""
                continue
        if entry.waits:
            continue
        routed: Routed = entry.value
        event = routed.event
        try:
            bodies = [describe(event, target) for target in routed.targets]
        except Exception as error:  # noqa: BLE001 one event's trouble is not its neighbours'
            entry.fail("deliver", error)
            continue
        for target, body in zip(routed.targets, bodies, strict=True):
            name = feed_field(event.tenant, target.context_id)
            seq = work.seqs[name] = work.seqs.get(name, seqs.get(name, 0)) + 1
            work.updates.append((event.tenant, target.context_id, seq, body))
            work.priorities[target.priority] += 1
            work.deliveries.append(
                DeliveryAudit(
                    tenant=event.tenant,
                    context_id=target.context_id,
                    seq=seq,
                    event_id=event.event_id,
                    delivered_at_ms=now_ms,
                    replay_id=event.replay_id,
                )
            )
        work.received_ms.append(event.received_at_ms)
    return work


def origin(routed: Routed) -> tuple[int, str, str]:
    """Where a routed event came from."""
    return routed.origin_partition, routed.origin_entry_id, routed.origin_floor


def update_body(event: Event, target: Target) -> bytes:
    """The update as JSON, without ``type`` and ``seq``, which are added when it is sent."""
    registry = app.parts.registry.current
    context = registry.contexts.get((event.tenant, target.context_id))
    budget = context.token_budget if context else None
    summary = summaries.summarise(event, budget, registry.books.get(event.tenant))
    body = {
        "context_id": target.context_id,
        "event_id": event.event_id,
        "tool_id": event.tool_id,
        "event_type": event.type,
        "priority": target.priority,
        "summary": summary.text,
        "data": summary.facts,
        "received_at": event.received_at_ms,
        "tokens": summary.tokens,
        "template": summary.template,
        "keys": summary.keys,
        "untrusted": UNTRUSTED,
        "provenance": {
            "provider": event.provider,
            "signature": "verified" if is_signed(event.provider) else "none",
            "author": summary.author,
        },
    }
    if event.schema_errors:
        body |= {"schema_errors": event.schema_errors, "untrusted": [*UNTRUSTED, "schema_errors"]}
    if event.replay_id:
        body["replay_id"] = event.replay_id
    return orjson.dumps(body)


def write_plan(number: int, work: Plan) -> Writes:
    """The plan as writes to the partition; cues to look at the feeds come last."""
    writes = Writes()
    for tenant, context_id, seq, body in work.updates:
        writes.add("XADD", keys.feed(number, tenant, context_id), f"{seq}-0", "d", body)
    for name, seq in work.seqs.items():
        writes.add("HSET", keys.seqs(number), name, seq)
    for p, mark in work.origins.items():
        writes.add("HSET", keys.origins(number), p, mark.encode())
    if work.deliveries:
        record = AuditBatch(partition=number, deliveries=work.deliveries)
        writes.append(keys.audit(number), record.SerializeToString())
    for name, seq in work.seqs.items():
        tenant, _, context_id = name.partition("/")
        writes.publish(keys.feed_channel(tenant, context_id), seq)
    return writes
