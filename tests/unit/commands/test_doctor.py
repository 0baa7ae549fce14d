"""What ``hookstream doctor`` asks for, of an API that has more than fits on a page."""

import io
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from hookstream.app.commands.doctor import doctor
from hookstream.app.errors import HookstreamError
from hookstream.app.settings import Settings

CONTEXTS = [f"c{n}" for n in range(120)]


async def contexts(request: web.Request) -> web.Response:
    """Fifty a page, whoever asks for more."""
    start = int(request.query.get("cursor") or 0)
    page = [{"context_id": name} for name in CONTEXTS[start : start + 50]]
    after = start + 50
    return web.json_response(
        {"contexts": page, "cursor": str(after) if after < len(CONTEXTS) else None}
    )


async def lost(request: web.Request) -> web.Response:
    """One update, of the last context."""
    rows = [{"tool_id": "t", "event_id": "e", "received_at": "2026-11-29T12:00:00Z"}]
    found = rows if request.query["context"] == CONTEXTS[-1] else []
    return web.json_response({"deliveries": found, "cursor": None})


async def none(request: web.Request) -> web.Response:
    return web.json_response({"events": [], "cursor": None})


async def health(request: web.Request) -> web.Response:
    return web.json_response({"parts": {}})


def command(tmp_path: Path) -> Any:
    made = object.__new__(doctor)
    key = "a-key-of-this-test-alone"
    made.settings = Settings(state_dir=tmp_path, admin_key=key)
    made.stdout = io.StringIO()
    return made


async def test_every_context_is_looked_at_not_only_the_first_page(tmp_path: Path) -> None:
    served = web.Application()
    served.add_routes(
        [
            web.get("/api/v1/contexts", contexts),
            web.get("/api/v1/losses/deliveries", lost),
            web.get("/api/v1/losses/events", none),
            web.get("/health", health),
        ]
    )
    asked = command(tmp_path)
    async with TestServer(served, host="127.0.0.1") as server:
        assert await asked._run(as_json=False, url=str(server.make_url(""))) == 1
    assert "c119" in asked.stdout.getvalue()


@pytest.mark.parametrize("body", ["<html>", "[]", '{"status": "ok"}'])
async def test_what_is_not_hookstreams_health_is_a_sentence(tmp_path: Path, body: str) -> None:
    async def another(request: web.Request) -> web.Response:
        return web.Response(text=body)

    served = web.Application()
    served.add_routes([web.get("/health", another)])
    async with TestServer(served, host="127.0.0.1") as server:
        with pytest.raises(HookstreamError, match="is not what Hookstream says"):
            await command(tmp_path)._look(as_json=False, url=str(server.make_url("")))
