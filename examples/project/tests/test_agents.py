"""Without a server of Hookstream's."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from my_project.agents import enrich as enriching
from my_project.agents.builds import by_build
from my_project.agents.drop_bots import drop_bots
from my_project.agents.enrich import enrich, session

from hookstream import Event
from hookstream.testing import find_duplicates, make_event, run_stage, stage_results


def by(login: str) -> Event:
    return make_event({"sender": {"login": login}})


def test_a_build_is_told_once() -> None:
    first, again = make_event({"build": 1}), make_event({"build": 1}, number=1)
    assert find_duplicates(by_build, [first, again]) == [None, first]


def test_what_bots_did_is_dropped() -> None:
    person, nobody = by("ada"), make_event(["no", "sender"])
    assert run_stage(drop_bots, [by("dependabot[bot]"), person, nobody]) == [None, person, nobody]


def test_a_person_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Counter[str] = Counter()

    async def person(request: web.Request) -> web.Response:
        login = request.match_info["login"]
        asked[login] += 1
        if login == "nobody":
            raise web.HTTPNotFound
        return web.json_response({"team": f"team of {login}"})

    async def look_up() -> list[str | None]:
        service = web.Application()
        service.router.add_get("/people/{login}", person)
        async with TestServer(service, host="127.0.0.1") as server, asynccontextmanager(session)():
            monkeypatch.setattr(enriching, "SERVICE", str(server.make_url("")).rstrip("/"))
            events = [by(login) for login in ("ada", "a/b", "nobody", "", "ada", "nobody")]
            found = await stage_results(enrich, events)
        return [event.enrichment.get("team") if event else None for event in found]

    teams = asyncio.run(look_up())
    assert teams == ["team of ada", "team of a/b", None, None, "team of ada", None]
    assert asked == {"ada": 1, "a/b": 1, "nobody": 1}
