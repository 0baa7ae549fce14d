"""``hookstream schema``: the database's level, and the two steps of an upgrade."""

import asyncio
import json
from typing import Any

import asyncpg
from faust.cli.base import argument, option

from hookstream.app import embedded
from hookstream.app.commands.command import Command
from hookstream.app.errors import BadRequestError, UnavailableError
from hookstream.app.postgres.migrations import LEVEL, MIGRATIONS, Schema
from hookstream.app.postgres.migrations.run import finish, read_schema, upgrade
from hookstream.app.settings import EMBEDDED

__all__ = ["schema"]

ACTIONS = ("status", "upgrade", "finish")


class schema(Command):  # noqa: N801 Faust names a command by its class
    """The database's schema: `status`; `upgrade` it; `finish` once no older release runs."""

    options = [
        argument("action", metavar="ACTION"),
        option("--anyway", is_flag=True, help="Finish although older processes are connected."),
        option("--json", "as_json", is_flag=True, help="Print JSON."),
    ]

    def perform(self, **options: Any) -> int:
        """Do what was asked for; 1 from `status` where this release cannot run."""
        action = options["action"]
        if action not in ACTIONS:
            raise BadRequestError(f"{action}: one of {', '.join(ACTIONS)}")
        found = asyncio.run(self._run(action, options["anyway"]))
        shown = {
            "code_level": LEVEL,
            "database_level": found.level,
            "runs_from_level": found.code_from,
            "pending": [str(migration) for migration in found.pending("pre")],
            "to_finish": [str(migration) for migration in found.pending("post")],
        }
        if options["as_json"]:
            self.stdout.write(json.dumps(shown, indent=2) + "\n")
        else:
            for name, value in shown.items():
                text = ", ".join(value) or "nothing" if isinstance(value, list) else value
                self.stdout.write(f"{name.replace('_', ' '):<16}  {text}\n")
        return int(found.code_from > LEVEL)

    async def _run(self, action: str, anyway: bool) -> Schema:
        url = self._url()
        try:
            if action == "upgrade":
                return await upgrade(url, patience_seconds=60)
            if action == "finish":
                return await finish(url, anyway=anyway)
            return await _look(url)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise UnavailableError(f"PostgreSQL does not answer: {error}") from error

    def _url(self) -> str:
        settings = self.settings
        if settings.postgres_url != EMBEDDED:
            return str(settings.postgres_url)
        found = embedded.find_postgres(settings.state_path)
        if found is None:
            raise UnavailableError(
                f"the embedded PostgreSQL of {settings.state_path} does not run: `hookstream up`"
            )
        return found


async def _look(url: str) -> Schema:
    connection = await asyncpg.connect(url, timeout=10, command_timeout=10)
    try:
        return await read_schema(connection, MIGRATIONS)
    finally:
        await connection.close()
