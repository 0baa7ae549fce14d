"""``/api/v1/losses``: what the event log knows and Redis has lost."""

from collections.abc import Sequence
from uuid import UUID

from aiohttp import web

from hookstream.app.errors import BadRequestError
from hookstream.app.feeds.losses import NO_EVENT, LossStore, cursor_of
from hookstream.app.web.access import TENANT_KEY, uuid7
from hookstream.app.web.events import check_query, parse_limit
from hookstream.app.web.models.losses import (
    LOST_DELIVERIES_QUERY,
    LOST_EVENTS_QUERY,
    LostDeliveryList,
    LostEventList,
)
from hookstream.app.web.problem import json_response
from hookstream.app.web.routes import Route

__all__ = ["LossViews"]


class LossViews:
    """Lists; puts nothing back, and changes nothing."""

    def __init__(self, losses: LossStore) -> None:
        self._losses = losses

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "GET",
                "/api/v1/losses/deliveries",
                self.deliveries,
                "Updates of a context that were delivered and are in its feed no more",
                gives=LostDeliveryList,
                errors=(400,),
                query=LOST_DELIVERIES_QUERY,
            ),
            Route(
                "GET",
                "/api/v1/losses/events",
                self.events,
                "Events that were accepted and are nowhere in Redis",
                gives=LostEventList,
                errors=(400,),
                query=LOST_EVENTS_QUERY,
            ),
        ]

    async def deliveries(self, request: web.Request) -> web.StreamResponse:
        """A page of a context's updates that are in its feed no more."""
        query = request.query
        check_query(query, LOST_DELIVERIES_QUERY)
        limit = parse_limit(query.get("limit", "50"))
        context_id = query.get("context")
        if not context_id:
            raise BadRequestError("context: whose updates?")
        seq, _, event_id = query.get("cursor", "").partition(".")
        if seq and not (seq.isascii() and seq.isdecimal() and len(seq) < 17):
            raise BadRequestError("cursor: as the page before gave it")
        after = (int(seq), UUID(uuid7(event_id, "cursor"))) if seq else (0, NO_EVENT)
        found = await self._losses.deliveries(request[TENANT_KEY], context_id, after, limit)
        cursor = cursor_of(found[-1]) if len(found) == limit else None
        return json_response({"deliveries": found, "cursor": cursor})

    async def events(self, request: web.Request) -> web.StreamResponse:
        """A page of events that should be on their way and are nowhere."""
        query = request.query
        check_query(query, LOST_EVENTS_QUERY)
        limit = parse_limit(query.get("limit", "50"))
        cursor = query.get("cursor")
        after = UUID(uuid7(cursor, "cursor")) if cursor else NO_EVENT
        found, at, complete = await self._losses.events(request[TENANT_KEY], after, limit)
        return json_response(
            {"events": found, "cursor": str(at) if at else None, "complete": complete}
        )
