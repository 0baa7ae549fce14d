"""Tells the database what went wrong with conditions, so that every process can show it."""

from datetime import UTC, datetime
from typing import Any

import asyncpg
from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import tasks
from hookstream.app.errors import UnavailableError
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.routing.condition_judge import ConditionJudge

__all__ = ["ConditionErrors"]

logger = get_logger(__name__)

SAVE_SECONDS = 1.0


class ConditionErrors(Service):
    """One statement a second, where there is something to tell; it waits for PostgreSQL."""

    mundane_level = "debug"

    def __init__(self, judge: ConditionJudge, postgres: Postgres, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._judge = judge
        self._postgres = postgres

    @tasks.loop
    async def _save(self) -> None:
        while not self.should_stop:
            await self.sleep(SAVE_SECONDS)
            try:
                await self.save()
            except (UnavailableError, asyncpg.PostgresError) as error:
                logger.debug("errors of conditions wait: %s", error)

    async def save(self) -> None:
        """Store what is new. Raises UnavailableError where PostgreSQL is away."""
        unsaved = self._judge.unsaved()
        counted = {name: trouble.errors for name, trouble in unsaved.items() if trouble.errors}
        if counted:
            await self._postgres.execute(
                statement("note_subscription_errors"),
                *map(list, zip(*counted, strict=True)),
                list(counted.values()),
                [unsaved[name].kind for name in counted],
                [unsaved[name].error.replace("\0", "") for name in counted],
                [datetime.fromtimestamp(unsaved[name].at, UTC) for name in counted],
            )
            for name, errors in counted.items():
                unsaved[name].errors -= errors
        for name, trouble in unsaved.items():
            if trouble.unsaved:
                await self._postgres.execute(
                    statement("switch_off_subscription"),
                    *name,
                    trouble.condition,
                    trouble.off.replace("\0", ""),
                )
                trouble.unsaved = False
