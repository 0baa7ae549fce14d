"""``/api/v1/holds``: what is deleted by nothing, until somebody says so."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from aiohttp import web

from hookstream.app.clock import RedisClock
from hookstream.app.errors import BadRequestError, ConflictError, NotFoundError
from hookstream.app.ids import full_tool_id, id_range, own_tool_id
from hookstream.app.settings import Settings
from hookstream.app.stores.holds import ALL_EVENTS, Hold, HoldStore
from hookstream.app.web.access import TENANT_KEY, read_model, uuid7
from hookstream.app.web.events import parse_time
from hookstream.app.web.models.fields import PAGE_QUERY
from hookstream.app.web.models.holds import HoldIn, HoldList, HoldOut, ReleaseIn
from hookstream.app.web.paging import asked_page, next_cursor
from hookstream.app.web.problem import json_response
from hookstream.app.web.routes import Route

__all__ = ["HoldViews", "held_range"]

HOLDS = "/api/v1/holds"


class HoldViews:
    """List, place and release holds; for who has the admin key."""

    def __init__(self, *, settings: Settings, holds: HoldStore, clock: RedisClock) -> None:
        self._settings = settings
        self._holds = holds
        self._clock = clock

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "POST",
                HOLDS,
                self.post,
                "Place a legal hold: what it covers is deleted by nothing",
                takes=HoldIn,
                gives=HoldOut,
                status=201,
                errors=(400, 503),
            ),
            Route(
                "GET",
                HOLDS,
                self.list,
                "List legal holds, the newest first, released ones, too",
                gives=HoldList,
                errors=(400, 503),
                query=PAGE_QUERY,
            ),
            Route(
                "GET",
                HOLDS + "/{hold_id}",
                self.get,
                "Show a legal hold",
                gives=HoldOut,
                errors=(400, 404, 503),
            ),
            Route(
                "POST",
                HOLDS + "/{hold_id}/release",
                self.release,
                "Release a legal hold",
                takes=ReleaseIn,
                gives=HoldOut,
                errors=(400, 404, 409, 503),
            ),
        ]

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Place one."""
        wanted = await read_model(self._settings, request, HoldIn)
        placed = await self._holds.place(
            request[TENANT_KEY],
            tool_id=full_tool_id(request[TENANT_KEY], wanted.tool) if wanted.tool else "",
            context_id=wanted.context or "",
            events=held_range(wanted),
            reason=wanted.reason,
            now_ms=self._clock.now_ms(),
        )
        response = json_response(hold_out(placed), status=201)
        response.headers["Location"] = f"{HOLDS}/{placed.hold_id}"
        return response

    async def list(self, request: web.Request) -> web.StreamResponse:
        """A page of them."""
        limit, cursor = asked_page(request.query)
        below = uuid7(cursor, "cursor") if cursor else None
        found = await self._holds.page(request[TENANT_KEY], below, limit)
        cursor_out = next_cursor(limit, [one.hold_id for one in found])
        return json_response({"holds": [hold_out(one) for one in found], "cursor": cursor_out})

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One of them."""
        return json_response(hold_out(await self._found(request)))

    async def release(self, request: web.Request) -> web.StreamResponse:
        """Release one."""
        wanted = await read_model(self._settings, request, ReleaseIn)
        hold = await self._found(request)
        released = await self._holds.release(request[TENANT_KEY], hold.hold_id, wanted.reason)
        if released is None:
            raise ConflictError(f"the hold {hold.hold_id} is released already")
        return json_response(hold_out(released))

    async def _found(self, request: web.Request) -> Hold:
        hold_id = uuid7(request.match_info["hold_id"], "hold_id")
        found = await self._holds.find(request[TENANT_KEY], hold_id)
        if found is None:
            raise NotFoundError(f"there is no hold {hold_id}")
        return found


def held_range(wanted: HoldIn) -> tuple[UUID, UUID]:
    """From which to which event a hold goes, both counted.

    Raises:
        BadRequestError: it is given in two ways, or is none.
    """
    by_id = wanted.first_event or wanted.last_event
    by_time = wanted.since or wanted.until
    if by_id and by_time:
        raise BadRequestError("a range: either first_event and last_event, or since and until")
    first, last = ALL_EVENTS
    if by_id:
        if wanted.first_event:
            first = UUID(uuid7(wanted.first_event, "first_event"))
        if wanted.last_event:
            last = UUID(uuid7(wanted.last_event, "last_event"))
    elif by_time:
        since, until = (parse_time(name, getattr(wanted, name)) for name in ("since", "until"))
        first, behind = id_range(since, until)
        last = UUID(int=behind.int - 1) if until else ALL_EVENTS[1]
    if last < first:
        raise BadRequestError("a range ends behind its beginning")
    return first, last


def hold_out(hold: Hold) -> dict[str, Any]:
    """A hold as the API shows it."""
    first, last = ALL_EVENTS
    return {
        "hold_id": hold.hold_id,
        "tool": own_tool_id(hold.tool_id) or None,
        "context": hold.context_id or None,
        "first_event": None if hold.first_event == first else str(hold.first_event),
        "last_event": None if hold.last_event == last else str(hold.last_event),
        "reason": hold.reason,
        "placed_at": hold.placed_at.isoformat() if hold.placed_at else None,
        "released_at": hold.released_at.isoformat() if hold.released_at else None,
        "release_reason": hold.release_reason or None,
    }
