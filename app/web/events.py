"""``/api/v1/events``: searching and showing what came in."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from multidict import MultiMapping

from hookstream.app.errors import BadRequestError, ForbiddenError, NotFoundError
from hookstream.app.ids import DEFAULT_TENANT, full_tool_id
from hookstream.app.routing.maskers import Maskers
from hookstream.app.status import Status
from hookstream.app.stores.audit_trail import AuditTrail
from hookstream.app.stores.events import EventFilter, EventStore
from hookstream.app.web.access import CALLER_KEY, TENANT_KEY, Caller, uuid7
from hookstream.app.web.models.events import EVENT_QUERY, EventList, EventOut
from hookstream.app.web.problem import json_response
from hookstream.app.web.recorded import note
from hookstream.app.web.routes import Route
from hookstream.codecs.envelope import Event

__all__ = [
    "MAX_LIMIT",
    "EventViews",
    "check_query",
    "note_read",
    "parse_filter",
    "parse_limit",
    "parse_time",
    "visible_event",
]

MAX_LIMIT = 1000


class EventViews:
    """Search and show events."""

    def __init__(self, events: EventStore, trail: AuditTrail, maskers: Maskers) -> None:
        self._events = events
        self._trail = trail
        self._maskers = maskers

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "GET",
                "/api/v1/events",
                self.list,
                "Search events, newest first",
                gives=EventList,
                errors=(400,),
                query=EVENT_QUERY,
            ),
            Route(
                "GET",
                "/api/v1/events/{event_id}",
                self.get,
                "Show an event and its payload",
                gives=EventOut,
                errors=(400, 404),
            ),
        ]

    async def list(self, request: web.Request) -> web.StreamResponse:
        """A page of events, newest first."""
        wanted = parse_filter(request.query, request[TENANT_KEY])
        caller = request[CALLER_KEY]
        if caller.contexts is not None:
            if wanted.context is None:
                raise ForbiddenError("an agent's key searches one of its contexts: add context=")
            caller.check(wanted.context)
        events, cursor = await self._events.search(request[TENANT_KEY], wanted)
        return json_response({"events": events, "cursor": cursor})

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One event, with its payload and deliveries."""
        event_id = uuid7(request.match_info["event_id"], "event_id")
        caller = request[CALLER_KEY]
        return json_response(
            await visible_event(self._events, self._trail, self._maskers, caller, event_id)
        )


async def visible_event(
    events: EventStore, trail: AuditTrail, maskers: Maskers, caller: Caller, event_id: str
) -> dict[str, Any]:
    """An event with payload and deliveries, as much of it as the caller may know; recorded.

    Agents and developers see its payload as the tool's rules for personal data say, the admin key,
    owners and operators see what was sent.

    Raises:
        NotFoundError: there is none, or it reached no context of the caller's key.
        UnavailableError: it cannot be recorded now that somebody reads it.
    """
    # what reached other contexts, or nobody yet, is none of an agent's key's business
    if caller.sees_originals:
        event = await events.get(caller.tenant, event_id)
    else:
        event = await events.get(
            caller.tenant, event_id, reached=caller.contexts, shown=maskers.for_agents
        )
    if event is None:
        raise NotFoundError(f"there is no event {event_id}")
    await note_read(trail, caller, "event", event_id, event_id)
    return event


async def as_seen_by(caller: Caller, maskers: Maskers, event: Event) -> Event | None:
    """An event as the caller may see it: masked, unless it is shown what was sent."""
    if caller.sees_originals:
        return event
    return await maskers.for_agents(event)


async def note_read(
    trail: AuditTrail, caller: Caller, kind: str, object_id: str, event_id: str | None
) -> None:
    """Record that a caller reads a payload, before it gets it.

    Raises:
        UnavailableError: that cannot be recorded now.
    """
    events = [event_id] if event_id else None
    await note(trail, caller.tenant, caller.acting, f"{kind}.read", (kind, object_id), events)


def parse_filter(query: MultiMapping[str], tenant: str = DEFAULT_TENANT) -> EventFilter:
    """The filter in a query string of a tenant. Raises BadRequestError, naming the parameter."""
    check_query(query, EVENT_QUERY)
    status = query.get("status")
    if status is not None and status not in list(Status):
        raise BadRequestError(f"status: one of {', '.join(Status)}")
    limit = parse_limit(query.get("limit", "50"))
    cursor, tool = query.get("cursor"), query.get("tool")
    tool = None if tool is None else full_tool_id(tenant, tool)
    return EventFilter(
        tool=tool,
        type=query.get("type"),
        status=status,
        context=query.get("context"),
        since=parse_time("since", query.get("since")),
        until=parse_time("until", query.get("until")),
        cursor=uuid7(cursor, "cursor") if cursor is not None else None,
        limit=limit,
        batch=uuid7(batch, "batch") if (batch := query.get("batch")) is not None else None,
    )


def check_query(query: MultiMapping[str], known: Collection[str]) -> None:
    """Each parameter is known and given once. Raises BadRequestError, naming it."""
    if unknown := set(query) - set(known):
        raise BadRequestError(
            f"unknown query parameter {sorted(unknown)[0][:64]!r}: known are {', '.join(known)}"
        )
    for name in query:
        if "\0" in query[name] or len(query[name]) > 512 or len(query.getall(name)) > 1:
            raise BadRequestError(f"{name}: one value without NUL, at most 512 characters")
        _no_surrogates(name, query[name])


def parse_limit(text: str, most: int = MAX_LIMIT) -> int:
    """The number in ``limit``, at ``most``. Raises BadRequestError."""
    plain = text.isascii() and text.isdecimal() and len(text) < 9
    if not (plain and 1 <= int(text) <= most):
        raise BadRequestError(f"limit: a whole number from 1 to {most}")
    return int(text)


def parse_time(name: str, text: str | None) -> datetime | None:
    """A time in RFC 3339; UTC where it names no zone. Raises BadRequestError."""
    if text is None:
        return None
    try:
        parsed = datetime.fromisoformat(text)
        aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
        aware.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BadRequestError(f"{name}: a time such as 2026-01-31T12:00:00Z (RFC 3339)") from error
    return aware


def _no_surrogates(name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRequestError(f"{name}: not valid UTF-8") from error
