"""The exact record of events, asked for the first one that had a message id, or for one by its id.

It is in two places: PostgreSQL, and behind it the partition's audit stream, which holds what is
decided and not written there yet.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
from google.protobuf.message import DecodeError
from mode.utils.logging import get_logger

from hookstream.app import tasks
from hookstream.app.archive.rows import Place
from hookstream.app.errors import UnavailableError
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.redis import keys
from hookstream.app.status import Status
from hookstream.app.stores.tiers import GONE, Tiers
from hookstream.app.streams.event_log import unrecorded_from
from hookstream.proto.pipeline_pb2 import AuditBatch
from hookstream.tables.dedup import Record, entry_ms

__all__ = ["EventLog", "Suspect"]

logger = get_logger(__name__)

#: How long a batch waits for PostgreSQL, and how long nobody asks again when that was in vain.
TIMEOUT_SECONDS = 1.0
PAUSE_SECONDS = 5.0
#: Entries of the audit stream, a batch each, that are looked through; more is too far behind.
TAIL_ENTRIES = 100


@dataclass(frozen=True, slots=True)
class Suspect:
    """An event that may have come before. Earlier ones count from behind ``since_ms``."""

    tenant: str
    message_id: str
    event_id: str
    since_ms: int


class EventLog:
    """Looks up candidates: one statement a batch, and one look at what is on its way to it."""

    def __init__(
        self,
        redis: Any,
        postgres: Postgres,
        tiers: Tiers,
        is_over: Callable[[Place], bool] = lambda _: False,
    ) -> None:
        """``is_over``: whether an event's time is over in all tiers, so that it has to be gone."""
        self._redis = redis
        self._is_over = is_over
        self._tiers = tiers
        self._postgres = postgres
        self._pause_until = 0.0

    async def first(
        self, partition: int, suspects: Sequence[Suspect]
    ) -> tuple[list[Record | None], list[bool]]:
        """For each candidate the first event that counts, or None; and whether that is certain.

        It is not where PostgreSQL did not answer within a second, or is too far behind. Errors of
        Redis are raised: without it nothing can be decided.
        """
        # first what is on its way, then where it goes to: nothing slips through between the two
        behind, tail = await self._tail(partition, suspects)
        found = await self._recorded(suspects)
        if found is None:
            return tail, [record is not None for record in tail]
        first = [record or late for record, late in zip(found, tail, strict=True)]
        return first, [record is not None or not behind for record in first]

    async def elsewhere(
        self, partition: int, entries: Mapping[str, str]
    ) -> tuple[dict[str, str], bool]:
        """Which events (id → entry) are on record with another entry, and with which.

        And whether that is certain; see :meth:`first`. What Redis has lost in a failover does not
        count, whatever PostgreSQL has heard of it: it has to be delivered from the entry that asks.
        """
        tail, behind = await self._unwritten_batches(partition)
        rows = await self._ask(statement("event_entries"), list(entries))
        known = {
            str(row["event_id"]): Place(row["tenant"], row["tool_id"], partition, row["entry_id"])
            for row in rows or ()
        }
        for event in (event for batch in tail for event in batch.events):
            if event.event_id in entries and not event.replay_id:
                place = Place(event.tenant, event.tool_id, partition, event.entry_id)
                known[event.event_id] = place
        others = {name: known[name] for name in known if known[name].entry_id != entries[name]}
        try:
            there = await self._still_there(others)
        except UnavailableError:
            return {}, False
        return there, rows is not None and not behind

    async def _still_there(self, places: Mapping[str, Place]) -> dict[str, str]:
        """The entries of those that some tier has, or had for as long as it should."""
        if not places:
            return {}
        found = await self._tiers.tiers(list(places.values()))
        return {
            name: place.entry_id
            for (name, place), tier in zip(places.items(), found, strict=True)
            if tier != GONE or self._is_over(place)
        }

    async def _recorded(self, suspects: Sequence[Suspect]) -> list[Record | None] | None:
        """What PostgreSQL knows; None when it does not answer."""
        rows = await self._ask(
            statement("first_events"),
            [suspect.tenant for suspect in suspects],
            [suspect.message_id for suspect in suspects],
            [suspect.event_id for suspect in suspects],
            [suspect.since_ms for suspect in suspects],
        )
        if rows is None:
            return None
        found: list[Record | None] = [None] * len(suspects)
        for row in rows:
            found[row["at"]] = Record(str(row["event_id"]), row["entry_id"], row["at_ms"])
        return found

    async def _ask(self, query: str, *args: Any) -> list[Any] | None:
        """Rows; None when PostgreSQL does not answer within a second, or did not a moment ago."""
        if time.monotonic() < self._pause_until:
            return None
        rows = tasks.awaited("EventLog", self._postgres.fetch(query, *args))
        # to cancel it would wait for a server that hangs: it ends by its own time limit
        done, _ = await asyncio.wait((rows,), timeout=TIMEOUT_SECONDS)
        try:
            if not done:
                rows.add_done_callback(_ended)
                raise UnavailableError(f"PostgreSQL has not answered in {TIMEOUT_SECONDS:g} s")
            return rows.result()
        except (UnavailableError, asyncpg.PostgresError) as error:
            self._pause_until = time.monotonic() + PAUSE_SECONDS
            logger.warning("the event log cannot be asked: %s", error)
            return None

    async def _tail(
        self, partition: int, suspects: Sequence[Suspect]
    ) -> tuple[bool, list[Record | None]]:
        """What is in the audit stream and not in PostgreSQL; whether that is more than is read."""
        found: list[Record | None] = [None] * len(suspects)
        entries = await self._unwritten_entries(partition)
        for data in entries[:TAIL_ENTRIES]:
            for at, suspect in enumerate(suspects):
                if found[at] is None and suspect.message_id.encode() in data:
                    found[at] = _first_in(data, suspect)
        return len(entries) > TAIL_ENTRIES, found

    async def _unwritten_batches(self, partition: int) -> tuple[list[AuditBatch], bool]:
        entries = await self._unwritten_entries(partition)
        batches = [batch for data in entries[:TAIL_ENTRIES] if (batch := _batch_in(data))]
        return batches, len(entries) > TAIL_ENTRIES

    async def _unwritten_entries(self, partition: int) -> list[bytes]:
        """Decided batches that are not in PostgreSQL: one more than are looked at, at most."""
        start = await unrecorded_from(self._redis, partition)
        if start is None:
            return []
        entries = await self._redis.xrange(
            keys.audit(partition), start, "+", count=TAIL_ENTRIES + 1
        )
        return [fields.get(b"d", b"") for _, fields in entries]


def _first_in(data: bytes, suspect: Suspect) -> Record | None:
    """The first event of a decided batch that counts; none where its bytes cannot be read."""
    batch = _batch_in(data)
    for event in batch.events if batch else ():
        at_ms = min(entry_ms(event.entry_id), event.received_at_ms)
        if (
            event.message_id == suspect.message_id
            and event.tenant == suspect.tenant
            and event.event_id != suspect.event_id
            and event.status != Status.DUPLICATE
            and not event.replay_id
            and at_ms > suspect.since_ms
        ):
            return Record(event.event_id, event.entry_id, at_ms)
    return None


def _batch_in(data: bytes) -> AuditBatch | None:
    try:
        return AuditBatch.FromString(data)
    except DecodeError:
        # the audit stage makes a dead letter of it
        return None


def _ended(query: "asyncio.Future[Any]") -> None:
    if not query.cancelled():
        query.exception()
