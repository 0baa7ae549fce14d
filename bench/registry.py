"""What a change of tools, contexts or subscriptions costs every process that has it to learn.

``python -m bench.registry [--contexts 5000] [--quick] [--write]``. A PostgreSQL of its own with so
many contexts, each with a subscription with a condition of its own, to one tool. One process's
catalog follows it, as in a receiver; then one context at a time is changed.
"""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.measure import Result, main, progress
from hookstream.app import embedded
from hookstream.app.postgres.pool import Postgres
from hookstream.app.schema_registry.store import SchemaStore
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.stores.catalog_copy import CatalogCopy

CHANGES = 20
#: Changes one after the other, as a script that sets many contexts makes them.
IN_A_ROW = 200
#: So long nothing changes, for what is put off until then.
QUIET_SECONDS = 0.5
TICK_SECONDS = 0.001
FILL = """
INSERT INTO tools (tool_id, tenant, provider, dedup, ordering, ttl)
VALUES ('x', 't', 'none', '{"strategy": "none", "fields": [], "window_seconds": 0}',
        '{"by": "none", "field": ""}', '{}');
INSERT INTO contexts (tenant, context_id, name, priority)
SELECT 't', 'c' || n, 'context ' || n, 'normal' FROM generate_series(1, $1::integer) AS n;
INSERT INTO subscriptions (tenant, context_id, name, tool_id, types, condition)
SELECT 't', 'c' || n, 's', 'x', ARRAY['c' || n || '.*'], 'payload.n == ' || n
FROM generate_series(1, $1::integer) AS n;
"""


class Holds:
    """How long the event loop did nothing else, at most, since it was last asked."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._tick()

    def _tick(self) -> None:
        now = time.monotonic()
        self.longest = max(self.longest, now - self._last - TICK_SECONDS)
        self._last = now
        self._loop.call_later(TICK_SECONDS, self._tick)

    def taken(self) -> float:
        """The longest hold in seconds; begins anew."""
        longest, self.longest = self.longest, 0.0
        return longest


@asynccontextmanager
async def following(postgres: Postgres, folder: Path) -> AsyncIterator[CatalogCache]:
    """A process's catalog, up to date."""
    copy = CatalogCopy(folder / "registry.json")
    catalog = CatalogCache(postgres, SchemaStore(postgres), copy)
    await catalog.start()
    try:
        yield catalog
    finally:
        await catalog.stop()


async def change(postgres: Postgres, catalog: CatalogCache, number: int) -> float:
    """Change a context and its subscription; the seconds until the catalog has them."""
    await postgres.execute(
        "UPDATE contexts SET name = name || '!' WHERE context_id = $1", f"c{number}"
    )
    await postgres.execute(
        "UPDATE subscriptions SET condition = condition || ' && true' WHERE context_id = $1",
        f"c{number}",
    )
    begun = time.monotonic()
    row = await postgres.fetchrow("SELECT version, token FROM registry_version")
    assert row is not None
    await catalog.catch_up(row["version"], row["token"])
    if catalog.current.version < row["version"]:
        raise RuntimeError("the catalog has not followed")
    return time.monotonic() - begun


async def measure(contexts: int, changes: int, in_a_row: int) -> Result:
    """Fill, follow, change."""
    result = Result(
        f"`python -m bench.registry --contexts {contexts}`: {contexts:,} contexts with a "
        "subscription each, and a condition each, in a PostgreSQL of its own; a catalog that "
        "follows it, with its copy on disk. A change is of one context and its subscription; "
        "CPU and holds of the event loop are this process's, what is put off for half a second "
        "included."
    )
    with TemporaryDirectory(prefix="hs-") as folder:
        server = embedded.start_postgres(Path(folder))
        postgres = Postgres(server.url)
        await postgres.start()
        try:
            for statement in filter(str.strip, FILL.split(";")):
                await postgres.execute(statement, *([contexts] if "$1" in statement else []))
            holds = Holds()
            progress("start")
            begun = time.monotonic()
            async with following(postgres, Path(folder)) as catalog:
                result.add("start: all rows are read", "ms", [(time.monotonic() - begun) * 1e3])
                await asyncio.sleep(2 * QUIET_SECONDS)
                result.add("start: longest hold of the event loop", "ms", [holds.taken() * 1e3])
                progress("single changes")
                taken, longest, cpu = [], [], []
                for number in range(1, changes + 1):
                    holds.taken()
                    busy = time.process_time()
                    taken.append(await change(postgres, catalog, number) * 1e3)
                    await asyncio.sleep(QUIET_SECONDS)
                    cpu.append((time.process_time() - busy) * 1e3)
                    longest.append(holds.taken() * 1e3)
                result.add("a change: until it is taken over", "ms", taken)
                result.add("a change: CPU of the process", "ms", cpu)
                result.add("a change: longest hold of the event loop", "ms", longest)
                progress("many changes")
                begun, busy = time.monotonic(), time.process_time()
                for number in range(1, in_a_row + 1):
                    await change(postgres, catalog, number % contexts + 1)
                result.add(
                    f"{in_a_row} changes in a row, each waited for",
                    "s",
                    [time.monotonic() - begun],
                )
                result.add(
                    f"{in_a_row} changes in a row: CPU of the process",
                    "s",
                    [time.process_time() - busy],
                )
        finally:
            await postgres.stop()
            server.stop()
    return result


def run(options: argparse.Namespace) -> Result:
    """As the command line says."""
    if options.quick:
        return asyncio.run(measure(100, 2, 4))
    return asyncio.run(measure(options.contexts, CHANGES, IN_A_ROW))


if __name__ == "__main__":
    main("registry", __doc__, run, ("--contexts", {"type": int, "default": 5000}))
