"""``/api/v1/contexts``: agents' contexts and their subscriptions."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import asyncpg
from aiohttp import web

from hookstream.app.errors import NotFoundError
from hookstream.app.matching import compile_condition, compile_types
from hookstream.app.web import models
from hookstream.app.web.access import TENANT_KEY, path_id, read_model
from hookstream.app.web.problem import json_response

if TYPE_CHECKING:
    from hookstream.app.hookstream import Hookstream

__all__ = ["ContextViews"]

_UPSERT_CONTEXT = """
INSERT INTO contexts (tenant, context_id, name, priority, rate, token_budget)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant, context_id) DO UPDATE SET
    name = $3, priority = $4, rate = $5, token_budget = $6, updated_at = now()
RETURNING *, created_at = updated_at AS created
"""

_UPSERT_SUBSCRIPTION = """
INSERT INTO subscriptions (tenant, context_id, name, tool_id, types, condition, priority)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (tenant, context_id, name) DO UPDATE SET
    tool_id = $4, types = $5, condition = $6, priority = $7, updated_at = now()
RETURNING *, created_at = updated_at AS created
"""

_GET_SUBSCRIPTION = """
SELECT * FROM subscriptions WHERE tenant = $1 AND context_id = $2 AND name = $3
"""

_DELETE_SUBSCRIPTION = """
DELETE FROM subscriptions WHERE tenant = $1 AND context_id = $2 AND name = $3
"""


class ContextViews:
    """Make, change, show and delete contexts and subscriptions."""

    def __init__(self, app: "Hookstream") -> None:
        self._app = app

    async def list(self, request: web.Request) -> web.StreamResponse:
        """All contexts of the tenant."""
        rows = await self._app.parts.postgres.fetch(
            "SELECT * FROM contexts WHERE tenant = $1 ORDER BY context_id", request[TENANT_KEY]
        )
        return json_response({"contexts": [await self._out(row) for row in rows]})

    async def put(self, request: web.Request) -> web.StreamResponse:
        """Make or change a context."""
        context_id = path_id(request, "context_id")
        context = await read_model(self._app, request, models.ContextIn)
        row = await self._app.parts.postgres.fetchrow(
            _UPSERT_CONTEXT,
            request[TENANT_KEY],
            context_id,
            context.name,
            context.priority,
            context.rate.model_dump() if context.rate else None,
            context.token_budget,
        )
        assert row is not None
        await self._app.parts.registry.reload()
        return json_response(await self._out(row), status=201 if row["created"] else 200)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One context."""
        context_id = path_id(request, "context_id")
        return json_response(await self._out(await self._row(request[TENANT_KEY], context_id)))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Delete a context with its subscriptions. Its feed stays readable to nobody."""
        context_id = path_id(request, "context_id")
        tag = await self._app.parts.postgres.execute(
            "DELETE FROM contexts WHERE tenant = $1 AND context_id = $2",
            request[TENANT_KEY],
            context_id,
        )
        if tag == "DELETE 0":
            raise NotFoundError(f"there is no context {context_id}")
        await self._app.parts.registry.reload()
        return web.Response(status=204)

    async def list_subscriptions(self, request: web.Request) -> web.StreamResponse:
        """All subscriptions of a context."""
        context_id = path_id(request, "context_id")
        await self._row(request[TENANT_KEY], context_id)
        rows = await self._app.parts.postgres.fetch(
            "SELECT * FROM subscriptions WHERE tenant = $1 AND context_id = $2 ORDER BY name",
            request[TENANT_KEY],
            context_id,
        )
        return json_response({"subscriptions": [subscription_out(row) for row in rows]})

    async def put_subscription(self, request: web.Request) -> web.StreamResponse:
        """Make or change a subscription; a broken expression is refused with the reason."""
        context_id, name = path_id(request, "context_id"), path_id(request, "name")
        subscription = await read_model(self._app, request, models.SubscriptionIn)
        compile_types(subscription.types)
        if subscription.where:
            compile_condition(subscription.where)
        tenant = request[TENANT_KEY]
        if (
            await self._app.parts.postgres.fetchrow(
                "SELECT FROM tools WHERE tool_id = $1 AND tenant = $2", subscription.tool, tenant
            )
            is None
        ):
            raise NotFoundError(f"there is no tool {subscription.tool}: make it first")
        try:
            row = await self._app.parts.postgres.fetchrow(
                _UPSERT_SUBSCRIPTION,
                tenant,
                context_id,
                name,
                subscription.tool,
                subscription.types,
                subscription.where,
                subscription.priority or "",
            )
        except asyncpg.ForeignKeyViolationError as error:
            raise NotFoundError(f"there is no context {context_id}: make it first") from error
        assert row is not None
        await self._app.parts.registry.reload()
        return json_response(subscription_out(row), status=201 if row["created"] else 200)

    async def get_subscription(self, request: web.Request) -> web.StreamResponse:
        """One subscription."""
        context_id, name = path_id(request, "context_id"), path_id(request, "name")
        row = await self._app.parts.postgres.fetchrow(
            _GET_SUBSCRIPTION,
            request[TENANT_KEY],
            context_id,
            name,
        )
        if row is None:
            raise NotFoundError(f"context {context_id} has no subscription {name}")
        return json_response(subscription_out(row))

    async def delete_subscription(self, request: web.Request) -> web.StreamResponse:
        """Delete a subscription."""
        context_id, name = path_id(request, "context_id"), path_id(request, "name")
        tag = await self._app.parts.postgres.execute(
            _DELETE_SUBSCRIPTION,
            request[TENANT_KEY],
            context_id,
            name,
        )
        if tag == "DELETE 0":
            raise NotFoundError(f"context {context_id} has no subscription {name}")
        await self._app.parts.registry.reload()
        return web.Response(status=204)

    async def _row(self, tenant: str, context_id: str) -> Mapping[str, Any]:
        row = await self._app.parts.postgres.fetchrow(
            "SELECT * FROM contexts WHERE tenant = $1 AND context_id = $2", tenant, context_id
        )
        if row is None:
            raise NotFoundError(f"there is no context {context_id}")
        return dict(row)

    async def _out(self, row: Mapping[str, Any]) -> dict[str, Any]:
        feeds = self._app.parts.feeds
        who = (row["tenant"], row["context_id"])
        return {
            "context_id": row["context_id"],
            "name": row["name"],
            "priority": row["priority"],
            "rate": row["rate"],
            "token_budget": row["token_budget"],
            "last_seq": await feeds.last_seq(*who),
            "acknowledged_seq": await feeds.acknowledged(*who),
            "created_at": row["created_at"].isoformat(),
            "updated_at": row["updated_at"].isoformat(),
        }


def subscription_out(row: Mapping[str, Any]) -> dict[str, Any]:
    """A subscription as the API shows it."""
    return {
        "name": row["name"],
        "context_id": row["context_id"],
        "tool": row["tool_id"],
        "types": row["types"],
        "where": row["condition"],
        "priority": row["priority"] or None,
        "created_at": row["created_at"].isoformat(),
        "updated_at": row["updated_at"].isoformat(),
    }
