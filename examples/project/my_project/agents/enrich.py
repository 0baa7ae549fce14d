"""Adds the team of whoever did something: one question a person in five minutes."""

import os
import time
from collections.abc import AsyncIterator
from urllib.parse import quote

import aiohttp

from hookstream import Event, app, stage
from my_project.people import login_of

#: `GET PEOPLE_URL/people/LOGIN` answers `{"team": "payments"}`, or 404.
SERVICE = os.environ.get("PEOPLE_URL", "http://127.0.0.1:8080")
CACHE_SECONDS = 300.0
CACHE_MAX = 10_000

SESSION: aiohttp.ClientSession
#: Login → until when (monotonic) its team is taken from here, and the team ("": in none).
teams: dict[str, tuple[float, str]] = {}


@app.lifespan
async def session() -> AsyncIterator[None]:
    """Opened before a worker's first event, closed after its last one."""
    global SESSION
    async with aiohttp.ClientSession() as SESSION:
        yield


@stage(after="dedupe", concurrency=20, timeout=5)
async def enrich(event: Event) -> Event | None:
    """An event whose person cannot be looked up is tried again later: the service is away."""
    login = login_of(event)
    team = await team_of(login) if login else ""
    return event.enrich(team=team) if team else event


async def team_of(login: str) -> str:
    """The team that the service knows for a person; "" where it knows none."""
    until, team = teams.get(login, (0.0, ""))
    if until > time.monotonic():
        return team
    async with SESSION.get(f"{SERVICE}/people/{quote(login, safe='')}") as answer:
        if answer.status != 404:
            answer.raise_for_status()
            team = str((await answer.json())["team"])
        else:
            team = ""
    if len(teams) >= CACHE_MAX:
        # the oldest one
        del teams[next(iter(teams))]
    teams[login] = (time.monotonic() + CACHE_SECONDS, team)
    return team
