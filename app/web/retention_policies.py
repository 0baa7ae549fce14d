"""``/api/v1/retention-policies``: what is deleted before its tool's time, and proof that it was."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from hookstream.app.durations import duration_seconds, duration_text
from hookstream.app.errors import BadRequestError, NotFoundError
from hookstream.app.ids import full_tool_id, own_tool_id
from hookstream.app.settings import Settings
from hookstream.app.stores.retention_policies import MIN_SECONDS, Policy, PolicyStore, Proof
from hookstream.app.web.access import TENANT_KEY, path_id, read_model
from hookstream.app.web.events import check_query
from hookstream.app.web.models.fields import PAGE_QUERY
from hookstream.app.web.models.retention_policies import (
    PolicyIn,
    PolicyList,
    PolicyOut,
    ProofList,
)
from hookstream.app.web.paging import asked_page, next_cursor
from hookstream.app.web.problem import json_response
from hookstream.app.web.routes import Route

__all__ = ["PolicyViews"]

POLICIES = "/api/v1/retention-policies"
POLICY = POLICIES + "/{policy_id}"
#: The longest: what is kept longer needs no policy.
MAX_SECONDS = 3650 * 86_400


class PolicyViews:
    """Make, change, show and delete policies; for who has the admin key."""

    def __init__(self, *, settings: Settings, policies: PolicyStore) -> None:
        self._settings = settings
        self._policies = policies

    def routes(self) -> Sequence[Route]:
        """In the order of the OpenAPI document."""
        return [
            Route(
                "GET",
                POLICIES,
                self.list,
                "List the retention policies",
                gives=PolicyList,
                errors=(400, 503),
            ),
            Route(
                "PUT",
                POLICY,
                self.put,
                "Make or change a retention policy",
                takes=PolicyIn,
                gives=PolicyOut,
                errors=(400, 409, 503),
            ),
            Route(
                "GET",
                POLICY,
                self.get,
                "Show a retention policy",
                gives=PolicyOut,
                errors=(400, 404, 503),
            ),
            Route(
                "DELETE",
                POLICY,
                self.delete,
                "Delete a retention policy; the proof of what it has deleted stays",
                status=204,
                errors=(400, 404, 503),
            ),
            Route(
                "GET",
                POLICY + "/proof",
                self.proof,
                "What a retention policy has deleted, the newest run first",
                gives=ProofList,
                errors=(400, 503),
                query=PAGE_QUERY,
            ),
        ]

    async def list(self, request: web.Request) -> web.StreamResponse:
        """All of them."""
        check_query(request.query, ())
        found = await self._policies.page(request[TENANT_KEY])
        return json_response({"policies": [policy_out(one) for one in found]})

    async def put(self, request: web.Request) -> web.StreamResponse:
        """Make or change one."""
        policy_id = path_id(request, "policy_id")
        wanted = await read_model(self._settings, request, PolicyIn)
        seconds = duration_seconds(wanted.delete_after)
        if not MIN_SECONDS <= seconds <= MAX_SECONDS:
            raise BadRequestError("delete_after: from 1h to 3650d")
        policy = Policy(
            request[TENANT_KEY],
            policy_id,
            full_tool_id(request[TENANT_KEY], wanted.tool) if wanted.tool else "",
            wanted.types or "",
            wanted.data_class or "",
            seconds,
            wanted.reason,
        )
        return json_response(policy_out(await self._policies.put(policy)))

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One of them."""
        policy_id = path_id(request, "policy_id")
        found = await self._policies.page(request[TENANT_KEY], policy_id)
        if not found:
            raise NotFoundError(f"there is no retention policy {policy_id}")
        return json_response(policy_out(found[0]))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Delete one."""
        policy_id = path_id(request, "policy_id")
        if not await self._policies.delete(request[TENANT_KEY], policy_id):
            raise NotFoundError(f"there is no retention policy {policy_id}")
        return web.Response(status=204)

    async def proof(self, request: web.Request) -> web.StreamResponse:
        """What it has deleted; also of a policy that is deleted by now."""
        policy_id = path_id(request, "policy_id")
        limit, cursor = asked_page(request.query)
        if cursor and not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 19):
            raise BadRequestError("cursor: from the page before")
        below = int(cursor) if cursor else None
        found = await self._policies.proof(request[TENANT_KEY], policy_id, below, limit)
        cursor_out = next_cursor(limit, [str(one.run_id) for one in found])
        return json_response({"runs": [proof_out(one) for one in found], "cursor": cursor_out})


def policy_out(policy: Policy) -> dict[str, Any]:
    """A policy as the API shows it."""
    return {
        "policy_id": policy.policy_id,
        "delete_after": duration_text(policy.delete_after_seconds),
        "tool": own_tool_id(policy.tool_id) or None,
        "types": policy.types or None,
        "data_class": policy.data_class or None,
        "reason": policy.reason,
        "created_at": policy.created_at.isoformat() if policy.created_at else None,
        "updated_at": policy.updated_at.isoformat() if policy.updated_at else None,
    }


def proof_out(proof: Proof) -> dict[str, Any]:
    """A run as the API shows it."""
    return {
        "run_id": proof.run_id,
        "rule": proof.rule,
        "at": proof.at.isoformat(),
        "tier": proof.tier,
        "tool": own_tool_id(proof.tool_id),
        "deleted": proof.deleted,
        "first_event": proof.first_event,
        "last_event": proof.last_event,
        "ids_sha256": proof.ids_sha256,
    }
