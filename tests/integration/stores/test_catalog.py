"""The registry of a process: a copy on its own disk, and a database that went back in time."""

import asyncio
import os
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import orjson
import pytest

from hookstream.agents.dedupe import known_to_senders
from hookstream.app import metrics
from hookstream.app.errors import UnavailableError
from hookstream.app.postgres.pool import Postgres, _init
from hookstream.app.postgres.sql import statement
from hookstream.app.routing.catalog import Catalog
from hookstream.app.schema_registry.store import SchemaStore
from hookstream.app.stores import catalog as catalog_module
from hookstream.app.stores.catalog import WAIT_SECONDS, CatalogCache
from hookstream.app.stores.catalog_changes import read_rows
from hookstream.app.stores.catalog_copy import CatalogCopy
from hookstream.app.stores.catalog_rows import Rows, decode_rows, encode_rows
from hookstream.app.stores.catalog_state import CatalogState, build
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.partition import Partition
from hookstream.app.testing import make_event
from tests.support.catalogs import comparable
from tests.support.faults import full_disk
from tests.support.stack import eventually, free_port

TOOL = """
INSERT INTO tools (tool_id, tenant, provider, secrets, options, dedup, ordering, ttl)
VALUES ($1, 'default', 'github', '{s3cret}', '{}', $2, $3, '{}')
"""
DEDUP = {"strategy": "payload", "fields": [], "window_seconds": 60}
ORDERING = {"by": "tool", "field": ""}
#: A point-in-time restore, as the program sees it: an older number under another token.
RESTORE = "UPDATE registry_version SET version = version - $1, token = registry_token()"


@asynccontextmanager
async def cache(url: str, folder: Path) -> AsyncIterator[CatalogCache]:
    postgres = Postgres(url)
    found = CatalogCache(postgres, SchemaStore(postgres), CatalogCopy(folder / "registry.json"))
    await postgres.start()
    await found.start()
    try:
        yield found
    finally:
        await found.stop()
        await postgres.stop()


async def add_tool(catalog: CatalogCache, name: str) -> Catalog:
    await catalog.postgres.execute(TOOL, name, DEDUP, ORDERING)
    return await catalog.reload()


def nowhere() -> str:
    """The address of a PostgreSQL that is away."""
    return f"postgresql://nobody@127.0.0.1:{free_port()}/none"


async def test_a_process_starts_with_what_was_known_while_postgresql_is_away(
    postgres_url: str, tmp_path: Path, name: str
) -> None:
    async with cache(postgres_url, tmp_path) as catalog:
        known = await add_tool(catalog, name)
    copy = tmp_path / "registry.json"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    async with cache(nowhere(), tmp_path) as catalog:
        assert catalog.loaded
        assert catalog.from_disk
        assert catalog.current == known
        assert catalog.current.tools[name].secrets == ("s3cret",)
        assert 0 <= catalog.age_seconds < 60
        with pytest.raises(UnavailableError):
            await catalog.reload()
    # what comes from the disk is looked up anew, be its number the same
    async with cache(postgres_url, tmp_path) as catalog:
        assert not catalog.from_disk
        assert catalog.current == known


async def test_a_damaged_copy_is_no_hindrance(postgres_url: str, tmp_path: Path) -> None:
    copy = tmp_path / "registry.json"
    for damage in (b"", b"{", b"[]", b'{"format":1}', b'{"format":99}'):
        copy.write_bytes(damage)
        async with cache(nowhere(), tmp_path) as catalog:
            assert not catalog.loaded
    copy.write_bytes(orjson.dumps({"format": 1, "version": 7, "token": 1, "tools": [{}]}))
    async with cache(postgres_url, tmp_path) as catalog:
        assert catalog.loaded
        assert not catalog.from_disk


async def test_a_disk_that_takes_nothing_is_no_hindrance(postgres_url: str, tmp_path: Path) -> None:
    async with cache(postgres_url, tmp_path / "missing") as catalog:
        assert catalog.loaded


async def test_a_copy_that_could_not_be_written_is_not_confirmed_but_written_later(
    postgres_url: str, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_module, "CONFIRM_SECONDS", 0.1)
    monkeypatch.setattr(catalog_module, "COPY_SECONDS", 0.1)
    copy = tmp_path / "registry.json"
    async with cache(postgres_url, tmp_path) as catalog:
        catalog.poll_seconds = 0.05

        async def begun() -> bool:
            return copy.exists()

        await eventually(begun, "there is a copy")
        with full_disk(0):
            await add_tool(catalog, name)
            os.utime(copy, (1, 1))
            await asyncio.sleep(0.5)
            assert name not in copy.read_text()
            assert copy.stat().st_mtime == 1
            assert not list(tmp_path.glob("registry.json.*"))

        async def written() -> bool:
            return name in copy.read_text()

        await eventually(written, "the disk has it")
        os.utime(copy, (1, 1))

        async def confirmed() -> bool:
            return copy.stat().st_mtime > 1

        await eventually(confirmed, "it is confirmed again")


CONTEXT = """
INSERT INTO contexts (tenant, context_id, name, priority) VALUES ('default', $1, $1, 'normal')
"""
SUBSCRIPTION = """
INSERT INTO subscriptions (tenant, context_id, name, tool_id, types)
VALUES ('default', $1, $2, $3, '{*}')
ON CONFLICT (tenant, context_id, name) DO UPDATE SET tool_id = $3, updated_at = now()
"""


def rows_read(load: str) -> float:
    value = metrics.REGISTRY.get_sample_value("hookstream_catalog_rows_read_total", {"load": load})
    return value or 0.0


async def whole(catalog: CatalogCache) -> Catalog:
    """What reading all rows gives, where the catalog would keep what cannot be read."""
    rows = await read_rows(catalog.postgres)
    assert isinstance(rows, Rows)
    return (await build(rows, catalog.schemas, before=catalog.current)).catalog()


async def test_a_change_reads_the_rows_that_have_changed_and_no_others(
    postgres_url: str, tmp_path: Path, name: str
) -> None:
    async with cache(postgres_url, tmp_path) as catalog:
        catalog.poll_seconds = 3600
        await add_tool(catalog, name)
        await catalog.postgres.execute(
            "INSERT INTO contexts (tenant, context_id, name, priority) "
            "SELECT 'default', $1 || n, '', 'normal' FROM generate_series(1, 900) AS n",
            f"{name}-",
        )
        await catalog.reload()
        try:
            every, changes = rows_read("all"), rows_read("changes")
            await catalog.postgres.execute(CONTEXT, name)
            await catalog.postgres.execute(SUBSCRIPTION, name, "s", name)
            found = await catalog.reload()
            assert [one.name for one in found.by_tool[name]] == ["s"]
            assert (rows_read("all"), rows_read("changes")) == (every, changes + 2)
            # a state that is known is not read at all
            await catalog.reload()
            assert rows_read("changes") == changes + 2
            # nor is a statement that changes no row one
            await catalog.postgres.execute("UPDATE tools SET alert = '{}' WHERE tool_id = 'none'")
            assert (await catalog.reload()) is found
        finally:
            await catalog.postgres.execute(
                "DELETE FROM contexts WHERE context_id LIKE $1 || '%'", name
            )
        assert name not in (await catalog.reload()).by_tool
        assert rows_read("all") == every


@pytest.mark.parametrize("how", ["trimmed", "too many", "another past"])
async def test_where_the_log_does_not_say_what_has_changed_all_rows_are_read(
    postgres_url: str, tmp_path: Path, name: str, how: str
) -> None:
    async with cache(postgres_url, tmp_path) as catalog:
        catalog.poll_seconds = 3600
        execute = catalog.postgres.execute
        known = await add_tool(catalog, name)
        every = rows_read("all")
        async with catalog._reloading:  # it looks when all of it is done
            await execute("UPDATE tools SET provider = 'none' WHERE tool_id = $1", name)
            if how == "trimmed":
                await execute("DELETE FROM registry_changes WHERE version <= $1", known.version)
            elif how == "too many":
                await execute(
                    "INSERT INTO contexts (tenant, context_id, name, priority) "
                    "SELECT 'default', $1 || n, '', 'normal' FROM generate_series(1, 1001) AS n",
                    name,
                )
            else:
                # a copy in which there never was the state that is known, and edits since
                await execute(
                    "UPDATE registry_changes SET token = token + 1 WHERE version = $1",
                    known.version,
                )
        try:
            found = await catalog.reload()
            assert found.tools[name].provider == "none"
            assert rows_read("all") > every
            assert comparable(found) == comparable(await whole(catalog))
        finally:
            await execute("DELETE FROM contexts WHERE context_id LIKE $1 || '%'", name)


@pytest.mark.parametrize("seed", range(3))
async def test_changes_in_the_database_give_what_reading_all_of_it_gives(
    postgres_url: str, tmp_path: Path, name: str, seed: int
) -> None:
    draw = Random(seed)
    ids = [f"{name}-{number}" for number in range(4)]

    def change() -> tuple[str, *tuple[Any, ...]]:
        one, other = draw.choice(ids), draw.choice(ids)
        number = draw.choice("12")
        return draw.choice(
            [
                (
                    TOOL + " ON CONFLICT (tool_id) DO UPDATE SET provider = 'none'",
                    one,
                    DEDUP,
                    ORDERING,
                ),
                ("DELETE FROM tools WHERE tool_id = $1", one),
                (
                    "UPDATE tools SET options = $2 WHERE tool_id = $1",
                    one,
                    draw.choice([{}, {"x": 1}]),
                ),
                (
                    "UPDATE tools SET payload_schema = $2 WHERE tool_id = $1",
                    one,
                    draw.choice([None, {"subject": name + number, "on_violation": "mark"}]),
                ),
                (
                    "UPDATE tools SET tenant = $2 WHERE tool_id = $1",
                    one,
                    draw.choice(["default", "u"]),
                ),
                (CONTEXT + " ON CONFLICT DO NOTHING", one),
                ("DELETE FROM contexts WHERE context_id = $1", one),
                (
                    "UPDATE contexts SET priority = $2 WHERE context_id = $1",
                    one,
                    draw.choice(["critical", "low", "urgent"]),
                ),
                # a key that changes
                (
                    "UPDATE subscriptions SET name = name || '!' "
                    "WHERE context_id = $1 AND name = $2",
                    one,
                    number,
                ),
                (
                    "INSERT INTO subscriptions (tenant, context_id, name, tool_id, types) "
                    "SELECT tenant, context_id, $2, $3, '{*}' FROM contexts WHERE context_id = $1 "
                    "ON CONFLICT (tenant, context_id, name) DO UPDATE SET tool_id = $3",
                    one,
                    number,
                    draw.choice([other, "*"]),
                ),
                ("DELETE FROM subscriptions WHERE context_id = $1 AND name = $2", one, number),
                (
                    statement("put_template"),
                    "default",
                    one,
                    "none",
                    draw.choice(["*", "push"]),
                    draw.choice(["a", "b", "{% for"]),
                ),
                ("DELETE FROM templates WHERE name = $1", one),
                (
                    "INSERT INTO api_keys (key_id, tenant, name, hash, contexts) "
                    "VALUES ($1, 'default', '', $2, ARRAY[$3])",
                    f"{one}-{draw.getrandbits(32)}",
                    draw.randbytes(8),
                    one,
                ),
                (statement("cut_keys"), "default", one),
                (
                    statement("register_schema"),
                    "default",
                    name + number,
                    "JSON",
                    draw.choice(['{"type": "object"}', '{"type": "array"}', "{"]),
                    [],
                    draw.randbytes(8),
                    b"",
                    0,
                ),
                ("DELETE FROM schema_versions WHERE subject = $1", name + number),
                (
                    "UPDATE schema_versions SET deleted = NOT deleted WHERE subject = $1",
                    name + number,
                ),
            ]
        )

    async with cache(postgres_url, tmp_path) as catalog:
        every = rows_read("all")
        connection = await asyncpg.connect(postgres_url)
        await _init(connection)
        reads = 0
        try:
            for _ in range(60):
                transaction = connection.transaction()
                await transaction.start()
                for query, *arguments in [change() for _ in range(draw.randint(1, 6))]:
                    await connection.execute(query, *arguments)
                await (transaction.commit() if draw.random() < 0.9 else transaction.rollback())
                if draw.random() < 0.5:
                    # many that nobody looks at between
                    continue
                before = rows_read("all")
                found = await catalog.reload()
                assert rows_read("all") == before
                assert comparable(found) == comparable(await whole(catalog))
                reads += 1
            assert reads > 10
            assert every < rows_read("all")
        finally:
            for query in (
                "DELETE FROM tools WHERE tool_id LIKE $1 || '%'",
                "DELETE FROM contexts WHERE context_id LIKE $1 || '%'",
                "DELETE FROM templates WHERE name LIKE $1 || '%'",
                "DELETE FROM api_keys WHERE key_id LIKE $1 || '%'",
                "DELETE FROM schema_versions WHERE subject LIKE $1 || '%'",
            ):
                await connection.execute(query, name)
            await connection.close()


async def test_the_copy_is_written_once_for_many_changes_and_once_for_a_folder(
    postgres_url: str, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written() -> float:
        return metrics.REGISTRY.get_sample_value("hookstream_catalog_copies_total") or 0.0

    monkeypatch.setattr(catalog_module, "COPY_SECONDS", 3600)
    monkeypatch.setattr(catalog_module, "COPY_REST", 1e9)
    copy = CatalogCopy(tmp_path / "registry.json")
    async with cache(postgres_url, tmp_path) as catalog:

        async def begun() -> bool:
            return copy.holds(catalog.current.version, catalog.current.token)

        await eventually(begun, "there is a copy")
        before = written()
        for number in range(5):
            last = await add_tool(catalog, f"{name}-{number}")
        assert written() == before
    # it is kept when the process ends
    assert copy.holds(last.version, last.token)
    assert written() == before + 1
    async with cache(postgres_url, tmp_path) as catalog:
        assert catalog.current.version == last.version
    # another process of the same folder has written it already
    assert written() == before + 1


async def test_rows_are_the_same_after_the_disk(
    postgres_url: str, tmp_path: Path, name: str
) -> None:
    async with cache(postgres_url, tmp_path) as catalog:
        postgres, schemas = catalog.postgres, catalog.schemas
        await postgres.execute(TOOL, name, DEDUP, ORDERING)
        await postgres.execute(
            "INSERT INTO api_keys (key_id, tenant, name, hash, contexts) "
            "VALUES (gen_random_uuid(), 'default', $1, $2, '{}')",
            name,
            name.encode(),
        )
        rows = await read_rows(postgres)
        assert isinstance(rows, Rows)
        again = (await build(decode_rows(b"".join(encode_rows(rows))), schemas)).catalog()
        assert comparable(again) == comparable((await build(rows, schemas)).catalog())
        assert name.encode() in again.keys


async def test_a_version_that_never_comes_is_waited_for_once(
    postgres_url: str, tmp_path: Path, name: str
) -> None:
    async with cache(postgres_url, tmp_path) as catalog:
        for at in range(3):
            known = await add_tool(catalog, f"{name}-{at}")
        await catalog.postgres.execute(RESTORE, 3)
        await catalog.reload()
        begun = time.monotonic()
        # what events of before ask for; PostgreSQL is there, so one question settles it
        found = await catalog.catch_up(known.version, known.token)
        assert found.version == known.version - 3
        assert "restored" in catalog.note
        assert await catalog.is_certain(known.version, known.token)
        # the next batch asks nobody
        catalog.postgres.dsn, catalog.postgres._pool = nowhere(), None
        await asyncio.gather(*(catalog.catch_up(known.version, known.token) for _ in range(64)))
        assert time.monotonic() - begun < WAIT_SECONDS


async def test_the_same_number_after_a_restore_is_another_state(
    postgres_url: str, tmp_path: Path, name: str
) -> None:
    async with cache(postgres_url, tmp_path) as catalog:
        known = await add_tool(catalog, name)
        # as many changes as were lost: the number is the same again
        await catalog.postgres.execute(RESTORE, 1)
        await catalog.postgres.execute(
            "UPDATE tools SET provider = 'none' WHERE tool_id = $1", name
        )

        async def learnt() -> bool:
            # a snapshot read between the two changes has the second one, and the older number
            current = catalog.current
            return current.tools[name].provider == "none" and current.version == known.version

        await eventually(learnt, "the catalog of the restored database")
        assert catalog.current.token != known.token


async def test_a_change_that_only_the_receiver_knew_is_waited_for(
    postgres_url: str, tmp_path: Path, name: str
) -> None:
    async with cache(postgres_url, tmp_path) as catalog:
        catalog.poll_seconds = 3600
        postgres = catalog.postgres
        await postgres.execute(TOOL, name, DEDUP, ORDERING)
        row = await postgres.fetchrow("SELECT version, token FROM registry_version")
        assert row is not None
        found = await catalog.catch_up(row["version"], row["token"])
        assert name in found.tools


async def test_while_postgresql_is_away_the_wait_is_bounded(
    postgres_url: str, tmp_path: Path, name: str
) -> None:
    async with cache(postgres_url, tmp_path) as catalog:
        known = await add_tool(catalog, name)
    async with cache(nowhere(), tmp_path) as catalog:
        begun = time.monotonic()
        asked = (catalog.catch_up(known.version + 1, 5) for _ in range(3))
        assert await asyncio.gather(*asked) == [known] * 3
        assert time.monotonic() - begun < WAIT_SECONDS + 2
        assert str(known.version + 1) in catalog.note
        # what is not known may be there
        assert await catalog.is_certain(known.version, known.token)
        assert not await catalog.is_certain(known.version + 1, 5)
    # once it answers, and has none, that is all there is
    async with cache(postgres_url, tmp_path) as catalog:
        assert await catalog.is_certain(known.version + 1_000_000, 5)


async def test_events_wait_whose_tool_may_have_a_mode_that_is_not_known_here(
    postgres_url: str, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_module, "WAIT_SECONDS", 0.5)
    queue = {"sqs": {"queue_url": "https://sqs.eu-west-1.amazonaws.com/1/q.fifo"}}
    async with cache(postgres_url, tmp_path) as catalog:
        await add_tool(catalog, f"{name}-plain")
        await add_tool(catalog, name)
        await catalog.postgres.execute(
            "UPDATE tools SET forward = $2 WHERE tool_id = $1", name, queue
        )
        known = await catalog.reload()
        assert known.tools[name].forward is not None

    def batch(tool_id: str, version: int, token: int) -> Batch:
        event = replace(
            make_event({}), tool_id=tool_id, registry_version=version, registry_token=token
        )
        return Batch("events", Partition(0, 1, "n"), [Entry("5-0", b"", event)], lambda *_: None)

    newer = (known.version + 1, 7)
    async with cache(nowhere(), tmp_path) as catalog:
        for tool_id, version in ((name, (known.version, known.token)), (f"{name}-plain", newer)):
            assert await known_to_senders(batch(tool_id, *version), catalog) == known
        for tool_id in (name, f"{name}-new"):
            with pytest.raises(UnavailableError, match=f"the events of {tool_id}"):
                await known_to_senders(batch(tool_id, *newer), catalog)
    # what it says counts, whatever that is
    async with cache(postgres_url, tmp_path) as catalog:
        found = await known_to_senders(batch(name, known.version + 1_000_000, 7), catalog)
        assert name in found.tools


async def test_a_row_that_cannot_be_read_changes_nothing_for_others_and_keeps_its_last_state(
    postgres_url: str, tmp_path: Path, name: str
) -> None:
    async with cache(postgres_url, tmp_path) as catalog:
        execute = catalog.postgres.execute
        known = await add_tool(catalog, name)
        await execute(
            "INSERT INTO contexts (tenant, context_id, name, priority) "
            "VALUES ('default', $1, $1, 'normal')",
            name,
        )
        known = await catalog.reload()
        # as a newer release may write them
        await execute(
            "UPDATE tools SET options = $2 WHERE tool_id = $1", name, {"from_the_future": 1}
        )
        await execute(
            "UPDATE contexts SET rate = $2 WHERE context_id = $1", name, {"from_the_future": 1}
        )
        try:
            found = await add_tool(catalog, f"{name}-2")
            assert set(found.tools) == {*known.tools, f"{name}-2"}
            assert found.tools[name] == known.tools[name]
            assert found.contexts == known.contexts
            assert found.unreadable_tools == {name}
            assert f"cannot use tool {name}, context {name}" in catalog.note
            row = await catalog.postgres.fetchrow("SELECT version, token FROM registry_version")
            assert row is not None
            assert await catalog.catch_up(row["version"], row["token"]) is found
            # one that was never known in another state is there, and cannot be used
            async with cache(postgres_url, tmp_path / "other") as other:
                assert name not in other.current.tools
                assert f"{name}-2" in other.current.tools
                assert other.current.unreadable_tools == {name}
        finally:
            await execute("DELETE FROM tools WHERE tool_id = $1", name)
            await execute("DELETE FROM contexts WHERE context_id = $1", name)


async def test_rows_of_which_none_can_be_read_are_waited_for_with_the_last_picture(
    postgres_url: str, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cache(postgres_url, tmp_path) as catalog:
        known = await add_tool(catalog, name)
        monkeypatch.setattr(catalog_module, "WAIT_SECONDS", 0.5)

        async def unreadable(*_: object, **__: object) -> Catalog:
            raise KeyError("column_of_the_future")

        with monkeypatch.context() as patched:
            patched.setattr(catalog_module, "build", unreadable)
            patched.setattr(CatalogState, "apply", unreadable)
            await catalog.postgres.execute(TOOL, f"{name}-2", DEDUP, ORDERING)
            # a batch asks for what its receiver knew
            assert await catalog.catch_up(known.version + 1) is known
            assert "cannot be read by this release" in catalog.note
            with pytest.raises(UnavailableError):
                await catalog.refresh()
        assert f"{name}-2" in (await catalog.reload()).tools
