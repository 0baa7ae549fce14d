"""A port for operators beside the public one, with several receiver processes."""

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.stack import Stack, eventually, free_port, fresh


def free_ports() -> int:
    """The first of two free ports in a row."""
    while True:
        first = free_port()
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", first + 1))
            except OSError:
                continue
            return first


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A system of two receiver processes whose operators have ports of their own."""
    with Stack(
        tmp_path_factory.mktemp("split"),
        HOOKSTREAM_ADMIN_PORT=str(free_ports()),
        HOOKSTREAM_RECEIVER_PROCESSES="2",
    ) as running:

        async def both() -> bool:
            return all([await is_ready(running, url) for url in admin_urls(running)])

        asyncio.run(eventually(both, "both processes are ready"))
        yield running


def admin_urls(stack: Stack) -> list[str]:
    """The operators' port of each receiver process."""
    return [f"http://127.0.0.1:{stack.api_port + number}" for number in range(2)]


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
        for url in admin_urls(split):
            assert (await ask(split, url, path))[0] == 200


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
    for url in (split.url, *admin_urls(split)):
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
    for url in admin_urls(split):
        for method in ("POST", "GET"):
            status, answer = await ask(split, url, f"/hooks/{name}", method)
            assert status == 404
            assert "HOOKSTREAM_WEB_PORT" in answer["detail"]


async def test_each_process_counts_for_itself_and_together_they_have_all(
    split: Stack, name: str
) -> None:
    await split.put(f"/tools/{name}", {"provider": "github", "secrets": ["nobody sends it"]})
    for _ in range(60):
        assert (await ask(split, split.url, f"/hooks/{name}", "POST", key=False))[0] == 401
    counts = []
    for url in admin_urls(split):
        async with aiohttp.ClientSession(url) as session, fresh(session, "/metrics") as answer:
            text = await answer.text()
        mark = f'hookstream_refusals_total{{reason="bad-signature",tool="{name}"}} '
        lines = [line for line in text.splitlines() if line.startswith(mark)]
        counts.append(sum(float(line.removeprefix(mark)) for line in lines))
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
    assert api in admin_urls(split)
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


async def test_a_process_that_is_started_again_has_its_port_again(split: Stack) -> None:
    [first, second] = admin_urls(split)
    victim = next(
        process
        for process in split.processes()
        if process.environ().get("HOOKSTREAM_ADMIN_PORT") == second.rpartition(":")[2]
        and "receive" in process.cmdline()
    )
    victim.kill()

    victim.wait(10)

    async def back() -> bool:
        return await is_ready(split, second)

    await eventually(back, "the second process is back")
    assert await is_ready(split, first)


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


async def test_processes_that_share_their_metrics_say_so(split: Stack, tmp_path: Path) -> None:
    port = str(free_port())
    process = split.another(
        tmp_path / "shared",
        *("receive", "--processes", "2"),
        HOOKSTREAM_ADMIN_PORT="0",
        HOOKSTREAM_WEB_PORT=port,
    )
    try:

        async def said() -> bool:
            log = (tmp_path / "shared" / "process.log").read_text()
            return "2 processes share one port" in log and "Set HOOKSTREAM_ADMIN_PORT" in log

        await eventually(said, "it is said")

        async def serves() -> bool:
            return await is_ready(split, f"http://127.0.0.1:{port}")

        await eventually(serves, "and they serve all the same")
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        (("up",), 78, "HOOKSTREAM_ADMIN_PORT"),
        (("receive", "--processes", "2"), 78, "HOOKSTREAM_ADMIN_PORT: 2 processes"),
        (("receive", "--processes", "0"), 2, "--processes: at least 1"),
    ],
)
def test_more_processes_than_there_are_ports_are_refused(
    tmp_path: Path, command: tuple[str, ...], status: int, says: str
) -> None:
    stack = Stack(tmp_path, HOOKSTREAM_ADMIN_PORT="65535", HOOKSTREAM_RECEIVER_PROCESSES="2")
    done = subprocess.run(
        stack.command(*command), env=stack.environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == status, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
