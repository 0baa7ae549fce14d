"""Replays in PostgreSQL: what was asked for, how far it has come, who is sending it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hookstream.app import metrics
from hookstream.app.errors import ConflictError, LimitError
from hookstream.app.ids import id_range, new_event_id, own_tool_id, random_bits
from hookstream.app.keyring.error_texts import CLEAR, ErrorTexts
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.stores.events import like

__all__ = ["ReplayFilter", "ReplayStore"]

#: Events that are looked at when a replay begins to count those that match, and most of a replay
#: that are counted when it is shown; and in lists.
COUNTED = 100_000
COUNTED_IN_LISTS = 2_000

_FAILED = """
UPDATE replays SET status = 'failed', error = $2, finished_at = now()
WHERE replay_id = $1 AND status = 'running'
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

#: Replays whose events are all sent, and that nobody has ended yet.
_SENT = """
SELECT replay_id FROM replays WHERE status = 'running' AND all_sent ORDER BY created_at LIMIT 100
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
    """Which recorded events; None means any. ``type`` may hold ``*``, times are RFC 3339.

    ``tool`` is as the whole installation calls it.
    """

    tool: str | None = None
    type: str | None = None
    status: str | None = None
    context: str | None = None
    since: str | None = None
    until: str | None = None
    #: The import that they came by.
    imported: str | None = None

    def arguments(self) -> list[Any]:
        """As events_to_replay.sql takes them."""
        return [
            self.tool,
            like(self.type) if self.type else None,
            self.status,
            self.context,
            _moment(self.since),
            _moment(self.until),
            UUID(self.imported) if self.imported else None,
        ]


class ReplayStore:
    """Makes, shows and cancels replays; lets one process at a time send each of them."""

    def __init__(
        self,
        postgres: Postgres,
        running_max: int = 0,
        quota: Callable[[str], int] = lambda tenant: 0,
        refused: Callable[[str], None] = lambda tenant: None,
        errors: ErrorTexts = CLEAR,
    ) -> None:
        """``running_max``: most replays that run to one context at a time; 0: any number.

        ``quota``: and of a tenant in all. ``refused`` hears that one was refused for that.
        ``errors``: opens what is said of failures.
        """
        self._errors = errors
        self._quota = quota
        self._refused = refused
        self._postgres = postgres
        self._running_max = running_max

    async def create_one(self, tenant: str, event_id: str, context_id: str, partition: int) -> str:
        """The id of a new replay of one event, which the caller sends.

        Raises:
            ConflictError: a replay of this event to this context runs.
            LimitError: as many as may run to this context already.
        """
        replay_id = _new_id(partition)
        await self._insert(replay_id, tenant, context_id, UUID(event_id), {}, 0.0, 1, False)
        return replay_id

    async def create(self, tenant: str, wanted: ReplayFilter, context_id: str, rate: float) -> str:
        """The id of a new replay of all that ``wanted`` matches now, ``rate`` events a second.

        Raises:
            LimitError: as many as may run to this context already.
        """
        found = await self._postgres.fetchrow(
            statement("count_to_replay"),
            tenant,
            *wanted.arguments()[:4],
            *id_range(_moment(wanted.since), _moment(wanted.until)),
            wanted.arguments()[-1],
            COUNTED,
        )
        assert found is not None
        replay_id = _new_id(0)
        kept = {name: value for name, value in asdict(wanted).items() if value is not None}
        count, more = found["matched"], found["examined"] == COUNTED
        await self._insert(replay_id, tenant, context_id, None, kept, rate, count, more)
        return replay_id

    async def _insert(self, replay_id: str, tenant: str, context_id: str, *more: Any) -> None:
        most = self._quota(tenant)
        seen = await self._postgres.fetchrow_in_turn(
            # with a quota all of a tenant's are counted, whatever they are to
            f"replays {tenant}" if most else f"replays {tenant} {context_id}",
            statement("put_replay"),
            UUID(replay_id),
            tenant,
            context_id,
            self._running_max,
            *more,
            most,
        )
        assert seen is not None
        where = f"to context {context_id}" if context_id else "to where subscriptions say"
        if seen["same"]:
            raise ConflictError(f"a replay of this event {where} runs: wait until it is through")
        if self._running_max and seen["running"] >= self._running_max:
            metrics.LIMITED.labels(limit="running_replays_per_context").inc()
            raise LimitError(
                f"{seen['running']} replays {where} run, which is all that may at a time "
                "(HOOKSTREAM_RUNNING_REPLAYS_PER_CONTEXT): wait until one is through"
            )

        if most and seen["of_tenant"] >= most:
            self._refused(tenant)
            raise LimitError(
                f"{seen['of_tenant']} replays of the tenant {tenant} run, which is its quota "
                "(replays): wait until one is through"
            )

    async def failed(self, replay_id: str, error: str) -> None:
        """Note that a replay could not be sent; it may be asked for again."""
        await self._postgres.execute(_FAILED, UUID(replay_id), error[:500])

    async def find(self, tenant: str, replay_id: str) -> dict[str, Any] | None:
        """A replay as the API shows it; None where there is none."""
        wanted = (UUID(replay_id), None, None, 1)
        row = await self._postgres.fetchrow(statement("replays"), tenant, *wanted, COUNTED)
        return await self._out(tenant, row, COUNTED) if row else None

    async def page_of(
        self, tenant: str, limit: int, past: tuple[datetime, UUID] | None = None
    ) -> list[dict[str, Any]]:
        """A page of replays, the newest first; ``past`` is the place of the last one before it."""
        wanted = (None, *(past or (None, None)), limit)
        rows = await self._postgres.fetch(statement("replays"), tenant, *wanted, COUNTED_IN_LISTS)
        return [await self._out(tenant, row, COUNTED_IN_LISTS) for row in rows]

    async def _out(self, tenant: str, row: Mapping[str, Any], most: int) -> dict[str, Any]:
        error = await self._errors.shown(tenant, row["error"])
        return {**replay_out(row, most), "error": error}

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

    async def finish_sent(self) -> None:
        """End replays that are through and that nobody has ended.

        Who records the last outcome, and who notes that all is sent, each look whether the other
        one has done so. Neither sees it where both do it at one time, or one fails in between.
        """
        if rows := await self._postgres.fetch(_SENT):
            ids = [row["replay_id"] for row in rows]
            await self._postgres.execute(statement("finish_replays"), ids)

    @staticmethod
    def _page_arguments(
        tenant: str,
        wanted: ReplayFilter,
        replay_id: UUID | None,
        place: tuple[int, int, UUID],
        limit: int | None,
    ) -> list[Any]:
        return [tenant, *wanted.arguments(), replay_id, *place, limit]


def replay_out(row: Mapping[str, Any], most: int) -> dict[str, Any]:
    """A replay as the API shows it, of whose events at ``most`` were counted."""
    done = row["sent"] + row["missing"]
    more = row["matched_more"] and not row["all_sent"]
    return {
        "replay_id": str(row["replay_id"]),
        "event_id": str(row["event_id"]) if row["event_id"] else None,
        "filter": filter_out(row["filter"]) if row["filter"] else None,
        "context_id": row["context_id"] or None,
        "rate": row["rate"] or None,
        "status": row["status"],
        "error": row["error"],
        "matched": max(row["matched"], done) if row["matched_more"] else row["matched"],
        "matched_more": more,
        "sent": row["sent"],
        "missing": row["missing"],
        "processed": row["processed"],
        "dead": row["dead"],
        "deliveries": row["deliveries"],
        "counts_more": row["counted"] == most,
        "created_at": row["created_at"].isoformat(),
        "finished_at": row["finished_at"].isoformat() if row["finished_at"] else None,
    }


def filter_out(kept: Mapping[str, Any]) -> dict[str, Any]:
    """A replay's filter as its tenant gave it."""
    return {name: own_tool_id(value) if name == "tool" else value for name, value in kept.items()}


def _new_id(partition: int) -> str:
    return new_event_id(time.time_ns() // 1_000_000, partition, random_bits())


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
