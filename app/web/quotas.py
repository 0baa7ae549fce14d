"""How many tools, contexts, keys and subscriptions a tenant may have, and ``/api/v1/quotas``.

Each is a setting; a tenant's own quota counts before it. Statements that insert count before; they
run one after the other, so that two processes cannot both make the last one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiohttp import web

from hookstream.app import metrics
from hookstream.app.errors import QuotaError
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.routing.catalog import Catalog
from hookstream.app.settings import Settings
from hookstream.app.web.access import TENANT_KEY
from hookstream.app.web.models.quotas import QuotaList
from hookstream.app.web.problem import json_response
from hookstream.app.web.routes import Route

__all__ = ["Quotas"]

#: What has a quota, its setting, and what an answer calls it.
SETTINGS = {
    "tools": ("max_tools", "tools"),
    "contexts": ("max_contexts", "contexts"),
    "keys": ("max_keys", "keys"),
    "subscriptions": ("max_subscriptions", "subscriptions"),
    "subscriptions_per_context": ("max_subscriptions_per_context", "subscriptions of this context"),
}


class Quotas:
    """Inserts what has a quota, and shows how much of it is used."""

    def __init__(
        self,
        settings: Settings,
        postgres: Postgres,
        catalog: Callable[[], Catalog] = Catalog,
        refused: Callable[[str, str], None] = lambda tenant, quota: None,
    ) -> None:
        """``catalog``: where tenants' own quotas are; ``refused`` hears of what they refuse."""
        self._catalog = catalog
        self._refused = refused
        self._settings = settings
        self._postgres = postgres

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "GET",
                "/api/v1/quotas",
                self.list,
                "How much there is, and may be, of what has a quota",
                gives=QuotaList,
                operation="quota_list",
            )
        ]

    async def list(self, request: web.Request) -> web.StreamResponse:
        """Each quota, its setting, and what is used of it."""
        tenant = request[TENANT_KEY]
        row = await self._postgres.fetchrow(statement("quota_use"), tenant)
        assert row is not None
        return json_response(
            {
                "quotas": [
                    {
                        "name": name,
                        "used": row[name],
                        "most": self.most(name, tenant) or None,
                        "setting": self._setting(name, tenant),
                    }
                    for name in SETTINGS
                ]
            }
        )

    def own(self, name: str, tenant: str) -> int | None:
        """A tenant's own quota; None where the installation's setting counts."""
        found: int | None = getattr(self._catalog().tenant(tenant).quotas, name, None)
        return found

    def _setting(self, name: str, tenant: str) -> str:
        """What says how many there may be."""
        if self.own(name, tenant) is not None:
            return f"the tenant's quota {name}"
        return f"HOOKSTREAM_{SETTINGS[name][0].upper()}"

    def most(self, name: str, tenant: str) -> int:
        """How many a tenant may have; 0 for any number."""
        if (own := self.own(name, tenant)) is not None:
            return own
        value: int = getattr(self._settings, SETTINGS[name][0])
        return value

    async def put(
        self, name: str, tenant: str, query: str, *values: Any
    ) -> Mapping[str, Any] | None:
        """The row that a statement which counts inserts or changes; None where it does neither."""
        return await self._postgres.fetchrow_in_turn(f"quota/{name}/{tenant}", query, *values)

    async def check(self, tenant: str, *names: str, context_id: str = "") -> None:
        """What a statement that did nothing did not do for: raises QuotaError where it is this."""
        for name in names:
            most = self.most(name, tenant)
            if not most:
                continue
            if name == "subscriptions_per_context":
                row = await self._postgres.fetchrow(
                    statement("count_subscriptions"), tenant, context_id
                )
                used = row["used"] if row else 0
            else:
                row = await self._postgres.fetchrow(statement("quota_use"), tenant)
                used = row[name] if row else 0
            if used >= most:
                raise self._reached(name, used, tenant)

    def _reached(self, name: str, used: int, tenant: str) -> QuotaError:
        setting, noun = SETTINGS[name]
        if self.own(name, tenant) is not None:
            self._refused(tenant, name)
        else:
            metrics.LIMITED.labels(limit=setting).inc()
        return QuotaError(
            f"there are {used} {noun}, as many as there may be ({self._setting(name, tenant)}): "
            "delete some that nobody needs, or raise it"
        )
