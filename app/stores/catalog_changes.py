"""Reading the catalog's rows from PostgreSQL: all of them, or those that have changed since."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hookstream.app import metrics
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.stores.catalog_rows import KEYS, Key, Row, Rows, key_of, subject_of

__all__ = ["Changes", "read_rows"]

#: More rows than these are not looked for one by one: all are read.
MOST_CHANGES: Final = 5_000
#: Rows in one reply, so that the event loop turns between.
PAGE: Final = 200

_ALL: Final = {
    "tools": "SELECT * FROM tools",
    "contexts": "SELECT * FROM contexts",
    "subscriptions": "SELECT * FROM subscriptions",
    "templates": "SELECT * FROM templates",
    "keys": "SELECT * FROM api_keys",
    "tenants": "SELECT tenant_id, name, state, reason, quotas FROM tenants",
    "masking": "SELECT tenant, masking FROM tenant_masking",
}
#: What the log calls a table whose rows are the catalog's, each by its key.
_KINDS: Final = {
    "tools": "tools",
    "contexts": "contexts",
    "subscriptions": "subscriptions",
    "templates": "templates",
    "api_keys": "keys",
    "tenants": "tenants",
    "tenant_masking": "masking",
}


@dataclass(frozen=True, slots=True)
class Changes:
    """What is another since an earlier state: rows by table and key, None for one that is gone.

    ``schema_ids``: schemas that subjects have got or lost, or that are gone.
    """

    version: int
    token: int
    rows: Mapping[str, Mapping[Key, Row | None]]
    schema_ids: frozenset[int] = frozenset()


async def read_rows(postgres: Postgres, since: tuple[int, int] | None = None) -> Rows | Changes:
    """The rows of now; only what has changed where the log goes back to ``since``.

    ``since`` is version and token of a state; None for all rows. Whatever is read is of one moment.

    Raises:
        UnavailableError: PostgreSQL is away.
    """
    async with postgres.snapshot() as connection:
        state = await connection.fetchrow(statement("registry_state"), *(since or (0, 0)))
        version, token, logged = state or (0, 0, False)
        logs: Sequence[Any] = ()
        if since and logged:
            logs = await connection.fetch(statement("registry_changes"), since[0], MOST_CHANGES + 1)
            logged = len(logs) <= MOST_CHANGES and all(log["kind"] for log in logs)
        if since and logged:
            return await _changed(connection, version, token, logs)
        return await _all(connection, version, token)


async def _all(connection: Any, version: int, token: int) -> Rows:
    found: dict[str, list[Row]] = {}
    for table, query in _ALL.items():
        found[table] = [row async for row in connection.cursor(query, prefetch=PAGE)]
    schemas: list[Row] = []
    if any(row["payload_schema"] for row in found["tools"]):
        query = statement("payload_schemas")
        schemas = [row async for row in connection.cursor(query, prefetch=PAGE)]
    count = sum(map(len, found.values())) + len(schemas)
    metrics.CATALOG_ROWS_READ.labels(load="all").inc(count)
    return Rows(version, token, **found, schemas=schemas)


async def _changed(connection: Any, version: int, token: int, logs: Sequence[Any]) -> Changes:
    keys: dict[str, set[Key]] = defaultdict(set)
    schema_ids: set[int] = set()
    for log in logs:
        key = tuple(log["row_key"])
        if log["kind"] == "schema_versions":
            keys["schemas"].add(key[:2])
        if log["kind"] in ("schema_versions", "schemas"):
            schema_ids.add(int(key[-1]))
        elif table := _KINDS.get(log["kind"]):  # a newer release may log tables of its own
            keys[table].add(key)
    rows: dict[str, Mapping[Key, Row | None]] = {}
    for table in _ALL:
        if keys[table]:
            rows[table] = await _by_key(connection, table, keys[table])
    for row in rows.get("tools", {}).values():
        if row is not None and (subject := subject_of(row)) is not None:
            keys["schemas"].add((row["tenant"], subject))
    if keys["schemas"]:
        rows["schemas"] = await _by_key(connection, "schemas", keys["schemas"])
    count = sum(map(len, rows.values()))
    metrics.CATALOG_ROWS_READ.labels(load="changes").inc(count)
    return Changes(version, token, rows, frozenset(schema_ids))


async def _by_key(connection: Any, table: str, keys: Collection[Key]) -> Mapping[Key, Row | None]:
    wanted = sorted(keys)
    columns = [[key[at] for key in wanted] for at in range(len(KEYS[table]))]
    found: dict[Key, Row | None] = dict.fromkeys(wanted)
    async for row in connection.cursor(statement(f"changed_{table}"), *columns, prefetch=PAGE):
        found[key_of(table, row)] = row
    return found
