"""``/api/v1/erasures``: what is to go is asked for here; workers see to it."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from hookstream.app.clock import RedisClock
from hookstream.app.erasure.plan import phases, receipt
from hookstream.app.erasure.progress import Progress, Summary
from hookstream.app.errors import BadRequestError, NotFoundError
from hookstream.app.ids import full_tool_id, own_tool_id
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.settings import Settings
from hookstream.app.stores.erasures import (
    CONTEXT,
    DONE,
    EVENT,
    SUBJECT,
    TENANT,
    TOOL,
    Erasure,
    ErasureStore,
)
from hookstream.app.web.access import TENANT_KEY, read_model, uuid7
from hookstream.app.web.models.erasures import ErasureIn, ErasureList, ErasureOut
from hookstream.app.web.models.fields import SHORT_QUERY
from hookstream.app.web.paging import MOST_SHORT, asked_page, next_cursor
from hookstream.app.web.problem import json_response
from hookstream.app.web.routes import Route

__all__ = ["ErasureViews"]

ERASURES = "/api/v1/erasures"


class ErasureViews:
    """Begin, list and show erasures; for who has the admin key."""

    def __init__(
        self,
        *,
        settings: Settings,
        erasures: ErasureStore,
        progress: Progress,
        clock: RedisClock,
    ) -> None:
        self._settings = settings
        self._progress = progress
        self._erasures = erasures
        self._clock = clock

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "POST",
                ERASURES,
                self.post,
                "Erase events, a tool's or a context's data, all of it, or whatever names a person",
                takes=ErasureIn,
                gives=ErasureOut,
                status=202,
                errors=(400, 503),
            ),
            Route(
                "GET",
                ERASURES,
                self.list,
                "List erasures, the newest first",
                gives=ErasureList,
                errors=(400, 503),
                query=SHORT_QUERY,
            ),
            Route(
                "GET",
                ERASURES + "/{erasure_id}",
                self.get,
                "Show an erasure and its receipt",
                gives=ErasureOut,
                errors=(400, 404, 503),
            ),
        ]

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Begin one."""
        wanted = await read_model(self._settings, request, ErasureIn)
        kind, target, values = asked(wanted)
        if kind == TOOL:
            target = {"tool": full_tool_id(request[TENANT_KEY], target["tool"])}
        made = await self._erasures.begin(
            request[TENANT_KEY],
            kind,
            target,
            values=values,
            reason=wanted.reason,
            dry_run=wanted.dry_run,
            now_ms=self._clock.now_ms(),
        )
        response = json_response(await self._out(made), status=202)
        response.headers["Location"] = f"{ERASURES}/{made.erasure_id}"
        return response

    async def list(self, request: web.Request) -> web.StreamResponse:
        """A page of them."""
        limit, cursor = asked_page(request.query, MOST_SHORT)
        below = uuid7(cursor, "cursor") if cursor else None
        found = await self._erasures.page(request[TENANT_KEY], below, limit)
        shown = [await self._out(one) for one in found]
        cursor_out = next_cursor(limit, [one.erasure_id for one in found])
        return json_response({"erasures": shown, "cursor": cursor_out})

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One of them."""
        erasure_id = uuid7(request.match_info["erasure_id"], "erasure_id")
        found = await self._erasures.find(request[TENANT_KEY], erasure_id)
        if found is None:
            raise NotFoundError(f"there is no erasure {erasure_id}")
        return json_response(await self._out(found))

    async def _out(self, erasure: Erasure) -> dict[str, Any]:
        steps, places = await self._erasures.progress(erasure.erasure_id)
        count = sum(map(len, phases(erasure, self._settings.partitions)))
        said = receipt(places, steps=len(steps), of=count)
        far = await self._far(erasure)
        return {
            "erasure_id": erasure.erasure_id,
            "kind": erasure.kind,
            "target": shown_target(erasure),
            "reason": erasure.reason,
            "dry_run": erasure.dry_run,
            "status": erasure.status,
            "detail": erasure.detail,
            "steps_done": said["steps"],
            "steps": said["of"],
            "looked_at": far.looked if far else None,
            "to_look_at": far.of if far else None,
            "seconds_left": far.seconds_left if far else None,
            "places": said["places"],
            "created_at": erasure.created_at.isoformat(),
            "finished_at": erasure.finished_at.isoformat() if erasure.finished_at else None,
        }

    async def _far(self, erasure: Erasure) -> Summary | None:
        """How far one is that goes on; it is a hint, and not waited for."""
        if erasure.status == DONE:
            return None
        try:
            return await self._progress.read(erasure.erasure_id)
        except REDIS_ERRORS:
            return None


def asked(wanted: ErasureIn) -> tuple[str, dict[str, Any], Sequence[str]]:
    """Kind and target of what was asked for, and a subject's values.

    Raises:
        BadRequestError: it is nothing, or several things.
    """
    given = [
        name
        for name in ("events", "tool", "context", "tenant", "subject")
        if getattr(wanted, name) is not None
    ]
    if len(given) != 1:
        raise BadRequestError(
            "say what: exactly one of events, tool, context, tenant (true) and subject"
        )
    match given[0]:
        case "events":
            events = [uuid7(one, "events") for one in wanted.events or ()]
            return EVENT, {"events": sorted(set(events))}, ()
        case "tool":
            return TOOL, {"tool": wanted.tool}, ()
        case "context":
            return CONTEXT, {"context": wanted.context}, ()
        case "tenant":
            return TENANT, {}, ()
    return SUBJECT, {}, wanted.subject or ()


def shown_target(erasure: Erasure) -> dict[str, Any]:
    """What an erasure is about, for people: of a subject no more than how much is searched for."""
    target = {
        name: erasure.target[name]
        for name in ("events", "tool", "context")
        if name in erasure.target
    }
    if erasure.kind == TOOL:
        target["tool"] = own_tool_id(target["tool"])
    if erasure.kind == SUBJECT:
        target["forms"] = len(erasure.target["forms"])
    return target
