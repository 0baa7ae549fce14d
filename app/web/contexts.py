"""``/api/v1/contexts``: agents' contexts."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from hookstream.app.clock import RedisClock
from hookstream.app.errors import NotFoundError
from hookstream.app.feeds.feed import Feeds
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.settings import Settings
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.web import models
from hookstream.app.web.access import TENANT_KEY, path_id, read_model
from hookstream.app.web.problem import json_response
from hookstream.app.web.routes import Route

__all__ = ["ContextViews", "context_row"]

CONTEXT = "/api/v1/contexts/{context_id}"

DAILY_FIELDS = ("at", "timezone", "token_budget")

_UPSERT_CONTEXT = """
INSERT INTO contexts (tenant, context_id, name, priority, rate, token_budget, daily)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (tenant, context_id) DO UPDATE SET
    name = $3, priority = $4, rate = $5, token_budget = $6, updated_at = now(),
    -- a rule that stays the same is as old as it was: what is due already is still told
    daily = CASE
        WHEN contexts.daily - '{since,token_budget}'::text[] = $7 - '{since,token_budget}'::text[]
            THEN $7 || jsonb_build_object('since', contexts.daily -> 'since')
        ELSE $7
    END
RETURNING *, created_at = updated_at AS created
"""


class ContextViews:
    """Make, change, show and delete contexts."""

    def __init__(
        self,
        *,
        settings: Settings,
        postgres: Postgres,
        catalog: CatalogCache,
        feeds: Feeds,
        clock: RedisClock,
    ) -> None:
        self._settings = settings
        self._postgres = postgres
        self._catalog = catalog
        self._feeds = feeds
        self._clock = clock

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "GET", "/api/v1/contexts", self.list, "List the contexts", gives=models.ContextList
            ),
            Route(
                "PUT",
                CONTEXT,
                self.put,
                "Make or change a context",
                takes=models.ContextIn,
                gives=models.ContextOut,
                errors=(400,),
            ),
            Route(
                "GET",
                CONTEXT,
                self.get,
                "Show a context",
                gives=models.ContextOut,
                errors=(404,),
                agents=True,
            ),
            Route(
                "DELETE",
                CONTEXT,
                self.delete,
                "Delete a context, its subscriptions, and agents' keys to it",
                status=204,
                errors=(404,),
            ),
        ]

    async def list(self, request: web.Request) -> web.StreamResponse:
        """All contexts of the tenant."""
        rows = await self._postgres.fetch(
            "SELECT * FROM contexts WHERE tenant = $1 ORDER BY context_id", request[TENANT_KEY]
        )
        return json_response({"contexts": [await self._out(row) for row in rows]})

    async def put(self, request: web.Request) -> web.StreamResponse:
        """Make or change a context."""
        context_id = path_id(request, "context_id")
        context = await read_model(self._settings, request, models.ContextIn)
        row = await self._postgres.fetchrow(
            _UPSERT_CONTEXT,
            request[TENANT_KEY],
            context_id,
            context.name,
            context.priority,
            context.rate.model_dump() if context.rate else None,
            context.token_budget,
            self._daily(context),
        )
        assert row is not None
        await self._catalog.reload()
        return json_response(await self._out(row), status=201 if row["created"] else 200)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One context."""
        context_id = path_id(request, "context_id")
        return json_response(
            await self._out(await context_row(self._postgres, request[TENANT_KEY], context_id))
        )

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Delete a context with its subscriptions, and what agents' keys may read of it.

        Its feed stays readable to nobody. A key that names nothing else ends: made again, the
        context is not for whoever had the old one.
        """
        context_id = path_id(request, "context_id")
        tag = await self._postgres.execute(
            "DELETE FROM contexts WHERE tenant = $1 AND context_id = $2",
            request[TENANT_KEY],
            context_id,
        )
        if tag == "DELETE 0":
            raise NotFoundError(f"there is no context {context_id}")
        await self._postgres.execute(statement("cut_keys"), request[TENANT_KEY], context_id)
        await self._catalog.reload()
        return web.Response(status=204)

    def _daily(self, context: models.ContextIn) -> dict[str, Any] | None:
        if context.daily is None:
            return None
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        return {**context.daily.model_dump(), "since": now.isoformat()}

    async def _out(self, row: Mapping[str, Any]) -> dict[str, Any]:
        feeds = self._feeds
        who = (row["tenant"], row["context_id"])
        return {
            "context_id": row["context_id"],
            "name": row["name"],
            "priority": row["priority"],
            "rate": row["rate"],
            "token_budget": row["token_budget"],
            "daily": {name: row["daily"][name] for name in DAILY_FIELDS} if row["daily"] else None,
            "last_seq": await feeds.last_seq(*who),
            "acknowledged_seq": await feeds.acknowledged(*who),
            "created_at": row["created_at"].isoformat(),
            "updated_at": row["updated_at"].isoformat(),
        }


async def context_row(postgres: Postgres, tenant: str, context_id: str) -> Mapping[str, Any]:
    """A context as PostgreSQL has it. Raises NotFoundError."""
    row = await postgres.fetchrow(
        "SELECT * FROM contexts WHERE tenant = $1 AND context_id = $2", tenant, context_id
    )
    if row is None:
        raise NotFoundError(f"there is no context {context_id}")
    return dict(row)
