"""A PostgreSQL that can be made to say no in many ways."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from hookstream.app import embedded
from tests.support.stack import copy_cluster

__all__ = ["ROLE", "Database"]

#: Who the system under test is; the superuser stays ours.
ROLE = "hs"


class Database:
    """The embedded server, with a role of the system's own that owns the database."""

    def __init__(self, folder: Path) -> None:
        copy_cluster(folder)
        self.server = embedded.start_postgres(folder)
        self.admin_url = self.server.url

    @property
    def url(self) -> str:
        return self.admin_url.replace("//postgres@", f"//{ROLE}@")

    async def prepare(self) -> None:
        """Make the role."""
        await self.run(f"CREATE ROLE {ROLE} LOGIN", f"ALTER DATABASE hookstream OWNER TO {ROLE}")

    @asynccontextmanager
    async def admin(self, database: str = "postgres") -> AsyncIterator[Any]:
        """A superuser's connection that no setting of ours reaches."""
        ours = {"default_transaction_read_only": "off", "lock_timeout": "0"}
        connection = await asyncpg.connect(
            self.admin_url.replace("@/hookstream?", f"@/{database}?"),
            timeout=10,
            server_settings={**ours, "statement_timeout": "0"},
        )
        try:
            yield connection
        finally:
            await connection.close(timeout=5)

    async def run(self, *statements: str) -> None:
        async with self.admin() as connection:
            for statement in statements:
                await connection.execute(statement)

    async def rows(self, query: str) -> list[Any]:
        """What the system has recorded."""
        async with self.admin("hookstream") as connection:
            return list(await connection.fetch(query))

    async def set(self, **settings: str) -> None:
        """Change settings of the running server; "" takes one back."""
        for name, value in settings.items():
            change = f"SET {name} = '{value}'" if value else f"RESET {name}"
            await self.run(f"ALTER SYSTEM {change}")
        await self.run("SELECT pg_reload_conf()")

    async def throw_out(self) -> None:
        """End every connection of the system's."""
        await self.run(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'"
        )

    @asynccontextmanager
    async def locked(self, *tables: str) -> AsyncIterator[None]:
        """Tables that nobody else may touch."""
        async with self.admin("hookstream") as connection, connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '5s'")
            while True:
                try:
                    async with connection.transaction():
                        await connection.execute(
                            f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE"
                        )
                    break
                except asyncpg.DeadlockDetectedError:
                    # the system has one of them and waits for another: it goes first
                    continue
            yield

    def stop(self) -> None:
        self.server.stop()

    async def start(self) -> None:
        """Start it again after :meth:`stop` or :meth:`kill`, and wait until it answers."""
        if not self.server.owned:
            await asyncio.to_thread(self.server.start)
            return
        while True:
            with contextlib.suppress(Exception):  # an earlier one has not ended yet
                await asyncio.to_thread(self.server.ensure)
            with contextlib.suppress(OSError, asyncpg.PostgresError, TimeoutError):
                await self.run("SELECT 1")
                return
            await asyncio.sleep(0.1)

    def processes(self) -> list[psutil.Process]:
        """The server and its children."""
        pid = self.server.pid
        assert pid is not None
        main = psutil.Process(pid)
        return [main, *main.children(recursive=True)]

    def kill(self) -> None:
        """kill -9 of the server; its children end by themselves."""
        pid = self.server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
