"""The event log in PostgreSQL: what decided batches say, and writing it within a transaction."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import asyncpg
import orjson

from hookstream.app.errors import HookstreamError
from hookstream.app.postgres.sql import statement
from hookstream.proto.pipeline_pb2 import AuditBatch, DailyAudit, DeliveryAudit, EventAudit

__all__ = ["Context", "Rows", "UnstorableError", "find_tops", "rows_of", "write_rows"]

T = TypeVar("T")

#: A tenant and a context of it.
Context = tuple[str, str]

#: Rows that are encoded before others have the event loop: ten of them take 30 µs.
ENCODED_AT_A_TIME = 64
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
EVENTS: Final = (
    "event_id",
    "tenant",
    "tool_id",
    "provider",
    "type",
    "status",
    "duplicate_of",
    "message_id",
    "delivery_id",
    "received_at",
    "partition",
    "entry_id",
    "payload_bytes",
    "stage",
    "error",
    "dedup",
    "schema_errors",
    "enrichment",
    "payload_changed",
    "batch_id",
    "batch_index",
)
DELIVERIES: Final = (
    "tenant",
    "context_id",
    "seq",
    "event_id",
    "replay_id",
    "delivered_at",
    "kind",
)


class UnstorableError(HookstreamError):
    """A value that no column of the event log can hold."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What some batches say: the last word on each event, number, day and replayed event.

    ``events``: each with the partition that it came in.
    """

    events: list[tuple[int, EventAudit]]
    deliveries: list[DeliveryAudit]
    dailies: list[DailyAudit]
    replayed: list[EventAudit]
    #: Of tools that move from old workers to here.
    paths: list[EventAudit] = field(default_factory=list)


def rows_of(batches: Sequence[AuditBatch]) -> Rows:
    """The rows that ``batches``, the oldest first, lead to."""
    # one statement cannot change a row twice, and COPY cannot write it twice
    events: dict[str, tuple[int, EventAudit]] = {}
    replayed: dict[tuple[str, str], EventAudit] = {}
    dailies: dict[tuple[str, str, str], DailyAudit] = {}
    paths: dict[str, EventAudit] = {}
    for batch in batches:
        for event in batch.events:
            if event.replay_id:
                replayed[event.replay_id, event.event_id] = event
            else:
                events[event.event_id] = (batch.partition, event)
                if event.HasField("path"):
                    paths[event.event_id] = _with_first(event, paths.get(event.event_id))
        for daily in batch.dailies:
            dailies[daily.tenant, daily.context_id, daily.day] = daily
    return Rows(
        list(events.values()),
        _newest_deliveries(batches),
        list(dailies.values()),
        list(replayed.values()),
        list(paths.values()),
    )


def _with_first(event: EventAudit, first: EventAudit | None) -> EventAudit:
    """An event that has come again, with what was said of its path the first time."""
    if first is None:
        return event
    both = EventAudit()
    both.CopyFrom(event)
    both.path.path, both.path.copied, both.path.key = (
        first.path.path,
        first.path.copied,
        first.path.key,
    )
    return both


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


async def find_tops(
    connection: asyncpg.Connection, contexts: Iterable[Context]
) -> dict[Context, int]:
    """The highest number that the event log has of each context; 0 where it has none."""
    wanted = list(contexts)
    rows = await connection.fetch(
        statement("log_tops"), [tenant for tenant, _ in wanted], [name for _, name in wanted]
    )
    return {(row["tenant"], row["context_id"]): row["seq"] for row in rows}


async def write_rows(
    connection: asyncpg.Connection, rows: Rows, *, tops: dict[Context, int] | None
) -> None:
    """Write rows, within the transaction of ``connection``.

    What surely is new is appended by COPY: events that did not come again, and numbers above
    ``tops``, which has to say of every context of the rows how far the event log has come. The rest
    finds its row, where there is one: as does everything without ``tops``. That changes nothing
    where it is written for a second time.

    Raises:
        asyncpg.UniqueViolationError: something was there that was taken for new.
        UnstorableError, asyncpg.PostgresError: a row cannot be stored; none is.
    """
    try:
        await _write_events(connection, rows, new=tops is not None)
        await _write_deliveries(connection, rows, tops)
        await _put_paths(connection, rows.paths)
        await _put_dailies(connection, rows.dailies)
        await _put_replayed(connection, rows.replayed)
    except asyncpg.InterfaceError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        # of what makes and encodes rows, not of the server
        raise UnstorableError(str(error)) from error


async def _write_events(connection: asyncpg.Connection, rows: Rows, *, new: bool) -> None:
    fresh = [one for one in rows.events if new and not one[1].again]
    again = [one for one in rows.events if not new or one[1].again]
    await _copy(connection, "events", EVENTS, fresh, _event_record)
    await _put_events(connection, again)


async def _write_deliveries(
    connection: asyncpg.Connection, rows: Rows, tops: dict[Context, int] | None
) -> None:
    higher: list[DeliveryAudit] = []
    known: list[DeliveryAudit] = []
    for delivery in rows.deliveries:
        new = tops is not None and delivery.seq > tops[delivery.tenant, delivery.context_id]
        (higher if new else known).append(delivery)
    # first: where a number is given anew, what had it before goes
    await _put_deliveries(connection, known)
    await _copy(connection, "deliveries", DELIVERIES, higher, _delivery_record)


async def _copy(
    connection: asyncpg.Connection,
    table: str,
    columns: Sequence[str],
    values: Sequence[T],
    record: Callable[[T], tuple[object, ...]],
) -> None:
    if values:
        await connection.copy_records_to_table(
            table, columns=columns, records=_records(values, record)
        )


async def _records(
    values: Sequence[T], record: Callable[[T], tuple[object, ...]]
) -> AsyncIterator[tuple[object, ...]]:
    for at, value in enumerate(values):
        if at % ENCODED_AT_A_TIME == ENCODED_AT_A_TIME - 1:
            await asyncio.sleep(0)
        yield record(value)


def _event_record(row: tuple[int, EventAudit]) -> tuple[object, ...]:
    partition, event = row
    return (
        event.event_id,
        event.tenant,
        event.tool_id,
        event.provider,
        event.type,
        event.status,
        event.duplicate_of or None,
        event.message_id,
        event.delivery_id,
        EPOCH + timedelta(milliseconds=event.received_at_ms),
        partition,
        event.entry_id,
        event.payload_bytes,
        event.stage,
        _storable(event.error),
        event.dedup,
        list(event.schema_errors),
        event.enrichment.decode(),
        event.payload_changed,
        event.batch_id or None,
        event.batch_index,
    )


def _delivery_record(delivery: DeliveryAudit) -> tuple[object, ...]:
    return (
        delivery.tenant,
        delivery.context_id,
        delivery.seq,
        delivery.event_id,
        delivery.replay_id or None,
        EPOCH + timedelta(milliseconds=delivery.delivered_at_ms),
        delivery.kind or "update",
    )


async def _put_events(
    connection: asyncpg.Connection, rows: Sequence[tuple[int, EventAudit]]
) -> None:
    if not rows:
        return
    events = [event for _, event in rows]
    await connection.execute(
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
        [partition for partition, _ in rows],
        [event.entry_id for event in events],
        [event.payload_bytes for event in events],
        [event.stage for event in events],
        [_storable(event.error) for event in events],
        [event.dedup for event in events],
        # an array of arrays would have to be rectangular
        [orjson.dumps(list(event.schema_errors)).decode() for event in events],
        [event.enrichment.decode() for event in events],
        [event.payload_changed for event in events],
        [event.batch_id for event in events],
        [event.batch_index for event in events],
    )


async def _put_paths(connection: asyncpg.Connection, events: Sequence[EventAudit]) -> None:
    if not events:
        return
    await connection.execute(
        statement("put_path_events"),
        [event.event_id for event in events],
        [event.tenant for event in events],
        [event.tool_id for event in events],
        [event.path.path for event in events],
        [event.path.copied for event in events],
        [event.path.key for event in events],
        [
            orjson.dumps(list(event.path.contexts)).decode() if event.path.decided else "null"
            for event in events
        ],
        [event.path.dropped_by for event in events],
        [event.path.decided_at_ms for event in events],
    )


async def _put_deliveries(
    connection: asyncpg.Connection, deliveries: Sequence[DeliveryAudit]
) -> None:
    if not deliveries:
        return
    await connection.execute(
        statement("insert_deliveries"),
        [delivery.tenant for delivery in deliveries],
        [delivery.context_id for delivery in deliveries],
        [delivery.seq for delivery in deliveries],
        [delivery.event_id for delivery in deliveries],
        [delivery.replay_id for delivery in deliveries],
        [delivery.delivered_at_ms for delivery in deliveries],
        [delivery.kind or "update" for delivery in deliveries],
    )


async def _put_dailies(connection: asyncpg.Connection, dailies: Sequence[DailyAudit]) -> None:
    if not dailies:
        return
    await connection.execute(
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


async def _put_replayed(connection: asyncpg.Connection, events: Sequence[EventAudit]) -> None:
    """Record what became of replayed events, and end the replays that are through."""
    if not events:
        return
    await connection.execute(
        statement("insert_replay_events"),
        [event.replay_id for event in events],
        [event.event_id for event in events],
        [event.status for event in events],
        [_storable(event.error) for event in events],
    )
    await connection.execute(
        statement("finish_replays"), sorted({event.replay_id for event in events})
    )


def _storable(text: str) -> str:
    """PostgreSQL's text cannot hold NUL, and an error may quote a payload."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
