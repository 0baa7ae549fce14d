"""Finding events: their record in PostgreSQL, their payload in whichever tier it is."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from redis.asyncio import Redis

from hookstream.app import metrics
from hookstream.app.archive.rows import Place
from hookstream.app.errors import ArchiveDamagedError, UnavailableError
from hookstream.app.ids import (
    event_time_ms,
    id_range,
    own_tool_id,
    partition_of,
    partition_of_event,
)
from hookstream.app.keyring.error_texts import CLEAR, ErrorTexts
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.privacy.rules import MASKED, ORIGINAL
from hookstream.app.redis import keys
from hookstream.app.status import Status
from hookstream.app.stores.tiers import ERASED, GONE, HOT, Tiers
from hookstream.codecs.envelope import Event, decode_event
from hookstream.codecs.errors import CodecError, UnknownDictionaryError
from hookstream.codecs.json_payload import load_json, parse_payload
from hookstream.codecs.payload import DICTIONARY_MAX_BYTES
from hookstream.codecs.readable import text_of
from hookstream.codecs.sealed import month_of_event

__all__ = ["EventFilter", "EventStore", "place_of"]

#: How far the receiver's clock and Redis's may differ when an event is looked for by time alone.
SCAN_BEFORE_MS = 5_000
SCAN_AFTER_MS = 60_000
#: What one look through a stream may read, each way from the id's time: its entries, their bytes,
#: and entries in one reply (an entry has a quarter of a megabyte at the defaults).
SCAN_ENTRIES = 2048
SCAN_BYTES = 32 << 20
SCAN_PAGE = 32
#: Events that one page of a search looks at for those that match.
SEARCHED = 20_000
#: Looks through streams at a time in a process; others wait for their turn.
SCANS = 2
#: Deliveries that are shown of one event; whether there are more is told.
DELIVERIES = 100
#: Payloads that are read in one round trip: a megabyte each at most.
PAYLOAD_PAGE = 100

#: An event as its reader may see it; None for nothing of it.
Shown = Callable[[Event], Awaitable[Event | None]]


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
    #: The id of a batch: that of the first event that came with its request.
    batch: str | None = None

    def ids(self) -> tuple[UUID, UUID]:
        """From which event's id on, and below which."""
        first, end = id_range(self.since, self.until)
        if self.batch:
            # what came in one request has one time
            begin = event_time_ms(self.batch) << 80
            first, end = max(first, UUID(int=begin)), min(end, UUID(int=begin + (1 << 80) - 1))
        return first, min(end, UUID(self.cursor)) if self.cursor else end


class EventStore:
    """Looks in PostgreSQL first, and in the stream for what has not got there yet."""

    def __init__(
        self,
        redis: Redis,
        postgres: Postgres,
        partitions: int,
        payloads: Payloads,
        tiers: Tiers,
        errors: ErrorTexts = CLEAR,
    ) -> None:
        """``errors``: opens what is said of failures."""
        self._errors = errors
        self._redis = redis
        self._postgres = postgres
        self._partitions = partitions
        self._payloads = payloads
        self._tiers = tiers
        self._scans = asyncio.Semaphore(SCANS)

    async def search(
        self, tenant: str, wanted: EventFilter
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Events of a tenant, newest first, without payloads, and the cursor of the next page.

        At most :data:`SEARCHED` events of the tenant, or of the tool that is asked for, are looked
        at: where that ends a page, it has fewer than asked for, or none, and the cursor leads on.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        rows = await self._rows(tenant, wanted)
        cursor = str(rows[-1]["event_id"]) if rows else None
        if len(rows) < wanted.limit:
            last = await self._postgres.fetchrow(
                statement("last_looked_at"), tenant, wanted.tool, *wanted.ids(), SEARCHED
            )
            cursor = str(last["event_id"]) if last else None
            if last:
                metrics.SCANS_CUT.labels(what="events").inc()
        tiers = await self._tiers.tiers([place_of(tenant, row) for row in rows])
        found = [await self._out(tenant, *one) for one in zip(rows, tiers, strict=True)]
        return found, cursor

    async def _out(self, tenant: str, row: Mapping[str, Any], tier: str) -> dict[str, Any]:
        """An event's record as the API shows it."""
        shown = event_out(row, tier)
        shown["error"] = await self._errors.shown(tenant, row["error"])
        said = row["schema_errors"]
        shown["schema_errors"] = [await self._errors.shown(tenant, one) for one in said]
        return shown

    async def _rows(self, tenant: str, wanted: EventFilter, *, enriched: bool = False) -> list[Any]:
        return await self._postgres.fetch(
            statement("find_events"),
            tenant,
            None,
            wanted.tool,
            like(wanted.type) if wanted.type else None,
            wanted.status,
            wanted.context,
            *wanted.ids(),
            wanted.limit,
            enriched,
            SEARCHED,
            UUID(wanted.batch) if wanted.batch else None,
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
            events += await self.payloads([place_of(tenant, row) for row in page])
        tiers = await self._tiers.tiers([place_of(tenant, row) for row in rows])
        return [
            (
                await self._out(tenant, row, tier),
                event and replace(event, enriched=row["enrichment"].encode()),
            )
            for row, event, tier in zip(rows, events, tiers, strict=True)
        ]

    async def get(
        self,
        tenant: str,
        event_id: str,
        *,
        reached: Collection[str] | None = None,
        shown: Shown | None = None,
    ) -> dict[str, Any] | None:
        """One event with payload and first deliveries; None when the tenant has no such event.

        ``reached``: only one that has reached some of these contexts, with its deliveries to them.
        One that is accepted and not decided yet has reached none: streams are not read for it,
        whatever the id. ``shown`` gives the event as the reader may see it, None for nothing of it;
        without it that is what is stored.

        Raises:
            UnavailableError: it is not recorded, and too much lies in its stream around its time.
        """
        row = await self._record(tenant, event_id)
        if row is None:
            if reached is not None:
                return None
            envelope = await self.find_in_stream(tenant, event_id)
            if envelope is None:
                return None
            [readable] = await self._events([envelope])
            return accepted_out(decode_event(envelope), await _as_shown(readable, shown))
        delivered = await self._delivered(tenant, event_id, reached)
        if reached is not None and not delivered["deliveries"]:
            return None
        place = place_of(tenant, row)
        [event], [tier] = await self.payloads([place]), await self._tiers.tiers([place])
        if event is None and self._payloads.is_erased(tenant, event_id):
            tier = ERASED
        elif event is None and tier != HOT:
            # tiers are told by ranges of entries: what was lost before it moved is in none
            tier = GONE
        event = await _as_shown(event, shown)
        return {
            **await self._out(tenant, row, tier),
            **(content_out(event) if event else {}),
            "enrichment": load_json(row["enrichment"].encode() or b"{}"),
            **delivered,
        }

    async def account(self, tenant: str, event_id: str) -> dict[str, Any] | None:
        """As :meth:`get`, without payload, headers and enrichment, which are not read.

        Raises:
            UnavailableError: as there.
        """
        row = await self._record(tenant, event_id)
        if row is None:
            envelope = await self.find_in_stream(tenant, event_id)
            return accepted_out(decode_event(envelope), None) if envelope else None
        [tier] = await self._tiers.tiers([place_of(tenant, row)])
        shown = await self._out(tenant, row, tier)
        return {**shown, **await self._delivered(tenant, event_id, None)}

    async def _record(self, tenant: str, event_id: str) -> Mapping[str, Any] | None:
        wanted = UUID(event_id)
        row: Mapping[str, Any] | None = await self._postgres.fetchrow(
            statement("find_events"),
            tenant,
            wanted,
            *[None] * 4,
            # a plan for any arguments has no other way to it but by its range
            wanted,
            UUID(int=wanted.int + 1),
            1,
            True,
            1,
            None,
        )
        return row

    async def _delivered(
        self, tenant: str, event_id: str, reached: Collection[str] | None
    ) -> dict[str, Any]:
        """The first deliveries of an event, to some contexts or to all."""
        mine = None if reached is None else list(reached)
        deliveries = await self._postgres.fetch(
            statement("event_deliveries"), tenant, UUID(event_id), mine, DELIVERIES + 1
        )
        more, deliveries = len(deliveries) > DELIVERIES, deliveries[:DELIVERIES]
        acknowledged = await self._acknowledged_at(tenant, deliveries)
        return {
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
            "deliveries_more": more,
        }

    async def has_reached(self, tenant: str, event_id: str, context_id: str) -> bool:
        """Whether an event was delivered to a context; no stream is read, whatever the id."""
        found = await self._postgres.fetch(
            statement("event_deliveries"), tenant, UUID(event_id), [context_id], 1
        )
        return bool(found)

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
            "SELECT tool_id, partition, entry_id FROM events WHERE tenant = $1 AND event_id = $2",
            tenant,
            UUID(event_id),
        )
        if row is None:
            return await self.find_in_stream(tenant, event_id)
        return (await self.envelopes([place_of(tenant, row)]))[0]

    async def payloads_of(self, event_ids: Sequence[str]) -> dict[str, bytes]:
        """Payloads of events that have left their stream, by their ids; those that are found.

        Raises:
            UnavailableError: PostgreSQL or the archive is away.
        """
        rows = await self._postgres.fetch(
            statement("event_entries"), [UUID(event_id) for event_id in event_ids]
        )
        places = [place_of(row["tenant"], row) for row in rows]
        found = await self._readable(self._tiers.moved, places)
        return {
            str(row["event_id"]): event.payload
            for row, data in zip(rows, found, strict=True)
            if data and (event := _decoded(data))
        }

    async def settled_entries(self, event_ids: Sequence[str]) -> dict[str, str]:
        """The entries that events are on record with, of those that will not come again.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        rows = await self._postgres.fetch(
            statement("event_entries"), [UUID(event_id) for event_id in event_ids]
        )
        return {
            str(row["event_id"]): row["entry_id"]
            for row in rows
            if row["status"] not in (Status.RETRYING, Status.DEAD)
        }

    async def samples(
        self,
        tenant: str,
        tool_id: str,
        limit: int,
        month: str,
        shown: Shown,
    ) -> list[bytes]:
        """The newest payloads of a tool, at most ``limit``, as ``shown``.

        ``month``: only those that were received in it (UTC), where it is named.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        rows = await self._rows(tenant, EventFilter(tool=tool_id, limit=limit))
        places = [
            place_of(tenant, row)
            for row in rows
            if row["payload_bytes"] <= DICTIONARY_MAX_BYTES
            and (not month or month_of_event(str(row["event_id"])) == month)
        ]
        found: list[bytes] = []
        for start in range(0, len(places), PAYLOAD_PAGE):
            events = await self.payloads(places[start : start + PAYLOAD_PAGE])
            seen = [await shown(event) for event in events if event]
            found += [event.payload for event in seen if event]
        return found

    async def find_in_stream(self, tenant: str, event_id: str) -> bytes | None:
        """Look through the stream around the id's time: for events that were just accepted.

        Small pages, from the id's time on and then back from it, as far as :data:`SCAN_ENTRIES`
        and :data:`SCAN_BYTES` each way: an id that nobody gave costs no more than that.

        Raises:
            UnavailableError: more lies there, so that nothing can be said.
        """
        partition = partition_of_event(event_id)
        if partition >= self._partitions:
            return None
        stream, at = keys.events(partition), event_time_ms(event_id)
        ways = (
            (self._redis.xrange, str(at), str(at + SCAN_AFTER_MS)),
            # an entry's id without its second half is the first of its millisecond
            (self._redis.xrevrange, f"({at}-0", str(max(0, at - SCAN_BEFORE_MS))),
        )
        whole = True
        async with self._scans:
            for read, start, end in ways:
                found, all_read = await self._scan(read, stream, start, end, tenant, event_id)
                if found is not None:
                    return found
                whole = whole and all_read
        if not whole:
            metrics.SCANS_CUT.labels(what="event").inc()
            raise UnavailableError(
                f"event {event_id} is not recorded, and its stream has more around its time than "
                f"one request looks through ({SCAN_ENTRIES} entries, {SCAN_BYTES >> 20} MiB): ask "
                "again once it is decided; if it never is, there is no such event"
            )
        return None

    async def _scan(
        self, read: Any, stream: str, start: str, end: str, tenant: str, event_id: str
    ) -> tuple[bytes | None, bool]:
        """The event among the entries from ``start`` to ``end``, and whether all were read."""
        wanted = event_id.encode()
        seen = size = 0
        while seen < SCAN_ENTRIES and size < SCAN_BYTES:
            entries = await read(stream, start, end, count=SCAN_PAGE)
            for _, fields in entries:
                data = fields[b"d"]
                size += len(data)
                event = _decoded(data) if wanted in data else None
                if event and (event.event_id, event.tenant) == (event_id, tenant):
                    return bytes(data), True
            if len(entries) < SCAN_PAGE:
                return None, True
            seen += len(entries)
            start = f"({entries[-1][0].decode()}"
        return None, False

    async def payloads(self, places: Sequence[Place]) -> list[Event | None]:
        """The events at their places, whichever tier they are in; None for those that are gone.

        Raises:
            UnavailableError: a dictionary that one was packed with, or the archive, cannot be had
                at the moment.
        """
        return await self._events(await self.envelopes(places))

    async def readable(self, places: Sequence[Place]) -> list[Event | None]:
        """As :meth:`payloads`; None, too, for what is in a damaged object, which the log names."""
        return await self._events(await self.readable_envelopes(places))

    async def event(self, tenant: str, event_id: str) -> Event | None:
        """One event, wherever it is by now; None where it is gone, or damaged.

        Raises:
            UnavailableError: it cannot be had at the moment.
        """
        try:
            [event] = await self._events([await self.envelope(tenant, event_id)])
        except ArchiveDamagedError:
            return None
        return event

    async def envelopes(self, places: Sequence[Place]) -> list[bytes | None]:
        """The same as they are kept, without looking into their payloads.

        Raises:
            ArchiveDamagedError: an object of the archive that has one of them cannot be read.
        """
        found = await self._tiers.envelopes(places)
        return [data if data and _decoded(data) else None for data in found]

    async def readable_envelopes(self, places: Sequence[Place]) -> list[bytes | None]:
        """As :meth:`envelopes`; None, too, for what is in a damaged object, which the log names."""
        found = await self._readable(self._tiers.envelopes, places)
        return [data if data and _decoded(data) else None for data in found]

    @staticmethod
    async def _readable(
        find: Callable[[Sequence[Place]], Awaitable[list[bytes | None]]], places: Sequence[Place]
    ) -> list[bytes | None]:
        """What ``find`` gives, one by one where something is damaged: the others can be read."""
        try:
            return await find(places)
        except ArchiveDamagedError:
            found: list[bytes | None] = []
            for place in places:
                try:
                    found += await find([place])
                except ArchiveDamagedError:
                    found.append(None)
            return found

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


def place_of(tenant: str, row: Mapping[str, Any]) -> Place:
    """Where the event of a record came in."""
    return Place(tenant, row["tool_id"], row["partition"], row["entry_id"])


def event_out(row: Mapping[str, Any], tier: str) -> dict[str, Any]:
    """An event's record as the API shows it, what is said of failures as it is kept."""
    return {
        "event_id": str(row["event_id"]),
        "tool_id": own_tool_id(row["tool_id"]),
        "provider": row["provider"],
        "type": row["type"],
        "status": row["outcome"],
        "duplicate_of": str(row["duplicate_of"]) if row["duplicate_of"] else None,
        "message_id": row["message_id"],
        "dedup": row["dedup"] or None,
        "delivery_id": row["delivery_id"],
        "received_at": row["received_at"].isoformat(),
        "tier": GONE if row["gone_by"] else tier,
        "payload_bytes": row["payload_bytes"],
        "payload_changed": row["payload_changed"],
        "stage": row["stage"],
        "error": row["error"],
        "schema_errors": row["schema_errors"],
        "batch_id": str(row["batch_id"]) if row["batch_id"] else None,
        "batch_index": row["batch_index"],
        "imported": row["import_id"] is not None,
    }


async def _as_shown(event: Event | None, shown: Shown | None) -> Event | None:
    """An event as its reader may see it."""
    return await shown(event) if event and shown else event


def accepted_out(event: Event, readable: Event | None) -> dict[str, Any]:
    """An event that is durable and not recorded yet; ``readable``: None if its payload is lost."""
    return {
        "event_id": event.event_id,
        "tool_id": own_tool_id(event.tool_id),
        "provider": event.provider,
        "type": event.type,
        "status": Status.ACCEPTED,
        "duplicate_of": None,
        "dedup": None,
        "message_id": event.message_id,
        "delivery_id": event.delivery_id,
        "received_at": iso(event.received_at_ms),
        "tier": HOT,
        "payload_bytes": event.payload_bytes,
        "payload_changed": False,
        "stage": "",
        "error": "",
        "schema_errors": [],
        "batch_id": event.batch_id or None,
        "batch_index": event.batch_index,
        "imported": False,
        **(content_out(readable) if readable else {}),
        "enrichment": {},
        "deliveries": [],
        "deliveries_more": False,
    }


def content_out(event: Event) -> dict[str, Any]:
    """Payload and headers."""
    return {
        "headers": dict(event.headers),
        "content_type": event.content_type,
        **payload_out(event.payload, event.content_type),
        "unparsed": event.data() is None,
        "payload_kept": MASKED if event.kept_masked else ORIGINAL,
        "source": event.brought_by,
    }


def payload_out(data: bytes, content_type: str = "") -> dict[str, Any]:
    """JSON where it is JSON that is parsed, else text in its own characters, else base64."""
    payload: Any
    try:
        payload, encoding = parse_payload(data, exact=True), "json"
    except ValueError:
        payload, encoding = text_of(data, content_type), "text"
        if payload is None:
            payload, encoding = base64.b64encode(data).decode(), "base64"
    return {"payload": payload, "payload_encoding": encoding}


def _decoded(data: bytes) -> Event | None:
    try:
        return decode_event(data)
    except CodecError:
        return None
