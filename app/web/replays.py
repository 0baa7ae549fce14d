"""``/api/v1/replays``: sending events through the pipeline again."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from aiohttp import web

from hookstream.app.errors import BadRequestError, ConflictError, HookstreamError, NotFoundError
from hookstream.app.ids import full_tool_id, partition_of_event
from hookstream.app.ingest.appender import Appender
from hookstream.app.redis import keys
from hookstream.app.settings import Settings
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.stores.events import EventStore
from hookstream.app.stores.imports import ImportStore
from hookstream.app.stores.replays import ReplayFilter, ReplayStore
from hookstream.app.web.access import CALLER_KEY, TENANT_KEY, Caller, read_model, uuid7
from hookstream.app.web.events import parse_time
from hookstream.app.web.limits import RateLimit
from hookstream.app.web.models.fields import SHORT_QUERY
from hookstream.app.web.models.replays import ReplayIn, ReplayList, ReplayOut
from hookstream.app.web.paging import (
    MOST_SHORT,
    asked_page,
    moment_cursor,
    next_cursor,
    parse_moment_cursor,
)
from hookstream.app.web.problem import json_response
from hookstream.app.web.routes import Route
from hookstream.codecs.envelope import with_replay

__all__ = ["ReplayViews", "SingleReplay"]

FILTERS = ("tool", "type", "status", "context", "since", "until", "imported")


class SingleReplay:
    """Sends one event through the pipeline again, at once."""

    def __init__(
        self,
        *,
        catalog: CatalogCache,
        events: EventStore,
        replays: ReplayStore,
        appender: Appender,
        limit: RateLimit,
    ) -> None:
        self._catalog = catalog
        self._events = events
        self._replays = replays
        self._appender = appender
        self._limit = limit

    async def send(self, caller: Caller, event_id: str, context_id: str) -> str:
        """Append an event to its partition again, marked as a replay; returns the replay's id.

        It goes where subscriptions say now, or with ``context_id`` to that one alone.

        Raises:
            NotFoundError: there is no such event.
            ConflictError: a replay of it to this context runs.
            LimitError: the caller's key begins too many, or too many run to this context.
        """
        tenant = caller.tenant
        if caller.digest:
            self._limit.take(caller.digest)
        envelope = await self._events.envelope(tenant, event_id)
        if envelope is None:
            raise NotFoundError(f"there is no event {event_id}")
        partition = partition_of_event(event_id)
        replay_id = await self._replays.create_one(tenant, event_id, context_id, partition)
        again = with_replay(
            envelope,
            replay_id=replay_id,
            replay_context_id=context_id,
            registry_version=self._catalog.current.version,
            registry_token=self._catalog.current.token,
        )
        try:
            await self._appender.append(keys.events(partition), again)
        except HookstreamError as error:
            await self._replays.failed(replay_id, str(error))
            raise
        return replay_id


class ReplayViews:
    """Replay one event or what a filter matches; list, show and cancel replays."""

    def __init__(
        self,
        *,
        settings: Settings,
        catalog: CatalogCache,
        replays: ReplayStore,
        single_replay: SingleReplay,
        imports: ImportStore,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._replays = replays
        self._single_replay = single_replay
        self._imports = imports

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "POST",
                "/api/v1/replays",
                self.post,
                "Send events through the pipeline again",
                takes=ReplayIn,
                gives=ReplayOut,
                status=202,
                errors=(400, 404, 409, 429),
            ),
            Route(
                "GET",
                "/api/v1/replays",
                self.list,
                "List replays, newest first",
                gives=ReplayList,
                errors=(400,),
                query=SHORT_QUERY,
            ),
            Route(
                "GET",
                "/api/v1/replays/{replay_id}",
                self.get,
                "Show a replay and how far it has come",
                gives=ReplayOut,
                errors=(400, 404),
            ),
            Route(
                "POST",
                "/api/v1/replays/{replay_id}/cancel",
                self.cancel,
                "Send no more of a replay",
                gives=ReplayOut,
                errors=(400, 404, 409),
            ),
        ]

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Begin a replay."""
        wanted = await read_model(self._settings, request, ReplayIn)
        tenant = request[TENANT_KEY]
        context_id = wanted.context_id or ""
        catalog = await self._catalog.reload()
        if context_id and (tenant, context_id) not in catalog.contexts:
            raise NotFoundError(f"there is no context {context_id}")
        given = {name for name in FILTERS if getattr(wanted, name) is not None}
        if wanted.event_id is not None:
            if given or wanted.rate is not None:
                raise BadRequestError("event_id: alone or with context_id; it needs no filter")
            event_id = uuid7(wanted.event_id, "event_id")
            replay_id = await self._single_replay.send(request[CALLER_KEY], event_id, context_id)
        else:
            if not given:
                raise BadRequestError(
                    f"say which: event_id, or at least one of {', '.join(FILTERS)}"
                )
            replay_id = await self._post_many(tenant, wanted, context_id)
        response = json_response(await self._show(tenant, replay_id), status=202)
        response.headers["Location"] = f"/api/v1/replays/{replay_id}"
        return response

    async def list(self, request: web.Request) -> web.StreamResponse:
        """A page of replays, the newest first."""
        limit, cursor = asked_page(request.query, MOST_SHORT)
        past = parse_moment_cursor(cursor)
        place = (past[0], UUID(uuid7(past[1], "cursor"))) if past else None
        found = await self._replays.page_of(request[TENANT_KEY], limit, place)
        places = [
            moment_cursor(datetime.fromisoformat(one["created_at"]), one["replay_id"])
            for one in found
        ]
        return json_response({"replays": found, "cursor": next_cursor(limit, places)})

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One replay."""
        return json_response(await self._show(request[TENANT_KEY], _id(request)))

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """Send no more of a replay; what was sent already is delivered."""
        tenant, replay_id = request[TENANT_KEY], _id(request)
        if not await self._replays.cancel(tenant, replay_id):
            shown = await self._show(tenant, replay_id)
            raise ConflictError(f"replay {replay_id} is not running, it is {shown['status']}")
        return json_response(await self._show(tenant, replay_id))

    async def _post_many(self, tenant: str, wanted: ReplayIn, context_id: str) -> str:
        """Leave it to the workers. What comes in from now on is not part of it."""
        now = datetime.now(UTC)
        since = parse_time("since", wanted.since)
        if wanted.imported is not None:
            await self._imports.find(tenant, wanted.imported)
        until = min(parse_time("until", wanted.until) or now, now)
        filters = ReplayFilter(
            tool=None if wanted.tool is None else full_tool_id(tenant, wanted.tool),
            type=wanted.type,
            status=wanted.status,
            context=wanted.context,
            since=since.isoformat() if since else None,
            until=until.isoformat(),
            imported=wanted.imported,
        )
        # what reached one context is sent to that one again, not to its neighbours
        target = context_id or wanted.context or ""
        return await self._replays.create(tenant, filters, target, wanted.rate or 100.0)

    async def _show(self, tenant: str, replay_id: str) -> dict[str, object]:
        found = await self._replays.find(tenant, replay_id)
        if found is None:
            raise NotFoundError(f"there is no replay {replay_id}")
        return found


def _id(request: web.Request) -> str:
    return uuid7(request.match_info["replay_id"], "replay_id")
