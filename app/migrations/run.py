"""Bring the database's schema up to date."""

from pathlib import Path
from typing import Any

from alembic import command, op
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

__all__ = ["execute_file", "migrate"]

#: Any number: the advisory lock that lets one process migrate while others wait.
_LOCK = 0x486F6F6B


async def migrate(dsn: str) -> None:
    """Run every revision that the database has not seen; safe from many processes at once.

    ``dsn``: ``postgresql://…``, as asyncpg takes it.
    """
    engine = create_async_engine(
        "postgresql+asyncpg://", poolclass=NullPool, async_creator=lambda: _connect(dsn)
    )
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def execute_file(path: Path) -> None:
    """Run a revision's SQL file, which may hold many statements."""
    sql = path.read_text()
    adapted: Any = op.get_bind().connection.dbapi_connection
    adapted.run_async(lambda connection: connection.execute(sql))


async def _connect(dsn: str) -> object:
    import asyncpg

    return await asyncpg.connect(dsn)


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
