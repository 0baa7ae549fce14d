"""Brings a database's schema up to date, one transaction a migration, and never stands in its way.

A migration waits a second for the locks that it needs, and then lets others pass before it tries
again: queries queue behind a statement that waits for a lock.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from mode.utils.logging import get_logger

from hookstream.app.errors import ConflictError, SettingsError, UnavailableError
from hookstream.app.postgres.migrations import LEVEL, MIGRATIONS, Kind, Migration, Schema
from hookstream.app.postgres.sql import statement

__all__ = ["APPLICATION_NAME", "DatabaseSchema", "finish", "read_schema", "upgrade"]

logger = get_logger(__name__)

#: What connections of this code are called: `finish` sees by it who would be left behind.
APPLICATION_NAME = f"hookstream level {LEVEL}"
#: Any number: the advisory lock that lets one process migrate at a time.
_LOCK = 0x486F6F6B
LOCK_TIMEOUT_MS = 1000
#: Time between two tries, in which what queued behind the first one goes on.
RETRY_SECONDS = 1.0
#: How long one call tries before it says that it cannot.
PATIENCE_SECONDS = 8.0
CONNECT_SECONDS = 10.0
#: How long the database may take to say what it has. A migration may take as long as it takes.
READ_SECONDS = 10.0
#: How long nobody tries again after a migration has failed.
PAUSE_SECONDS = 5.0


async def read_schema(source: Any, migrations: Sequence[Migration] = MIGRATIONS) -> Schema:
    """What a database has; ``source`` has asyncpg's ``fetch``.

    One that Alembic has cared for has had all up to the number in its table.
    """
    [tables] = await source.fetch(statement("schema_tables"))
    rows: Sequence[Any] = []
    if tables["ours"]:
        rows = await source.fetch("SELECT number, code_from FROM schema_migrations")
    elif tables["alembics"]:
        found = await source.fetch("SELECT version_num FROM alembic_version")
        last = max((int(row["version_num"]) for row in found), default=0)
        rows = [
            {"number": migration.number, "code_from": migration.code_from}
            for migration in migrations
            if migration.number <= last
        ]
    applied = frozenset(row["number"] for row in rows)
    return Schema(migrations, applied, max((row["code_from"] for row in rows), default=0))


async def upgrade(
    dsn: str,
    migrations: Sequence[Migration] = MIGRATIONS,
    *,
    kind: Kind = "pre",
    patience_seconds: float = PATIENCE_SECONDS,
) -> Schema:
    """Run every migration of a kind that the database has not had; what it has then.

    One that is empty gets those of both kinds: there is no release before that could need it.

    Safe from many processes at once. ``dsn``: ``postgresql://…``, as asyncpg takes it.

    Raises:
        SettingsError: the database is too new for this code; nothing was changed.
        UnavailableError: a migration failed, and nothing of it is there; or its locks could not be
            had in time.
        TimeoutError: it does not say in time what it has.
    """
    async with _connected(dsn, application_name=APPLICATION_NAME) as connection:
        async with asyncio.timeout(READ_SECONDS):
            schema = await read_schema(connection, migrations)
        schema.check()
        deadline = time.monotonic() + patience_seconds
        kinds: tuple[Kind, ...] = (kind,) if schema.applied else ("pre", "post")
        for each in kinds:
            while pending := schema.pending(each):
                schema = await _apply(connection, pending[0], migrations, deadline)
        return schema


@asynccontextmanager
async def _connected(dsn: str, **settings: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn, timeout=CONNECT_SECONDS, server_settings=settings)
    try:
        yield connection
        await connection.close(timeout=CONNECT_SECONDS)
    finally:
        # one that does not answer would not say good-bye either
        connection.terminate()


async def finish(
    dsn: str, migrations: Sequence[Migration] = MIGRATIONS, *, anyway: bool = False
) -> Schema:
    """Run the ``post`` migrations too: the release before cannot run on this database afterwards.

    Raises:
        ConflictError: processes that would be left behind are connected, and not ``anyway``.
        SettingsError, UnavailableError: as :func:`upgrade`.
    """
    schema = await upgrade(dsn, migrations, patience_seconds=60)
    needed = max((m.code_from for m in schema.pending("post")), default=0)
    if not anyway:
        await _check_nobody_is_left_behind(dsn, needed)
    return await upgrade(dsn, migrations, kind="post", patience_seconds=60)


async def _check_nobody_is_left_behind(dsn: str, needed: int) -> None:
    async with _connected(dsn) as connection:
        rows = await connection.fetch(statement("schema_levels_here"), timeout=READ_SECONDS)
    old = [f"{row['connections']} of level {row['level']}" for row in rows if row["level"] < needed]
    if old:
        raise ConflictError(
            f"processes are connected that cannot run on level {needed} and later "
            f"({', '.join(old)} connections): stop them first, or say --anyway"
        )


async def _apply(
    connection: asyncpg.Connection,
    migration: Migration,
    migrations: Sequence[Migration],
    deadline: float,
) -> Schema:
    """Run one migration, unless another process has done so; what the database has now."""
    while True:
        try:
            async with connection.transaction():
                await connection.execute(
                    "SELECT set_config('lock_timeout', $1, true)", str(LOCK_TIMEOUT_MS)
                )
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
                return await _apply_locked(connection, migration, migrations)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            if time.monotonic() + RETRY_SECONDS > deadline:
                raise UnavailableError(
                    f"migration {migration} of the database waits for a lock that others have "
                    f"({error}): it is tried again"
                ) from error
            await asyncio.sleep(RETRY_SECONDS)
        except asyncpg.PostgresError as error:
            if isinstance(error, asyncpg.PostgresConnectionError):
                raise
            raise UnavailableError(
                f"migration {migration} of the database failed and changed nothing: {error}. What "
                "is in its way has to go, or the release before has to be started again: "
                "docs/upgrading.md"
            ) from error


async def _apply_locked(
    connection: asyncpg.Connection, migration: Migration, migrations: Sequence[Migration]
) -> Schema:
    schema = await read_schema(connection, migrations)
    schema.check()
    if migration.number in schema.applied:
        return schema
    await connection.execute(statement("schema_table"))
    # what Alembic did is written down once, with the first one that comes after it
    done = [m for m in migrations if m.number in schema.applied]
    await connection.execute(migration.sql)
    await connection.executemany(
        "INSERT INTO schema_migrations (number, name, kind, code_from) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT DO NOTHING",
        [(m.number, m.name, m.kind, m.code_from) for m in (*done, migration)],
    )
    logger.info("the database has migration %s now", migration)
    return Schema(
        migrations,
        schema.applied | {migration.number},
        max(schema.code_from, migration.code_from),
    )


class DatabaseSchema:
    """What is known of one database's schema here, and bringing it up to date when first needed.

    While that cannot be done everybody who asks is told so at once, and it is tried again.
    """

    def __init__(self, dsn: str, migrations: Sequence[Migration] = MIGRATIONS) -> None:
        self.dsn = dsn
        self.migrations = migrations
        self.known: Schema | None = None
        #: Why this code cannot use the database now; "" where it can.
        self.trouble = ""
        self.too_new = False
        self._paused_until = 0.0

    async def ensure(self) -> None:
        """Run what is pending and may be run now.

        Raises:
            UnavailableError: it cannot be brought up to date at the moment, or is ``too_new``.
        """
        if self.trouble and time.monotonic() < self._paused_until:
            raise UnavailableError(self.trouble)
        try:
            self.known = await upgrade(self.dsn, self.migrations)
        except (SettingsError, UnavailableError) as error:
            self.too_new = isinstance(error, SettingsError)
            if self.trouble != str(error):
                logger.error("%s", error)
            self.trouble = str(error)
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            raise UnavailableError(self.trouble) from error
        if self.trouble:
            logger.warning("the database's schema is up to date now")
        self.trouble, self.too_new = "", False

    async def look(self, source: Any) -> None:
        """Read again what the database has: somebody may have upgraded or finished it."""
        self.known = await read_schema(source, self.migrations)
        try:
            self.known.check()
            self.trouble = ""
        except SettingsError as error:
            self.trouble = str(error)

    def health(self) -> dict[str, Any]:
        """The part ``schema`` of ``/health``."""
        known = self.known
        part: dict[str, Any] = {
            "status": "degraded" if self.trouble or known is None else "ok",
            "code_level": LEVEL,
            "database_level": known.level if known else None,
            "runs_from_level": known.code_from if known else None,
            "pending": [str(m) for m in known.pending("pre")] if known else [],
            "to_finish": [str(m) for m in known.pending("post")] if known else [],
        }
        return {**part, "detail": self.trouble} if self.trouble else part
