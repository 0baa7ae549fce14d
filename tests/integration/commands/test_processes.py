"""Several receivers and workers of one command: one scrape, one health, one shutdown."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from hookstream.app import embedded
from tests.support.stack import Stack, eventually, free_port, fresh, own_stages

NAMES = {"receiver-1", "receiver-2", "worker-1", "worker-2"}
EVENTS = 40
PAGE = (
    "import os\n\nfrom hookstream import app\n\n\n"
    "@app.page('/who')\nasync def who(page, request):\n    return page.text(str(os.getpid()))\n"
)
SAMPLE = re.compile(r'(\w+)\{process="([\w-]+)"(?:,([^}]*))?\} (\S+)')


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`hookstream up` with two receivers and two workers."""
    folder = tmp_path_factory.mktemp("several")
    with Stack(
        folder,
        **own_stages(folder, "pages_of_many", PAGE),
        HOOKSTREAM_RECEIVER_PROCESSES="2",
        HOOKSTREAM_WORKER_PROCESSES="2",
    ) as running:
        yield running


async def health_of(stack: Stack, port: int, query: str = "") -> dict[str, Any]:
    url = f"http://127.0.0.1:{port}/health{query}"
    async with aiohttp.ClientSession() as session, fresh(session, url) as answer:
        return dict(await answer.json())


async def all_are_well(stack: Stack) -> dict[str, int]:
    """Wait for all four, with all partitions owned; returns their process ids."""

    async def well() -> dict[str, int] | None:
        health = await health_of(stack, stack.port)
        owned = health["parts"].get("partitions", {}).get("owned")
        if health["status"] != "ok" or owned != 8:
            return None
        found = health["processes"].items()
        return {name: each["parts"]["event_loop"]["pid"] for name, each in found}

    pids: dict[str, int] = await eventually(well, "all processes are well", 90)
    return pids


async def test_one_health_tells_of_all_whichever_port_is_asked(several: Stack) -> None:
    pids = await all_are_well(several)
    assert set(pids) == NAMES
    assert len(set(pids.values())) == 4
    for port in (several.port, several.worker_port):
        health = await health_of(several, port)
        assert set(health["processes"]) == NAMES
        assert "spool" in health["parts"], "of receivers"
        assert health["parts"]["partitions"]["owned"] == 8, "of both workers together"
        own = await health_of(several, port, "?processes=own")
        assert "processes" not in own


async def test_one_scrape_has_the_counts_of_all(several: Stack, name: str) -> None:
    await all_are_well(several)
    for number in range(8):
        await several.context(f"{name}-{number}", {"provider": "none"})
    for number in range(EVENTS):
        await several.hook(f"{name}-{number % 8}", json.dumps({"number": number}).encode())
    for number in range(8):
        assert len(await several.updates(f"{name}-{number}", EVENTS // 8)) == EVENTS // 8
    for port in (several.port, several.worker_port):
        url = f"http://127.0.0.1:{port}/metrics"
        async with aiohttp.ClientSession() as session, fresh(session, url) as answer:
            text = await answer.text()
        counts: dict[str, dict[str, float]] = {}
        for metric, process, labels, value in SAMPLE.findall(text):
            if labels in ("", 'provider="none",status="202"', 'status="accepted"'):
                counts.setdefault(metric, {})[process] = float(value)
        received = counts["hookstream_requests_total"]
        assert sum(received.values()) == EVENTS
        assert set(received) == {"receiver-1", "receiver-2"}, "the kernel gives both connections"
        assert counts["hookstream_process_up"] == dict.fromkeys(NAMES, 1.0)
        owned = counts["hookstream_partitions_owned"]
        assert owned["worker-1"] + owned["worker-2"] == 8
        # what Redis is asked for is the same in each: once, without a process
        assert text.count("\nhookstream_workers 2.0\n") == 1
        assert text.count("# TYPE hookstream_requests_total counter") == 1


async def test_workers_have_tables_of_their_own_and_one_key(several: Stack) -> None:
    await all_are_well(several)
    state = several.state_dir / "state"
    ids = {(folder / "worker-id").read_text() for folder in (state, state / "workers" / "2")}
    assert len(ids) == 2
    tables = [{path.name for path in (folder / "tables").iterdir()} for folder in
              (state, state / "workers" / "2")]  # fmt: skip
    assert all(tables)
    assert not (state / "workers" / "2" / "admin.key").exists()


async def test_the_page_of_one_worker_can_be_asked_for(several: Stack) -> None:
    pids = await all_are_well(several)
    url = f"http://127.0.0.1:{several.worker_port}/who"
    async with aiohttp.ClientSession(headers=several.headers) as session:
        for process in ("worker-1", "worker-2"):
            async with session.get(url, params={"process": process}) as answer:
                assert await answer.text() == str(pids[process])
        async with session.get(url, params={"process": "worker-3"}) as answer:
            assert answer.status == 404
    async with (
        aiohttp.ClientSession() as stranger,
        stranger.get(url, params={"process": "worker-2"}) as answer,
    ):
        assert answer.status == 401


async def test_a_process_that_dies_is_told_and_started_again(several: Stack) -> None:
    # the port of the other kind is asked: of its own, the kernel gives it half of the connections
    for name, port in (("worker-2", several.port), ("receiver-1", several.worker_port)):
        pids = await all_are_well(several)
        psutil.Process(pids[name]).suspend()
        try:
            health = await health_of(several, port, "?processes=all")
            degraded = health["processes"][name]
        finally:
            psutil.Process(pids[name]).kill()
        assert degraded == {"status": "down", "detail": "this process does not answer"}
        assert health["status"] == "degraded"
        again = await all_are_well(several)
        assert again[name] != pids[name]
        assert {other: pid for other, pid in again.items() if other != name} == {
            other: pid for other, pid in pids.items() if other != name
        }
        said = several.log.read_text()
        assert f"{name} ended with SIGKILL; starting it again in 0.2 s" in said


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_one_signal_stops_all_of_a_command(
    several: Stack, tmp_path: Path, how: signal.Signals
) -> None:
    """Workers beside those of the system, by `hookstream worker --processes`."""
    port = free_port()
    state = several.state_dir / "state"
    environment = several.environment() | {
        "HOOKSTREAM_STATE_DIR": str(tmp_path / "more"),
        "HOOKSTREAM_REDIS_URL": embedded.find_valkey(state) or "",
        "HOOKSTREAM_POSTGRES_URL": embedded.find_postgres(state) or "",
    }
    with (tmp_path / "log").open("wb") as log:
        command = subprocess.Popen(
            several.command("--quiet", "worker", "--processes", "3", "--web-port", str(port)),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:

        async def are_up() -> bool:
            try:
                health = await health_of(several, port)
            except aiohttp.ClientError:
                return False
            return {each["status"] for each in health["processes"].values()} == {"ok"}

        await eventually(are_up, "three workers are up", 90)
        assert set((await health_of(several, port))["processes"]) == {
            "worker-1", "worker-2", "worker-3",
        }  # fmt: skip
        family = psutil.Process(command.pid).children(recursive=True)
        command.send_signal(how)
        assert await asyncio.to_thread(command.wait, 30) == 0, (tmp_path / "log").read_text()
        assert not any(process.is_running() for process in family)
    finally:
        command.kill()
        command.wait()
    await all_are_well(several)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("up", "--workers", "0"), "--workers: at least 1"),
        (("up", "--receivers=65"), "--receivers: at least 1, and at most 64"),
        (("worker", "--processes", "0"), "--processes: at least 1"),
        (("receive", "--processes", "65"), "--processes: at least 1, and at most 64"),
    ],
)
def test_numbers_out_of_bounds_are_a_sentence(
    tmp_path: Path, command: tuple[str, ...], says: str
) -> None:
    stack = Stack(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "hookstream.app.cli", *command],
        env=stack.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
