"""A port for operators beside the public one, with several receiver processes."""

import asyncio
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from tests.support.stack import Stack, eventually, free_port, fresh


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A system of two receiver processes whose operators have a port of their own."""
    with Stack(
        tmp_path_factory.mktemp("split"),
        HOOKSTREAM_ADMIN_PORT=str(free_port()),
        HOOKSTREAM_RECEIVER_PROCESSES="2",
    ) as running:

        async def both() -> bool:
            _, health = await ask(running, running.api_url, "/health")
            return {each["status"] for each in health["processes"].values()} == {"ok"}

        asyncio.run(eventually(both, "both processes are ready"))
        yield running


async def ask(
    stack: Stack, url: str, path: str, method: str = "GET", key: bool = True
) -> tuple[int, Any]:
    """Status and JSON, else text, of an answer; over a connection of its own."""
    headers = stack.headers if key else {}
    async with (
        aiohttp.ClientSession(url, headers=headers) as session,
        session.request(method, path, data=b"{}" if method == "POST" else None) as response,
    ):
        if response.content_type.endswith("json"):
            return response.status, await response.json()
        return response.status, await response.text()


async def is_ready(stack: Stack, url: str) -> bool:
    try:
        return (await ask(stack, url, "/health/ready"))[0] == 200
    except aiohttp.ClientError:
        return False


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "/health",
        "/health/ready",
        "/api/v1/tools",
        "/api/v1/openapi.json",
        "/registry/subjects",
        "/",
        "/console.js",
        "/console/erasures",
        "/nothing",
        "/hooks/x/y",
        "/contexts/x/updates/y",
    ],
)
async def test_the_public_port_has_nothing_for_operators(split: Stack, path: str) -> None:
    for key in (True, False):
        status, answer = await ask(split, split.url, path, key=key)
        assert status == 404
        if not path.startswith("/hooks/"):
            assert "operators' port (HOOKSTREAM_ADMIN_PORT)" in answer["detail"]
    if path in ("/metrics", "/health", "/health/ready", "/api/v1/tools", "/", "/registry/subjects"):
        assert (await ask(split, split.api_url, path))[0] == 200


async def test_the_public_port_has_webhooks_feeds_mcp_and_a_bare_liveness(
    split: Stack, name: str
) -> None:
    await split.context(name, {"provider": "none"})

    async def routed() -> str:
        """An event's id: the other process hears of a subscription a moment later."""
        event_id = await split.hook(name, os.urandom(8).hex().encode())

        async def recorded() -> bool:
            return (await split.get(f"/events/{event_id}"))["status"] != "accepted"

        await eventually(recorded, "it is recorded")
        status = (await split.get(f"/events/{event_id}"))["status"]
        return event_id if status == "delivered" else ""

    event_id = await eventually(routed, "its subscription is known")
    for url in (split.url, split.api_url):
        async with (
            aiohttp.ClientSession(url, headers=split.headers) as session,
            session.ws_connect(f"/contexts/{name}/updates?after=0") as websocket,
        ):
            assert (await websocket.receive_json(timeout=30))["event_id"] == event_id
        assert await ask(split, url, "/health/live", key=False) == (200, {"status": "ok"})
        assert (await ask(split, url, "/mcp", "POST", key=False))[0] == 401
    assert (await ask(split, split.url, f"/hooks/{name}", "GET"))[0] == 405


async def test_webhooks_are_not_taken_on_the_operators_port(split: Stack, name: str) -> None:
    await split.put(f"/tools/{name}", {"provider": "none"})
    for method in ("POST", "GET"):
        status, answer = await ask(split, split.api_url, f"/hooks/{name}", method)
        assert status == 404
        assert "HOOKSTREAM_WEB_PORT" in answer["detail"]


async def test_one_scrape_of_the_operators_port_has_the_counts_of_all(
    split: Stack, name: str
) -> None:
    await split.put(f"/tools/{name}", {"provider": "github", "secrets": ["nobody sends it"]})
    for _ in range(60):
        assert (await ask(split, split.url, f"/hooks/{name}", "POST", key=False))[0] == 401
    async with aiohttp.ClientSession(split.api_url) as session, fresh(session, "/metrics") as got:
        text = await got.text()
    counts = []
    for process in ("receiver-1", "receiver-2"):
        labels = f'process="{process}",reason="bad-signature",tool="{name}"'
        [line] = re.findall(rf"^hookstream_refusals_total\{{{labels}\}} (\S+)$", text, re.M)
        counts.append(float(line))
    assert sum(counts) == 60
    assert all(counts), "the kernel gives both of them connections"


async def test_the_worker_is_on_the_operators_side(split: Stack) -> None:
    url = f"http://127.0.0.1:{split.worker_port}"
    assert (await ask(split, url, "/metrics"))[0] == 200
    assert (await ask(split, url, "/health/ready"))[0] == 200


async def test_commands_find_both_ports_by_the_state_folder(split: Stack, name: str) -> None:
    await split.put(f"/tools/{name}", {"provider": "none"})
    state = split.state_dir / "state"
    api, hooks = (state / "address").read_text().split()
    assert api == split.api_url
    assert hooks == split.url
    unnamed = {
        key: value
        for key, value in split.environment().items()
        if key not in ("HOOKSTREAM_WEB_PORT", "HOOKSTREAM_WORKER_WEB_PORT", "HOOKSTREAM_ADMIN_PORT")
    }
    payload = split.state_dir / "payload.json"
    payload.write_text("{}")
    send = ("send", "none", str(payload), "--tool", name)
    for environment in (unnamed, split.environment()):
        for command in (("dead", "list"), send):
            done = subprocess.run(
                split.command(*command), env=environment, capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0, done.stderr


def test_a_port_that_is_taken_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        stack = Stack(tmp_path_factory.mktemp("taken"), HOOKSTREAM_ADMIN_PORT=port)
        done = subprocess.run(
            stack.command("up"), env=stack.environment(), capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 78
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Set HOOKSTREAM_ADMIN_PORT to another port, or HOOKSTREAM_ADMIN_HOST" in done.stderr
