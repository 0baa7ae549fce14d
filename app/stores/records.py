"""The exact record of events, asked for the first one that had a message id.

It is in two places: PostgreSQL, and behind it the partition's audit stream, which holds what is
decided and not written there yet.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
from google.protobuf.message import DecodeError
from mode.utils.logging import get_logger
from redis.exceptions import ResponseError

from hookstream.app import keys, tasks
from hookstream.app.errors import UnavailableError
from hookstream.app.sql import statement
from hookstream.app.status import Status
from hookstream.app.stores.postgres import Postgres
from hookstream.proto.pipeline_pb2 import AuditBatch
from hookstream.tables.dedup import Record, entry_ms

__all__ = ["RecordStore", "Suspicion"]

logger = get_logger(__name__)

#: How long a batch waits for PostgreSQL, and how long nobody asks again when that was in vain.
TIMEOUT_SECONDS = 1.0
PAUSE_SECONDS = 5.0
#: Entries of the audit stream, a batch each, that are looked through; more is too far behind.
TAIL_ENTRIES = 100


@dataclass(frozen=True, slots=True)
class Suspicion:
    """An event that may have come before. Earlier ones count from behind ``since_ms``."""

    tenant: str
    message_id: str
    event_id: str
    since_ms: int


class RecordStore:
    """Looks up suspicions: one statement a batch, and one look at what is on its way to it."""

    def __init__(self, redis: Any, postgres: Postgres) -> None:
        self._redis = redis
        self._postgres = postgres
        self._pause_until = 0.0

    async def first(
        self, partition: int, suspicions: Sequence[Suspicion]
    ) -> tuple[list[Record | None], list[bool]]:
        """For each suspicion the first event that counts, or None; and whether that is certain.

        It is not where PostgreSQL did not answer within a second, or is too far behind. Errors of
        Redis are raised: without it nothing can be decided.
        """
        # first what is on its way, then where it goes to: nothing slips through between the two
        behind, tail = await self._tail(partition, suspicions)
        found = await self._recorded(suspicions)
        if found is None:
            return tail, [record is not None for record in tail]
        first = [record or late for record, late in zip(found, tail, strict=True)]
        return first, [record is not None or not behind for record in first]

    async def _recorded(self, suspicions: Sequence[Suspicion]) -> list[Record | None] | None:
        """What PostgreSQL knows; None when it does not answer."""
        if time.monotonic() < self._pause_until:
            return None
        query = tasks.awaited(
            "RecordStore.first",
            self._postgres.fetch(
                statement("first_events"),
                [suspicion.tenant for suspicion in suspicions],
                [suspicion.message_id for suspicion in suspicions],
                [suspicion.event_id for suspicion in suspicions],
                [suspicion.since_ms for suspicion in suspicions],
            ),
        )
        # to cancel it would wait for a server that hangs: it ends by its own time limit
        done, _ = await asyncio.wait((query,), timeout=TIMEOUT_SECONDS)
        try:
            if not done:
                query.add_done_callback(_ended)
                raise UnavailableError(f"PostgreSQL has not answered in {TIMEOUT_SECONDS:g} s")
            rows = query.result()
        except (UnavailableError, asyncpg.PostgresError) as error:
            self._pause_until = time.monotonic() + PAUSE_SECONDS
            logger.warning("suspected duplicates pass unconfirmed: %s", error)
            return None
        found: list[Record | None] = [None] * len(suspicions)
        for row in rows:
            found[row["at"]] = Record(str(row["event_id"]), row["entry_id"], row["at_ms"])
        return found

    async def _tail(
        self, partition: int, suspicions: Sequence[Suspicion]
    ) -> tuple[bool, list[Record | None]]:
        """What is in the audit stream and not in PostgreSQL; whether that is more than is read."""
        stream = keys.audit(partition)
        found: list[Record | None] = [None] * len(suspicions)
        start = await self._unwritten(stream)
        if start is None:
            return False, found
        entries = await self._redis.xrange(stream, start, "+", count=TAIL_ENTRIES + 1)
        for _, fields in entries:
            data: bytes = fields[b"d"]
            for at, suspicion in enumerate(suspicions):
                if found[at] is None and suspicion.message_id.encode() in data:
                    found[at] = _first_in(data, suspicion)
        return len(entries) > TAIL_ENTRIES, found

    async def _unwritten(self, stream: str) -> str | None:
        """Where what is not in PostgreSQL begins; None when there is no such stream yet."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.xinfo_groups(stream)
        pipe.xpending(stream, keys.GROUP)
        groups, pending = await pipe.execute(raise_on_error=False)
        if isinstance(groups, ResponseError) and "no such key" in str(groups):
            return None
        if isinstance(groups, Exception):
            raise groups
        if isinstance(pending, Exception):
            if "NOGROUP" not in str(pending):
                raise pending
            return "-"
        if pending["pending"]:
            return str(pending["min"].decode())
        [read] = [g["last-delivered-id"] for g in groups if g["name"] == keys.GROUP.encode()]
        return f"({read.decode()}"


def _first_in(data: bytes, suspicion: Suspicion) -> Record | None:
    """The first event of a decided batch that counts; none where its bytes cannot be read."""
    try:
        batch = AuditBatch.FromString(data)
    except DecodeError:
        # the audit stage makes a dead letter of it
        return None
    for event in batch.events:
        at_ms = min(entry_ms(event.entry_id), event.received_at_ms)
        if (
            event.message_id == suspicion.message_id
            and event.tenant == suspicion.tenant
            and event.event_id != suspicion.event_id
            and event.status != Status.DUPLICATE
            and not event.replay_id
            and at_ms > suspicion.since_ms
        ):
            return Record(event.event_id, event.entry_id, at_ms)
    return None


def _ended(query: "asyncio.Future[Any]") -> None:
    if not query.cancelled():
        query.exception()
