"""PostgreSQL keeps what became of events for as long as anybody can ask, and not longer."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import orjson
import pytest

from hookstream.app.ids import new_event_id
from hookstream.app.postgres.pool import Postgres
from hookstream.app.routing.catalog import Catalog, Context
from hookstream.app.routing.keeping import Keeping
from hookstream.app.settings import Settings
from hookstream.app.stores import log_expiry as log_expiry_module
from hookstream.app.stores.audit_trail import AuditFilter, AuditTrail
from hookstream.app.stores.log_expiry import LogExpiry

DAY = 86_400_000
NOW = 1_800_000_000_000
TABLES = (
    "deliveries",
    "events",
    "path_events",
    "old_results",
    "daily_summaries",
    "replay_events",
    "replays",
    "tools",
)


def at(days: float) -> datetime:
    """So many days ago."""
    return datetime.fromtimestamp(NOW / 1000, UTC) - timedelta(days=days)


def id_of(days: float, n: int) -> UUID:
    return UUID(new_event_id(int(NOW - days * DAY), 0, n))


class Log:
    """The event log, and a clock."""

    def __init__(self, postgres: Postgres, **settings: float) -> None:
        self.postgres = postgres
        self.catalog = Catalog()
        self.owned = True
        self.expiry = LogExpiry(
            postgres,
            Settings.model_validate(settings),
            catalog=lambda: self.catalog,
            now_ms=lambda: NOW,
            mine=lambda: self.owned,
        )

    async def event(self, days: float, n: int, status: str = "accepted") -> None:
        await self.postgres.execute(
            "INSERT INTO events (event_id, tenant, tool_id, provider, type, status, message_id, "
            "delivery_id, received_at, partition, entry_id, payload_bytes) VALUES "
            "($1, 't', 'tool', 'none', 'x', $2, 'm', '', $3, 0, '1-1', 1)",
            id_of(days, n),
            status,
            at(days),
        )

    async def delivery(self, days: float, n: int, delivered: float) -> None:
        await self.postgres.execute(
            "INSERT INTO deliveries VALUES ('t', 'c', $1, $2, null, $3)",
            n,
            id_of(days, n),
            at(delivered),
        )

    async def moved(self, days: float) -> None:
        await self.postgres.execute(
            "INSERT INTO path_events VALUES ($1, 't', 'tool', 'old', true, '', '{}', '', $2)",
            id_of(days, 0),
            at(days),
        )
        await self.postgres.execute(
            "INSERT INTO old_results VALUES ('t', 'tool', 'e:x', $1, null, '')", at(days)
        )

    async def replay(self, n: int, status: str, days: float | None, events: int) -> None:
        replay_id = id_of(500, n)
        await self.postgres.execute(
            "INSERT INTO replays (replay_id, tenant, status, finished_at) VALUES ($1, 't', $2, $3)",
            replay_id,
            status,
            None if days is None else at(days),
        )
        for each in range(events):
            await self.postgres.execute(
                "INSERT INTO replay_events VALUES ($1, $2, 'accepted')", replay_id, id_of(500, each)
            )

    async def count(self) -> dict[str, int]:
        found = {}
        for table in TABLES[:-1]:
            row = await self.postgres.fetchrow(f"SELECT count(*) AS n FROM {table}")
            assert row is not None
            found[table] = row["n"]
        return found


@pytest.fixture
async def log(postgres_url: str) -> AsyncIterator[Log]:
    async with Postgres(postgres_url) as postgres:
        for table in TABLES:
            await postgres.execute(f"DELETE FROM {table}")
        yield Log(postgres)


async def test_what_is_old_goes_in_batches_and_what_is_asked_for_stays(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_expiry_module, "BATCH", 4)
    for n in range(10):
        await log.event(401, n)
        await log.delivery(401, n, 401)
    for n in range(10, 13):
        await log.event(399, n)
        await log.delivery(399, n, 399)
    # still on its way; replayed lately
    await log.event(500, 20, "retrying")
    await log.delivery(450, 21, 3)
    for days in (10, 401):
        await log.postgres.execute(
            "INSERT INTO daily_summaries VALUES ('t', 'c', $1::date, 1, '', 1, 1, 1, 1, $2)",
            at(days).date(),
            at(days),
        )
    for days in (6, 8, 401):
        await log.moved(days)
    await log.replay(1, "done", 91, 9)
    await log.replay(2, "cancelled", 89, 2)
    await log.replay(3, "running", None, 2)
    log.owned = False
    assert await log.expiry.expire() == 0
    log.owned = True
    assert await log.expiry.expire() == 10 + 10 + 2 + 2 + 1 + 9 + 1
    assert await log.count() == {
        "deliveries": 4, "events": 4, "path_events": 1, "old_results": 1,
        "daily_summaries": 1, "replay_events": 4, "replays": 2,
    }  # fmt: skip
    assert await log.expiry.expire() == 0


async def test_what_became_of_an_event_is_kept_as_long_as_the_event(log: Log) -> None:
    await log.event(401, 1)
    assert await log.expiry.kept_ms() == 400 * DAY
    await log.postgres.execute(
        "INSERT INTO tools (tool_id, tenant, provider, dedup, ordering, ttl) "
        "VALUES ('tool', 't', 'none', '{}', '{}', $1)",
        {"hot": "2h", "warm": "22h", "cold": "500d"},
    )
    assert await log.expiry.kept_ms() == 501 * DAY
    assert await log.expiry.expire() == 0
    await log.postgres.execute("DELETE FROM tools")
    log.catalog = Catalog(
        contexts={("t", "c"): Context("t", "c", "", "low", keeping=Keeping(600 * DAY))}
    )
    assert await log.expiry.kept_ms() == 600 * DAY
    log.catalog = Catalog()
    short = Log(log.postgres, event_log_days=1, dead_letter_days=45, dedup_history_days=20)
    assert await short.expiry.kept_ms() == 45 * DAY
    assert await short.expiry.expire() == 1
    assert orjson.dumps(await short.count()).count(b":0") == len(TABLES) - 1


async def test_the_audit_trail_ends_by_its_own_setting(log: Log) -> None:
    """By days: that rows have gone is a row, which must not come every ten minutes."""
    trail = AuditTrail(None, log.postgres)
    for n in range(3):
        await log.replay(n, "done", None, 0)

    async def numbers() -> list[int]:
        return [row.seq for row in await trail.find("t", AuditFilter(limit=1000))]

    def expiry(days: float) -> LogExpiry:
        now_ms = int((time.time() + days * 86_400) * 1000)
        return LogExpiry(
            log.postgres,
            Settings.model_validate({"audit_days": 10}),
            catalog=Catalog,
            now_ms=lambda: now_ms,
            mine=lambda: True,
        )

    before = await numbers()
    await expiry(10.9).expire()
    assert await numbers() == before
    await expiry(11.1).expire()
    assert await numbers() == [before[0] + 1]
    # not each time, but when a day's are over
    await log.replay(3, "done", None, 0)
    await expiry(10.9).expire()
    assert await numbers() == [before[0] + 2, before[0] + 1]
    assert (await trail.verify("t", None, None)).problems == []
