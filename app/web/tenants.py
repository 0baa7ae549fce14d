"""``/api/v1/tenants``: who shares this installation, and what each may have.

Making, changing, suspending and deleting are the operator's, who has the installation's own key. A
tenant's own key shows the tenant itself, and its metrics.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from hookstream.app.errors import (
    BadRequestError,
    ConflictError,
    NotFoundError,
)
from hookstream.app.feeds.feed import Feeds
from hookstream.app.ids import DEFAULT_TENANT
from hookstream.app.ingest.tenant_use import TenantUse
from hookstream.app.lifecycle.tenant_deletion import HeldBy
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.postgres.tenancy import whole
from hookstream.app.routing.tenants import ACTIVE, SUSPENDED
from hookstream.app.settings import Settings
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.web.access import CALLER_KEY, path_id, read_model
from hookstream.app.web.events import check_query
from hookstream.app.web.models.fields import PAGE_QUERY
from hookstream.app.web.models.tenants import (
    CONFIRM_QUERY,
    METRICS_QUERY,
    SuspendIn,
    TenantChange,
    TenantIn,
    TenantList,
    TenantMetrics,
    TenantOut,
)
from hookstream.app.web.paging import asked_page, next_cursor
from hookstream.app.web.problem import json_response
from hookstream.app.web.quotas import SETTINGS, Quotas
from hookstream.app.web.routes import Route
from hookstream.app.web.tenant_masking import path_tenant

__all__ = ["TenantViews"]

TENANTS = "/api/v1/tenants"
TENANT = "/api/v1/tenants/{tenant_id}"
#: Contexts whose progress is shown.
MAX_CONTEXTS = 1000
#: Of a second there is no count.
UNCOUNTED = "events_per_second"


class TenantViews:
    """Make, change, show, suspend and delete tenants."""

    def __init__(
        self,
        *,
        settings: Settings,
        postgres: Postgres,
        catalog: CatalogCache,
        quotas: Quotas,
        use: TenantUse,
        feeds: Feeds,
        held_by: Callable[[], HeldBy],
    ) -> None:
        """``held_by``: what says which legal holds are on a tenant."""
        self._settings = settings
        self._postgres = postgres
        self._catalog = catalog
        self._quotas = quotas
        self._use = use
        self._feeds = feeds
        self._held_by = held_by

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "GET",
                TENANTS,
                self.list,
                "List the tenants",
                gives=TenantList,
                errors=(400,),
                query=PAGE_QUERY,
            ),
            Route(
                "POST",
                TENANTS,
                self.post,
                "Make a tenant",
                takes=TenantIn,
                gives=TenantOut,
                status=201,
                errors=(400, 409),
            ),
            Route("GET", TENANT, self.get, "Show a tenant", gives=TenantOut, errors=(404,)),
            Route(
                "PATCH",
                TENANT,
                self.patch,
                "Change a tenant's name and quotas",
                takes=TenantChange,
                gives=TenantOut,
                errors=(400, 404),
            ),
            Route(
                "POST",
                f"{TENANT}/suspend",
                self.suspend,
                "Suspend a tenant: nothing is taken from it, and its sockets are closed",
                takes=SuspendIn,
                gives=TenantOut,
                errors=(400, 404, 409),
            ),
            Route(
                "POST",
                f"{TENANT}/resume",
                self.resume,
                "Let a suspended tenant go on",
                gives=TenantOut,
                errors=(404, 409),
            ),
            Route(
                "DELETE",
                TENANT,
                self.delete,
                "Delete a tenant and all that it has, which takes a while",
                gives=TenantOut,
                status=202,
                errors=(400, 404, 409),
                query=CONFIRM_QUERY,
            ),
            Route(
                "GET",
                f"{TENANT}/metrics",
                self.metrics,
                "What a tenant has sent, and how much of its quotas it uses",
                gives=TenantMetrics,
                errors=(400, 404),
                query=METRICS_QUERY,
            ),
        ]

    async def list(self, request: web.Request) -> web.StreamResponse:
        """A page of the tenants."""
        limit, after = asked_page(request.query)
        rows = await self._postgres.fetch(statement("tenants"), after, limit)
        cursor = next_cursor(limit, [row["tenant_id"] for row in rows])
        return json_response({"tenants": [tenant_out(row) for row in rows], "cursor": cursor})

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Make a tenant; in force in this process when the answer comes."""
        given = await read_model(self._settings, request, TenantIn)
        row = await self._postgres.fetchrow(
            statement("make_tenant"),
            given.tenant_id,
            given.name,
            given.quotas.model_dump(exclude_none=True),
        )
        if row is None:
            raise ConflictError(
                f"there is a tenant {given.tenant_id} already, or the one of before is still being "
                "deleted"
            )
        await self._catalog.reload()
        response = json_response(tenant_out(row), status=201)
        response.headers["Location"] = f"{TENANTS}/{given.tenant_id}"
        return response

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One tenant, and how far its deletion has come."""
        tenant_id = path_tenant(request)
        with whole():
            row = await self._postgres.fetchrow(statement("tenant"), tenant_id)
            deletion = await self._postgres.fetchrow(statement("tenant_deletion"), tenant_id)
        if row is None and (deletion is None or not request[CALLER_KEY].operator):
            raise NotFoundError(f"there is no tenant {tenant_id}")
        # one that was made again is another one
        shown = deletion if row is None or row["state"] == "deleting" else None
        return json_response(tenant_out(row or {"tenant_id": tenant_id}, shown))

    async def patch(self, request: web.Request) -> web.StreamResponse:
        """Change what is given."""
        tenant_id = path_id(request, "tenant_id")
        given = await read_model(self._settings, request, TenantChange)
        quotas = given.quotas.model_dump(exclude_unset=True) if given.quotas else {}
        row = await self._postgres.fetchrow(
            statement("change_tenant"),
            tenant_id,
            given.name,
            {name: value for name, value in quotas.items() if value is not None},
            [name for name, value in quotas.items() if value is None],
        )
        if row is None:
            raise NotFoundError(f"there is no tenant {tenant_id}")
        await self._catalog.reload()
        return json_response(tenant_out(row))

    async def suspend(self, request: web.Request) -> web.StreamResponse:
        """Take nothing more from a tenant; what it has stays."""
        given = await read_model(self._settings, request, SuspendIn)
        return await self._set_state(request, SUSPENDED, given.reason)

    async def resume(self, request: web.Request) -> web.StreamResponse:
        """Let a tenant go on."""
        return await self._set_state(request, ACTIVE, "")

    async def _set_state(self, request: web.Request, state: str, reason: str) -> web.StreamResponse:
        tenant_id = self._other(request, "suspended")
        row = await self._postgres.fetchrow(statement("set_tenant_state"), tenant_id, state, reason)
        if row is None:
            if await self._postgres.fetchrow(statement("tenant"), tenant_id):
                raise ConflictError(f"the tenant {tenant_id} is being deleted")
            raise NotFoundError(f"there is no tenant {tenant_id}")
        await self._catalog.reload()
        return json_response(tenant_out(row))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Have workers delete all that a tenant has; from now on nothing is taken from it."""
        tenant_id = self._other(request, "deleted")
        check_query(request.query, CONFIRM_QUERY)
        if request.query.get("confirm") != tenant_id:
            raise BadRequestError(
                f"confirm: the tenant's id once more (?confirm={tenant_id}): all that it has is "
                "deleted, and cannot be brought back"
            )
        if await self._postgres.fetchrow(statement("tenant"), tenant_id) is None:
            raise NotFoundError(f"there is no tenant {tenant_id}")
        if holds := await self._held_by()(tenant_id):
            raise ConflictError(
                f"the tenant {tenant_id} is held by {', '.join(holds)}: release it first"
            )
        deletion = await self._postgres.fetchrow(statement("delete_tenant"), tenant_id)
        row = await self._postgres.fetchrow(statement("tenant"), tenant_id)
        await self._catalog.reload()
        shown = tenant_out(row or {"tenant_id": tenant_id}, deletion)
        return json_response(shown, status=202)

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """What a tenant has sent and uses, as JSON or as text for Prometheus."""
        tenant_id = path_tenant(request)
        check_query(request.query, METRICS_QUERY)
        wanted = request.query.get("format", "json")
        if wanted not in ("json", "prometheus"):
            raise BadRequestError("format: json or prometheus")
        if tenant_id not in self._catalog.current.tenants:
            raise NotFoundError(f"there is no tenant {tenant_id}")
        found = await self._measure(tenant_id)
        if wanted == "json":
            return json_response(found)
        headers = {"Content-Type": CONTENT_TYPE_LATEST}
        return web.Response(body=prometheus_text(found).encode(), headers=headers)

    async def _measure(self, tenant_id: str) -> dict[str, Any]:
        catalog = self._catalog.current
        tenant = catalog.tenant(tenant_id)
        today, yesterday = [await self._use.used(tenant_id, days) for days in (0, 1)]
        with whole():
            there = await self._postgres.fetchrow(statement("quota_use"), tenant_id)
            running = await self._postgres.fetchrow(statement("running_replays"), tenant_id)
        assert there is not None
        assert running is not None
        used: dict[str, int | None] = {
            UNCOUNTED: None,
            "events_per_day": today.events,
            "bytes_per_day": today.bytes,
            **{name: there[name] for name in ("tools", "contexts", "keys", "subscriptions")},
            "sockets": self._use.sockets(tenant_id),
            "replays": running["running"],
        }
        names = sorted(name for name in catalog.contexts if name[0] == tenant_id)[:MAX_CONTEXTS]
        progress = await self._feeds.progress(names)
        return {
            "tenant_id": tenant_id,
            "state": tenant.state,
            **{
                name: {"events": day.events, "bytes": day.bytes, "refused": dict(day.refused)}
                for name, day in (("today", today), ("yesterday", yesterday))
            },
            "quotas": [
                {"name": name, "used": count, "most": self._most(name, tenant_id)}
                for name, count in used.items()
            ],
            "contexts": [
                {
                    "context_id": context_id,
                    "last_seq": at.last_seq,
                    "acknowledged_seq": at.acknowledged_seq,
                    "throttled": at.throttled,
                }
                for (_, context_id), at in zip(names, progress, strict=True)
            ],
        }

    def _most(self, name: str, tenant_id: str) -> float | None:
        if name in SETTINGS:
            return self._quotas.most(name, tenant_id) or None
        found: float | None = getattr(self._catalog.current.tenant(tenant_id).quotas, name)
        return found

    @staticmethod
    def _other(request: web.Request, done: str) -> str:
        """The tenant in the path, which is not the installation's own."""
        tenant_id = path_id(request, "tenant_id")
        if tenant_id == DEFAULT_TENANT:
            raise ConflictError(
                f"the tenant {DEFAULT_TENANT} is the installation's own, which cannot be {done}: "
                "stop it instead"
            )
        return tenant_id


def tenant_out(row: Mapping[str, Any], deletion: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A tenant as the API shows it; of one that is deleted ``row`` has its id alone."""
    made, changed = row.get("created_at"), row.get("updated_at")
    return {
        "tenant_id": row["tenant_id"],
        "name": row.get("name", ""),
        "state": row.get("state", "deleted"),
        "reason": row.get("reason", ""),
        "quotas": row.get("quotas", {}),
        "deletion": deletion_out(deletion) if deletion else None,
        "created_at": made.isoformat() if made else None,
        "updated_at": changed.isoformat() if changed else None,
    }


def deletion_out(row: Mapping[str, Any]) -> dict[str, Any]:
    """How far a deletion has come, as the API shows it."""
    return {
        "step": row["step"],
        "deleted": row["deleted"],
        "passes": row["passes"],
        "error": row["error"],
        "asked_at": row["asked_at"].isoformat(),
        "finished_at": row["finished_at"].isoformat() if row["finished_at"] else None,
    }


def prometheus_text(found: Mapping[str, Any]) -> str:
    """A tenant's metrics as text; names of contexts and quotas need no escapes."""
    today = found["today"]
    families: list[tuple[str, str, list[tuple[str, float]]]] = [
        ("events_today", "Accepted events since midnight (UTC).", [("", today["events"])]),
        ("bytes_today", "Bytes of their bodies, as sent.", [("", today["bytes"])]),
        (
            "refused_today",
            "What was refused since a quota is used up, by the quota.",
            [(f'{{quota="{name}"}}', count) for name, count in today["refused"].items()],
        ),
        *(
            (
                f"quota_{key}",
                told,
                [
                    (f'{{quota="{quota["name"]}"}}', quota[key])
                    for quota in found["quotas"]
                    if quota[key] is not None
                ],
            )
            for key, told in (("used", "How much of a quota is used."), ("most", "The quota."))
        ),
        *(
            (
                f"context_{key}",
                told,
                [(f'{{context="{one["context_id"]}"}}', one[key]) for one in found["contexts"]],
            )
            for key, told in (
                ("last_seq", "Updates in each context's feed so far."),
                ("acknowledged_seq", "How many of these its clients have acknowledged."),
                ("throttled", "Updates that wait since its rate is used up."),
            )
        ),
    ]
    lines = []
    for name, told, samples in families:
        if samples:
            full = f"hookstream_tenant_{name}"
            lines += [f"# HELP {full} {told}", f"# TYPE {full} gauge"]
            lines += [f"{full}{labels} {value}" for labels, value in samples]
    return "\n".join(lines) + "\n"
