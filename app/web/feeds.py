"""What is read of ``/api/v1/contexts/{context_id}``: digests, updates, acknowledgements."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from aiohttp import web

from hookstream.app import metrics
from hookstream.app.errors import BadRequestError, LimitError, NotFoundError
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
from hookstream.app.postgres.sql import statement
from hookstream.app.settings import Settings
from hookstream.app.web.access import CALLER_KEY, TENANT_KEY, Caller, path_id, read_model
from hookstream.app.web.contexts import CONTEXT, context_row
from hookstream.app.web.events import check_query, parse_limit
from hookstream.app.web.models.feeds import (
    DIGEST_QUERY,
    FEED_QUERY,
    UPDATES_QUERY,
    AckIn,
    AckOut,
    DailyList,
    DigestOut,
    FoldedList,
    UpdateList,
)
from hookstream.app.web.models.fields import PAGE_QUERY
from hookstream.app.web.paging import asked_page, next_cursor
from hookstream.app.web.problem import json_response
from hookstream.app.web.routes import Route
from hookstream.app.web.updates import parse_after

__all__ = ["FeedViews", "read_digest"]

#: Of one key in one process; a long one takes a tenth of a second.
MAX_WAITING_DIGESTS = 32
DIGEST_RETRY_SECONDS = 2.0
#: As of a WebSocket's frame.
MAX_ACK_BYTES = 4096


class FeedViews:
    """Read a context's feed, and acknowledge it."""

    def __init__(
        self, *, settings: Settings, postgres: Postgres, feeds: Feeds, resets: Resets
    ) -> None:
        self._settings = settings
        self._postgres = postgres
        self._feeds = feeds
        self._resets = resets

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "GET",
                CONTEXT + "/digest",
                self.digest,
                "What is new, folded into a token budget",
                gives=DigestOut,
                errors=(400, 404),
                query=DIGEST_QUERY,
                operation="context_digest",
            ),
            Route(
                "POST",
                CONTEXT + "/ack",
                self.acknowledge,
                "Acknowledge updates up to a sequence number",
                takes=AckIn,
                gives=AckOut,
                errors=(404, 409),
                operation="context_acknowledge",
                # its time is kept with the feed: docs/audit.md
                action=None,
            ),
            Route(
                "GET",
                CONTEXT + "/updates",
                self.updates,
                "A page of the context's updates",
                gives=UpdateList,
                errors=(400, 404),
                query=FEED_QUERY,
                operation="context_updates",
            ),
            Route(
                "GET",
                CONTEXT + "/updates/{seq}/folded",
                self.folded,
                "A page of the updates that a digest update stands for",
                gives=FoldedList,
                errors=(400, 404),
                query=UPDATES_QUERY,
                operation="context_folded",
            ),
            Route(
                "GET",
                CONTEXT + "/daily",
                self.dailies,
                "Daily summaries, the newest first",
                gives=DailyList,
                errors=(400, 404),
                query=PAGE_QUERY,
                operation="context_dailies",
            ),
        ]

    async def digest(self, request: web.Request) -> web.StreamResponse:
        """What is not acknowledged yet (or what is past ``after``), folded into a token budget."""
        check_query(request.query, DIGEST_QUERY)
        context_id = path_id(request, "context_id")
        row = await context_row(self._postgres, request[TENANT_KEY], context_id)
        budget = parse_budget(request.query.get("budget"), row["token_budget"])
        after = parse_after(request.query.get("after"))
        return json_response(
            await read_digest(
                self._feeds, self._resets, request[CALLER_KEY], context_id, budget, after
            )
        )

    async def acknowledge(self, request: web.Request) -> web.StreamResponse:
        """Acknowledge updates, as a WebSocket client does."""
        context_id = path_id(request, "context_id")
        given = await read_model(self._settings, request, AckIn, MAX_ACK_BYTES)
        row = await context_row(self._postgres, request[TENANT_KEY], context_id)
        who = (row["tenant"], context_id)
        kept = await self._feeds.acknowledge(*who, given.seq, given.generation)
        return json_response({"acknowledged_seq": kept})

    async def updates(self, request: web.Request) -> web.StreamResponse:
        """A page of the feed: what the WebSocket sends, for those who would rather ask."""
        check_query(request.query, FEED_QUERY)
        context_id = path_id(request, "context_id")
        row = await context_row(self._postgres, request[TENANT_KEY], context_id)
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
        check_query(request.query, UPDATES_QUERY)
        context_id = path_id(request, "context_id")
        row = await context_row(self._postgres, request[TENANT_KEY], context_id)
        seq = parse_after(request.match_info["seq"], "seq") or 0
        start = parse_after(request.query.get("after")) or 0
        limit = parse_limit(request.query.get("limit", "50"))
        who = (row["tenant"], context_id)
        updates = await self._feeds.coalesced(*who, seq, start, limit)
        if not updates and not await self._feeds.coalesced(*who, seq, 0, 1):
            raise NotFoundError(f"update {seq} of context {context_id} is no digest")
        return json_response({"seq": seq, "updates": updates})

    async def dailies(self, request: web.Request) -> web.StreamResponse:
        """A page of daily summaries, the newest first."""
        limit, before = asked_page(request.query)
        context_id = path_id(request, "context_id")
        row = await context_row(self._postgres, request[TENANT_KEY], context_id)
        rows = await self._postgres.fetch(
            statement("daily_summaries"),
            row["tenant"],
            context_id,
            parse_day(before),
            limit,
        )
        seals = self._feeds.seals
        dailies = []
        for one in rows:
            told = daily_out(one)
            who = (one["tenant"], context_id, told["day"])
            told["summary"] = await seals.open_daily(*who, told["summary"]) or ""
            dailies.append(told)
        cursor = next_cursor(limit, [one["day"] for one in dailies])
        return json_response({"dailies": dailies, "cursor": cursor})


async def read_digest(
    feeds: Feeds,
    resets: Resets,
    caller: Caller,
    context_id: str,
    budget: int,
    after: int | None,
) -> dict[str, Any]:
    """The digest of what is past ``after`` (None: past what is acknowledged), as JSON values.

    ``truncated`` is there where some of that is kept no longer.

    Raises:
        LimitError: the caller waits for many already.
    """
    turns = feeds.digesting
    if turns.waiting(caller.digest) >= MAX_WAITING_DIGESTS:
        metrics.LIMITED.labels(limit="digests").inc()
        raise LimitError(
            f"this key waits for {MAX_WAITING_DIGESTS} digests already, which are made one at a "
            "time",
            DIGEST_RETRY_SECONDS,
        )
    async with turns.turn(caller.digest):
        return await _made_digest(feeds, resets, (caller.tenant, context_id), budget, after)


async def _made_digest(
    feeds: Feeds, resets: Resets, who: tuple[str, str], budget: int, after: int | None
) -> dict[str, Any]:
    context_id = who[1]
    if after is None:
        after = await feeds.acknowledged(*who)
    found = await feeds.newest(*who, after, MAX_DIGESTED)
    updates = await feeds.expand(*who, found)
    full = len(found) >= MAX_DIGESTED
    skipped = max(0, await feeds.unread(*who, after) - len(found)) if full else 0
    end = await feeds.look(*who)
    gone = await feeds.trimmed(*who)
    if found:
        # what goes while this reads is in it
        gone = min(gone, found[0].seq - 1)
    truncated = await resets.truncated(who, after, gone)
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
        **({"truncated": truncated.out()} if truncated else {}),
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


def parse_day(text: str) -> date | None:
    """The day that a page of summaries ended with. Raises BadRequestError when it is none."""
    try:
        return date.fromisoformat(text) if text else None
    except ValueError as error:
        raise BadRequestError("cursor: from the page before") from error


def daily_out(row: Mapping[str, Any]) -> dict[str, Any]:
    """A daily summary as the API shows it."""
    kept = ("seq", "summary", "tokens", "updates", "from_seq", "to_seq")
    return {
        "day": row["day"].isoformat(),
        **{name: row[name] for name in kept},
        "created_at": row["created_at"].isoformat(),
        "untrusted": ["summary"],
    }
