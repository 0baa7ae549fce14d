"""Rows of configuration that nobody can use: they are passed over and named; the others work."""

from pathlib import Path
from typing import Any

import pytest

from tests.integration.stores.test_catalog import DEDUP, ORDERING, add_tool, cache

TOOL: dict[str, Any] = {
    "tenant": "default",
    "provider": "github",
    "secrets": ["s3cret"],
    "options": {},
    "dedup": DEDUP,
    "ordering": ORDERING,
    "ttl": {},
}
TOOLS: list[dict[str, Any]] = [
    {"provider": "nobody"},
    {"secrets": [None]},
    {"options": []},
    {"options": {"header": 7}},
    {"options": "x"},
    {"dedup": {}},
    {"dedup": {"strategy": "payload", "fields": [], "window_seconds": "24h"}},
    {"dedup": {"strategy": "payload", "fields": [], "window_seconds": 10**18}},
    {"dedup": {"strategy": "magic", "fields": [], "window_seconds": 60}},
    {"dedup": {"strategy": "fields", "fields": [None, 1], "window_seconds": 60}},
    {"ordering": 7},
    {"ordering": {"by": "moon", "field": ""}},
    {"ordering": {"by": "field", "field": ["a"]}},
    {"alert": {"failures": "many"}},
    {"alert": [1]},
    {"payload_schema": {"subject": 7, "on_violation": "mark"}},
    {"payload_schema": {"subject": "s", "on_violation": "shout"}},
    {"payload_schema": [1]},
    {"payload_schema": "s"},
    # one that nobody can read is not taken for none: the tool takes nothing then
    {"allow_from": ["nowhere"]},
    {"allow_from": ["192.0.2.0/24", "10.0.0.1/8"]},
]
CONTEXTS: list[dict[str, Any]] = [
    {"priority": "urgent"},
    {"rate": {"updates_per_second": "1"}},
    {"rate": {"updates_per_second": 0}},
    {"rate": {"updates_per_second": 1, "burst": 0.5}},
    {"rate": [1]},
    {"daily": {"at": "25:99"}},
    {"daily": {"at": "08:00", "timezone": "Moon/Far", "since": "2026-01-01", "token_budget": None}},
    {"daily": {"at": "08:00", "timezone": "UTC", "since": "2026-01-01", "token_budget": None}},
    {"daily": "noon"},
]
SUBSCRIPTIONS: list[dict[str, Any]] = [
    {"types": [None]},
    {"types": [["a", "b"], ["c", "d"]]},
    {"priority": "urgent"},
    {"condition": "("},
    {"condition": "!" * 5000 + "true"},
    {"condition": "(" * 5000 + "true" + ")" * 5000},
]
TEMPLATES = [
    "{{ " + "not " * 478 + "1 }}",
    "{{ " + "(" * 3000,
    "{% if 1 %}" * 150 + "{% endif %}" * 150,
    "{% for x in",
    "{{ 1 / 0 }}",
    "x" * 100_000,
    "{{ 1 | round(4000000, 'ceil') }}",
]


async def insert(catalog: Any, table: str, row: dict[str, Any]) -> None:
    marks = ", ".join(f"${number + 1}" for number in range(len(row)))
    columns = ", ".join(row)
    await catalog.postgres.execute(
        f"INSERT INTO {table} ({columns}) VALUES ({marks})",
        *row.values(),
    )


@pytest.fixture
def tables() -> list[str]:
    return ["subscriptions", "contexts", "tools", "templates", "api_keys"]


async def test_no_row_of_configuration_keeps_a_process_from_starting(
    postgres_url: str, tmp_path: Path, name: str, tables: list[str]
) -> None:
    bad: list[str] = []
    for folder in ("new", "writer"):
        (tmp_path / folder).mkdir()
    async with cache(postgres_url, tmp_path / "writer") as writer:
        await add_tool(writer, f"{name}-good")
        context = {"tenant": "default", "name": "n", "priority": "normal"}
        subscription = {"tenant": "default", "tool_id": f"{name}-good", "types": ["*"]}
        try:
            await insert(writer, "contexts", {**context, "context_id": f"{name}-good"})
            await insert(
                writer,
                "subscriptions",
                {**subscription, "context_id": f"{name}-good", "name": "good"},
            )
            for number, change in enumerate(TOOLS):
                await insert(writer, "tools", {**TOOL, "tool_id": f"{name}-{number}", **change})
                bad.append(f"tool {name}-{number}")
            for number, change in enumerate(CONTEXTS):
                row = {**context, "context_id": f"{name}-{number}", **change}
                await insert(writer, "contexts", row)
                bad.append(f"context {name}-{number}")
            for number, change in enumerate(SUBSCRIPTIONS):
                row = {**subscription, "context_id": f"{name}-good", "name": f"s{number}", **change}
                await insert(writer, "subscriptions", row)
                bad.append(f"subscription s{number} of context {name}-good")
            for number, source in enumerate(TEMPLATES):
                row = {
                    "tenant": "default",
                    "name": f"{name}-{number}",
                    "provider": "none",
                    "types": "*",
                    "source": source,
                    "version": 1,
                }
                await insert(writer, "templates", row)
                bad.append(f"template {name}-{number}")
            row = {
                "key_id": f"{name}-key",
                "tenant": "default",
                "name": "n",
                "hash": name.encode(),
                "contexts": [["a"], ["b"]],
            }
            await insert(writer, "api_keys", row)
            bad.append(f"key {name}-key")

            # a process that starts, and one that has been there before
            for folder in ("new", "new", "writer"):
                async with cache(postgres_url, tmp_path / folder) as started:
                    found = await started.reload()
                    assert f"{name}-good" in found.tools
                    (good,) = found.by_tool[f"{name}-good"]
                    assert good.name == "good"
                    assert set(bad) <= set(found.passed_over)
                    assert "this release cannot use" in started.note
                    assert not [tool for tool in found.tools if f"tool {tool}" in bad]
        finally:
            for table in tables:
                column = {
                    "tools": "tool_id",
                    "templates": "name",
                    "api_keys": "key_id",
                }.get(table, "context_id")
                await writer.postgres.execute(
                    f"DELETE FROM {table} WHERE {column} LIKE $1",
                    f"{name}%",
                )
