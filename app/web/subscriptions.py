"""``/api/v1/contexts/{context_id}/subscriptions``: what a context is told of."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
from aiohttp import web

from hookstream.app.bounded import BoundedPool
from hookstream.app.errors import BadRequestError, ConflictError, NotFoundError
from hookstream.app.ids import full_tool_id, own_tool_id
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.routing.condition_judge import ConditionJudge
from hookstream.app.routing.maskers import Maskers
from hookstream.app.routing.matching import (
    Condition,
    Matcher,
    TypePattern,
    compile_condition,
    compile_types,
    refuse_costly,
    refuse_unknown_fields,
)
from hookstream.app.settings import Settings
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.stores.events import EventFilter, EventStore
from hookstream.app.summaries.summariser import Summariser
from hookstream.app.web.access import CALLER_KEY, TENANT_KEY, path_id, read_model
from hookstream.app.web.contexts import CONTEXT, context_row
from hookstream.app.web.events import as_seen_by, parse_time
from hookstream.app.web.models.fields import PAGE_QUERY
from hookstream.app.web.models.subscriptions import (
    DryRunIn,
    DryRunOut,
    SubscriptionIn,
    SubscriptionList,
    SubscriptionOut,
)
from hookstream.app.web.paging import asked_page, next_cursor
from hookstream.app.web.problem import json_response
from hookstream.app.web.quotas import Quotas
from hookstream.app.web.routes import Route
from hookstream.codecs.envelope import Event

__all__ = ["DryRunViews", "SubscriptionViews"]

SUBSCRIPTION = CONTEXT + "/subscriptions/{name}"


class SubscriptionViews:
    """Make, change, show and delete subscriptions."""

    def __init__(
        self, *, settings: Settings, postgres: Postgres, catalog: CatalogCache, quotas: Quotas
    ) -> None:
        self._quotas = quotas
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
                gives=SubscriptionList,
                errors=(400, 404),
                query=PAGE_QUERY,
                operation="context_list_subscriptions",
            ),
            Route(
                "PUT",
                SUBSCRIPTION,
                self.put,
                "Make or change a subscription",
                takes=SubscriptionIn,
                gives=SubscriptionOut,
                errors=(400, 404, 409),
                operation="context_put_subscription",
            ),
            Route(
                "GET",
                SUBSCRIPTION,
                self.get,
                "Show a subscription",
                gives=SubscriptionOut,
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
        """A page of a context's subscriptions."""
        context_id = path_id(request, "context_id")
        limit, after = asked_page(request.query)
        await context_row(self._postgres, request[TENANT_KEY], context_id)
        rows = await self._postgres.fetch(
            statement("subscriptions"),
            request[TENANT_KEY],
            context_id,
            after,
            limit,
        )
        cursor = next_cursor(limit, [row["name"] for row in rows])
        shown = [subscription_out(row) for row in rows]
        return json_response({"subscriptions": shown, "cursor": cursor})

    async def put(self, request: web.Request) -> web.StreamResponse:
        """Make or change a subscription; a broken expression is refused with the reason."""
        context_id, name = path_id(request, "context_id"), path_id(request, "name")
        subscription = await read_model(self._settings, request, SubscriptionIn)
        tenant = request[TENANT_KEY]
        await check_subscription(self._postgres, tenant, subscription)
        try:
            row = await self._quotas.put(
                "subscriptions",
                tenant,
                statement("put_subscription"),
                tenant,
                context_id,
                name,
                _full(tenant, subscription.tool),
                subscription.types,
                subscription.where,
                subscription.priority or "",
                subscription.follow,
                self._quotas.most("subscriptions", tenant),
                self._quotas.most("subscriptions_per_context", tenant),
            )
        except asyncpg.ForeignKeyViolationError as error:
            raise NotFoundError(f"there is no context {context_id}: make it first") from error
        if row is None:
            kinds = ("subscriptions_per_context", "subscriptions")
            await self._quotas.check(tenant, *kinds, context_id=context_id)
            raise ConflictError("a subscription was deleted just now: try again")
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

    def __init__(
        self,
        *,
        settings: Settings,
        postgres: Postgres,
        events: EventStore,
        pool: BoundedPool,
        maskers: Maskers,
    ) -> None:
        self._maskers = maskers
        self._pool = pool
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
                takes=DryRunIn,
                gives=DryRunOut,
                errors=(400, 404),
                operation="context_dry_run",
                action="subscription.tried",
            ),
        ]

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Which past events a subscription would have matched; nothing is saved."""
        wanted = await read_model(self._settings, request, DryRunIn)
        tenant = request[TENANT_KEY]
        types, condition = await check_subscription(self._postgres, tenant, wanted)
        past = EventFilter(
            tool=None if wanted.tool == "*" else _full(tenant, wanted.tool),
            since=parse_time("since", wanted.since),
            until=parse_time("until", wanted.until),
            limit=wanted.limit,
        )
        found = await self._events.search_with_payloads(tenant, past)
        matched = []
        # of its own: what goes wrong here is no trouble of a subscription that there is
        judge = ConditionJudge(self._pool, quiet=True)
        for row, stored in found:
            event = stored and await as_seen_by(request[CALLER_KEY], self._maskers, stored)
            if event and await would_match(judge, event, types, condition, wanted.follow):
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
                "errors": judge.kinds(),
                "events": matched,
            }
        )


async def would_match(
    judge: ConditionJudge,
    event: Event,
    types: TypePattern,
    condition: Condition | None,
    follow: str,
) -> bool:
    """Whether an event would match, within the bounds that conditions have."""
    matcher = Matcher(event)
    if not matcher.concerns(types, follow):
        return False
    return condition is None or await judge.holds(("", "", ""), condition, matcher.facts)


async def check_subscription(
    postgres: Postgres, tenant: str, subscription: SubscriptionIn
) -> tuple[TypePattern, Condition | None]:
    """Refuse what cannot work. Raises BadRequestError, NotFoundError."""
    for pattern in subscription.types:
        if pattern != pattern.strip():
            # no type has any: it would match nothing, and say nothing of it
            raise BadRequestError(
                f"types: {pattern!r} begins or ends with a space, as no type does"
            )
    types = compile_types(subscription.types)
    condition = compile_condition(subscription.where) if subscription.where else None
    if condition:
        refuse_costly(condition)
        refuse_unknown_fields(condition)
    if subscription.follow and ":" not in subscription.follow:
        raise BadRequestError(
            f"follow: a correlation key, such as ticket:{subscription.follow[:40]} or "
            "github:acme/app#5; an event's `keys` are its own"
        )
    if subscription.tool != "*" and (
        await postgres.fetchrow(statement("tool"), _full(tenant, subscription.tool), tenant) is None
    ):
        raise NotFoundError(f"there is no tool {subscription.tool}: make it first")
    return types, condition


def _full(tenant: str, tool: str) -> str:
    return tool if tool == "*" else full_tool_id(tenant, tool)


def subscription_out(row: Mapping[str, Any]) -> dict[str, Any]:
    """A subscription as the API shows it."""
    return {
        "name": row["name"],
        "context_id": row["context_id"],
        "tool": own_tool_id(row["tool_id"]),
        "types": row["types"],
        "where": row["condition"],
        "follow": row["follow"],
        "priority": row["priority"] or None,
        "switched_off": row["switched_off"],
        "errors": row["errors"],
        "last_error": f"{row['error_kind']}: {row['error']}" if row["errors"] else "",
        "last_error_at": row["last_error_at"].isoformat() if row["last_error_at"] else None,
        "created_at": row["created_at"].isoformat(),
        "updated_at": row["updated_at"].isoformat(),
    }
