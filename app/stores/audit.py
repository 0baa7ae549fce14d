"""The event log in PostgreSQL: writing it in batches."""

from collections.abc import Sequence

import orjson

from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.proto.pipeline_pb2 import AuditBatch, DeliveryAudit, EventAudit

__all__ = ["write_audit"]


async def write_audit(postgres: Postgres, batches: Sequence[AuditBatch]) -> None:
    """Insert all events and deliveries of ``batches``; writing them again changes nothing.

    Raises:
        UnavailableError: PostgreSQL is away.
    """
    pairs = [(batch.partition, event) for batch in batches for event in batch.events]
    # one statement cannot change a row twice: the last word on each event counts
    fresh = list({e.event_id: (p, e) for p, e in pairs if not e.replay_id}.values())
    if fresh:
        events = [event for _, event in fresh]
        await postgres.execute(
            statement("insert_events"),
            [event.event_id for event in events],
            [event.tenant for event in events],
            [event.tool_id for event in events],
            [event.provider for event in events],
            [event.type for event in events],
            [event.status for event in events],
            [event.duplicate_of for event in events],
            [event.message_id for event in events],
            [event.delivery_id for event in events],
            [event.received_at_ms for event in events],
            [partition for partition, _ in fresh],
            [event.entry_id for event in events],
            [event.payload_bytes for event in events],
            [event.stage for event in events],
            [_storable(event.error) for event in events],
            [event.dedup for event in events],
            # an array of arrays would have to be rectangular
            [orjson.dumps(list(event.schema_errors)).decode() for event in events],
            [event.enrichment.decode() for event in events],
            [event.payload_changed for event in events],
        )
    deliveries = _newest_deliveries(batches)
    if deliveries:
        await postgres.execute(
            statement("insert_deliveries"),
            [delivery.tenant for delivery in deliveries],
            [delivery.context_id for delivery in deliveries],
            [delivery.seq for delivery in deliveries],
            [delivery.event_id for delivery in deliveries],
            [delivery.replay_id for delivery in deliveries],
            [delivery.delivered_at_ms for delivery in deliveries],
            [delivery.kind or "update" for delivery in deliveries],
        )
    await _write_dailies(postgres, batches)
    await write_replayed(postgres, [event for _, event in pairs if event.replay_id])


def _newest_deliveries(batches: Sequence[AuditBatch]) -> list[DeliveryAudit]:
    """Deliveries of each number as the last batch has them; a number may stand for several."""
    by_number: dict[tuple[str, str, int], dict[str, DeliveryAudit]] = {}
    for batch in batches:
        fresh: dict[tuple[str, str, int], dict[str, DeliveryAudit]] = {}
        for delivery in batch.deliveries:
            number = (delivery.tenant, delivery.context_id, delivery.seq)
            events = fresh.setdefault(number, {})
            # an event and its replay in one digest are one row: that of the event itself
            if delivery.event_id not in events or not delivery.replay_id:
                events[delivery.event_id] = delivery
        by_number |= fresh
    return [delivery for events in by_number.values() for delivery in events.values()]


async def _write_dailies(postgres: Postgres, batches: Sequence[AuditBatch]) -> None:
    newest = {
        (daily.tenant, daily.context_id, daily.day): daily
        for batch in batches
        for daily in batch.dailies
    }
    if not newest:
        return
    dailies = list(newest.values())
    await postgres.execute(
        statement("insert_dailies"),
        [daily.tenant for daily in dailies],
        [daily.context_id for daily in dailies],
        [daily.day for daily in dailies],
        [daily.seq for daily in dailies],
        [daily.summary for daily in dailies],
        [daily.tokens for daily in dailies],
        [daily.updates for daily in dailies],
        [daily.from_seq for daily in dailies],
        [daily.to_seq for daily in dailies],
        [daily.created_at_ms for daily in dailies],
    )


async def write_replayed(postgres: Postgres, events: Sequence[EventAudit]) -> None:
    """Record what became of replayed events, and end the replays that are through."""
    newest = {(event.replay_id, event.event_id): event for event in events}
    if not newest:
        return
    await postgres.execute(
        statement("insert_replay_events"),
        [event.replay_id for event in newest.values()],
        [event.event_id for event in newest.values()],
        [event.status for event in newest.values()],
        [_storable(event.error) for event in newest.values()],
    )
    replays = sorted({event.replay_id for event in events})
    await postgres.execute(statement("finish_replays"), replays)


def _storable(text: str) -> str:
    """PostgreSQL's text cannot hold NUL, and an error may quote a payload."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
