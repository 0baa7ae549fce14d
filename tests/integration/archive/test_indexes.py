"""What asks the manifest goes by its indexes, however much is in there."""

from typing import Any

import orjson
import pytest

from hookstream.app.archive.rows import place_number
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement

FILL = """
INSERT INTO archive_objects (
    name, tenant, tool_id, hour, schema_version, events, bytes, payload_bytes, footer_bytes, sha256,
    first_event, last_event, oldest_ms, newest_ms, finished
)
SELECT 'o' || n, 'default', CASE n % 9 WHEN 0 THEN 'tool' ELSE 'other' END, now(), 1, 1, 1, 1, 1,
    '', gen_random_uuid(), gen_random_uuid(),
    n * 1000, n * 1000 + 999, true
FROM generate_series(1, 20000) AS n
"""
RANGES = """
INSERT INTO archive_ranges (
    object, row_group, place, first_entry, last_entry, oldest_ms, newest_ms, events
)
SELECT 'o' || n, 0, $1::bigint + n % 9, n * 1000, n * 1000 + 999, n * 1000, n * 1000 + 999, 1
FROM generate_series(1, 20000) AS n
"""
COVERED = """
INSERT INTO archive_covered SELECT 'default', 'tool', 1, n * 1000, 0, n * 1000 + 999, 0, n
FROM generate_series(1, 20000) AS n
"""
PLACE = place_number("default", "tool")
AT = 10_000_000


@pytest.mark.parametrize(
    ("name", "arguments", "index"),
    [
        ("archive_locate", [["default"], ["tool"], [PLACE], [AT + 5]], "archive_ranges_by_entry"),
        (
            "archive_page_of_tool",
            ["default", "tool", PLACE, AT, "", -1, AT, AT + 100_000, 500],
            "archive_ranges_by_tool",
        ),
        (
            "archive_page_of_tenant",
            ["default", AT, "", -1, AT, AT + 100_000, 500],
            "archive_ranges_by_time",
        ),
        (
            "archive_covered",
            [["default"], ["tool"], [1], [AT + 1], [0], [AT + 2], [0]],
            "archive_covered_pkey",
        ),
    ],
)
async def test_statements_go_by_indexes(
    postgres: Postgres, name: str, arguments: list[Any], index: str
) -> None:
    await postgres.execute(FILL)
    await postgres.execute(RANGES, PLACE)
    await postgres.execute(COVERED)
    await postgres.execute("ANALYZE archive_objects, archive_ranges, archive_covered")
    [row] = await postgres.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement(name)}", *arguments)
    plan = orjson.dumps(orjson.loads(row[0])).decode()
    assert index in plan
    assert "Seq Scan" not in plan
