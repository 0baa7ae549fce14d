"""Imports in PostgreSQL: what comes from where, how far that is, and the events themselves."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import asyncpg

from hookstream.app.errors import NotFoundError
from hookstream.app.ids import new_event_id, own_tool_id, random_bits
from hookstream.app.postgres.pool import Postgres, WholePostgres
from hookstream.app.postgres.sql import statement
from hookstream.codecs.envelope import Event

__all__ = ["IMPORTED", "Counts", "ImportStore", "ImportedRow", "import_out"]

#: The stage of events that came by an import, as the event log has it.
IMPORTED: Final = "imported"


@dataclass(slots=True)
class Counts:
    """What became of a page of a history; ``duplicates`` are among the ``imported``."""

    imported: int = 0
    duplicates: int = 0
    known: int = 0
    expired: int = 0
    erased: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class ImportedRow:
    """What the event log is told of an event that came by an import."""

    event: Event
    partition: int
    entry_id: str
    duplicate_of: str = ""
    dedup: str = ""

    @property
    def status(self) -> str:
        """Nobody was told of it."""
        return "duplicate" if self.duplicate_of else "unrouted"


class ImportStore:
    """Every method raises UnavailableError while PostgreSQL is away."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        # ids of events are given once in the whole installation
        self._whole = WholePostgres(postgres)

    async def begin(self, tenant: str, tool_id: str, source: str, *, restart: bool) -> Any:
        """A new import, or that of this source again, at the place where it was."""
        import_id = new_event_id(time.time_ns() // 1_000_000, 0, random_bits())
        return await self._postgres.fetchrow(
            statement("begin_import"), UUID(import_id), tenant, tool_id, source, restart
        )

    async def find(self, tenant: str, import_id: str) -> Any:
        """One of a tenant's. Raises NotFoundError."""
        row = await self._postgres.fetchrow(statement("imports"), tenant, UUID(import_id), None, 1)
        if row is None:
            raise NotFoundError(f"there is no import {import_id}")
        return row

    async def page(self, tenant: str, below: str | None, limit: int) -> list[Any]:
        """Those of a tenant, the newest first, ``below`` an id."""
        return list(
            await self._postgres.fetch(
                statement("imports"), tenant, None, UUID(below) if below else None, limit
            )
        )

    async def finish(self, tenant: str, import_id: str) -> Any:
        """Note that an import is through. Raises NotFoundError."""
        row = await self._postgres.fetchrow(statement("finish_import"), tenant, UUID(import_id))
        if row is None:
            raise NotFoundError(f"there is no import {import_id}")
        return row

    async def stop(self, tenant: str, import_id: str, reason: str) -> Any:
        """Note that it goes on no more; why, or "": somebody has stopped it.

        One that is through stays so. Raises NotFoundError.
        """
        row = await self._postgres.fetchrow(
            statement("stop_import"), tenant, UUID(import_id), reason
        )
        if row is None:
            raise NotFoundError(f"there is no import {import_id}")
        return row

    async def owners(self, event_ids: Collection[str]) -> dict[str, tuple[str, str]]:
        """Tenant and tool of those events that are on record."""
        rows = await self._whole.fetch(
            statement("owners_of_events"), [UUID(event_id) for event_id in event_ids]
        )
        return {str(row["event_id"]): (row["tenant"], row["tool_id"]) for row in rows}

    async def alike(
        self, tenant: str, wanted: Sequence[tuple[str, int]], near_ms: int
    ) -> dict[int, str]:
        """The first event near each message id and time (ms), by its number among the wanted."""
        if not wanted or not near_ms:
            return {}
        rows = await self._postgres.fetch(
            statement("alike_events"),
            tenant,
            [message_id for message_id, _ in wanted],
            [at_ms for _, at_ms in wanted],
            near_ms,
        )
        return {row["at"]: str(row["event_id"]) for row in rows}

    async def record(
        self,
        tenant: str,
        import_id: str,
        place: Mapping[str, Any],
        rows: Sequence[ImportedRow],
        counts: Counts,
        newest_erasure: str,
    ) -> Any | None:
        """Have the event log name events, and note how far the import is, in one transaction.

        None, and nothing is changed, where an erasure has begun since ``newest_erasure``: it may
        be about them, and has perhaps been where they are. One that begins later finds them.
        """
        async with self._whole.transaction() as connection:
            # until this is through none begins
            await connection.execute("LOCK TABLE erasures IN SHARE MODE")
            since = UUID(newest_erasure) if newest_erasure else UUID(int=0)
            if await connection.fetchval(statement("erasures_since"), tenant, since):
                return None
            await _insert(connection, tenant, import_id, rows)
            return await connection.fetchrow(
                statement("note_import"),
                tenant,
                UUID(import_id),
                dict(place),
                counts.imported,
                counts.duplicates,
                counts.known,
                counts.expired,
                counts.erased,
                counts.rejected,
            )


async def _insert(
    connection: asyncpg.Connection, tenant: str, import_id: str, rows: Sequence[ImportedRow]
) -> None:
    if not rows:
        return
    first, events = rows[0].event, [row.event for row in rows]
    await connection.execute(
        statement("insert_imported"),
        tenant,
        first.tool_id,
        first.provider,
        IMPORTED,
        UUID(import_id),
        [event.event_id for event in events],
        [event.type for event in events],
        [row.status for row in rows],
        [row.duplicate_of for row in rows],
        [event.message_id for event in events],
        [event.delivery_id for event in events],
        [event.received_at_ms for event in events],
        [row.partition for row in rows],
        [row.entry_id for row in rows],
        [event.payload_bytes for event in events],
        [row.dedup for row in rows],
        [event.enriched.decode() for event in events],
        [event.batch_id for event in events],
        [event.batch_index for event in events],
    )


def import_out(row: Mapping[str, Any]) -> dict[str, Any]:
    """An import as the API shows it."""
    finished = row["finished_at"]
    return {
        "import_id": str(row["import_id"]),
        "tool_id": own_tool_id(row["tool_id"]),
        "source": row["source"],
        "status": row["status"],
        "status_before": row.get("status_before"),
        "reason": row["reason"] if row["status"] == "failed" else "",
        "place": row["place"],
        "imported": row["imported"],
        "duplicates": row["duplicates"],
        "known": row["known"],
        "expired": row["expired"],
        "erased": row["erased"],
        "rejected": row["rejected"],
        "created_at": row["created_at"].isoformat(),
        "updated_at": row["updated_at"].isoformat(),
        "finished_at": finished.isoformat() if finished else None,
    }
