"""``/api/v1/events/{event_id}/history``: all that is recorded of one event."""

from collections.abc import Sequence

import orjson
from aiohttp import web

from hookstream.app.errors import NotFoundError
from hookstream.app.failures.dead_letters import DeadLetters
from hookstream.app.stores.audit_trail import AuditFilter, AuditTrail
from hookstream.app.stores.event_history import NOT_RECORDED, history_of
from hookstream.app.stores.events import EventStore
from hookstream.app.web.access import TENANT_KEY, uuid7
from hookstream.app.web.events import check_query
from hookstream.app.web.models.events import HistoryOut
from hookstream.app.web.problem import json_response
from hookstream.app.web.routes import Route

__all__ = ["HistoryViews"]

#: Rows of the audit trail that are shown of one event, the newest ones.
MOST_ROWS = 200


class HistoryViews:
    """Tells what became of an event; for the admin key alone, since it names keys and contexts."""

    def __init__(self, events: EventStore, dead_letters: DeadLetters, trail: AuditTrail) -> None:
        self._events = events
        self._dead_letters = dead_letters
        self._trail = trail

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "GET",
                "/api/v1/events/{event_id}/history",
                self.get,
                "What happened to an event, and who did it, in the order of time",
                gives=HistoryOut,
                errors=(400, 404),
                operation="event_history",
            )
        ]

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One event's history, without its payload."""
        event_id = uuid7(request.match_info["event_id"], "event_id")
        check_query(request.query, ())
        tenant = request[TENANT_KEY]
        event = await self._events.account(tenant, event_id)
        if event is None:
            raise NotFoundError(f"there is no event {event_id}")
        attempts = await self._dead_letters.attempts(tenant, event_id)
        rows = await self._trail.find(tenant, AuditFilter(event=event_id, limit=MOST_ROWS))
        trail = [orjson.loads(row.record) for row in rows]
        return json_response(
            {
                "event_id": event_id,
                "steps": history_of(event, attempts, trail),
                "more": event["deliveries_more"] or len(rows) == MOST_ROWS,
                "not_recorded": NOT_RECORDED,
            }
        )
