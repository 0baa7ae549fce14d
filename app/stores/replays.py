"""Replays in PostgreSQL: what was asked for, how far it has come, who is sending it."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hookstream.app.ids import new_event_id, random_bits
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.stores.events import like

__all__ = ["ReplayFilter", "ReplayStore"]

_INSERT_ONE = """
INSERT INTO replays (replay_id, tenant, event_id, context_id, status)
VALUES ($1, $2, $3, $4, 'running')
"""

_INSERT = """
INSERT INTO replays (
    replay_id, tenant, context_id, status, filter, rate, matched, sent, all_sent
)
VALUES ($1, $2, $3, 'running', $4, $5, $6, 0, false)
"""

_SHOW = """
SELECT
    r.*,
    (SELECT count(*) FROM deliveries AS d WHERE d.replay_id = r.replay_id) AS deliveries,
    (
        SELECT count(*) FROM replay_events AS e
        WHERE e.replay_id = r.replay_id AND e.status <> 'retrying'
    ) AS processed,
    (
        SELECT count(*) FROM replay_events AS e
        WHERE e.replay_id = r.replay_id AND e.status = 'dead'
    ) AS dead
FROM replays AS r
WHERE r.tenant = $1 AND ($2::uuid IS NULL OR r.replay_id = $2)
ORDER BY r.created_at DESC, r.replay_id
LIMIT $3
"""

_CANCEL = """
UPDATE replays SET status = 'cancelled', all_sent = true, finished_at = now()
WHERE tenant = $1 AND replay_id = $2 AND status = 'running'
"""

_TAKE = """
UPDATE replays SET owner = $1, lease_until = now() + make_interval(secs => $2)
WHERE replay_id = (
    SELECT replay_id FROM replays
    WHERE status = 'running' AND NOT all_sent AND (lease_until <= now() OR owner = $1)
    ORDER BY created_at
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING *
"""

_ADVANCE = """
UPDATE replays
SET
    sent = sent + $3, missing = missing + $4, at_ms = $5, at_seq = $6, at_event = $7,
    all_sent = all_sent OR $8, lease_until = now() + make_interval(secs => $9)
WHERE replay_id = $1 AND owner = $2
RETURNING status
"""


@dataclass(frozen=True, slots=True)
class ReplayFilter:
    """Which recorded events; None means any. ``type`` may hold ``*``, times are RFC 3339."""

    tool: str | None = None
    type: str | None = None
    status: str | None = None
    context: str | None = None
    since: str | None = None
    until: str | None = None

    def arguments(self) -> list[Any]:
        """As events_to_replay.sql takes them."""
        return [
            self.tool,
            like(self.type) if self.type else None,
            self.status,
            self.context,
            _moment(self.since),
            _moment(self.until),
        ]


class ReplayStore:
    """Makes, shows and cancels replays; lets one process at a time send each of them."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def create_one(self, tenant: str, event_id: str, context_id: str, partition: int) -> str:
        """The id of a new replay of one event, which the caller sends."""
        replay_id = _new_id(partition)
        await self._postgres.execute(
            _INSERT_ONE, UUID(replay_id), tenant, UUID(event_id), context_id
        )
        return replay_id

    async def create(self, tenant: str, wanted: ReplayFilter, context_id: str, rate: float) -> str:
        """The id of a new replay of all that ``wanted`` matches now, ``rate`` events a second."""
        matched = await self._postgres.fetchrow(
            f"SELECT count(*) AS n FROM ({statement('events_to_replay')}) AS found",  # noqa: S608 ours
            *self._page_arguments(tenant, wanted, None, (-1, -1, UUID(int=0)), None),
        )
        replay_id = _new_id(0)
        kept = {name: value for name, value in asdict(wanted).items() if value is not None}
        await self._postgres.execute(
            _INSERT, UUID(replay_id), tenant, context_id, kept, rate, matched["n"] if matched else 0
        )
        return replay_id

    async def find(
        self, tenant: str, replay_id: str | None = None, limit: int = 50
    ) -> list[dict[str, Any]]:
        """Replays as the API shows them, the newest first."""
        wanted = UUID(replay_id) if replay_id else None
        return [replay_out(row) for row in await self._postgres.fetch(_SHOW, tenant, wanted, limit)]

    async def cancel(self, tenant: str, replay_id: str) -> bool:
        """Send no more of a replay; False when it was not running."""
        return await self._postgres.execute(_CANCEL, tenant, UUID(replay_id)) == "UPDATE 1"

    async def take(self, owner: str, lease_seconds: float) -> Mapping[str, Any] | None:
        """The oldest replay that nobody is sending, now sent by ``owner``; None without one."""
        return await self._postgres.fetchrow(_TAKE, owner, lease_seconds)

    async def page(self, replay: Mapping[str, Any], limit: int) -> list[Mapping[str, Any]]:
        """The next ``limit`` records of events to send."""
        place = (replay["at_ms"], replay["at_seq"], replay["at_event"])
        wanted = ReplayFilter(**replay["filter"])
        return list(
            await self._postgres.fetch(
                statement("events_to_replay"),
                *self._page_arguments(replay["tenant"], wanted, replay["replay_id"], place, limit),
            )
        )

    async def advance(
        self,
        replay: Mapping[str, Any],
        place: tuple[int, int, UUID],
        *,
        sent: int,
        missing: int,
        all_sent: bool,
        lease_seconds: float,
    ) -> bool:
        """Note how far a replay was sent; False when it was cancelled or is another's now."""
        row = await self._postgres.fetchrow(
            _ADVANCE,
            replay["replay_id"],
            replay["owner"],
            sent,
            missing,
            *place,
            all_sent,
            lease_seconds,
        )
        if all_sent:
            # the last outcome may have been recorded before this was known
            await self._postgres.execute(statement("finish_replays"), [replay["replay_id"]])
        return row is not None and row["status"] == "running"

    @staticmethod
    def _page_arguments(
        tenant: str,
        wanted: ReplayFilter,
        replay_id: UUID | None,
        place: tuple[int, int, UUID],
        limit: int | None,
    ) -> list[Any]:
        return [tenant, *wanted.arguments(), replay_id, *place, limit]


def replay_out(row: Mapping[str, Any]) -> dict[str, Any]:
    """A replay as the API shows it."""
    return {
        "replay_id": str(row["replay_id"]),
        "event_id": str(row["event_id"]) if row["event_id"] else None,
        "filter": row["filter"] or None,
        "context_id": row["context_id"] or None,
        "rate": row["rate"] or None,
        "status": row["status"],
        "error": row["error"],
        "matched": row["matched"],
        "sent": row["sent"],
        "missing": row["missing"],
        "processed": row["processed"],
        "dead": row["dead"],
        "deliveries": row["deliveries"],
        "created_at": row["created_at"].isoformat(),
        "finished_at": row["finished_at"].isoformat() if row["finished_at"] else None,
    }


def _new_id(partition: int) -> str:
    return new_event_id(time.time_ns() // 1_000_000, partition, random_bits())


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
