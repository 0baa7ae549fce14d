"""Finding events: their record in PostgreSQL, their payload in Redis."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from redis.asyncio import Redis

from hookstream.app.errors import UnavailableError
from hookstream.app.ids import event_time_ms, partition_of, partition_of_event
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.redis import keys
from hookstream.app.status import Status
from hookstream.codecs.envelope import Event, decode_event
from hookstream.codecs.errors import CodecError, UnknownDictionaryError
from hookstream.codecs.payload import DICTIONARY_MAX_BYTES

__all__ = ["EventFilter", "EventStore"]

#: How far the receiver's clock and Redis's may differ when an event is looked for by time alone.
SCAN_BEFORE_MS = 5_000
SCAN_AFTER_MS = 60_000
SCAN_PAGE = 1000
#: Payloads that are read in one round trip: a megabyte each at most.
PAYLOAD_PAGE = 100


@dataclass(frozen=True, slots=True)
class EventFilter:
    """What a search asks for; None means any. ``type`` may hold ``*``."""

    tool: str | None = None
    type: str | None = None
    status: str | None = None
    context: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    cursor: str | None = None
    limit: int = 50


class EventStore:
    """Looks in PostgreSQL first, and in the stream for what has not got there yet."""

    def __init__(
        self, redis: Redis, postgres: Postgres, partitions: int, payloads: Payloads
    ) -> None:
        self._redis = redis
        self._postgres = postgres
        self._partitions = partitions
        self._payloads = payloads

    async def search(self, tenant: str, wanted: EventFilter) -> list[dict[str, Any]]:
        """Events of a tenant, newest first, without payloads.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        return [event_out(row) for row in await self._rows(tenant, wanted)]

    async def _rows(self, tenant: str, wanted: EventFilter, *, enriched: bool = False) -> list[Any]:
        return await self._postgres.fetch(
            statement("find_events"),
            tenant,
            None,
            wanted.tool,
            like(wanted.type) if wanted.type else None,
            wanted.status,
            wanted.context,
            wanted.since,
            wanted.until,
            UUID(wanted.cursor) if wanted.cursor else None,
            wanted.limit,
            enriched,
        )

    async def search_with_payloads(
        self, tenant: str, wanted: EventFilter
    ) -> list[tuple[dict[str, Any], Event | None]]:
        """As :meth:`search`, each with the event itself; None where its payload is gone.

        Payloads are those that were received; enrichment is what stages added.
        """
        rows = await self._rows(tenant, wanted, enriched=True)
        events: list[Event | None] = []
        for start in range(0, len(rows), PAYLOAD_PAGE):
            page = rows[start : start + PAYLOAD_PAGE]
            events += await self.payloads([(row["partition"], row["entry_id"]) for row in page])
        return [
            (event_out(row), event and replace(event, enriched=row["enrichment"].encode()))
            for row, event in zip(rows, events, strict=True)
        ]

    async def get(self, tenant: str, event_id: str) -> dict[str, Any] | None:
        """One event with payload and deliveries; None when the tenant has no such event."""
        rows = await self._postgres.fetch(
            statement("find_events"), tenant, UUID(event_id), *[None] * 7, 1, True
        )
        if not rows:
            envelope = await self.find_in_stream(tenant, event_id)
            if envelope is None:
                return None
            [readable] = await self._events([envelope])
            return accepted_out(decode_event(envelope), readable)
        row = rows[0]
        event = await self._payload(row["partition"], row["entry_id"])
        deliveries = await self._postgres.fetch(
            statement("event_deliveries"), tenant, UUID(event_id)
        )
        acknowledged = await self._acknowledged_at(tenant, deliveries)
        return {
            **event_out(row),
            **(content_out(event) if event else {}),
            "enrichment": orjson.loads(row["enrichment"] or "{}"),
            "deliveries": [
                {
                    "context_id": delivery["context_id"],
                    "seq": delivery["seq"],
                    "as": delivery["kind"],
                    "delivered_at": delivery["delivered_at"].isoformat(),
                    "acknowledged_at": at,
                    "replay_id": str(delivery["replay_id"]) if delivery["replay_id"] else None,
                }
                for delivery, at in zip(deliveries, acknowledged, strict=True)
            ],
        }

    async def _acknowledged_at(
        self, tenant: str, deliveries: Sequence[Mapping[str, Any]]
    ) -> list[str | None]:
        """When each update was acknowledged: with the first acknowledgement that reached it."""
        if not deliveries:
            return []
        pipe = self._redis.pipeline(transaction=False)
        for row in deliveries:
            number = partition_of(self._partitions, tenant, row["context_id"])
            key = keys.ack_times(number, tenant, row["context_id"])
            pipe.zrangebyscore(key, row["seq"], "+inf", start=0, num=1)
        found = await pipe.execute()
        return [iso(int(first[0].decode().partition(":")[2])) if first else None for first in found]

    async def envelope(self, tenant: str, event_id: str) -> bytes | None:
        """The event as it is kept; None when the tenant has no such event, or it is gone."""
        row = await self._postgres.fetchrow(
            "SELECT partition, entry_id FROM events WHERE tenant = $1 AND event_id = $2",
            tenant,
            UUID(event_id),
        )
        if row is None:
            return await self.find_in_stream(tenant, event_id)
        return (await self.envelopes([(row["partition"], row["entry_id"])]))[0]

    async def samples(self, tenant: str, tool_id: str, limit: int) -> list[bytes]:
        """The newest payloads of a tool that lie in their stream, at most ``limit``.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        rows = await self._rows(tenant, EventFilter(tool=tool_id, limit=limit))
        places = [
            (row["partition"], row["entry_id"])
            for row in rows
            if row["payload_bytes"] <= DICTIONARY_MAX_BYTES
        ]
        found: list[bytes] = []
        for start in range(0, len(places), PAYLOAD_PAGE):
            events = await self.payloads(places[start : start + PAYLOAD_PAGE])
            found += [event.payload for event in events if event]
        return found

    async def find_in_stream(self, tenant: str, event_id: str) -> bytes | None:
        """Look through the stream around the id's time: for events that were just accepted."""
        partition = partition_of_event(event_id)
        if partition >= self._partitions:
            return None
        at = event_time_ms(event_id)
        start = str(max(0, at - SCAN_BEFORE_MS))
        while True:
            entries = await self._redis.xrange(
                keys.events(partition), start, str(at + SCAN_AFTER_MS), count=SCAN_PAGE
            )
            for _, fields in entries:
                if event_id.encode() not in fields[b"d"]:
                    continue
                event = _decoded(fields[b"d"])
                if event and (event.event_id, event.tenant) == (event_id, tenant):
                    return bytes(fields[b"d"])
            if len(entries) < SCAN_PAGE:
                return None
            start = f"({entries[-1][0].decode()}"

    async def payloads(self, places: Sequence[tuple[int, str]]) -> list[Event | None]:
        """The events at (partition, entry id); None for those that are no longer there.

        Raises:
            UnavailableError: a dictionary that one was packed with cannot be had at the moment.
        """
        return await self._events(await self.envelopes(places))

    async def envelopes(self, places: Sequence[tuple[int, str]]) -> list[bytes | None]:
        """The same as they are kept, packed and without looking into their payloads."""
        pipe = self._redis.pipeline(transaction=False)
        for partition, entry_id in places:
            pipe.xrange(keys.events(partition), entry_id, entry_id)
        replies = await pipe.execute() if places else []
        found = [reply[0][1][b"d"] if reply else None for reply in replies]
        return [data if data and _decoded(data) else None for data in found]

    async def _payload(self, partition: int, entry_id: str) -> Event | None:
        return (await self.payloads([(partition, entry_id)]))[0]

    async def _events(self, envelopes: Sequence[bytes | None]) -> list[Event | None]:
        events = [_decoded(data) if data else None for data in envelopes]
        try:
            return await self._payloads.open(events)
        except UnknownDictionaryError as error:
            raise UnavailableError(f"the payload is {error}") from error


def iso(ms: int) -> str:
    """Unix milliseconds as RFC 3339."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()


def like(glob: str) -> str:
    """A type glob as a LIKE pattern."""
    escaped = glob.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%")


def event_out(row: Mapping[str, Any]) -> dict[str, Any]:
    """An event's record as the API shows it."""
    return {
        "event_id": str(row["event_id"]),
        "tool_id": row["tool_id"],
        "provider": row["provider"],
        "type": row["type"],
        "status": row["outcome"],
        "duplicate_of": str(row["duplicate_of"]) if row["duplicate_of"] else None,
        "message_id": row["message_id"],
        "dedup": row["dedup"] or None,
        "delivery_id": row["delivery_id"],
        "received_at": row["received_at"].isoformat(),
        "tier": "hot",
        "payload_bytes": row["payload_bytes"],
        "payload_changed": row["payload_changed"],
        "stage": row["stage"],
        "error": row["error"],
        "schema_errors": row["schema_errors"],
    }


def accepted_out(event: Event, readable: Event | None) -> dict[str, Any]:
    """An event that is durable and not recorded yet; ``readable``: None if its payload is lost."""
    return {
        "event_id": event.event_id,
        "tool_id": event.tool_id,
        "provider": event.provider,
        "type": event.type,
        "status": Status.ACCEPTED,
        "duplicate_of": None,
        "dedup": None,
        "message_id": event.message_id,
        "delivery_id": event.delivery_id,
        "received_at": iso(event.received_at_ms),
        "tier": "hot",
        "payload_bytes": event.payload_bytes,
        "payload_changed": False,
        "stage": "",
        "error": "",
        "schema_errors": [],
        **(content_out(readable) if readable else {}),
        "enrichment": {},
        "deliveries": [],
    }


def content_out(event: Event) -> dict[str, Any]:
    """Payload and headers."""
    return {
        "headers": dict(event.headers),
        "content_type": event.content_type,
        **payload_out(event.payload),
    }


def payload_out(data: bytes) -> dict[str, Any]:
    """JSON where it is JSON, else text, else base64."""
    payload: Any
    try:
        payload, encoding = orjson.loads(data), "json"
        # orjson reads deeper nesting than it can write
        orjson.dumps(payload)
    except (orjson.JSONDecodeError, TypeError):
        try:
            payload, encoding = data.decode(), "text"
        except UnicodeDecodeError:
            payload, encoding = base64.b64encode(data).decode(), "base64"
    return {"payload": payload, "payload_encoding": encoding}


def _decoded(data: bytes) -> Event | None:
    try:
        return decode_event(data)
    except CodecError:
        return None
