"""Seals secrets that stand in the clear, or are sealed by a key that has been replaced."""

from collections.abc import Mapping
from typing import Any

import asyncpg
from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.errors import SealingKeyError, UnavailableError
from hookstream.app.keyring.tool_secrets import ToolSecrets
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement

__all__ = ["SecretSealing"]

logger = get_logger(__name__)

#: Between two looks. A key that is being replaced stays in its file for longer than this.
LOOK_SECONDS = 10.0
#: Tools in one look-up.
PAGE = 100


class SecretSealing(Service):
    """Every process that has keys looks; who comes second changes nothing."""

    mundane_level = "debug"

    def __init__(self, secrets: ToolSecrets, postgres: Postgres, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._secrets = secrets
        self._postgres = postgres
        #: What keeps secrets from being sealed, but for the rows that cannot be opened.
        self.trouble = ""
        #: Tools whose secrets are not sealed by the key of now, at the last look.
        self.left = 0

    @tasks.loop
    async def _look(self) -> None:
        while not self.should_stop:
            try:
                await self.seal()
                self.trouble = ""
            except SealingKeyError as error:
                if self.trouble != str(error):
                    logger.error("secrets cannot be sealed: %s", error)
                self.trouble = str(error)
            except (UnavailableError, asyncpg.PostgresError) as error:
                logger.debug("secrets are sealed later: %s", error)
            await self.sleep(LOOK_SECONDS)

    async def seal(self) -> None:
        """Seal all that may be sealed now.

        Raises:
            SealingKeyError: the key cannot be had.
            UnavailableError: PostgreSQL is away.
        """
        if self._secrets.ring.is_empty:
            return
        begins = self._secrets.begins()
        if not self._secrets.seals:
            # somebody may have finished the upgrade
            await self._postgres.schema.look(self._postgres)
        if not self._secrets.seals:
            return
        passed: list[str] = []
        while rows := await self._postgres.fetch(statement("tools_to_seal"), begins, PAGE, passed):
            await self._secrets.prepare(rows)
            for row in rows:
                if not await self._seal(row):
                    passed.append(row["tool_id"])
        self.left = len(passed)

    async def _seal(self, row: Mapping[str, Any]) -> bool:
        """Whether the tool's secrets need not be looked at again in this round."""
        tenant, tool_id = row["tenant"], row["tool_id"]
        try:
            clear = self._secrets.opened(row)
            [learnt] = self._secrets.opened(row, "learnt_secret")
        except SealingKeyError:
            return False  # the catalog says which, and why
        kept = await self._secrets.sealed(tenant, tool_id, clear)
        again = await self._secrets.sealed(tenant, tool_id, [learnt] if learnt is not None else [])
        await self._postgres.execute(
            statement("seal_tool"),
            tool_id,
            tenant,
            row["secrets"],
            row["learnt_secret"],
            kept,
            again[0] if again else None,
        )
        metrics.TOOL_SECRETS_SEALED.inc()
        return True
