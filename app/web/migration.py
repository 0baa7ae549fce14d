"""``/api/v1/tools/{tool_id}/migration``: which tools move from old workers to here, and how far."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from hookstream.app.errors import BadRequestError, ConflictError, NotFoundError, UnavailableError
from hookstream.app.ids import own_tool_id
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.routing.paths import mode_before
from hookstream.app.settings import Settings
from hookstream.app.sqs.moves import Moves, NotSentError
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.web.access import TENANT_KEY, path_tool, read_model
from hookstream.app.web.models.migration import (
    ConfirmedOut,
    HandOversIn,
    MigrationOut,
    ShiftIn,
)
from hookstream.app.web.problem import json_response
from hookstream.app.web.recorded import tell
from hookstream.app.web.routes import Route

__all__ = ["MigrationViews"]

MIGRATION = "/api/v1/tools/{tool_id}/migration"
#: Modes that are remembered of a tool, and hand-overs that are shown.
HISTORY = 50
SHOWN = 100
#: Marks that a row of the audit trail names, which has 32 KiB for them; it counts all.
MARKS = 500
#: How long it is waited for workers to hear of a tool's first mode, which takes them a second, and
#: how often they are asked.
KNOWN_SECONDS = 5.0
ASK_SECONDS = 0.1


class MigrationViews:
    """Shows and changes which path a tool's events work in."""

    def __init__(
        self, *, settings: Settings, postgres: Postgres, catalog: CatalogCache, moves: Moves
    ) -> None:
        self._settings = settings
        self._postgres = postgres
        self._catalog = catalog
        self._moves = moves

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
        """In force in each worker once it has heard of it; keys move with their next events.

        The first mode of a tool is waited for: until workers have it both paths work on each event.
        """
        tool_id, tenant = path_tool(request), request[TENANT_KEY]
        wanted = await read_model(self._settings, request, ShiftIn)
        if wanted.rollback == (wanted.mode is not None):
            raise BadRequestError('either {"mode": "…"} or {"rollback": true}')
        if (wanted.mode == "split") != (wanted.percent is not None):
            raise BadRequestError('percent: goes with mode "split", as in {"percent": 10}')
        row = await self._row(request)
        if row["forward"] is None:
            raise BadRequestError(
                "the tool copies its events nowhere: set `forward`, the queue that old workers "
                "take from, with PUT /api/v1/tools/{tool_id}"
            )
        before = row["migration"] or {}
        had = before.get("history", ())
        mode, percent = (
            _undone(tool_id, had) if wanted.rollback else (wanted.mode, wanted.percent or 0)
        )
        shift = {
            "mode": mode,
            "percent": percent,
            "generation": before.get("generation", 0) + 1,
        }
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        history = [*had, {**shift, "at": at, "rollback": wanted.rollback}][-HISTORY:]
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
        if row["migration"] is None:
            await self._known_to_workers()
        return json_response(await self._out(shifted))

    async def confirm(self, request: web.Request) -> web.StreamResponse:
        """Let keys go whose marks old workers have come to: all before them is done."""
        wanted = await read_model(self._settings, request, HandOversIn)
        if bool(wanted.marks) == wanted.all:
            raise BadRequestError('either {"marks": ["…"]} or {"all": true}')
        tool_id, marks = (await self._row(request))["tool_id"], wanted.marks
        # also of a call that breaks off
        tell(request, "tool", tool_id, after={"marks": marks[:MARKS]})
        try:
            unknown: list[str] = []
            not_sent = 0
            if wanted.all:
                every = [one async for one in self._moves.hand_overs(tool_id)]
                found = [(one.partition, one.mark) for one in every if one and one.sent]
                not_sent = sum(1 for one in every if one and not one.sent)
            else:
                found, unknown = await self._moves.known(tool_id, marks)
            named = [mark for _, mark in found[:MARKS]]
            tell(request, "tool", tool_id, after={"confirmed": len(found), "marks": named})
            await self._moves.confirm(found, int(datetime.now(UTC).timestamp() * 1000))
        except NotSentError as error:
            raise ConflictError(
                f"the mark {error} is not in the queue yet, as far as is known here: nobody can "
                "have come to it. A worker that has: say it again"
            ) from error
        except REDIS_ERRORS as error:
            raise UnavailableError("Redis cannot be asked at the moment: try again") from error
        return json_response({"confirmed": len(found), "unknown": unknown, "not_sent": not_sent})

    async def end(self, request: web.Request) -> web.StreamResponse:
        """Copy nothing any more. What waits for old workers is in the way of it."""
        tool_id, tenant = path_tool(request), request[TENANT_KEY]
        row = await self._row(request)
        migration = row["migration"]
        if migration is None:
            raise NotFoundError(f"the tool {own_tool_id(tool_id)} does not move")
        if migration["mode"] == "sqs":
            raise ConflictError(
                "it is in mode sqs, where old workers have everything, and not ending it keeps it "
                "that way. To be rid of it send the webhooks to them yourself, and delete the tool"
            )
        if migration["mode"] != "only":
            raise ConflictError(
                f"it is in mode {migration['mode']}: shift it to `only` first, and stay there "
                "until the old queue is empty; or to `sqs`, to give the move up"
            )
        now = await self._out(row)
        if now["waiting_keys"] or now["waiting_copies"]:
            raise ConflictError(
                f"{now['waiting_keys']} keys are handed over yet, and {now['waiting_copies']} "
                "events are to be copied: have old workers confirm their marks, or do it for them "
                "(`hookstream migrate confirm`), and look at part `queues` of workers' /health"
            )
        ended = await self._postgres.fetchrow(
            statement("end_migration"), tool_id, tenant, migration["generation"]
        )
        if ended is None:
            raise ConflictError("somebody else has shifted it just now: look, and try again")
        await self._catalog.reload()
        try:
            await self._moves.forget(tool_id)
        except REDIS_ERRORS as error:
            raise UnavailableError(
                "it is over; what Redis remembers of its keys is left there, and harms nobody"
            ) from error
        return web.Response(status=204)

    async def _known_to_workers(self) -> None:
        """Wait until all workers have the catalog as it is now; not longer than some seconds."""
        catalog = self._catalog.current
        try:
            for _ in range(int(KNOWN_SECONDS / ASK_SECONDS)):
                if not await self._moves.workers_behind(catalog):
                    break
                await asyncio.sleep(ASK_SECONDS)
        except REDIS_ERRORS as error:
            raise UnavailableError(
                "the mode is set, and Redis cannot be asked whether workers have it: ask for it "
                "(GET), and send no events before `workers_behind` is 0"
            ) from error

    async def _row(self, request: web.Request) -> Mapping[str, Any]:
        tool_id = path_tool(request)
        row: Mapping[str, Any] | None = await self._postgres.fetchrow(
            statement("tool"), tool_id, request[TENANT_KEY]
        )
        if row is None:
            raise NotFoundError(f"there is no tool {own_tool_id(tool_id)}")
        return row

    async def _out(self, row: Mapping[str, Any]) -> dict[str, Any]:
        tool_id, migration = row["tool_id"], row["migration"] or {}
        shown: list[dict[str, Any]] = []
        waiting, more = 0, False
        try:
            async for one in self._moves.hand_overs(tool_id):
                if one is None:
                    more = True
                    continue
                waiting += 1
                if len(shown) < SHOWN:
                    since = datetime.fromtimestamp(one.since_ms / 1000, UTC).isoformat()
                    shown.append(
                        {"mark": one.mark, "key": one.key, "since": since, "sent": one.sent}
                    )
            copies = await self._moves.copies(tool_id)
            behind = await self._moves.workers_behind(self._catalog.current)
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
            "workers_behind": behind,
        }


def _undone(tool_id: str, history: Sequence[Mapping[str, Any]]) -> tuple[str, int]:
    """The mode before the last shift, and its percentage. Raises ConflictError: there is none."""
    found = mode_before(history)
    if found is None:
        raise ConflictError(
            f"{own_tool_id(tool_id)} had no mode before this one: shift it to the one you want"
        )
    return found
