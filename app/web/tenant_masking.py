"""``/api/v1/tenants/{tenant_id}/masking``: rules for personal data, behind those of tools."""

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from hookstream.app.errors import BadRequestError, NotFoundError
from hookstream.app.ids import own_tool_id
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.postgres.tenancy import of_tenant
from hookstream.app.privacy.rules import Rules
from hookstream.app.settings import Settings
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.web.access import CALLER_KEY, path_id, read_model
from hookstream.app.web.models.tenants import TenantMaskingOut
from hookstream.app.web.models.tools import MaskingIn
from hookstream.app.web.problem import json_response
from hookstream.app.web.routes import Route

__all__ = ["TenantMaskingViews", "checked_rules", "path_tenant"]

MASKING = "/api/v1/tenants/{tenant_id}/masking"


class TenantMaskingViews:
    """Set, show and take away what holds for all tools of a tenant."""

    def __init__(self, *, settings: Settings, postgres: Postgres, catalog: CatalogCache) -> None:
        self._settings = settings
        self._postgres = postgres
        self._catalog = catalog

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "GET",
                MASKING,
                self.get,
                "Show a tenant's rules for personal data",
                gives=TenantMaskingOut,
                errors=(404,),
                operation="tenant_masking_get",
            ),
            Route(
                "PUT",
                MASKING,
                self.put,
                "Set a tenant's rules for personal data: all of them",
                takes=MaskingIn,
                gives=TenantMaskingOut,
                errors=(400, 404),
                operation="tenant_masking_put",
            ),
            Route(
                "DELETE",
                MASKING,
                self.delete,
                "Take a tenant's rules for personal data away",
                status=204,
                errors=(404,),
                operation="tenant_masking_delete",
            ),
        ]

    async def get(self, request: web.Request) -> web.StreamResponse:
        """The rules; null where there are none."""
        tenant = path_tenant(request)
        with of_tenant(tenant):
            row = await self._postgres.fetchrow(statement("tenant_masking"), tenant)
        if row is None:
            raise NotFoundError(f"there is no tenant {tenant}")
        return json_response(masking_out(row))

    async def put(self, request: web.Request) -> web.StreamResponse:
        """Set all rules; in force in this process when the answer comes."""
        tenant = path_tenant(request)
        given = await read_model(self._settings, request, MaskingIn)
        try:
            rules = checked_rules(given, has_key=bool(self._settings.pseudonym_key))
            rules.check()
            self._check_tools(tenant, rules)
        except ValueError as error:
            raise BadRequestError(str(error)) from error
        with of_tenant(tenant):
            row = await self._postgres.fetchrow(
                statement("put_tenant_masking"), tenant, given.model_dump()
            )
        if row is None:
            raise NotFoundError(f"there is no tenant {tenant}")
        await self._catalog.reload()
        return json_response(masking_out(row))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Its tools' own rules hold alone."""
        tenant = path_tenant(request)
        with of_tenant(tenant):
            tag = await self._postgres.execute(statement("delete_tenant_masking"), tenant)
        if tag == "DELETE 0":
            raise NotFoundError(f"there are no masking rules of a tenant {tenant}")
        await self._catalog.reload()
        return web.Response(status=204)

    def _check_tools(self, tenant: str, rules: Rules) -> None:
        """Raises ValueError where they make no sense with those of a tool."""
        for tool in self._catalog.current.tools.values():
            if tool.tenant == tenant:
                try:
                    tool.masking.before(rules).check()
                except ValueError as error:
                    raise ValueError(
                        f"with the rules of the tool {own_tool_id(tool.tool_id)}, {error}"
                    ) from error


def checked_rules(given: MaskingIn, *, has_key: bool) -> Rules:
    """Rules as somebody sets them; ``has_key``: whether pseudonyms can be made.

    Raises:
        ValueError: what is wrong with them.
    """
    rules = Rules.from_dict(given.model_dump())
    if rules.uses_pseudonyms() and not has_key:
        raise ValueError(
            "pseudonym: wants a key of the installation: set HOOKSTREAM_PSEUDONYM_KEY for "
            "receivers and workers"
        )
    return rules


def path_tenant(request: web.Request) -> str:
    """The tenant in the path, if it is the caller's or the caller is the operator.

    Raises:
        NotFoundError: it is another one's; whether there is one is nobody's business.
    """
    tenant, caller = path_id(request, "tenant_id"), request[CALLER_KEY]
    if not caller.operator and caller.tenant != tenant:
        raise NotFoundError(f"there is no tenant {tenant}")
    return tenant


def masking_out(row: Mapping[str, Any]) -> dict[str, Any]:
    """A tenant's rules as the API shows them."""
    at = row["updated_at"]
    return {
        "tenant_id": row["tenant_id"],
        "masking": row["masking"],
        "updated_at": at.isoformat() if at else None,
    }
