"""``/api/v1/contexts``: agents' contexts."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from hookstream.app.clock import RedisClock
from hookstream.app.errors import ConflictError, NotFoundError
from hookstream.app.feeds.feed import FeedProgress, Feeds
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.settings import Settings
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.stores.holds import HoldStore, refuse
from hookstream.app.web.access import TENANT_KEY, path_id, read_model
from hookstream.app.web.models.contexts import ContextIn, ContextList, ContextOut
from hookstream.app.web.models.fields import PAGE_QUERY
from hookstream.app.web.paging import asked_page, next_cursor
from hookstream.app.web.problem import json_response
from hookstream.app.web.quotas import Quotas
from hookstream.app.web.routes import Route

__all__ = ["ContextViews", "context_row"]

CONTEXT = "/api/v1/contexts/{context_id}"

DAILY_FIELDS = ("at", "timezone", "token_budget")

#: For how long making a context waits for the deletion of what one of its name had.
DELETION_SECONDS = 5.0


class ContextViews:
    """Make, change, show and delete contexts."""

    def __init__(
        self,
        *,
        settings: Settings,
        postgres: Postgres,
        catalog: CatalogCache,
        quotas: Quotas,
        feeds: Feeds,
        clock: RedisClock,
        holds: HoldStore,
    ) -> None:
        self._holds = holds
        self._settings = settings
        self._postgres = postgres
        self._catalog = catalog
        self._quotas = quotas
        self._feeds = feeds
        self._clock = clock

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "GET",
                "/api/v1/contexts",
                self.list,
                "List the contexts",
                gives=ContextList,
                errors=(400,),
                query=PAGE_QUERY,
            ),
            Route(
                "PUT",
                CONTEXT,
                self.put,
                "Make or change a context",
                takes=ContextIn,
                gives=ContextOut,
                errors=(400, 409),
            ),
            Route(
                "GET",
                CONTEXT,
                self.get,
                "Show a context",
                gives=ContextOut,
                errors=(404,),
            ),
            Route(
                "DELETE",
                CONTEXT,
                self.delete,
                "Delete a context, its subscriptions, and agents' keys to it",
                status=204,
                errors=(404, 409),
            ),
        ]

    async def list(self, request: web.Request) -> web.StreamResponse:
        """A page of the tenant's contexts."""
        limit, after = asked_page(request.query)
        rows = await self._postgres.fetch(statement("contexts"), request[TENANT_KEY], after, limit)
        cursor = next_cursor(limit, [row["context_id"] for row in rows])
        return json_response({"contexts": await self._out(rows), "cursor": cursor})

    async def put(self, request: web.Request) -> web.StreamResponse:
        """Make or change a context."""
        context_id = path_id(request, "context_id")
        context = await read_model(self._settings, request, ContextIn)
        row = await self._put(
            request[TENANT_KEY],
            context_id,
            context.name,
            context.priority,
            context.rate.model_dump() if context.rate else None,
            context.token_budget,
            self._daily(context),
            self._retention(context),
        )
        if row["created"]:
            # what was on its way into the log when it was deleted
            who = (request[TENANT_KEY], context_id)
            await self._postgres.execute(statement("forget_deliveries"), *who)
        await self._catalog.reload()
        [shown] = await self._out([row])
        return json_response(shown, status=201 if row["created"] else 200)

    async def _put(self, tenant: str, context_id: str, *values: Any) -> Mapping[str, Any]:
        deadline = time.monotonic() + DELETION_SECONDS
        while True:
            row = await self._quotas.put(
                "contexts",
                tenant,
                statement("put_context"),
                tenant,
                context_id,
                *values,
                self._quotas.most("contexts", tenant),
            )
            if row is not None:
                return dict(row)
            if await self._postgres.fetchrow(statement("context"), tenant, context_id) is None:
                await self._quotas.check(tenant, "contexts")
            if time.monotonic() > deadline:
                raise ConflictError(
                    "a context of this name was deleted, and its feed is not deleted yet, which "
                    "the worker that has its partition does: try again once /health shows one"
                )
            await asyncio.sleep(0.1)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One context."""
        context_id = path_id(request, "context_id")
        row = await context_row(self._postgres, request[TENANT_KEY], context_id)
        [shown] = await self._out([row])
        return json_response(shown)

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Delete a context with its subscriptions, and what agents' keys may read of it.

        Its feed, and what waits for it, are deleted by the worker that has its partition, within
        seconds. A key that names nothing else ends: made again, the context is another one.
        """
        context_id = path_id(request, "context_id")
        holds = await self._holds.now()
        hold = await self._holds.of_feed(holds, request[TENANT_KEY], context_id)
        if hold is not None:
            raise ConflictError(refuse(hold, f"the context {context_id}"))
        tag = await self._postgres.execute(
            statement("delete_context"), request[TENANT_KEY], context_id
        )
        if tag == "INSERT 0 0":
            raise NotFoundError(f"there is no context {context_id}")
        await self._postgres.execute(statement("cut_keys"), request[TENANT_KEY], context_id)
        await self._catalog.reload()
        return web.Response(status=204)

    @staticmethod
    def _retention(context: ContextIn) -> dict[str, Any] | None:
        kept = context.retention.model_dump(exclude_none=True) if context.retention else None
        return kept or None

    def _daily(self, context: ContextIn) -> dict[str, Any] | None:
        if context.daily is None:
            return None
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        return {**context.daily.model_dump(), "since": now.isoformat()}

    async def _out(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[dict[str, Any]]:
        found = await self._feeds.progress([(row["tenant"], row["context_id"]) for row in rows])
        return [context_out(row, reached) for row, reached in zip(rows, found, strict=True)]


def context_out(row: Mapping[str, Any], reached: FeedProgress) -> dict[str, Any]:
    """A context as the API shows it."""
    return {
        "context_id": row["context_id"],
        "name": row["name"],
        "priority": row["priority"],
        "rate": row["rate"],
        "token_budget": row["token_budget"],
        "daily": {name: row["daily"][name] for name in DAILY_FIELDS} if row["daily"] else None,
        "retention": row["retention"],
        "last_seq": reached.last_seq,
        "acknowledged_seq": reached.acknowledged_seq,
        "created_at": row["created_at"].isoformat(),
        "updated_at": row["updated_at"].isoformat(),
    }


async def context_row(postgres: Postgres, tenant: str, context_id: str) -> Mapping[str, Any]:
    """A context as PostgreSQL has it. Raises NotFoundError."""
    row = await postgres.fetchrow(statement("context"), tenant, context_id)
    if row is None:
        raise NotFoundError(f"there is no context {context_id}")
    return dict(row)
