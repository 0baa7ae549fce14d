"""What both paths of a tool that moves have made of its events, as PostgreSQL and Redis know it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import orjson

from hookstream.app.ids import entry_order, id_range
from hookstream.app.keyring.error_texts import CLEAR, ErrorTexts
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.redis import keys
from hookstream.app.routing.catalog import Tool
from hookstream.app.routing.comparison import Attempt, Compared, Comparison, Known
from hookstream.app.routing.paths import OLD, OURS
from hookstream.app.status import Status

__all__ = ["Found", "OldResult", "PathComparer"]

#: Events that are read at a time, and how many of an answer there may be before it ends with the
#: hour that it has come to.
PAGE: Final = 500
LOOKED_AT: Final = 20_000
#: Hours of an answer.
HOURS: Final = 24 * 8
#: How long before they were done the events may have come that results are about.
BEFORE: Final = timedelta(hours=6)
#: Events of which it is read why they were not copied.
NOT_COPIED: Final = 10_000
HOUR: Final = timedelta(hours=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class OldResult:
    """What old workers have done with an event; ``contexts``: None where they do not say."""

    event_id: str
    delivery_id: str
    finished_at: datetime
    contexts: Sequence[str] | None = None
    error: str = ""

    @property
    def ref(self) -> str:
        """What it is about, as the database has it."""
        return f"e:{self.event_id}" if self.event_id else f"d:{self.delivery_id}"


@dataclass(frozen=True, slots=True)
class Found:
    """What a comparison has come to: until when it has looked, and where to go on."""

    comparison: Comparison
    until: datetime
    rest: datetime | None


class PathComparer:
    """Keeps what old workers say, and compares it with what events came to here."""

    def __init__(
        self, redis: Any, postgres: Postgres, partitions: int, errors: ErrorTexts = CLEAR
    ) -> None:
        """``errors``: opens what is said of failures."""
        self._redis = redis
        self._postgres = postgres
        self._partitions = partitions
        self._errors = errors
        #: A comparison reads much: one at a time of each process.
        self._turn = asyncio.Semaphore(1)

    async def take(self, tenant: str, tool_id: str, results: Sequence[OldResult]) -> int:
        """Keep what old workers say; how much of it was new.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        # one statement cannot insert a row twice
        once = {(one.ref, one.finished_at): one for one in results}
        row = await self._postgres.fetchrow(
            statement("put_old_results"),
            tenant,
            tool_id,
            [ref for ref, _ in once],
            [at for _, at in once],
            [
                "null" if one.contexts is None else orjson.dumps(list(one.contexts)).decode()
                for one in once.values()
            ],
            [one.error for one in once.values()],
        )
        return int(row["taken"]) if row else 0

    async def compare(
        self, tool: Tool, since: datetime, until: datetime, *, now_ms: int, examples: int
    ) -> Found:
        """Compare a tool's events of a time, hour by hour, as far as one answer goes.

        Raises:
            UnavailableError: PostgreSQL is away.
            redis.exceptions.RedisError: what waits to be copied cannot be seen.
        """
        async with self._turn:
            known = await self._known(tool, now_ms)
            comparison = Comparison(known, examples=examples)
            begin, looked_at, hours = since, 0, 0
            while begin < until and looked_at < LOOKED_AT and hours < HOURS:
                hour = begin.replace(minute=0, second=0, microsecond=0)
                end = min(hour + HOUR, until)
                async for page in self._events(tool, begin, end):
                    comparison.add(_ms(hour), page)
                    looked_at += len(page)
                    await asyncio.sleep(0)
                begin, hours = end, hours + 1
            await self._add_alone(comparison, tool, since, begin, examples)
        return Found(comparison, begin, begin if begin < until else None)

    async def _known(self, tool: Tool, now_ms: int) -> Known:
        pipe = self._redis.pipeline(transaction=False)
        pipe.xrevrange(keys.not_copied(tool.tool_id), count=NOT_COPIED)
        for number in range(self._partitions):
            pipe.xrange(keys.outbox(number, tool.tool_id), count=1)
        noted, *oldest = await pipe.execute()
        return Known(
            now_ms,
            {fields[b"event_id"].decode(): fields[b"why"].decode() for _, fields in noted},
            {
                number: entry_order(page[0][0].decode())[0]
                for number, page in enumerate(oldest)
                if page
            },
            tool.forward is None or tool.forward.queue.fifo,
        )

    async def _events(
        self, tool: Tool, since: datetime, until: datetime
    ) -> AsyncIterator[list[Compared]]:
        first, end = id_range(since, until)
        while True:
            rows = await self._postgres.fetch(
                statement("compared_events"), tool.tenant, tool.tool_id, first, end, PAGE
            )
            if rows:
                yield [await self._compared(tool, row) for row in rows]
            if len(rows) < PAGE:
                return
            first = UUID(int=rows[-1]["event_id"].int + 1)

    async def _compared(self, tool: Tool, row: Mapping[str, Any]) -> Compared:
        error = row["error"] and await self._errors.shown(tool.tenant, row["error"])
        since = tool.forwarded_since
        copied = tool.forward is not None and (since is None or row["received_at"] >= since)
        return compared(row, error, copied=copied)

    async def _add_alone(
        self, comparison: Comparison, tool: Tool, since: datetime, until: datetime, examples: int
    ) -> None:
        rows = await self._postgres.fetch(
            statement("old_results_alone"),
            tool.tenant,
            tool.tool_id,
            since,
            until,
            id_range(since - BEFORE, None)[0],
            examples,
        )
        for row in rows:
            refs = [ref.partition(":")[2] for ref in row["refs"]]
            comparison.add_alone(_ms(row["hour"]), row["events"], row["failed"], refs)


def compared(row: Mapping[str, Any], error: str, *, copied: bool) -> Compared:
    """A row of ``compared_events``; ``copied``: whether it was if its tool did not move yet."""
    path = row["path"] or OURS
    contexts, at = row["contexts"], row["decided_at"]
    if path != OLD:
        # what was delivered says when; and whom, where nothing else does
        at = row["delivered_at"] or at
        contexts = row["delivered"] if contexts is None else contexts
        if contexts is None and row["status"] == Status.UNROUTED:
            contexts = []
    return Compared(
        event_id=str(row["event_id"]),
        received_ms=_ms(row["received_at"]),
        status=row["status"],
        stage=row["stage"],
        error=error,
        duplicate_of=str(row["duplicate_of"] or ""),
        payload_bytes=row["payload_bytes"],
        partition=row["partition"],
        place=(row["entry_ms"], row["entry_seq"]),
        path=path,
        copied=copied if row["path"] is None else row["copied"],
        key=row["ordering_key"] or "",
        contexts=None if contexts is None else frozenset(contexts),
        delivered=row["delivered_at"] is not None,
        dropped_by=row["dropped_by"] or (row["stage"] if path != OLD else ""),
        at_ms=None if at is None else _ms(at),
        attempts=tuple(
            Attempt(_ms(finished), _contexts(named), text)
            for finished, named, text in zip(
                row["finished"] or (), row["named"] or (), row["errors"] or (), strict=True
            )
        ),
    )


def _contexts(named: str) -> frozenset[str] | None:
    said = orjson.loads(named)
    return None if said is None else frozenset(said)


def _ms(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(milliseconds=1)
