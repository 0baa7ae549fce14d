"""``/api/v1/api-keys``: keys for programs and agents, each with a role."""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiohttp import web

from hookstream.app.errors import BadRequestError, ConflictError, ForbiddenError, NotFoundError
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.roles import KEY_ROLES, Role, may_give
from hookstream.app.settings import Settings
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.stores.key_uses import KeyUses
from hookstream.app.web.access import CALLER_KEY, TENANT_KEY, path_id, read_model
from hookstream.app.web.events import parse_time
from hookstream.app.web.models.api_keys import (
    ApiKeyIn,
    ApiKeyList,
    ApiKeyMade,
    ApiKeyOut,
    RotateIn,
)
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

__all__ = ["LONG_AGO", "ApiKeyViews", "put_key"]

KEYS = "/api/v1/api-keys"
KEY = KEYS + "/{key_id}"
LONG_AGO = datetime.min.replace(tzinfo=UTC)
#: Characters of a key that are kept in the clear: six of 43 random ones.
SHOWN_CHARACTERS: Final = 10


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made up, of 256 random bits: nobody can try them out."""

    text: str

    @classmethod
    def of(cls, role: Role) -> "NewKey":
        """One for a role: agents' begin with ``hsa_``, programs' with ``hsk_``."""
        kind = "hsa" if role == Role.AGENT else "hsk"
        return cls(f"{kind}_{secrets.token_urlsafe(32)}")

    @property
    def hash(self) -> bytes:
        """All that is kept of it,"""
        return hashlib.sha256(self.text.encode()).digest()

    @property
    def prefix(self) -> str:
        """and what to recognise it by."""
        return self.text[:SHOWN_CHARACTERS]


async def put_key(
    quotas: Quotas,
    tenant: str,
    name: str,
    role: Role,
    contexts: Sequence[str],
    expires: datetime | None,
) -> tuple[Mapping[str, Any], NewKey]:
    """Keep a new key; its row, and the key itself, which is shown once.

    Raises:
        QuotaError: the tenant has as many as it may.
        ConflictError: it had, until just now.
    """
    key = NewKey.of(role)
    row = await quotas.put(
        "keys",
        tenant,
        statement("put_key"),
        f"key-{secrets.token_hex(6)}",
        tenant,
        name,
        role,
        sorted(set(contexts)),
        key.hash,
        key.prefix,
        expires,
        quotas.most("keys", tenant),
    )
    if row is None:
        await quotas.check(tenant, "keys")
        raise ConflictError("a key was deleted just now: try again")
    return row, key


class ApiKeyViews:
    """Make, list, show, renew and revoke keys. None is given more than its maker may."""

    def __init__(
        self,
        *,
        settings: Settings,
        postgres: Postgres,
        catalog: CatalogCache,
        quotas: Quotas,
        uses: KeyUses,
    ) -> None:
        self._settings = settings
        self._postgres = postgres
        self._catalog = catalog
        self._quotas = quotas
        self._uses = uses

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "POST",
                KEYS,
                self.post,
                "Make a key with a role",
                takes=ApiKeyIn,
                gives=ApiKeyMade,
                status=201,
                errors=(400, 409),
            ),
            Route(
                "GET",
                KEYS,
                self.list,
                "List keys, and when each was used last",
                gives=ApiKeyList,
                errors=(400,),
                query=SHORT_QUERY,
            ),
            Route("GET", KEY, self.get, "Show a key", gives=ApiKeyOut, errors=(400, 404)),
            Route(
                "POST",
                KEY + "/rotate",
                self.rotate,
                "Renew a key; the one before counts for a while",
                takes=RotateIn,
                gives=ApiKeyMade,
                errors=(400, 404),
            ),
            Route("DELETE", KEY, self.delete, "Revoke a key", status=204, errors=(400, 404)),
        ]

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Make a key."""
        given = await read_model(self._settings, request, ApiKeyIn)
        role = Role(given.role)
        _check_may_give(request, role)
        if (role == Role.AGENT) != bool(given.contexts):
            raise BadRequestError(
                "contexts: a key of role agent names those that it may read, and no other key does"
            )
        expires = parse_time("expires_at", given.expires_at)
        if expires is not None and expires <= datetime.now(UTC):
            raise BadRequestError("expires_at: a time to come")
        row, key = await put_key(
            self._quotas, request[TENANT_KEY], given.name, role, given.contexts, expires
        )
        await self._catalog.reload()
        return json_response({**key_out(row), "key": key.text}, status=201)

    async def list(self, request: web.Request) -> web.StreamResponse:
        """A page of the tenant's keys, without the keys themselves."""
        limit, cursor = asked_page(request.query, MOST_SHORT)
        after = parse_moment_cursor(cursor) or (LONG_AGO, "")
        # what other processes have noted is there within seconds
        tenant = request[TENANT_KEY]
        await self._uses.save(tenant)
        rows = await self._postgres.fetch(statement("api_keys"), tenant, *after, limit, None, None)
        places = [moment_cursor(row["created_at"], row["key_id"]) for row in rows]
        shown = [key_out(row) for row in rows]
        return json_response({"keys": shown, "cursor": next_cursor(limit, places)})

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One key, without the key itself."""
        await self._uses.save(request[TENANT_KEY])
        return json_response(key_out(await self._row(request)))

    async def rotate(self, request: web.Request) -> web.StreamResponse:
        """Give a key another secret; what it may stays as it is."""
        given = await read_model(self._settings, request, RotateIn)
        role = Role((await self._row(request))["role"])
        _check_may_give(request, role)
        key, tenant, key_id = NewKey.of(role), request[TENANT_KEY], path_id(request, "key_id")
        ends = datetime.now(UTC) + timedelta(seconds=given.grace_seconds)
        row = await self._postgres.fetchrow(
            statement("rotate_key"), tenant, key_id, [role], key.hash, key.prefix, ends
        )
        if row is None:
            raise _no_key(key_id)
        await self._catalog.reload()
        return json_response({**key_out(row), "key": key.text})

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Revoke a key: every process refuses it within a second."""
        role = Role((await self._row(request))["role"])
        _check_may_give(request, role)
        key_id = path_id(request, "key_id")
        done = await self._postgres.execute(
            statement("delete_key"), request[TENANT_KEY], key_id, [role]
        )
        if done == "DELETE 0":
            raise _no_key(key_id)
        await self._catalog.reload()
        return web.Response(status=204)

    async def _row(self, request: web.Request) -> Mapping[str, Any]:
        """The key in the path. Raises NotFoundError: the tenant has none, or of no role we know."""
        key_id = path_id(request, "key_id")
        tenant = request[TENANT_KEY]
        wanted = (tenant, LONG_AGO, "", 1, None, key_id)
        row = await self._postgres.fetchrow(statement("api_keys"), *wanted)
        if row is None or row["role"] not in KEY_ROLES:
            raise _no_key(key_id)
        return dict(row)


def _check_may_give(request: web.Request, role: Role) -> None:
    own = request[CALLER_KEY].role
    if not may_give(own, role):
        raise ForbiddenError(f"who has the role {own} makes, renews and revokes no key of {role}")


def _no_key(key_id: str) -> NotFoundError:
    return NotFoundError(f"there is no key {key_id}")


def key_out(row: Mapping[str, Any]) -> dict[str, Any]:
    """A key as the API shows it."""
    return {
        "key_id": row["key_id"],
        "name": row["name"],
        "role": row["role"],
        "contexts": [*row["contexts"]],
        "prefix": row["prefix"],
        "created_at": row["created_at"].isoformat(),
        "expires_at": _time(row["expires_at"]),
        "last_used_at": _time(row["used_at"]),
        "rotated_at": _time(row["rotated_at"]),
        "previous_until": _time(row["previous_until"]),
    }


def _time(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
