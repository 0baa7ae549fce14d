"""``/api/v1/templates``: a tenant's own summary templates, checked before they are kept."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from hookstream.app.errors import BadRequestError, NotFoundError
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.providers import provider
from hookstream.app.routing.maskers import Maskers
from hookstream.app.settings import Settings
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.stores.events import EventFilter, EventStore
from hookstream.app.summaries.summariser import Summariser
from hookstream.app.summaries.templates import TemplateBook, builtin_templates, compile_template
from hookstream.app.web.access import CALLER_KEY, TENANT_KEY, path_id, read_model
from hookstream.app.web.events import as_seen_by
from hookstream.app.web.models.fields import PAGE_QUERY
from hookstream.app.web.models.templates import (
    TemplateIn,
    TemplateList,
    TemplateOut,
    TemplatePreview,
    TemplateVersion,
)
from hookstream.app.web.paging import asked_page, next_cursor
from hookstream.app.web.problem import json_response
from hookstream.app.web.routes import Route

__all__ = ["TemplateViews"]

TEMPLATE = "/api/v1/templates/{name}"

#: No version is that high.
NEWEST = 2**31 - 1
#: Past events that a preview looks at.
MAX_PREVIEWED = 200


class TemplateViews:
    """Make, change, try, show and delete templates."""

    def __init__(
        self,
        *,
        settings: Settings,
        postgres: Postgres,
        catalog: CatalogCache,
        events: EventStore,
        maskers: Maskers,
    ) -> None:
        self._maskers = maskers
        self._settings = settings
        self._postgres = postgres
        self._catalog = catalog
        self._events = events

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "GET",
                "/api/v1/templates",
                self.list,
                "List summary templates",
                gives=TemplateList,
                errors=(400,),
                query=PAGE_QUERY,
            ),
            Route(
                "POST",
                "/api/v1/templates/preview",
                self.preview,
                "What a template would say of past events",
                takes=TemplateIn,
                gives=TemplatePreview,
                errors=(400,),
                action="template.previewed",
            ),
            Route(
                "PUT",
                TEMPLATE,
                self.put,
                "Make or change a summary template",
                takes=TemplateIn,
                gives=TemplateVersion,
                errors=(400,),
            ),
            Route(
                "GET",
                TEMPLATE,
                self.get,
                "Show a summary template and its versions",
                gives=TemplateOut,
                errors=(400, 404),
                query=PAGE_QUERY,
            ),
            Route(
                "DELETE",
                TEMPLATE,
                self.delete,
                "Delete a summary template",
                status=204,
                errors=(404,),
            ),
        ]

    async def list(self, request: web.Request) -> web.StreamResponse:
        """A page of the tenant's own templates, and those that come along."""
        limit, after = asked_page(request.query)
        rows = await self._postgres.fetch(statement("templates"), request[TENANT_KEY], after, limit)
        builtin = [
            {"provider": name, "types": template.pattern, "template": template.source}
            for name, template in builtin_templates().all()
        ]
        cursor = next_cursor(limit, [row["name"] for row in rows])
        shown = [template_out(row) for row in rows]
        return json_response({"templates": shown, "builtin": builtin, "cursor": cursor})

    async def put(self, request: web.Request) -> web.StreamResponse:
        """Make or change a template; one that may not be is refused with the reason."""
        name = path_id(request, "name")
        given = await read_model(self._settings, request, TemplateIn)
        kind = provider(given.provider).name
        compile_template(given.types, given.template)
        tenant = request[TENANT_KEY]
        row = await self._postgres.fetchrow(
            statement("put_template"), tenant, name, kind, given.types, given.template
        )
        assert row is not None
        await self._catalog.reload()
        return json_response(template_out(row), status=201 if row["created"] else 200)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One template with a page of the versions that it has had, the newest first."""
        tenant, name = request[TENANT_KEY], path_id(request, "name")
        limit, before = asked_page(request.query)
        if before and not (before.isascii() and before.isdecimal() and len(before) < 10):
            raise BadRequestError("cursor: from the page before")
        current = await self._postgres.fetchrow(statement("template"), tenant, name)
        if current is None:
            raise NotFoundError(f"there is no template {name}")
        rows = await self._postgres.fetch(
            statement("template_versions"), tenant, name, int(before or NEWEST), limit
        )
        versions = [template_out(row) for row in rows]
        cursor = next_cursor(limit, [str(row["version"]) for row in rows])
        return json_response({**template_out(current), "versions": versions, "cursor": cursor})

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Delete a template: what is built in, or the plain extract, stands in again."""
        name = path_id(request, "name")
        tag = await self._postgres.execute(statement("delete_template"), request[TENANT_KEY], name)
        if tag == "DELETE 0":
            raise NotFoundError(f"there is no template {name}")
        await self._catalog.reload()
        return web.Response(status=204)

    async def preview(self, request: web.Request) -> web.StreamResponse:
        """What a template would say of past events; nothing is kept."""
        given = await read_model(self._settings, request, TemplateIn)
        kind = provider(given.provider).name
        book = TemplateBook({kind: [compile_template(given.types, given.template)]})
        summaries = Summariser(TemplateBook({}))
        past = EventFilter(limit=MAX_PREVIEWED)
        found = await self._events.search_with_payloads(request[TENANT_KEY], past)
        shown = []
        for row, event in found:
            if event is None or event.provider != kind or not book.find(kind, event.type):
                continue
            if (event := await as_seen_by(request[CALLER_KEY], self._maskers, event)) is None:
                continue
            summary = summaries.summarise(event, own=book)
            shown.append(
                {
                    "event_id": row["event_id"],
                    "type": row["type"],
                    "summary": summary.text,
                    "tokens": summary.tokens,
                    "template": summary.template,
                }
            )
            await asyncio.sleep(0)
        return json_response({"examined": len(found), "events": shown})


def template_out(row: Mapping[str, Any]) -> dict[str, Any]:
    """A template, or a version of one, as the API shows it."""
    return {
        "name": row["name"],
        "provider": row["provider"],
        "types": row["types"],
        "template": row["source"],
        "version": row["version"],
        "created_at": row["created_at"].isoformat(),
    }
