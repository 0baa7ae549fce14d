"""``/api/v1/tools/{tool_id}/migration``: which tools move from old workers to here, and how far."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from hookstream.app.errors import BadRequestError, ConflictError, NotFoundError, UnavailableError
from hookstream.app.ids import own_tool_id, partition_of_event
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.routing.paths import confirmed_field, sent_field
from hookstream.app.settings import Settings
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.web.access import TENANT_KEY, path_tool, read_model
from hookstream.app.web.models.migration import (
    ConfirmedOut,
    HandOversIn,
    MigrationOut,
    ShiftIn,
)
from hookstream.app.web.problem import json_response
from hookstream.app.web.routes import Route
from hookstream.codecs.envelope import is_event_id

__all__ = ["MigrationViews"]

MIGRATION = "/api/v1/tools/{tool_id}/migration"
#: Modes that are remembered of a tool, hand-overs that are shown, and fields of a partition that
#: are looked through for them.
HISTORY = 50
SHOWN = 100
LOOKED_AT = 10_000
SCAN = 1000


class MigrationViews:
    """Shows and changes which path a tool's events work in."""

    def __init__(
        self, *, settings: Settings, postgres: Postgres, catalog: CatalogCache, redis: Any
    ) -> None:
        self._settings = settings
        self._postgres = postgres
        self._catalog = catalog
        self._redis = redis

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "GET",
                MIGRATION,
                self.get,
                "How far a tool has moved from old workers to here",
                gives=MigrationOut,
                errors=(404, 503),
            ),
            Route(
                "PUT",
                MIGRATION,
                self.put,
                "Shift a tool to another mode, forth or back",
                takes=ShiftIn,
                gives=MigrationOut,
                errors=(400, 404, 409, 503),
            ),
            Route(
                "POST",
                f"{MIGRATION}/confirm",
                self.confirm,
                "Say that old workers are through with keys that are handed over",
                takes=HandOversIn,
                gives=ConfirmedOut,
                errors=(400, 404, 409, 503),
                action="migration.confirmed",
            ),
            Route(
                "DELETE",
                MIGRATION,
                self.end,
                "End a move that is over: nothing is copied any more",
                status=204,
                errors=(404, 409, 503),
            ),
        ]

    async def get(self, request: web.Request) -> web.StreamResponse:
        """The mode, what waits, and the modes before."""
        return json_response(await self._out(await self._row(request)))

    async def put(self, request: web.Request) -> web.StreamResponse:
        """In force in each worker once it has heard of it; keys move with their next events."""
        tool_id, tenant = path_tool(request), request[TENANT_KEY]
        wanted = await read_model(self._settings, request, ShiftIn)
        if (wanted.mode == "split") != (wanted.percent is not None):
            raise BadRequestError('percent: goes with mode "split", as in {"percent": 10}')
        row = await self._row(request)
        if row["forward"] is None:
            raise BadRequestError(
                "the tool copies its events nowhere: set `forward`, the queue that old workers "
                "take from, with PUT /api/v1/tools/{tool_id}"
            )
        before = row["migration"] or {}
        shift = {
            "mode": wanted.mode,
            "percent": wanted.percent or 0,
            "generation": before.get("generation", 0) + 1,
        }
        shown = {**shift, "at": datetime.now(UTC).isoformat(timespec="milliseconds")}
        history = [*before.get("history", ()), shown][-HISTORY:]
        shifted = await self._postgres.fetchrow(
            statement("shift_tool"),
            tool_id,
            tenant,
            before.get("generation", 0),
            {**shift, "history": history},
        )
        if shifted is None:
            raise ConflictError("somebody else has shifted it just now: look, and try again")
        await self._catalog.reload()
        return json_response(await self._out(shifted))

    async def confirm(self, request: web.Request) -> web.StreamResponse:
        """Let keys go whose marks old workers have come to: all before them is done."""
        wanted = await read_model(self._settings, request, HandOversIn)
        if bool(wanted.marks) == wanted.all:
            raise BadRequestError('either {"marks": ["…"]} or {"all": true}')
        row = await self._row(request)
        try:
            if wanted.all:
                found = [
                    (number, mark)
                    async for number, mark, record, sent in self._hand_overs(row["tool_id"])
                    if record and sent
                ]
                unknown: list[str] = []
            else:
                found, unknown = await self._named(row["tool_id"], wanted.marks)
            now_ms = int(datetime.now(UTC).timestamp() * 1000)
            for number, mark in found:
                name = keys.hand_overs(number)
                await self._redis.hset(name, confirmed_field(mark), now_ms)
                if not await self._redis.hexists(name, mark):
                    # it has ended meanwhile
                    await self._redis.hdel(name, confirmed_field(mark))
        except REDIS_ERRORS as error:
            raise UnavailableError("Redis cannot be asked at the moment: try again") from error
        return json_response({"confirmed": len(found), "unknown": unknown})

    async def _named(
        self, tool_id: str, marks: Sequence[str]
    ) -> tuple[list[tuple[int, str]], list[str]]:
        found, unknown = [], []
        for mark in marks:
            number = partition_of_event(mark) if is_event_id(mark) else -1
            if not 0 <= number < self._settings.partitions:
                unknown.append(mark)
                continue
            record, sent = await self._redis.hmget(keys.hand_overs(number), mark, sent_field(mark))
            if record is None or orjson.loads(record)["tool_id"] != tool_id:
                unknown.append(mark)
            elif sent is None:
                raise ConflictError(
                    f"the mark {mark} is not in the queue yet: nobody can have come to it"
                )
            else:
                found.append((number, mark))
        return found, unknown

    async def end(self, request: web.Request) -> web.StreamResponse:
        """Copy nothing any more. What waits for old workers is in the way of it."""
        tool_id, tenant = path_tool(request), request[TENANT_KEY]
        row = await self._row(request)
        migration = row["migration"]
        if migration is None:
            raise NotFoundError(f"the tool {own_tool_id(tool_id)} does not move")
        if migration["mode"] != "only":
            raise ConflictError(
                f"it is in mode {migration['mode']}: shift it to `only` first, and stay there "
                "until the old queue is empty"
            )
        now = await self._out(row)
        if now["waiting_keys"] or now["waiting_copies"]:
            raise ConflictError(
                f"{now['waiting_keys']} keys are handed over yet, and {now['waiting_copies']} "
                "events are to be copied: look at the old workers"
            )
        ended = await self._postgres.fetchrow(
            statement("end_migration"), tool_id, tenant, migration["generation"]
        )
        if ended is None:
            raise ConflictError("somebody else has shifted it just now: look, and try again")
        await self._catalog.reload()
        try:
            await self._forget(tool_id)
        except REDIS_ERRORS as error:
            raise UnavailableError(
                "it is over; what Redis remembers of its keys is left there, and harms nobody"
            ) from error
        return web.Response(status=204)

    async def _forget(self, tool_id: str) -> None:
        for number in range(self._settings.partitions):
            name, cursor = keys.paths(number), 0
            while True:
                cursor, found = await self._redis.hscan(name, cursor, count=SCAN)
                mine = [one for one in found if one.decode().partition(" ")[2] == tool_id]
                if mine:
                    await self._redis.hdel(name, *mine)
                if not cursor:
                    break

    async def _row(self, request: web.Request) -> Mapping[str, Any]:
        tool_id = path_tool(request)
        row: Mapping[str, Any] | None = await self._postgres.fetchrow(
            statement("tool"), tool_id, request[TENANT_KEY]
        )
        if row is None:
            raise NotFoundError(f"there is no tool {own_tool_id(tool_id)}")
        return row

    async def _hand_overs(
        self, tool_id: str
    ) -> AsyncIterator[tuple[int, str, dict[str, Any] | None, bool]]:
        """Of a tool: partition, mark, record, whether it is sent; a record None: there are more."""
        for number in range(self._settings.partitions):
            fields: dict[str, bytes] = {}
            cursor = 0
            while True:
                cursor, found = await self._redis.hscan(keys.hand_overs(number), cursor, count=SCAN)
                fields |= {name.decode(): value for name, value in found.items()}
                if not cursor or len(fields) >= LOOKED_AT:
                    break
            for name, value in fields.items():
                if ":" in name or confirmed_field(name) in fields:
                    continue
                record = orjson.loads(value)
                if record["tool_id"] == tool_id:
                    yield number, name, record, sent_field(name) in fields
            if cursor:
                yield number, "", None, False

    async def _out(self, row: Mapping[str, Any]) -> dict[str, Any]:
        tool_id, migration = row["tool_id"], row["migration"] or {}
        shown: list[dict[str, Any]] = []
        waiting, more = 0, False
        try:
            async for _, mark, record, sent in self._hand_overs(tool_id):
                if record is None:
                    more = True
                    continue
                waiting += 1
                if len(shown) < SHOWN:
                    since = datetime.fromtimestamp(record["since_ms"] / 1000, UTC).isoformat()
                    shown.append({"mark": mark, "key": record["key"], "since": since, "sent": sent})
            pipe = self._redis.pipeline(transaction=False)
            for number in range(self._settings.partitions):
                pipe.xlen(keys.outbox(number, tool_id))
            copies = sum(await pipe.execute())
        except REDIS_ERRORS as error:
            raise UnavailableError("Redis cannot be asked at the moment: try again") from error
        return {
            "tool_id": own_tool_id(tool_id),
            "mode": migration.get("mode"),
            "percent": migration.get("percent", 0),
            "generation": migration.get("generation", 0),
            "history": migration.get("history", []),
            "waiting_keys": waiting,
            "waiting_keys_more": more,
            "hand_overs": shown,
            "waiting_copies": copies,
        }
