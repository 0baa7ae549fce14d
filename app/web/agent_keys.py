"""``/api/v1/keys``: keys for agents, each for the contexts it names.

They are those of role ``agent`` of :mod:`hookstream.app.web.api_keys`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from hookstream.app.errors import NotFoundError
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.roles import Role
from hookstream.app.settings import Settings
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.web.access import TENANT_KEY, path_id, read_model
from hookstream.app.web.api_keys import LONG_AGO, put_key
from hookstream.app.web.models.agent_keys import KeyIn, KeyList, KeyMade
from hookstream.app.web.models.fields import SHORT_QUERY
from hookstream.app.web.paging import (
    MOST_SHORT,
    asked_page,
    moment_cursor,
    next_cursor,
    parse_moment_cursor,
)
from hookstream.app.web.problem import json_response
from hookstream.app.web.quotas import Quotas
from hookstream.app.web.routes import Route

__all__ = ["KeyViews"]


class KeyViews:
    """Make, list and revoke keys. A key is shown once, when it is made."""

    def __init__(
        self, *, settings: Settings, postgres: Postgres, catalog: CatalogCache, quotas: Quotas
    ) -> None:
        self._quotas = quotas
        self._settings = settings
        self._postgres = postgres
        self._catalog = catalog

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "POST",
                "/api/v1/keys",
                self.post,
                "Make a key for an agent",
                takes=KeyIn,
                gives=KeyMade,
                status=201,
                errors=(400, 409),
            ),
            Route(
                "GET",
                "/api/v1/keys",
                self.list,
                "List agents' keys",
                gives=KeyList,
                errors=(400,),
                query=SHORT_QUERY,
            ),
            Route(
                "DELETE",
                "/api/v1/keys/{key_id}",
                self.delete,
                "Revoke a key",
                status=204,
                errors=(404,),
            ),
        ]

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Make a key."""
        given = await read_model(self._settings, request, KeyIn)
        row, key = await put_key(
            self._quotas, request[TENANT_KEY], given.name, Role.AGENT, given.contexts, None
        )
        await self._catalog.reload()
        return json_response({**key_out(row), "key": key.text}, status=201)

    async def list(self, request: web.Request) -> web.StreamResponse:
        """A page of the tenant's agents' keys, without the keys themselves."""
        limit, cursor = asked_page(request.query, MOST_SHORT)
        after = parse_moment_cursor(cursor) or (LONG_AGO, "")
        wanted = (request[TENANT_KEY], *after, limit, Role.AGENT, None)
        rows = await self._postgres.fetch(statement("api_keys"), *wanted)
        places = [moment_cursor(row["created_at"], row["key_id"]) for row in rows]
        shown = [key_out(row) for row in rows]
        return json_response({"keys": shown, "cursor": next_cursor(limit, places)})

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Revoke a key: every process refuses it within a second."""
        key_id = path_id(request, "key_id")
        wanted = (request[TENANT_KEY], key_id, [Role.AGENT])
        tag = await self._postgres.execute(statement("delete_key"), *wanted)
        if tag == "DELETE 0":
            raise NotFoundError(f"there is no key {key_id}")
        await self._catalog.reload()
        return web.Response(status=204)


def key_out(row: Mapping[str, Any]) -> dict[str, Any]:
    """A key as the API lists it."""
    return {
        "key_id": row["key_id"],
        "name": row["name"],
        "contexts": list(row["contexts"]),
        "created_at": row["created_at"].isoformat(),
    }
