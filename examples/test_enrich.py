"""The stage against a real server: its client is the lifespan's."""

from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from examples import enrich
from hookstream.testing import make_event, stage_results


async def test_the_team_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def team(request: web.Request) -> web.Response:
        return web.Response(text=f"team of {request.match_info['tool']}")

    service = web.Application()
    service.router.add_get("/teams/{tool}", team)
    async with TestServer(service) as server, asynccontextmanager(enrich.session)():
        monkeypatch.setattr(enrich, "SERVICE", str(server.make_url("")).rstrip("/"))
        events = [make_event({}, tool_id=name, number=n) for n, name in enumerate("ab")]
        found = await stage_results(enrich.enrich, events)
    assert [event and event.enrichment["team"] for event in found] == ["team of a", "team of b"]
