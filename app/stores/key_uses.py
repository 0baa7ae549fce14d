"""When each key was used last: noted in memory, and written for all of them together."""

from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import tasks
from hookstream.app.errors import UnavailableError
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement

__all__ = ["KeyUses"]

logger = get_logger(__name__)

SAVE_SECONDS: Final = 10.0


class KeyUses(Service):
    """One statement in ten seconds, where keys were used; it waits for PostgreSQL.

    There is one entry a key, whatever the number of calls.
    """

    mundane_level = "debug"

    def __init__(self, postgres: Postgres, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._postgres = postgres
        #: Tenant and time, in Unix seconds, by the key's id.
        self._used: dict[str, tuple[str, float]] = {}

    def used(self, tenant: str, key_id: str, at: float) -> None:
        """Note that a key was used."""
        self._used[key_id] = (tenant, at)

    async def save(self, tenant: str | None = None) -> None:
        """Write what was noted since the last time: of one tenant, or of all.

        Raises:
            UnavailableError: PostgreSQL is away.
        """
        noted = {key_id: use for key_id, use in self._used.items() if tenant in (None, use[0])}
        if not noted:
            return
        for key_id in noted:
            del self._used[key_id]
        try:
            await self._postgres.execute(
                statement("note_key_uses"),
                list(noted),
                [tenant for tenant, _ in noted.values()],
                [datetime.fromtimestamp(at, UTC) for _, at in noted.values()],
            )
        except BaseException:
            self._used = {**noted, **self._used}
            raise

    @tasks.loop
    async def _save(self) -> None:
        while not self.should_stop:
            await self.sleep(SAVE_SECONDS)
            await self._try()

    async def on_stop(self) -> None:
        """Write what was noted."""
        await self._try()

    async def _try(self) -> None:
        try:
            await self.save()
        except (UnavailableError, asyncpg.PostgresError) as error:
            logger.debug("when keys were used is written later: %s", error)
