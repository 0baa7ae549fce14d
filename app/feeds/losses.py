"""What the event log knows and Redis has lost. Reads only."""

from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import UUID

import orjson
from google.protobuf.message import DecodeError
from redis.exceptions import ResponseError

from hookstream.app.failures.failed_events import SEPARATOR
from hookstream.app.feeds.feed import Feeds
from hookstream.app.ids import own_tool_id
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.priority import DEFERRABLE
from hookstream.app.redis import keys
from hookstream.codecs.errors import CodecError
from hookstream.codecs.routed import decode_routed
from hookstream.proto.pipeline_pb2 import AuditBatch

__all__ = ["LossStore"]

PAGE_ENTRIES = 1000
#: Entries of a stream or list that are looked through for events on their way.
MAX_UNDER_WAY = 50_000
NO_EVENT = UUID(int=0)


class LossStore:
    """Compares the event log with feeds, streams and failed events."""

    def __init__(self, redis: Any, postgres: Postgres, feeds: Feeds, partitions: int) -> None:
        self._redis = redis
        self._postgres = postgres
        self._feeds = feeds
        self._partitions = partitions

    async def deliveries(
        self, tenant: str, context_id: str, after: tuple[int, UUID], limit: int
    ) -> list[dict[str, Any]]:
        """Updates that were delivered and are in the feed no more, past a number and event.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        firsts, lasts = await self._held(tenant, context_id)
        seq, event_id = after
        rows = await self._postgres.fetch(
            statement("lost_deliveries"), tenant, context_id, firsts, lasts, seq, event_id, limit
        )
        return [
            {
                "seq": row["seq"],
                "event_id": str(row["event_id"]),
                "tool_id": row["tool_id"] and own_tool_id(row["tool_id"]),
                "type": row["type"],
                "received_at": _time(row["received_at"]),
                "delivered_at": _time(row["delivered_at"]),
            }
            for row in rows
        ]

    async def _held(self, tenant: str, context_id: str) -> tuple[list[int], list[int]]:
        """First and last numbers of what the feed holds of each generation, and of what went.

        What went since its time was over is no loss.
        """
        end = await self._feeds.look(tenant, context_id)
        feed = keys.feed(self._feeds.partition(tenant, context_id), tenant, context_id)
        firsts, lasts = [], []
        if trimmed := await self._feeds.trimmed(tenant, context_id):
            firsts.append(1)
            lasts.append(trimmed)
        after = 0
        while True:
            into = end.generations.crossing(after)
            low, high = f"{after + 1}-0", f"({into.start}-0" if into else "+"
            first = await self._redis.xrange(feed, low, high, count=1)
            last = await self._redis.xrevrange(feed, high, low, count=1)
            if first and last:
                firsts.append(int(first[0][0].partition(b"-")[0]))
                lasts.append(int(last[0][0].partition(b"-")[0]))
            if into is None:
                return firsts, lasts
            after = into.start - 1

    async def events(
        self, tenant: str, after: UUID, limit: int
    ) -> tuple[list[dict[str, Any]], UUID | None, bool]:
        """Events that should be on their way and are nowhere in Redis.

        Returns them, where to go on (None: at the end), and whether all was looked through that
        is on its way: where so much waits that it was not, some of them may be there.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        rows = await self._postgres.fetch(statement("unsettled_events"), tenant, after, limit)
        if not rows:
            return [], None, True
        there, complete = await self._under_way()
        pipe = self._redis.pipeline(transaction=False)
        for row in rows:
            pipe.exists(keys.failed_event(row["partition"], str(row["event_id"])))
        failed_events = await pipe.execute()
        lost = [
            {
                "event_id": str(row["event_id"]),
                "tool_id": row["tool_id"] and own_tool_id(row["tool_id"]),
                "type": row["type"],
                "status": row["status"],
                "received_at": _time(row["received_at"]),
            }
            for row, failed_event in zip(rows, failed_events, strict=True)
            if not failed_event and str(row["event_id"]) not in there
        ]
        # what was delivered since the log was asked is there no more, and not lost either
        lost = await self._still(tenant, lost)
        return lost, rows[-1]["event_id"] if len(rows) == limit else None, complete

    async def _still(self, tenant: str, lost: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not lost:
            return []
        rows = await self._postgres.fetch(
            "SELECT event_id FROM deliveries WHERE tenant = $1 AND event_id = ANY($2::uuid[])",
            tenant,
            [one["event_id"] for one in lost],
        )
        delivered = {str(row["event_id"]) for row in rows}
        return [one for one in lost if one["event_id"] not in delivered]

    async def _under_way(self) -> tuple[set[str], bool]:
        """Ids of events between their commit and the event log, and whether that is all of them."""
        found: set[str] = set()
        complete = True
        for number in range(self._partitions):
            names = (keys.retries(number), keys.dead(number))
            for name in names:
                for failed_event in await self._redis.zrange(name, 0, MAX_UNDER_WAY):
                    found.add(failed_event.decode().partition(SEPARATOR)[0])
            streams = [keys.updates(number)]
            streams += [keys.deferred(number, priority) for priority in DEFERRABLE]
            for stream in streams:
                async for data in self._entries(stream):
                    complete = complete and data is not None
                    found.update(_routed_id(data))
            async for data in self._entries(keys.audit(number)):
                complete = complete and data is not None
                found.update(_audited_ids(data))
            for name in await self._redis.hkeys(keys.throttled(number)):
                tenant, _, context_id = name.decode().partition("/")
                key = keys.throttled_updates(number, tenant, context_id)
                kept = await self._redis.lrange(key, 0, -1)
                for body in await self._feeds.seals.opened(tenant, context_id, kept):
                    found.add(str(orjson.loads(body).get("event_id")))
        return found, complete

    async def _entries(self, stream: str) -> AsyncIterator[bytes | None]:
        """What a stream's entries hold; None at last where there are too many."""
        start, total = "-", 0
        while True:
            try:
                page = await self._redis.xrange(stream, start, "+", count=PAGE_ENTRIES)
            except ResponseError:
                # no stream: its partition has trouble of its own, told in /health
                yield None
                return
            for _, fields in page:
                yield fields.get(b"d", b"")
            total += len(page)
            if len(page) < PAGE_ENTRIES:
                return
            if total >= MAX_UNDER_WAY:
                yield None
                return
            start = f"({page[-1][0].decode()}"


def _routed_id(data: bytes | None) -> set[str]:
    try:
        return {decode_routed(data).event.event_id} if data else set()
    except CodecError:
        return set()


def _audited_ids(data: bytes | None) -> set[str]:
    try:
        batch = AuditBatch.FromString(data or b"")
    except DecodeError:
        return set()
    delivered = {delivery.event_id for delivery in batch.deliveries}
    return delivered | {event.event_id for event in batch.events}


def _time(value: Any) -> str | None:
    return value.isoformat() if value else None


def cursor_of(row: Mapping[str, Any]) -> str:
    """Where the page behind this delivery begins."""
    return f"{row['seq']}.{row['event_id']}"
