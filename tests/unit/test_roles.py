"""What each role may do is said in one table, and nobody gives a key more than they have."""

import itertools
import re

import pytest
from aiohttp import web

from hookstream.app.errors import ForbiddenError, SettingsError
from hookstream.app.roles import KEY_ROLES, ROUTES, MissingRowError, Role, may, may_give
from hookstream.app.web.access import Caller
from hookstream.app.web.routes import check_routes


def routes_of(role: Role) -> set[str]:
    return {route for route, row in ROUTES.items() if row.anybody or role in row.roles}


def test_who_gives_a_key_may_all_that_its_holder_may() -> None:
    for own, given in itertools.product(Role, KEY_ROLES):
        if may_give(own, given):
            assert routes_of(given) <= routes_of(own), (own, given)
    assert not any(may_give(role, Role.ADMIN) for role in Role)
    assert not may_give(Role.OPERATOR, Role.OWNER)
    for role in (Role.DEVELOPER, Role.AUDITOR, Role.AGENT):
        assert not any(may_give(role, given) for given in Role), role


def test_the_installation_s_key_may_everything() -> None:
    assert routes_of(Role.ADMIN) == set(ROUTES)


def test_an_auditor_changes_nothing() -> None:
    # the registry compares and looks up schemas by POST
    asks = ("POST /registry/compatibility/", "POST /registry/subjects/{subject}")
    changing = {
        route
        for route in routes_of(Role.AUDITOR)
        if not ROUTES[route].anybody
        and not route.startswith("GET ")
        and not route.startswith(asks[0])
        and route != asks[1]
    }
    assert changing == set()


@pytest.mark.parametrize(
    "payload",
    [
        "GET /api/v1/events/{event_id}",
        "GET /api/v1/dead-letters/{letter_id}",
        "GET /api/v1/tools/{tool_id}/refusals/{refusal_id}",
        "POST /api/v1/templates/preview",
        "POST /api/v1/subscriptions/dry-run",
        "GET /contexts/{context_id}/updates",
        "* /mcp",
    ],
)
def test_an_auditor_reads_no_payloads(payload: str) -> None:
    assert payload not in routes_of(Role.AUDITOR)


def test_rows_are_written_as_the_router_has_them() -> None:
    for route in ROUTES:
        assert re.fullmatch(r"(GET|POST|PUT|PATCH|DELETE|OPTIONS|\*) /\S*", route), route
    assert may("HEAD", "/health") == may("GET", "/health")
    with pytest.raises(MissingRowError, match=r"app/roles\.py"):
        may("POST", "/health")


def test_a_route_without_a_row_is_refused_at_the_start() -> None:
    async def view(request: web.Request) -> web.Response:
        return web.Response()

    web_app = web.Application()
    web_app.add_routes([web.get("/health", view)])
    check_routes(web_app)
    web_app.add_routes([web.post("/api/v1/forgotten/{id}", view)])
    with pytest.raises(SettingsError, match="POST /api/v1/forgotten"):
        check_routes(web_app)


def test_each_role_gets_past_each_row_as_the_table_says() -> None:
    for (route, row), role in itertools.product(ROUTES.items(), Role):
        caller = Caller("t", frozenset() if role == Role.AGENT else None, b"k", role=role)
        try:
            caller.check_may(row)
        except ForbiddenError:
            allowed = False
        else:
            allowed = True
        assert allowed == (row.anybody or role in row.roles), (route, role)


def test_who_is_shown_what_was_sent_is_no_agent_developer_or_auditor() -> None:
    shown = {role for role in Role if Caller("t", role=role).sees_originals}
    assert shown == {Role.ADMIN, Role.OWNER, Role.OPERATOR}
