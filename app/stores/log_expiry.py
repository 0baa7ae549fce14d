"""Deletes from PostgreSQL what is older than it is kept: event log, replays, audit trail, moves.

By whoever has partition 0, some rows at a time: what is left of a round that breaks off is found by
the next one.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.durations import DAY_MS, duration_ms
from hookstream.app.errors import UnavailableError
from hookstream.app.ids import id_range
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.routing.catalog import Catalog
from hookstream.app.settings import Settings
from hookstream.app.stores.audit_trail import moment as audit_moment
from hookstream.app.stores.audit_watch import AuditWatch
from hookstream.app.stores.holds import HoldStore

__all__ = ["LogExpiry"]

logger = get_logger(__name__)

#: From one round to the next, give or take a quarter.
ROUND_SECONDS = 600.0
#: Rows of one statement, and the pause behind it: 10,000 a second at most.
BATCH = 1000
PAUSE_SECONDS = 0.1
#: Rows of the audit trail at a time, each of which leaves a row.
TRAIL_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class _Rule:
    """A table, and what its statement takes beside the limit, in its place."""

    table: str
    first: object
    more: tuple[object, ...] = ()


class LogExpiry(Service):
    """One round over all tables every ten minutes."""

    mundane_level = "debug"

    def __init__(
        self,
        postgres: Postgres,
        settings: Settings,
        *,
        catalog: Callable[[], Catalog],
        now_ms: Callable[[], int],
        mine: Callable[[], bool],
        watch: AuditWatch | None = None,
        holds: HoldStore | None = None,
        **kwargs: Any,
    ) -> None:
        """``mine``: whether it is this worker that does so now; ``watch`` looks each round.

        ``holds``: of tenants of which anything is held, no row goes.
        """
        super().__init__(**kwargs)
        self._postgres = postgres
        self._settings = settings
        self._catalog = catalog
        self._now_ms = now_ms
        self._mine = mine
        self._watch = watch
        self._holds = holds

    @tasks.loop
    async def _tend(self) -> None:
        while not self.should_stop:
            await self.sleep(ROUND_SECONDS * random.uniform(0.75, 1.25))
            try:
                await self.expire()
            except (UnavailableError, asyncpg.PostgresError) as error:
                logger.debug("the event log is cut off later: %s", error)

    async def kept_ms(self) -> int:
        """For how long what became of an event is kept.

        Never shorter than the event itself is to be had, or than anything asks for what became of
        it: feeds, dead letters, dedup's look into its history.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        settings = self._settings
        rows = await self._postgres.fetch(statement("tool_ttls"))
        ttls = [sum(map(duration_ms, row["ttl"].values())) for row in rows]
        ages = [context.keeping.age_ms or 0 for context in self._catalog().contexts.values()]
        days = (
            settings.event_log_days,
            settings.dead_letter_days,
            settings.feed_max_days,
            settings.dedup_history_days,
        )
        return max(*(int(day * DAY_MS) for day in days), *ttls, *ages)

    async def expire(self) -> int:
        """Delete what there is to delete now; returns how many rows.

        Raises:
            UnavailableError: PostgreSQL is away.
            asyncpg.PostgresError: what the server said.
        """
        if not self._mine():
            return 0
        now_ms = self._now_ms()
        holds = await self._holds.in_force() if self._holds else ()
        held = sorted({hold.tenant for hold in holds})
        cut = _moment(now_ms - await self.kept_ms())
        replays = _moment(now_ms - int(self._settings.replay_days * DAY_MS))
        below = id_range(cut, None)[0]
        compared = max(cut, _moment(now_ms - int(self._settings.comparison_days * DAY_MS)))
        rules = (
            _Rule("deliveries", below, (cut,)),
            _Rule("events", below),
            _Rule("path_events", id_range(compared, None)[0]),
            _Rule("old_results", compared),
            _Rule("daily_summaries", cut),
            _Rule("replay_events", replays),
            _Rule("replays", replays),
        )
        total = 0
        for rule in rules:
            while self._mine() and not self.should_stop:
                tag = await self._postgres.execute(
                    statement(f"expire_{rule.table}"), rule.first, BATCH, *rule.more, held
                )
                deleted = int(tag.rpartition(" ")[2])
                metrics.EVENT_LOG_EXPIRED.labels(table=rule.table).inc(deleted)
                total += deleted
                if deleted < BATCH:
                    break
                await self.sleep(PAUSE_SECONDS)
        total += await self._expire_trail(now_ms, held)
        if self._watch is not None:
            await self._watch.look(now_ms)
        if total:
            logger.info("%d rows that are kept no longer were deleted from PostgreSQL", total)
        return total

    async def _expire_trail(self, now_ms: int, held: Sequence[str]) -> int:
        """Of the audit trail a day at least: that rows have gone is a row."""
        kept_ms = int(self._settings.audit_days * DAY_MS)
        before, earlier = (
            audit_moment(max(0, now_ms - kept_ms - later) / 1000) for later in (0, DAY_MS)
        )
        total = 0
        while self._mine() and not self.should_stop:
            arguments = (before, earlier, TRAIL_BATCH, held)
            rows = await self._postgres.fetch(statement("expire_audit"), *arguments)
            deleted = sum(row["rows"] for row in rows)
            metrics.EVENT_LOG_EXPIRED.labels(table="audit_trail").inc(deleted)
            total += deleted
            if all(row["rows"] < TRAIL_BATCH for row in rows):
                break
            await self.sleep(PAUSE_SECONDS)
        return total


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(max(0, ms) / 1000, UTC)
