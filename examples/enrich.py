"""A stage that looks something up: one client for as long as the worker runs, twenty at a time."""

import os
from collections.abc import AsyncIterator

import aiohttp

from hookstream import Event, app

SERVICE = os.environ.get("PEOPLE_URL", "http://127.0.0.1:8080")
SESSION: aiohttp.ClientSession


@app.lifespan
async def session() -> AsyncIterator[None]:
    """Opened before a worker's first event, closed after its last one."""
    global SESSION
    async with aiohttp.ClientSession(raise_for_status=True) as SESSION:
        yield


@app.stage(after="dedupe", concurrency=20, timeout=5)
async def enrich(event: Event) -> Event | None:
    """Adds the team that a service knows for a tool."""
    async with SESSION.get(f"{SERVICE}/teams/{event.tool_id}") as answer:
        return event.enrich(team=await answer.text())
