"""How many tools, contexts, keys and subscriptions a tenant may have, and ``/api/v1/quotas``.

Each is a setting, the same for every tenant. Statements that insert count before; they run one
after the other, so that two processes cannot both make the last one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from hookstream.app import metrics
from hookstream.app.errors import QuotaError
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
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

    def __init__(self, settings: Settings, postgres: Postgres) -> None:
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
        row = await self._postgres.fetchrow(statement("quota_use"), request[TENANT_KEY])
        assert row is not None
        return json_response(
            {
                "quotas": [
                    {
                        "name": name,
                        "used": row[name],
                        "most": self.most(name) or None,
                        "setting": f"HOOKSTREAM_{setting.upper()}",
                    }
                    for name, (setting, _) in SETTINGS.items()
                ]
            }
        )

    def most(self, name: str) -> int:
        """How many there may be; 0 for any number."""
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
            most = self.most(name)
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
                raise self._reached(name, used)

    def _reached(self, name: str, used: int) -> QuotaError:
        setting, noun = SETTINGS[name]
        metrics.LIMITED.labels(limit=setting).inc()
        return QuotaError(
            f"there are {used} {noun}, as many as there may be (HOOKSTREAM_{setting.upper()}): "
            "delete some that nobody needs, or raise it"
        )
