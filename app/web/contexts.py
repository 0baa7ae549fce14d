"""``/api/v1/contexts``: agents' contexts and their subscriptions."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import asyncpg
from aiohttp import web

from hookstream.app.clock import RedisClock
from hookstream.app.errors import BadRequestError, NotFoundError
from hookstream.app.feeds.digests import (
    MAX_BUDGET,
    MAX_DIGESTED,
    MIN_BUDGET,
    digest_budget,
    fit_digest,
)
from hookstream.app.feeds.feed import Feeds
from hookstream.app.feeds.resets import Resets
from hookstream.app.postgres.pool import Postgres
from hookstream.app.routing.matching import (
    Condition,
    Matcher,
    TypePattern,
    compile_condition,
    compile_types,
)
from hookstream.app.settings import Settings
from hookstream.app.stores.catalog import RegistryCache
from hookstream.app.stores.events import EventFilter, EventStore
from hookstream.app.summaries.summariser import Summariser
from hookstream.app.web import models
from hookstream.app.web.access import TENANT_KEY, path_id, read_model
from hookstream.app.web.events import check_query, parse_limit, parse_time
from hookstream.app.web.problem import json_response
from hookstream.app.web.updates import parse_after

__all__ = ["ContextViews", "read_digest"]

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

_UPSERT_SUBSCRIPTION = """
INSERT INTO subscriptions (tenant, context_id, name, tool_id, types, condition, priority, follow)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (tenant, context_id, name) DO UPDATE SET
    tool_id = $4, types = $5, condition = $6, priority = $7, follow = $8, updated_at = now()
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

    def __init__(
        self,
        *,
        settings: Settings,
        postgres: Postgres,
        registry: RegistryCache,
        feeds: Feeds,
        resets: Resets,
        events: EventStore,
        clock: RedisClock,
    ) -> None:
        self._settings = settings
        self._postgres = postgres
        self._registry = registry
        self._feeds = feeds
        self._resets = resets
        self._events = events
        self._clock = clock
        self._summaries = Summariser()

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
        await self._registry.reload()
        return json_response(await self._out(row), status=201 if row["created"] else 200)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One context."""
        context_id = path_id(request, "context_id")
        return json_response(await self._out(await self._row(request[TENANT_KEY], context_id)))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Delete a context with its subscriptions. Its feed stays readable to nobody."""
        context_id = path_id(request, "context_id")
        tag = await self._postgres.execute(
            "DELETE FROM contexts WHERE tenant = $1 AND context_id = $2",
            request[TENANT_KEY],
            context_id,
        )
        if tag == "DELETE 0":
            raise NotFoundError(f"there is no context {context_id}")
        await self._registry.reload()
        return web.Response(status=204)

    async def digest(self, request: web.Request) -> web.StreamResponse:
        """What is not acknowledged yet (or what is past ``after``), folded into a token budget."""
        check_query(request.query, models.DIGEST_QUERY)
        context_id = path_id(request, "context_id")
        row = await self._row(request[TENANT_KEY], context_id)
        budget = parse_budget(request.query.get("budget"), row["token_budget"])
        after = parse_after(request.query.get("after"))
        return json_response(
            await read_digest(self._feeds, row["tenant"], context_id, budget, after)
        )

    async def acknowledge(self, request: web.Request) -> web.StreamResponse:
        """Acknowledge updates, as a WebSocket client does."""
        context_id = path_id(request, "context_id")
        given = await read_model(self._settings, request, models.AckIn)
        row = await self._row(request[TENANT_KEY], context_id)
        who = (row["tenant"], context_id)
        kept = await self._feeds.acknowledge(*who, given.seq, given.generation)
        return json_response({"acknowledged_seq": kept})

    async def updates(self, request: web.Request) -> web.StreamResponse:
        """A page of the feed: what the WebSocket sends, for those who would rather ask."""
        check_query(request.query, models.FEED_QUERY)
        context_id = path_id(request, "context_id")
        row = await self._row(request[TENANT_KEY], context_id)
        after = parse_after(request.query.get("after")) or 0
        generation = parse_after(request.query.get("generation"), "generation") or 0
        limit = parse_limit(request.query.get("limit", "50"))
        who = (row["tenant"], context_id)
        page = await self._resets.page(who, after, generation, limit)
        return json_response(
            {
                "updates": page.updates,
                "generation": page.generation,
                "next_after": page.after,
                **page.told(),
            }
        )

    async def folded(self, request: web.Request) -> web.StreamResponse:
        """A page of the updates that a digest update stands for."""
        check_query(request.query, models.UPDATES_QUERY)
        context_id = path_id(request, "context_id")
        row = await self._row(request[TENANT_KEY], context_id)
        seq = parse_after(request.match_info["seq"], "seq") or 0
        start = parse_after(request.query.get("after")) or 0
        limit = parse_limit(request.query.get("limit", "50"))
        who = (row["tenant"], context_id)
        updates = await self._feeds.folded(*who, seq, start, limit)
        if not updates and not await self._feeds.folded(*who, seq, 0, 1):
            raise NotFoundError(f"update {seq} of context {context_id} is no digest")
        return json_response({"seq": seq, "updates": updates})

    async def dailies(self, request: web.Request) -> web.StreamResponse:
        """Daily summaries, the newest first."""
        check_query(request.query, models.LIMIT_QUERY)
        context_id = path_id(request, "context_id")
        row = await self._row(request[TENANT_KEY], context_id)
        rows = await self._postgres.fetch(
            "SELECT * FROM daily_summaries WHERE tenant = $1 AND context_id = $2 "
            "ORDER BY day DESC LIMIT $3",
            row["tenant"],
            context_id,
            parse_limit(request.query.get("limit", "50")),
        )
        return json_response({"dailies": [daily_out(row) for row in rows]})

    async def list_subscriptions(self, request: web.Request) -> web.StreamResponse:
        """All subscriptions of a context."""
        context_id = path_id(request, "context_id")
        await self._row(request[TENANT_KEY], context_id)
        rows = await self._postgres.fetch(
            "SELECT * FROM subscriptions WHERE tenant = $1 AND context_id = $2 ORDER BY name",
            request[TENANT_KEY],
            context_id,
        )
        return json_response({"subscriptions": [subscription_out(row) for row in rows]})

    async def put_subscription(self, request: web.Request) -> web.StreamResponse:
        """Make or change a subscription; a broken expression is refused with the reason."""
        context_id, name = path_id(request, "context_id"), path_id(request, "name")
        subscription = await read_model(self._settings, request, models.SubscriptionIn)
        tenant = request[TENANT_KEY]
        await self._check(tenant, subscription)
        try:
            row = await self._postgres.fetchrow(
                _UPSERT_SUBSCRIPTION,
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
        await self._registry.reload()
        return json_response(subscription_out(row), status=201 if row["created"] else 200)

    async def dry_run(self, request: web.Request) -> web.StreamResponse:
        """Which past events a subscription would have matched; nothing is saved."""
        wanted = await read_model(self._settings, request, models.DryRunIn)
        tenant = request[TENANT_KEY]
        types, condition = await self._check(tenant, wanted)
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

    async def _check(
        self, tenant: str, subscription: models.SubscriptionIn
    ) -> tuple[TypePattern, Condition | None]:
        """Refuse what cannot work. Raises BadRequestError, NotFoundError."""
        types = compile_types(subscription.types)
        condition = compile_condition(subscription.where) if subscription.where else None
        if subscription.tool != "*" and (
            await self._postgres.fetchrow(
                "SELECT FROM tools WHERE tool_id = $1 AND tenant = $2", subscription.tool, tenant
            )
            is None
        ):
            raise NotFoundError(f"there is no tool {subscription.tool}: make it first")
        return types, condition

    async def get_subscription(self, request: web.Request) -> web.StreamResponse:
        """One subscription."""
        context_id, name = path_id(request, "context_id"), path_id(request, "name")
        row = await self._postgres.fetchrow(
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
        tag = await self._postgres.execute(
            _DELETE_SUBSCRIPTION,
            request[TENANT_KEY],
            context_id,
            name,
        )
        if tag == "DELETE 0":
            raise NotFoundError(f"context {context_id} has no subscription {name}")
        await self._registry.reload()
        return web.Response(status=204)

    def _daily(self, context: models.ContextIn) -> dict[str, Any] | None:
        if context.daily is None:
            return None
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        return {**context.daily.model_dump(), "since": now.isoformat()}

    async def _row(self, tenant: str, context_id: str) -> Mapping[str, Any]:
        row = await self._postgres.fetchrow(
            "SELECT * FROM contexts WHERE tenant = $1 AND context_id = $2", tenant, context_id
        )
        if row is None:
            raise NotFoundError(f"there is no context {context_id}")
        return dict(row)

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


async def read_digest(
    feeds: Feeds, tenant: str, context_id: str, budget: int, after: int | None
) -> dict[str, Any]:
    """The digest of what is past ``after`` (None: past what is acknowledged), as JSON values."""
    who = (tenant, context_id)
    if after is None:
        after = await feeds.acknowledged(*who)
    found = await feeds.newest(*who, after, MAX_DIGESTED)
    updates = await feeds.expand(*who, found)
    full = len(found) >= MAX_DIGESTED
    skipped = max(0, await feeds.unread(*who, after) - len(found)) if full else 0
    end = await feeds.look(*who)
    # counting tokens takes a while: other requests go on meanwhile
    digest = await asyncio.to_thread(fit_digest, updates, budget)
    return {
        "context_id": context_id,
        "budget": budget,
        "tokens": digest.tokens,
        "text": digest.text,
        "untrusted": ["text", "groups"],
        "updates": len(found),
        "events": len(updates),
        "skipped": skipped,
        "after": after,
        "last_seq": found[-1].seq if found else after,
        "generation": end.generations.current,
        "groups": [group.out() for group in digest.shown],
        "omitted": [group.out() for group in digest.omitted],
    }


def parse_budget(text: str | None, own: int | None) -> int:
    """The tokens of a digest: as asked for, else the context's own budget, else 1000.

    Raises:
        BadRequestError: it is no number, or too small or large.
    """
    if text is None:
        return digest_budget(own)
    plain = text.isascii() and text.isdecimal() and len(text) < 9
    if not plain or not MIN_BUDGET <= int(text) <= MAX_BUDGET:
        raise BadRequestError(f"budget: tokens, from {MIN_BUDGET} to {MAX_BUDGET}")
    return int(text)


def daily_out(row: Mapping[str, Any]) -> dict[str, Any]:
    """A daily summary as the API shows it."""
    kept = ("seq", "summary", "tokens", "updates", "from_seq", "to_seq")
    return {
        "day": row["day"].isoformat(),
        **{name: row[name] for name in kept},
        "created_at": row["created_at"].isoformat(),
        "untrusted": ["summary"],
    }


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
