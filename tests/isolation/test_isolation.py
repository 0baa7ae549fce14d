"""Tenants are apart: in every route, and the suite that says so notices where they are not."""

import asyncio
import secrets
from typing import Any

import aiohttp
import pytest

from hookstream.app.roles import KEY_ROLES, ROUTES, Role
from tests.isolation.calls import CannotFillError, absent, calls
from tests.isolation.suite import Somebody, Watch, run, try_all
from tests.isolation.tenants import make_tenant, unmake_tenant
from tests.isolation.things import Client, Things, make_things
from tests.support.stack import Stack

THINGS = Things(
    "tenant-a",
    "canary1",
    {
        name: f"canary1-{name}"
        for name in (
            "tenant", "tool_id", "signed_tool_id", "context_id", "event_id", "letter_id",
            "replay_id", "refusal_id", "key_id", "agent_key_id", "subscription", "template",
            "subject", "schema_id", "seq", "erasure_id", "hold_id", "policy_id",
            "import_id",
        )
    },
)  # fmt: skip


async def test_nothing_of_one_tenant_reaches_another(stack: Stack) -> None:
    report = await run(stack)
    print("\n".join(report.table()))
    assert report.leaks == []
    assert report.changed == []
    assert report.missing == set()


async def test_the_suite_notices_who_reads_and_changes(stack: Stack) -> None:
    """Tried by the tenant itself: all that it should not see as another one is found."""
    a = await make_tenant(stack, f"tenant-a{secrets.token_hex(6)}")
    try:
        things = await make_things(stack, a, f"canary{secrets.token_hex(6)}")
        report = await try_all(stack, things, absent(things), [Somebody("owner", [a.key])])
        leaking = {route for route, row in report.cells.items() if row["owner"].leaks}
        for route in (
            "GET /api/v1/tools",
            "GET /api/v1/events",
            "GET /api/v1/events/{event_id}",
            "GET /api/v1/contexts/{context_id}/digest",
            "GET /api/v1/dead-letters",
            "GET /api/v1/audit/export",
            "GET /registry/subjects",
            "GET /contexts/{context_id}/updates",
            "* /mcp",
        ):
            assert route in leaking, route
        assert {name for name in report.changed if name.startswith("table ")} >= {
            "table tools",
            "table contexts",
            "table audit_trail",
        }
        assert any(name.startswith("in key ") and "acks" in name for name in report.changed)
        assert any(name.startswith("key ") and ":letter:" in name for name in report.changed)
    finally:
        await unmake_tenant(stack, a)


def test_what_was_sent_may_come_back_and_nothing_else() -> None:
    watch = Watch(THINGS)
    assert watch.leaks("there is no tool canary1-tool_id", ["canary1-tool_id"]) == []
    assert watch.leaks("it is called canary1 tool", ["canary1-tool_id"]) == ["canary1"]


def test_a_parameter_that_is_new_has_to_be_told_of() -> None:
    def document(parameter: dict[str, Any]) -> dict[str, Any]:
        return {"paths": {"/api/v1/quotas": {"get": {"parameters": [parameter]}}}}

    known = {"name": "limit", "in": "query"}
    assert list(calls(document(known), THINGS))
    with pytest.raises(CannotFillError, match=r"/api/v1/quotas: .* what 'neighbour' is"):
        list(calls(document({**known, "name": "neighbour"}), THINGS))


def test_twins_are_the_same_calls_with_ids_that_nobody_has() -> None:
    document: dict[str, Any] = {"paths": {}}
    twins = list(calls(document, absent(THINGS)))
    assert [(call.route, call.query) for call in calls(document, THINGS)] == [
        (twin.route, twin.query) for twin in twins
    ]
    assert not any("canary1-tool_id" in twin.path for twin in twins)


async def test_each_role_may_what_the_table_says_on_the_real_routes(stack: Stack) -> None:
    """403 is what a role may not; whatever else is answered, it was let in."""
    tenant = await make_tenant(stack, f"tenant-r{secrets.token_hex(6)}")
    try:
        own = Client(stack, tenant.key)
        await own.call("PUT", "/api/v1/contexts/mine", {"name": "mine"})
        keys = {}
        for role in KEY_ROLES:
            contexts = ["mine"] if role == Role.AGENT else []
            made = {"role": role, "contexts": contexts, "name": role}
            keys[role] = (await own.call("POST", "/api/v1/api-keys", made))["key"]
        nobodys = absent(THINGS)
        nobodys.ids["context_id"] = "mine"
        async with aiohttp.ClientSession(stack.url) as session:
            for route, may in ROUTES.items():
                method, path = route.split(" ", 1)
                method = "POST" if method == "*" else method
                url = path.format_map(_Ids(nobodys.ids))
                if route == "DELETE /api/v1/contexts/{context_id}":
                    continue
                query = "?context=mine" if path == "/api/v1/events" else ""
                who = ["", *keys.values()]
                answers = await asyncio.gather(
                    *(status_of(session, method, url + query, key) for key in who)
                )
                statuses = dict(zip(("nobody", *keys), answers, strict=True))
                for role in KEY_ROLES:
                    allowed = may.anybody or role in may.roles
                    assert (statuses[role] != 403) == allowed, (route, role, statuses)
                # without a signature a webhook is refused by 401, too
                if not may.anybody:
                    assert statuses["nobody"] == 401, route
        # the one that was left out changes what all others are tried on
        for role in reversed(KEY_ROLES):
            headers = {"Authorization": f"Bearer {keys[role]}"}
            path = "/api/v1/contexts/mine"
            async with (
                aiohttp.ClientSession(stack.url, headers=headers) as session,
                session.delete(path) as response,
            ):
                may = ROUTES["DELETE /api/v1/contexts/{context_id}"]
                assert (response.status not in (401, 403)) == (role in may.roles), role
    finally:
        await unmake_tenant(stack, tenant)


async def status_of(session: aiohttp.ClientSession, method: str, url: str, key: str) -> int:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with session.request(method, url, headers=headers) as response:
        return response.status


class _Ids(dict[str, str]):
    """Anything for a parameter that is not known: it is let in or not before it is looked at."""

    def __missing__(self, name: str) -> str:
        return "1"
