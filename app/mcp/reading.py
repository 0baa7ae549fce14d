"""What a caller may read: its own contexts, their updates, and events that reached them."""

import heapq
from typing import Any

from hookstream.app.feeds.feed import FeedProgress, Feeds
from hookstream.app.feeds.resets import Resets
from hookstream.app.routing.catalog import Context
from hookstream.app.routing.maskers import Maskers
from hookstream.app.stores.audit_trail import AuditTrail
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.stores.events import EventStore
from hookstream.app.web.access import Caller
from hookstream.app.web.events import visible_event

__all__ = ["PAGE", "AgentReader"]

PAGE = 100


class AgentReader:
    """Reads for callers, each limited to the contexts of its key."""

    def __init__(
        self,
        *,
        catalog: CatalogCache,
        feeds: Feeds,
        resets: Resets,
        events: EventStore,
        trail: AuditTrail,
        maskers: Maskers,
    ) -> None:
        self._trail = trail
        self._maskers = maskers
        self._catalog = catalog
        self._feeds = feeds
        self._resets = resets
        self._events = events

    async def context(self, caller: Caller, context_id: str) -> Context:
        """One of the caller's contexts.

        Raises:
            ForbiddenError, NotFoundError: it is none of the caller's.
        """
        caller.check(context_id)
        return await self._catalog.context(caller.tenant, context_id)

    async def contexts(
        self, caller: Caller, after: str = "", limit: int = PAGE
    ) -> list[dict[str, Any]]:
        """The caller's contexts in the order of their ids, past ``after``."""
        catalog = await self._catalog.reload()
        if caller.contexts is None:
            ids = (name for tenant, name in catalog.contexts if tenant == caller.tenant)
        else:
            ids = (name for name in caller.contexts if (caller.tenant, name) in catalog.contexts)
        page = heapq.nsmallest(limit, (name for name in ids if name > after))
        names = [(caller.tenant, name) for name in page]
        progress = await self._feeds.progress(names)
        unread = await self._feeds.unread_each(names, progress)
        return [
            listed(catalog.contexts[name], reached, count)
            for name, reached, count in zip(names, progress, unread, strict=True)
        ]

    async def last_seq(self, caller: Caller, context_id: str) -> int:
        """The highest number of one of the caller's contexts."""
        context = await self.context(caller, context_id)
        return await self._feeds.last_seq(context.tenant, context_id)

    async def updates(
        self, caller: Caller, context_id: str, after: int, limit: int, generation: int = 0
    ) -> dict[str, Any]:
        """A page of a context's updates; ``next_after`` is where to go on.

        ``reset`` is there where Redis has lost data since: numbers begin anew, and what is missing.
        ``truncated`` is there where updates past ``after`` are kept no longer.

        Raises:
            ForbiddenError, NotFoundError: it is none of the caller's.
        """
        context = await self.context(caller, context_id)
        page = await self._resets.page((context.tenant, context_id), after, generation, limit)
        return {
            "context_id": context_id,
            **page.told(),
            "updates": page.updates,
            "next_after": page.after,
            "generation": page.generation,
            "last_seq": page.last,
        }

    async def unread(self, caller: Caller, context_id: str) -> dict[str, Any]:
        """A page of what the context's clients have not acknowledged."""
        context = await self.context(caller, context_id)
        acknowledged = await self._feeds.acknowledged(context.tenant, context_id)
        page = await self.updates(caller, context_id, acknowledged, PAGE)
        return {"acknowledged_seq": acknowledged, **page}

    async def event(self, caller: Caller, event_id: str) -> dict[str, Any]:
        """An event with payload and deliveries, as much of it as the caller may know."""
        return await visible_event(self._events, self._trail, self._maskers, caller, event_id)


def listed(context: Context, progress: FeedProgress, unread: int) -> dict[str, Any]:
    """A context as a list shows it."""
    return {
        "context_id": context.context_id,
        "name": context.name,
        "priority": context.priority,
        "token_budget": context.token_budget,
        "last_seq": progress.last_seq,
        "acknowledged_seq": progress.acknowledged_seq,
        "unread": unread,
    }
