"""``/api/v1/keys``: keys for agents, each for the contexts it names."""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from hookstream.app.errors import NotFoundError
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.settings import Settings
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.web import models
from hookstream.app.web.access import TENANT_KEY, path_id, read_model
from hookstream.app.web.problem import json_response
from hookstream.app.web.routes import Route

__all__ = ["KeyViews"]


class KeyViews:
    """Make, list and revoke keys. A key is shown once, when it is made."""

    def __init__(self, *, settings: Settings, postgres: Postgres, catalog: CatalogCache) -> None:
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
                takes=models.KeyIn,
                gives=models.KeyMade,
                status=201,
                errors=(400,),
            ),
            Route("GET", "/api/v1/keys", self.list, "List agents' keys", gives=models.KeyList),
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
        given = await read_model(self._settings, request, models.KeyIn)
        key = f"hsa_{secrets.token_urlsafe(32)}"
        row = await self._postgres.fetchrow(
            statement("put_key"),
            f"key-{secrets.token_hex(6)}",
            request[TENANT_KEY],
            given.name,
            hashlib.sha256(key.encode()).digest(),
            sorted(set(given.contexts)),
        )
        assert row is not None
        await self._catalog.reload()
        return json_response({**key_out(row), "key": key}, status=201)

    async def list(self, request: web.Request) -> web.StreamResponse:
        """The keys of the tenant, without the keys themselves."""
        rows = await self._postgres.fetch(
            statement("api_keys"),
            request[TENANT_KEY],
        )
        return json_response({"keys": [key_out(row) for row in rows]})

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Revoke a key: every process refuses it within a second."""
        key_id = path_id(request, "key_id")
        tag = await self._postgres.execute(statement("delete_key"), request[TENANT_KEY], key_id)
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
