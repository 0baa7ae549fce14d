"""``/api/v1/contexts/{context_id}/subscriptions``: what a context is told of."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
from aiohttp import web

from hookstream.app.errors import NotFoundError
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.routing.matching import (
    Condition,
    Matcher,
    TypePattern,
    compile_condition,
    compile_types,
)
from hookstream.app.settings import Settings
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.stores.events import EventFilter, EventStore
from hookstream.app.summaries.summariser import Summariser
from hookstream.app.web import models
from hookstream.app.web.access import TENANT_KEY, path_id, read_model
from hookstream.app.web.contexts import CONTEXT, context_row
from hookstream.app.web.events import parse_time
from hookstream.app.web.problem import json_response
from hookstream.app.web.routes import Route

__all__ = ["DryRunViews", "SubscriptionViews"]

SUBSCRIPTION = CONTEXT + "/subscriptions/{name}"


class SubscriptionViews:
    """Make, change, show and delete subscriptions."""

    def __init__(self, *, settings: Settings, postgres: Postgres, catalog: CatalogCache) -> None:
        self._settings = settings
        self._postgres = postgres
        self._catalog = catalog

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "GET",
                CONTEXT + "/subscriptions",
                self.list,
                "List a context's subscriptions",
                gives=models.SubscriptionList,
                errors=(404,),
                operation="context_list_subscriptions",
            ),
            Route(
                "PUT",
                SUBSCRIPTION,
                self.put,
                "Make or change a subscription",
                takes=models.SubscriptionIn,
                gives=models.SubscriptionOut,
                errors=(400, 404),
                operation="context_put_subscription",
            ),
            Route(
                "GET",
                SUBSCRIPTION,
                self.get,
                "Show a subscription",
                gives=models.SubscriptionOut,
                errors=(404,),
                operation="context_get_subscription",
            ),
            Route(
                "DELETE",
                SUBSCRIPTION,
                self.delete,
                "Delete a subscription",
                status=204,
                errors=(404,),
                operation="context_delete_subscription",
            ),
        ]

    async def list(self, request: web.Request) -> web.StreamResponse:
        """All subscriptions of a context."""
        context_id = path_id(request, "context_id")
        await context_row(self._postgres, request[TENANT_KEY], context_id)
        rows = await self._postgres.fetch(
            statement("subscriptions"),
            request[TENANT_KEY],
            context_id,
        )
        return json_response({"subscriptions": [subscription_out(row) for row in rows]})

    async def put(self, request: web.Request) -> web.StreamResponse:
        """Make or change a subscription; a broken expression is refused with the reason."""
        context_id, name = path_id(request, "context_id"), path_id(request, "name")
        subscription = await read_model(self._settings, request, models.SubscriptionIn)
        tenant = request[TENANT_KEY]
        await check_subscription(self._postgres, tenant, subscription)
        try:
            row = await self._postgres.fetchrow(
                statement("put_subscription"),
                tenant,
                context_id,
                name,
                subscription.tool,
                subscription.types,
                subscription.where,
                subscription.priority or "",
                subscription.follow,
            )
        except asyncpg.ForeignKeyViolationError as error:
            raise NotFoundError(f"there is no context {context_id}: make it first") from error
        assert row is not None
        await self._catalog.reload()
        return json_response(subscription_out(row), status=201 if row["created"] else 200)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One subscription."""
        context_id, name = path_id(request, "context_id"), path_id(request, "name")
        row = await self._postgres.fetchrow(
            statement("subscription"),
            request[TENANT_KEY],
            context_id,
            name,
        )
        if row is None:
            raise NotFoundError(f"context {context_id} has no subscription {name}")
        return json_response(subscription_out(row))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Delete a subscription."""
        context_id, name = path_id(request, "context_id"), path_id(request, "name")
        tag = await self._postgres.execute(
            statement("delete_subscription"),
            request[TENANT_KEY],
            context_id,
            name,
        )
        if tag == "DELETE 0":
            raise NotFoundError(f"context {context_id} has no subscription {name}")
        await self._catalog.reload()
        return web.Response(status=204)


class DryRunViews:
    """Try a subscription before it is made."""

    def __init__(self, *, settings: Settings, postgres: Postgres, events: EventStore) -> None:
        self._settings = settings
        self._postgres = postgres
        self._events = events
        self._summaries = Summariser()

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "POST",
                "/api/v1/subscriptions/dry-run",
                self.post,
                "Which past events a subscription would have matched",
                takes=models.DryRunIn,
                gives=models.DryRunOut,
                errors=(400, 404),
                operation="context_dry_run",
            ),
        ]

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Which past events a subscription would have matched; nothing is saved."""
        wanted = await read_model(self._settings, request, models.DryRunIn)
        tenant = request[TENANT_KEY]
        types, condition = await check_subscription(self._postgres, tenant, wanted)
        past = EventFilter(
            tool=None if wanted.tool == "*" else wanted.tool,
            since=parse_time("since", wanted.since),
            until=parse_time("until", wanted.until),
            limit=wanted.limit,
        )
        found = await self._events.search_with_payloads(tenant, past)
        matched = []
        for row, event in found:
            if event and Matcher(event).matches(types, condition, wanted.follow):
                summary = self._summaries.summarise(event)
                matched.append(
                    {
                        **{name: row[name] for name in ("event_id", "tool_id", "type")},
                        "received_at": row["received_at"],
                        "summary": summary.text,
                        "keys": summary.keys,
                    }
                )
            # a condition is somebody's code: others get their turn
            await asyncio.sleep(0)
        return json_response(
            {
                "examined": len(found),
                "matched": len(matched),
                "unreadable": sum(event is None for _, event in found),
                "events": matched,
            }
        )


async def check_subscription(
    postgres: Postgres, tenant: str, subscription: models.SubscriptionIn
) -> tuple[TypePattern, Condition | None]:
    """Refuse what cannot work. Raises BadRequestError, NotFoundError."""
    types = compile_types(subscription.types)
    condition = compile_condition(subscription.where) if subscription.where else None
    if subscription.tool != "*" and (
        await postgres.fetchrow(statement("tool"), subscription.tool, tenant) is None
    ):
        raise NotFoundError(f"there is no tool {subscription.tool}: make it first")
    return types, condition


def subscription_out(row: Mapping[str, Any]) -> dict[str, Any]:
    """A subscription as the API shows it."""
    return {
        "name": row["name"],
        "context_id": row["context_id"],
        "tool": row["tool_id"],
        "types": row["types"],
        "where": row["condition"],
        "follow": row["follow"],
        "priority": row["priority"] or None,
        "created_at": row["created_at"].isoformat(),
        "updated_at": row["updated_at"].isoformat(),
    }
