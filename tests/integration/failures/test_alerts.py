"""Alerts: signed, once a window, sent again until taken, never into the operator's network."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from tests.support.fragile import Fragile
from tests.support.stack import eventually, free_port, fresh

SECRET = "whsec_" + "c2VjcmV0" * 4


class Endpoint:
    """An operator's endpoint; ``answers`` are the statuses of the next posts, then 204."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.seen: list[tuple[int, dict[str, str], bytes]] = []
        self.port = free_port()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["Endpoint"]:
        server = web.Application()
        server.router.add_route("*", "/{tail:.*}", self._take)
        runner = web.AppRunner(server)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        status = self.answers.pop(0) if self.answers else 204
        self.seen.append((status, dict(request.headers), await request.read()))
        return web.Response(status=status, headers={"Location": "/elsewhere"})


def fragile(tmp_path: Path, endpoint: Endpoint, **settings: str) -> Fragile:
    return Fragile(
        tmp_path,
        HOOKSTREAM_ALERT_URL=f"http://127.0.0.1:{endpoint.port}/alerts",
        HOOKSTREAM_ALERT_SECRET=SECRET,
        HOOKSTREAM_ALERT_ALLOW_PRIVATE="true",
        HOOKSTREAM_ALERT_FAILURES="3",
        **settings,
    )


async def test_repeated_failures_are_told_once_signed_and_until_taken(tmp_path: Path) -> None:
    async with Endpoint(503, 302).serve() as endpoint:
        with fragile(tmp_path, endpoint) as stack:
            await stack.context("bad", {"provider": "none"})
            await stack.context("quiet", {"provider": "none", "alert": {"failures": 0}})
            await stack.context("good", {"provider": "none"})
            shown = await stack.get("/tools/quiet")
            assert shown["alert"] == {"failures": 0}
            for n in range(3):
                await stack.post("good", n)
                await stack.post("quiet", n, poison="quiet")
                await stack.post("bad", n, poison="personal-data")

            async def taken() -> bool:
                return any(status == 204 for status, _, _ in endpoint.seen)

            await eventually(taken, "the alert is taken")
            assert [status for status, _, _ in endpoint.seen] == [503, 302, 204]
            _, headers, body = endpoint.seen[-1]
            Webhook(SECRET).verify(body, {name.lower(): value for name, value in headers.items()})
            told = json.loads(body)
            assert told["type"] == "tool.failing"
            assert told["data"]["tool_id"] == "bad"
            assert told["data"]["failures"] >= 3
            assert told["data"]["stage"] == "fragile"
            assert b"personal-data" not in body
            # a redirect was not followed, and it was one and the same alert
            assert len({headers["webhook-id"] for _, headers, _ in endpoint.seen}) == 1
            url = f"http://127.0.0.1:{stack.worker_port}/metrics"
            async with aiohttp.ClientSession() as session, fresh(session, url) as answer:
                text = await answer.text()
            assert 'hookstream_tool_failing{tool="bad"}' in text
            assert 'hookstream_tool_failing{tool="quiet"}' not in text
            assert 'hookstream_alerts_sent_total{result="ok"} 1.0' in text


async def test_alert_waits_for_a_dead_endpoint_and_its_breaker_shows(tmp_path: Path) -> None:
    endpoint = Endpoint()
    with fragile(tmp_path, endpoint) as stack:
        await stack.context("bad", {"provider": "none"})
        for n in range(4):
            await stack.post("bad", n, poison="x")

        async def parts() -> dict[str, Any]:
            url = f"http://127.0.0.1:{stack.worker_port}/health"
            async with aiohttp.ClientSession() as session, session.get(url) as answer:
                return dict((await answer.json())["parts"])

        async def open_() -> bool:
            return bool((await parts())["alerts"]["endpoint"] == "open")

        await eventually(open_, "the endpoint's breaker opens", 60)
        # a worker that is killed forgets no queued alert
        stack.find("worker").kill()
        async with endpoint.serve():

            async def taken() -> bool:
                return bool(endpoint.seen)

            await eventually(taken, "the alert is taken", 90)
