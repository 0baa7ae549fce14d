"""Upgrades: old code on a newer schema, new code on an older one, under load and both ways."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import psutil
import pytest

from hookstream.app import embedded
from hookstream.app.errors import ConflictError, SettingsError, UnavailableError
from hookstream.app.postgres import pool as pool_module
from hookstream.app.postgres.migrations import LEVEL, MIGRATIONS, Migration
from hookstream.app.postgres.migrations import run as run_module
from hookstream.app.postgres.migrations.run import DatabaseSchema, finish, read_schema, upgrade
from hookstream.app.postgres.pool import Postgres
from tests.chaos.ledger import Figures
from tests.chaos.load import Load
from tests.support.stack import Stack, eventually, free_port

#: What a release after this one may bring: additions, and then what ends this release's use.
NEXT_PRE = Migration(
    LEVEL + 1,
    "next",
    "pre",
    LEVEL,
    """
    ALTER TABLE events ADD COLUMN region text NOT NULL DEFAULT '', ADD COLUMN cost bigint;
    ALTER TABLE deliveries ADD COLUMN region text;
    ALTER TABLE tools ADD COLUMN color text NOT NULL DEFAULT 'red';
    ALTER TABLE contexts ADD COLUMN color text;
    ALTER TABLE subscriptions ADD COLUMN color text;
    CREATE INDEX events_by_region ON events (region) WHERE region <> '';
    CREATE TABLE regions (region text PRIMARY KEY, events bigint NOT NULL);
    CREATE FUNCTION count_region() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO regions VALUES (NEW.region, 1)
        ON CONFLICT (region) DO UPDATE SET events = regions.events + 1;
        RETURN NULL;
    END $$;
    CREATE TRIGGER events_counted AFTER INSERT ON events
        FOR EACH ROW EXECUTE FUNCTION count_region();
    """,
)
NEXT_POST = Migration(
    LEVEL + 2, "next_end", "post", LEVEL + 2, "ALTER TABLE events DROP COLUMN stage;"
)
NEXT = (*MIGRATIONS, NEXT_PRE, NEXT_POST)


@asynccontextmanager
async def database(server_url: str) -> AsyncIterator[str]:
    """An empty database of its own on a server, and its URL."""
    name = f"upgrade_{uuid4().hex[:12]}"
    connection = await asyncpg.connect(server_url)
    await connection.execute(f"CREATE DATABASE {name}")
    try:
        yield server_url.replace("/hookstream?", f"/{name}?", 1)
    finally:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()


@pytest.fixture
async def dsn(postgres_url: str) -> AsyncIterator[str]:
    async with database(postgres_url) as url:
        yield url


async def ask(dsn: str, query: str, *args: Any) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(query, *args)
    finally:
        await connection.close()


async def as_alembic_left_it(dsn: str, level: int) -> None:
    """A database as releases before levels made it."""
    connection = await asyncpg.connect(dsn)
    for migration in MIGRATIONS[:level]:
        await connection.execute(migration.sql)
    await connection.execute(
        "CREATE TABLE alembic_version (version_num varchar(32) "
        "CONSTRAINT alembic_version_pkc PRIMARY KEY)"
    )
    await connection.execute("INSERT INTO alembic_version VALUES ($1)", f"{level:04d}")
    await connection.close()


async def shape(dsn: str) -> list[Any]:
    """Every column and index there is."""
    columns = await ask(
        dsn,
        "SELECT table_name, column_name, data_type, is_nullable, column_default "
        "FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2",
    )
    indexes = await ask(
        dsn, "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
    )
    return [tuple(row) for row in (*columns, *indexes)]


@pytest.mark.parametrize("level", [8, 10])
async def test_a_database_of_alembics_is_carried_over(
    dsn: str, postgres_url: str, level: int
) -> None:
    await as_alembic_left_it(dsn, level)
    await ask(dsn, "INSERT INTO registry_version VALUES (77)")
    schema = await upgrade(dsn)
    assert schema.pending("pre") == []
    schema = await finish(dsn)
    assert (schema.level, schema.pending("post")) == (LEVEL, [])
    rows = await ask(dsn, "SELECT version FROM registry_version ORDER BY version")
    assert [row["version"] for row in rows] == [1, 77]
    async with database(postgres_url) as fresh:
        await upgrade(fresh)
        assert await shape(fresh) == await shape(dsn)
    # a release that knows Alembic only finds what it looks for, and starts
    assert [tuple(row) for row in await ask(dsn, "TABLE alembic_version")] == [("0010",)]


async def test_many_that_start_at_once_migrate_once(dsn: str) -> None:
    await asyncio.gather(*(DatabaseSchema(dsn).ensure() for _ in range(8)))
    rows = await ask(dsn, "SELECT number FROM schema_migrations ORDER BY number")
    assert [row["number"] for row in rows] == [migration.number for migration in MIGRATIONS]


async def test_a_database_that_does_not_say_what_it_has_is_not_waited_for(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await upgrade(dsn)
    monkeypatch.setattr(run_module, "READ_SECONDS", 0.3)
    other = await asyncpg.connect(dsn)
    async with asyncio.timeout(10), Postgres(dsn) as postgres:
        async with other.transaction():
            await other.execute("LOCK TABLE schema_migrations IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(TimeoutError):
                await upgrade(dsn)
            with pytest.raises(UnavailableError):
                await postgres.fetch("SELECT 1")
        await upgrade(dsn)
    await other.close()


async def test_a_server_that_hangs_is_not_listened_to_for_ever(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "TIMEOUT_SECONDS", 1.0)
    connect = asyncpg.connect
    stopped = []

    async def connected(*args: Any, **options: Any) -> Any:
        connection = await connect(*args, **options)
        stopped.append(connection.get_server_pid())
        os.kill(stopped[-1], signal.SIGSTOP)
        return connection

    monkeypatch.setattr(asyncpg, "connect", connected)
    try:
        async with asyncio.timeout(10):
            with pytest.raises(UnavailableError, match="TimeoutError"):
                async with Postgres(dsn).listening("anything", lambda: None):
                    pass
    finally:
        os.kill(stopped[-1], signal.SIGCONT)


async def test_what_adds_runs_by_itself_and_what_takes_away_when_it_is_told(dsn: str) -> None:
    await upgrade(dsn)
    schema = await upgrade(dsn, NEXT)
    assert (schema.level, schema.pending("post")) == (LEVEL + 1, [NEXT_POST])
    # this release runs on it, and brings nothing of its own
    older = await upgrade(dsn)
    assert (older.level, older.code_level) == (LEVEL + 1, LEVEL)
    schema = await finish(dsn, NEXT)
    assert (schema.level, schema.code_from) == (LEVEL + 2, LEVEL + 2)
    with pytest.raises(SettingsError, match="backup"):
        await upgrade(dsn)


async def test_finish_sees_who_would_be_left_behind(dsn: str) -> None:
    await upgrade(dsn)
    await upgrade(dsn, NEXT)
    async with Postgres(dsn) as old, old.listening("hookstream_registry", lambda: None):
        with pytest.raises(ConflictError, match=f"1 of level {LEVEL}"):
            await finish(dsn, NEXT)
        assert (await upgrade(dsn, NEXT)).pending("post") == [NEXT_POST]
        await finish(dsn, NEXT, anyway=True)


FAILS = Migration(
    LEVEL + 1, "fails", "pre", LEVEL, "CREATE TABLE half_way (); SELECT 1 / count(*) FROM tools;"
)


async def test_one_that_fails_half_way_leaves_nothing_and_is_tried_again(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "PAUSE_SECONDS", 2.0)
    await upgrade(dsn)
    async with Postgres(dsn) as postgres:
        postgres.schema = DatabaseSchema(dsn, (*MIGRATIONS, FAILS))
        with pytest.raises(UnavailableError, match=rf"{FAILS} .* division by zero"):
            await postgres.fetch("SELECT 1")
        assert await ask(dsn, "SELECT to_regclass('half_way') AS name") == [(None,)]
        assert postgres.schema.health()["status"] == "degraded"
        # nobody waits for it again and again
        begun = time.monotonic()
        with pytest.raises(UnavailableError, match=str(FAILS)):
            await postgres.fetch("SELECT 1")
        assert time.monotonic() - begun < 1.0
        # and the start goes on: it says so
        await postgres.meet()
        await ask(
            dsn,
            "INSERT INTO tools (tool_id, tenant, provider, dedup, ordering, ttl) "
            "VALUES ('t', 'default', 'none', '{}', '{}', '{}')",
        )

        async def answers() -> bool:
            try:
                return bool(await postgres.fetch("SELECT 1"))
            except UnavailableError:
                return False

        await eventually(answers, "what was in its way is gone")
        assert postgres.schema.health()["status"] == "ok"
        assert await ask(dsn, "SELECT to_regclass('half_way')::text") == [("half_way",)]


async def test_a_migration_does_not_hold_up_others_while_it_waits_for_a_lock(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "LOCK_TIMEOUT_MS", 300)
    monkeypatch.setattr(run_module, "RETRY_SECONDS", 0.3)
    await upgrade(dsn)
    reader, other = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    long = reader.transaction()
    await long.start()
    await reader.fetch("SELECT * FROM events")
    migrating = asyncio.create_task(upgrade(dsn, NEXT))
    waits = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'events'::regclass"
    await eventually(lambda: other.fetch(waits), "the migration waits for its lock")
    slowest = 0.0
    for _ in range(20):
        begun = time.monotonic()
        await other.fetch("SELECT count(*) FROM events")
        slowest = max(slowest, time.monotonic() - begun)
        await asyncio.sleep(0.05)
    # a lock timeout at most, and what this machine takes
    assert slowest < 2.0
    assert not migrating.done()
    await long.rollback()
    assert (await migrating).level == LEVEL + 1
    await reader.close()
    await other.close()


async def test_one_that_gets_no_lock_says_so(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "LOCK_TIMEOUT_MS", 50)
    monkeypatch.setattr(run_module, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(run_module, "PATIENCE_SECONDS", 0.2)
    await upgrade(dsn)
    reader = await asyncpg.connect(dsn)
    async with reader.transaction():
        await reader.fetch("SELECT * FROM events")
        with pytest.raises(UnavailableError, match=rf"{NEXT_PRE} .* waits for a lock"):
            await upgrade(dsn, NEXT, patience_seconds=0.2)
    await reader.close()


@contextmanager
def started(stack: Stack) -> Iterator[Stack]:
    try:
        yield stack
    finally:
        stack.stop()


async def checked(load: Load) -> Figures:
    """What the ledger says, once all has come."""
    await load.finish()
    return await load.check()


def postgres_of(stack: Stack) -> str:
    return str(embedded.find_postgres(stack.state_dir / "state"))


async def replaced(stack: Stack, word: str) -> None:
    """Kill a process, and wait for the next one of its kind to be there."""
    before: psutil.Process = stack.find(word)
    before.kill()

    async def another() -> bool:
        try:
            return stack.find(word).pid != before.pid
        except (AssertionError, psutil.Error):
            return False

    await eventually(another, f"another {word} runs")
    await asyncio.to_thread(stack.wait_ready)


def hookstream(stack: Stack, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "hookstream.app.cli", *arguments],
        env=stack.environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


async def test_this_release_goes_on_under_load_on_the_next_ones_schema(tmp_path: Path) -> None:
    with Stack(tmp_path) as stack:
        load = Load(stack, rate=100)
        await load.start()
        await load.recovered(30)
        await upgrade(postgres_of(stack), NEXT, patience_seconds=60)
        await load.recovered(30)
        # what starts now finds a database that is newer than itself
        for word in ("worker", "receive"):
            await replaced(stack, word)
            await load.recovered(60)
        health = (await stack.health())["parts"]["schema"]
        assert health == {
            "status": "ok",
            "code_level": LEVEL,
            "database_level": LEVEL + 1,
            "runs_from_level": LEVEL,
            "pending": [],
            "to_finish": [],
        }
        figures = await checked(load)
        assert figures.broken == 0, figures
        assert figures.sent > 100

        async def recorded() -> bool:
            rows = await ask(postgres_of(stack), "SELECT count(*) FROM events")
            return bool(rows[0]["count"] >= figures.sent)

        await eventually(recorded, "the record has all of it")
        said = await asyncio.to_thread(hookstream, stack, "schema", "status", "--json")
        assert json.loads(said.stdout)["database_level"] == LEVEL + 1
        # the next release is finished: this one refuses to start, and says why
        await finish(postgres_of(stack), NEXT, anyway=True)
        for command in (["worker"], ["receive"]):
            refused = await asyncio.to_thread(refusal, stack, tmp_path / command[0], *command)
            assert refused[0] == 78, refused
            assert "docs/upgrading.md" in refused[1]
            assert "Traceback" not in refused[1]
        said = await asyncio.to_thread(hookstream, stack, "schema", "status")
        assert said.returncode == 1
        assert (await stack.health())["parts"]["schema"]["status"] == "degraded"


def refusal(stack: Stack, folder: Path, *command: str) -> tuple[int, str]:
    """Exit status and output of a process that does not start."""
    process = stack.another(folder, *command, HOOKSTREAM_WEB_PORT=str(free_port()))
    return process.wait(60), (folder / "process.log").read_text()


OLD_INSERT = """
    INSERT INTO events (
        event_id, tenant, tool_id, provider, type, status, message_id, delivery_id, received_at,
        partition, entry_id, payload_bytes
    ) VALUES ($1, 'default', 'old', 'none', 't', 'accepted', 'old:t:m', '', now(), 0, '1-1', 2)
"""


class OldWriter:
    """Writes as the release of an older level does, one row after the other."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.written: list[Any] = []
        self.slowest = 0.0
        self.stopping = False

    async def run(self) -> None:
        connection = await asyncpg.connect(self.dsn)
        while not self.stopping:
            begun, name = time.monotonic(), uuid4()
            await connection.execute(OLD_INSERT, name)
            self.slowest = max(self.slowest, time.monotonic() - begun)
            self.written.append(name)
            await asyncio.sleep(0.01)
        await connection.close()


async def test_this_release_upgrades_an_older_schema_while_old_writes_go_on(
    tmp_path: Path,
) -> None:
    server = embedded.start_postgres(tmp_path / "old")
    try:
        async with database(server.url) as dsn:
            await as_alembic_left_it(dsn, 8)
            old = OldWriter(dsn)
            writing = asyncio.create_task(old.run())
            stack = Stack(tmp_path, HOOKSTREAM_POSTGRES_URL=dsn)
            with started(stack):
                await asyncio.to_thread(stack.start)
                load = Load(stack, rate=50)
                await load.start()
                await load.recovered(60)
                figures = await checked(load)
                old.stopping = True
                await writing
                assert figures.broken == 0, figures
                # what ends the release before waits for `schema finish`
                last = max(one.number for one in MIGRATIONS if one.kind == "pre")
                assert (await stack.health())["parts"]["schema"]["database_level"] == last
            rows = await ask(dsn, "SELECT event_id FROM events WHERE tool_id = 'old'")
            assert {row["event_id"] for row in rows} == set(old.written)
            assert len(old.written) > 50
    finally:
        server.stop()


async def test_a_receiver_listens_while_a_migration_has_to_wait(tmp_path: Path) -> None:
    server = embedded.start_postgres(tmp_path / "server")
    stack = Stack(tmp_path, HOOKSTREAM_POSTGRES_URL=server.url)
    blocker = await asyncpg.connect(server.url)
    try:
        async with blocker.transaction():
            await blocker.execute("SELECT pg_advisory_xact_lock($1)", run_module._LOCK)
            starting = asyncio.create_task(asyncio.to_thread(stack.start))

            async def waits() -> dict[str, Any]:
                try:
                    part = await asyncio.to_thread(schema_part, stack.port)
                except OSError:
                    return {}
                return part if "waits for a lock" in part.get("detail", "") else {}

            part = await eventually(waits, "it listens, and says what it waits for", 60)
            assert (part["status"], part["database_level"]) == ("degraded", None)
        await starting
        await stack.context("after", {"provider": "none"})
        sent = await stack.hook("after", b"{}")
        assert [u["event_id"] for u in await stack.updates("after", 1)] == [sent]
    finally:
        await blocker.close()
        await asyncio.to_thread(stack.stop)
        server.stop()


def schema_part(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
        return dict(json.load(answer)["parts"]["schema"])


async def test_every_order_of_what_adds_and_what_takes_away_ends_alike(
    postgres_url: str,
) -> None:
    """A release may start before the one before it was finished."""

    async def at_once(dsn: str) -> None:
        await upgrade(dsn)
        await upgrade(dsn, kind="post")

    async def step_by_step(dsn: str) -> None:
        for end in range(1, LEVEL + 1):
            known: Sequence[Migration] = MIGRATIONS[:end]
            await upgrade(dsn, known)
            await upgrade(dsn, known, kind="post")

    shapes = []
    for way in (at_once, step_by_step):
        async with database(postgres_url) as dsn:
            await way(dsn)
            shapes.append(await shape(dsn))
            connection = await asyncpg.connect(dsn)
            assert not (await read_schema(connection)).pending("post")
            await connection.close()
    assert shapes[0] == shapes[1]
