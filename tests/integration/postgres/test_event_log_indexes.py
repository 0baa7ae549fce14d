"""Every index of the event log has a query that needs it, and every query its index."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from hookstream.app.postgres.migrations.run import upgrade
from hookstream.app.postgres.sql import statement
from hookstream.app.stores.events import SEARCHED, EventFilter, EventStore

ROWS = 200_000
#: Two events in five seconds, of eight tools and contexts, with a few of a tool, and of a tenant,
#: that hardly have any.
FILL = (
    """
    INSERT INTO events (
        event_id, tenant, tool_id, provider, type, status, message_id, delivery_id, received_at,
        partition, entry_id, payload_bytes
    )
    SELECT
        (lpad(to_hex(ms), 12, '0') || '70008' || lpad(to_hex(n), 15, '0'))::uuid,
        CASE WHEN n % 50000 = 7 THEN 'other' ELSE 't' END,
        CASE WHEN n % 20000 = 1 THEN 'rare' ELSE 'tool-' || n % 8 END, 'none', 'x',
        CASE WHEN n % 1000 = 1 THEN 'retrying' ELSE 'accepted' END, 'm' || n, '',
        to_timestamp(ms / 1000.0), n % 32, ms || '-0', 9000
    FROM (
        SELECT n, 1735689600000 + n::bigint * 400 AS ms FROM generate_series(1, $1::integer) AS n
    ) AS made
    """,
    """
    INSERT INTO deliveries (tenant, context_id, seq, event_id, replay_id, delivered_at)
    SELECT
        tenant, 'c-' || right(message_id, 1), substr(message_id, 2)::bigint, event_id,
        CASE WHEN message_id LIKE '%000' THEN event_id END, received_at
    FROM events WHERE substr(message_id, 2)::integer <= $1
    """,
    "INSERT INTO contexts (tenant, context_id, name, priority) VALUES ('t', 'c-3', '', 'low')",
)
ANYTHING: tuple[Any, ...] = (None, None, None, None)
IDS = EventFilter().ids()
#: An event in the middle.
SOME = UUID(int=(1735689600000 + ROWS // 2 * 400 << 80) | 0x7000_8000 << 48 | ROWS // 2)
FIRST = UUID(int=0)

#: Index → statements that need it, each with arguments.
NEEDED: dict[str, dict[str, tuple[Any, ...]]] = {
    "events_pkey": {
        "event_entries": ([SOME],),
        "owners_of_events": ([SOME],),
        "lost_deliveries": ("t", "c-3", [1], [ROWS // 2], 0, FIRST, 100),
        "missing_deliveries": ("t", "c-3", ROWS - 100, None, 100),
    },
    "events_by_time": {
        "find_events": ("other", None, *ANYTHING, *IDS, 50, False, SEARCHED, None),
        "last_looked_at": ("other", None, *IDS, 100),
        "count_to_replay": ("other", None, None, None, None, *IDS, None, 100_000),
        "unsettled_events": ("other", FIRST, 100),
    },
    "events_by_tool": {
        "find_events": ("t", None, "rare", None, None, None, *IDS, 50, False, SEARCHED, None),
        "last_looked_at": ("t", "rare", *IDS, 5),
        "export_events": ("t", "rare", FIRST, SOME, 100),
        "count_to_replay": ("t", "rare", None, None, None, *IDS, None, 100_000),
    },
    "events_by_place": {
        "events_to_replay": ("t", *ANYTHING, None, None, None, FIRST, -1, -1, FIRST, 100),
    },
    "events_by_message": {
        "first_events": (["t"], ["m5"], [SOME], [0]),
        "alike_events": ("t", ["m5"], [0], 1),
    },
    "deliveries_pkey": {
        "lost_deliveries": ("t", "c-3", [1], [ROWS // 2], 0, FIRST, 100),
        "missing_deliveries": ("t", "c-3", ROWS - 100, None, 100),
        "delivered_tops": (),
        "log_tops": (["t"], ["c-3"]),
        "forget_deliveries": ("t", "gone"),
    },
    "deliveries_by_event": {
        "find_events": (
            "t",
            None,
            "rare",
            None,
            "delivered",
            None,
            *IDS,
            50,
            False,
            SEARCHED,
            None,
        ),
        "event_deliveries": ("t", SOME, None, 100),
        "lost_deliveries": ("t", "c-3", [1], [ROWS // 2], 0, FIRST, 100),
    },
    "deliveries_by_replay": {
        "replays": ("t", SOME, None, None, 1, 100),
    },
}
PAGE = Path(__file__).parents[3] / "docs" / "architecture.md"


@pytest.fixture(scope="module")
def filled(postgres_url: str) -> Iterator[str]:
    """A database of 200,000 events."""

    async def make() -> str:
        admin = await asyncpg.connect(postgres_url)
        await admin.execute("CREATE DATABASE indexes")
        await admin.close()
        url = postgres_url.replace("/hookstream?", "/indexes?")
        await upgrade(url)
        connection = await asyncpg.connect(url)
        for query in FILL:
            await connection.execute(query, *([ROWS] if "$1" in query else []))
        await connection.execute(
            "INSERT INTO replays (replay_id, tenant, status) VALUES ($1, 't', 'done')", SOME
        )
        await connection.execute("ANALYZE")
        await connection.close()
        return url

    return asyncio.run(make())


@pytest.fixture
async def connection(filled: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(filled)
    yield connection
    await connection.close()


async def plan(connection: asyncpg.Connection, name: str, arguments: tuple[Any, ...]) -> str:
    rows = await connection.fetch(f"EXPLAIN {statement(name)}", *arguments)
    return "\n".join(row[0] for row in rows)


async def test_each_index_is_what_a_query_goes_by(connection: asyncpg.Connection) -> None:
    unused = []
    for index, queries in NEEDED.items():
        for name, arguments in queries.items():
            found = await plan(connection, name, arguments)
            if not re.search(rf"\b{index}\b", found):
                unused.append(f"{index}: {name}\n{found}")
    assert not unused, "\n\n".join(unused)


async def test_there_are_no_others(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        "SELECT indexname FROM pg_indexes WHERE tablename IN ('events', 'deliveries')"
    )
    assert {row["indexname"] for row in rows} == NEEDED.keys()


def test_the_page_names_each_with_its_queries() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]* \| ([^|]*) \|$", PAGE.read_text(), re.M)
    told = {index: set(re.findall(r"`(\w+)`", names)) for index, names in rows}
    assert {index: told.get(index) for index in NEEDED} == {
        index: set(queries) for index, queries in NEEDED.items()
    }


class AskedError(Exception):
    """A statement and its arguments, instead of rows."""


class Asking:
    """In place of PostgreSQL: says what it is asked."""

    async def fetchrow(self, query: str, *arguments: Any) -> None:
        raise AskedError(query, *arguments)


async def test_an_event_is_found_by_its_id_however_it_is_planned(
    connection: asyncpg.Connection,
) -> None:
    """A plan that is made once for any arguments must not walk through the events before it."""
    store = EventStore(None, Asking(), 1, None, None)  # type: ignore[arg-type]
    with pytest.raises(AskedError) as asked:
        await store.get("t", str(SOME))
    query, *arguments = asked.value.args
    assert [row["event_id"] for row in await connection.fetch(query, *arguments)] == [SOME]
    # what is explained with arguments is planned for those
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    await connection.execute(f"PREPARE asked AS {query}")
    given = ", ".join("NULL" if a is None else f"'{a}'" for a in arguments)
    rows = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked ({given})")
    passed = re.findall(r'"Rows Removed by Filter": (\d+)', str(rows[0][0]))
    assert all(int(removed) < 10 for removed in passed)
