"""``/api/v1/imports``: histories come in, a page at a time; and tools' events go out again."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, Final

import orjson
from aiohttp import web

from hookstream.app.errors import (
    BadRequestError,
    LimitError,
    NotFoundError,
    PayloadTooLargeError,
)
from hookstream.app.history.exporter import FORMATS, Exporter
from hookstream.app.history.importer import Importer, Page
from hookstream.app.ids import full_tool_id
from hookstream.app.ingest.tenant_use import TenantUse
from hookstream.app.routing.catalog import Tool
from hookstream.app.settings import Settings
from hookstream.app.stores.audit_trail import AuditTrail
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.stores.imports import ImportStore, import_out
from hookstream.app.web.access import CALLER_KEY, TENANT_KEY, path_tool, read_model, uuid7
from hookstream.app.web.body import decode_aside, read_body
from hookstream.app.web.events import check_query, parse_limit, parse_time
from hookstream.app.web.models.fields import SHORT_QUERY
from hookstream.app.web.models.imports import (
    EXPORT_QUERY,
    ImportIn,
    ImportList,
    ImportOut,
    ImportPageOut,
    ImportStopIn,
)
from hookstream.app.web.paging import MOST_SHORT, asked_page, next_cursor
from hookstream.app.web.problem import json_response
from hookstream.app.web.recorded import note, tell
from hookstream.app.web.routes import Route

__all__ = ["LAST", "MISSING", "MORE", "ImportViews", "page_bytes"]

IMPORTS: Final = "/api/v1/imports"
NDJSON: Final = "application/x-ndjson"
#: Lines of a page, and bytes of it; of one that has a single line as many as a webhook may have.
PAGE_LINES: Final = 2000
PAGE_BYTES: Final = 8 * 1024 * 1024
#: Of a page's first line, which says where the source goes on.
HEAD_BYTES: Final = 64 * 1024
#: Pages that are in hand in a process, both ways: each is in memory several times.
PAGES: Final = 4
#: How long a page may take to come.
PAGE_SECONDS: Final = 60.0
#: Headers of an exported page: the event behind which the next one begins, whether there may be
#: one, and events without a payload.
LAST, MORE, MISSING = "Hookstream-Last", "Hookstream-More", "Hookstream-Missing"


def page_bytes(settings: Settings, most: int) -> int:
    """Bytes that a page may have, where a webhook's body may have ``most``."""
    # as base64 four bytes stand for three
    return max(PAGE_BYTES, max(most, settings.max_body_bytes) * 3 // 2) + HEAD_BYTES


class ImportViews:
    """Begin, fill, end, list and show imports; export a tool's events."""

    def __init__(
        self,
        *,
        settings: Settings,
        catalog: CatalogCache,
        imports: ImportStore,
        importer: Importer,
        exporter: Exporter,
        use: TenantUse,
        trail: AuditTrail,
        most_bytes: Callable[[Tool], int],
    ) -> None:
        """``most_bytes``: of a webhook of a tool."""
        self._settings = settings
        self._catalog = catalog
        self._imports = imports
        self._importer = importer
        self._exporter = exporter
        self._use = use
        self._trail = trail
        self._most_bytes = most_bytes
        self._pages = asyncio.Semaphore(PAGES)

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "POST",
                IMPORTS,
                self.post,
                "Begin to bring in a history, or go on where it was",
                takes=ImportIn,
                gives=ImportOut,
                errors=(400, 404, 503),
                action="import.begun",
            ),
            Route(
                "GET",
                IMPORTS,
                self.list,
                "List imports, the newest first",
                gives=ImportList,
                errors=(400, 503),
                query=SHORT_QUERY,
            ),
            Route(
                "GET",
                IMPORTS + "/{import_id}",
                self.get,
                "Show an import and how far it has come",
                gives=ImportOut,
                errors=(400, 404, 503),
            ),
            Route(
                "POST",
                IMPORTS + "/{import_id}/page",
                self.page,
                "Bring in a page: lines of JSON, behind one that says where the source goes on",
                gives=ImportPageOut,
                errors=(400, 404, 408, 413, 415, 503),
                # a row for each would hide all others: that it began and what it came to are rows
                action=None,
            ),
            Route(
                "POST",
                IMPORTS + "/{import_id}/finish",
                self.finish,
                "Say that a history is in",
                gives=ImportOut,
                errors=(400, 404, 503),
                action="import.changed",
            ),
            Route(
                "POST",
                IMPORTS + "/{import_id}/stop",
                self.stop,
                "Say that a history goes on no more, and why",
                takes=ImportStopIn,
                gives=ImportOut,
                errors=(400, 404, 503),
                action="import.changed",
            ),
            Route(
                "GET",
                "/api/v1/tools/{tool_id}/export",
                self.export,
                "A page of a tool's events as lines of JSON, the oldest first",
                errors=(400, 404, 503),
                query=EXPORT_QUERY,
            ),
        ]

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Begin one, or go on with it."""
        wanted = await read_model(self._settings, request, ImportIn)
        tenant = request[TENANT_KEY]
        await self._catalog.reload()
        tool = self._tool(full_tool_id(tenant, wanted.tool))
        row = await self._imports.begin(tenant, tool.tool_id, wanted.source, restart=wanted.restart)
        tell(request, "import", str(row["import_id"]))
        return json_response(self._out(row))

    async def list(self, request: web.Request) -> web.StreamResponse:
        """A page of them."""
        limit, cursor = asked_page(request.query, MOST_SHORT)
        below = uuid7(cursor, "cursor") if cursor else None
        rows = await self._imports.page(request[TENANT_KEY], below, limit)
        shown = [self._out(row) for row in rows]
        cursor_out = next_cursor(limit, [one["import_id"] for one in shown])
        return json_response({"imports": shown, "cursor": cursor_out})

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One of them."""
        return json_response(self._out(await self._imports.find(request[TENANT_KEY], _id(request))))

    async def page(self, request: web.Request) -> web.StreamResponse:
        """Lines of a history."""
        tenant, caller = request[TENANT_KEY], request[CALLER_KEY]
        row = await self._imports.find(tenant, _id(request))
        tool = self._tool(row["tool_id"])
        if not caller.operator:
            # who runs the installation may bring in what he likes; its tenants have quotas
            self._use.look_at(tenant)
        async with self._room():
            done, size = await self._taken(request, row, tool)
        if not caller.operator:
            self._use.take(tenant, done.counts.imported, size)
        counts = asdict(done.counts)
        counts["no_zone"] = done.no_zone
        counts["rejected"] = [asdict(one) for one in done.rejected]
        return json_response(counts)

    async def _taken(
        self, request: web.Request, row: Mapping[str, Any], tool: Tool
    ) -> tuple[Page, int]:
        """What came of a page, and how large it was."""
        most = page_bytes(self._settings, self._most_bytes(tool))
        raw = await read_body(request, most, PAGE_SECONDS)
        encoding = ",".join(request.headers.getall("Content-Encoding", ()))
        body = await decode_aside(raw, encoding, most)
        head, *lines = body.removesuffix(b"\n").split(b"\n", PAGE_LINES + 1)
        if len(lines) > PAGE_LINES:
            raise PayloadTooLargeError(f"a page has {PAGE_LINES} lines at most")
        place, rejected = _read_head(head)
        return await self._importer.take(row, tool, lines, place, rejected), len(body)

    @asynccontextmanager
    async def _room(self) -> AsyncIterator[None]:
        """Room for a page. Raises LimitError: as many are in hand as may be."""
        if self._pages.locked():
            raise LimitError(f"{PAGES} pages of histories are in hand here: send it again", 1.0)
        async with self._pages:
            yield

    async def finish(self, request: web.Request) -> web.StreamResponse:
        """The source has no more for now."""
        row = await self._imports.finish(request[TENANT_KEY], _id(request))
        tell(request, "import", str(row["import_id"]))
        return json_response(self._out(row))

    async def stop(self, request: web.Request) -> web.StreamResponse:
        """Whoever reads the source does so no more; it can be gone on with."""
        wanted = await read_model(self._settings, request, ImportStopIn)
        row = await self._imports.stop(request[TENANT_KEY], _id(request), wanted.reason)
        tell(request, "import", str(row["import_id"]))
        return json_response(self._out(row))

    async def export(self, request: web.Request) -> web.StreamResponse:
        """A page of a tool's events; that somebody has taken them is a row of the audit trail."""
        query, caller, tenant = request.query, request[CALLER_KEY], request[TENANT_KEY]
        check_query(query, EXPORT_QUERY)
        form = query.get("form", "hookstream")
        if form not in FORMATS:
            raise BadRequestError(f"form: one of {', '.join(FORMATS)}")
        tool_id = path_tool(request)
        cursor = query.get("cursor", "")
        since, until = (parse_time(name, query.get(name)) for name in ("since", "until"))
        after = uuid7(cursor, "cursor") if cursor else ""
        limit = parse_limit(query.get("limit", "500"))
        async with self._room():
            page = await self._exporter.page(
                tenant, tool_id, since=since, until=until, after=after, limit=limit, form=form
            )
        if not page.events and not after:
            # one that was deleted may have events still
            await self._known(tool_id)
        if page.events:
            about = ("tool", tool_id)
            await note(self._trail, tenant, caller.acting, "event.exported", about, page.events)
        return web.Response(
            body=b"".join(line + b"\n" for line in page.lines),
            content_type=NDJSON,
            headers={
                LAST: page.last,
                MORE: "yes" if page.more else "no",
                MISSING: str(page.missing),
            },
        )

    async def _known(self, tool_id: str) -> None:
        if tool_id not in self._catalog.current.tools:
            await self._catalog.reload()
            if tool_id not in self._catalog.current.tools:
                raise NotFoundError("there is no such tool, nor an event of one")

    def _tool(self, tool_id: str) -> Tool:
        tool = self._catalog.current.tools.get(tool_id)
        if tool is None:
            raise NotFoundError("there is no such tool: make it first, as its events are to be")
        return tool

    def _out(self, row: Mapping[str, Any]) -> dict[str, Any]:
        tool = self._catalog.current.tools.get(row["tool_id"])
        most = self._most_bytes(tool) if tool else 0
        size = page_bytes(self._settings, most) - HEAD_BYTES
        return {**import_out(row), "page_lines": PAGE_LINES, "page_bytes": size}


def _id(request: web.Request) -> str:
    return uuid7(request.match_info["import_id"], "import_id")


def _read_head(line: bytes) -> tuple[dict[str, Any], int]:
    """What a page's first line says: where the source goes on, and lines its reader rejected."""
    wanted = 'the first line: {"place": {…}, "rejected": 0}, then a line for each event'
    if len(line) > HEAD_BYTES:
        raise BadRequestError(wanted)
    try:
        said = orjson.loads(line)
    except ValueError as error:
        raise BadRequestError(wanted) from error
    place = said.get("place") if isinstance(said, dict) else None
    rejected = said.get("rejected", 0) if isinstance(said, dict) else None
    if (
        not isinstance(place, dict)
        or type(rejected) is not int
        or not 0 <= rejected < 1 << 31
        or b"\\u0000" in line
    ):
        raise BadRequestError(wanted)
    return place, rejected
