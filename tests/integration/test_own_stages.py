"""What a stream developer's own modules may do to a running system, and what they may not."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.stack import Stack, eventually, own_stages

STAGES = """
import os
from pathlib import Path

from hookstream import Event, app

SEEN = Path({folder!r})
lost = app.stream_channel("lost", codec="json")


@app.stage(after="dedupe")
async def trips(event: Event) -> Event | None:
    if b"trip" in event.payload:
        secret = event.payload
        raise KeyError("nope")
    if b"leave" in event.payload:
        raise SystemExit(3)
    if b"forget" in event.payload:
        lost.send(key="x", value=1)
    return event


@app.timer(0.2)
async def ticks() -> None:
    with (SEEN / "ticks").open("a") as file:
        file.write(f"{{os.getpid()}}\\n")
    raise ValueError("a timer's own trouble")


@app.timer(0.2, on_leader=True)
async def leads() -> None:
    with (SEEN / "leads").open("a") as file:
        file.write(f"{{os.getpid()}}\\n")
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("own")
    with Stack(
        folder,
        **own_stages(folder, "trying_stages", STAGES.format(folder=str(folder))),
        HOOKSTREAM_RETRY_MAX_ATTEMPTS="1",
    ) as running:
        yield running


def processes(file: Path) -> set[int]:
    return {int(line) for line in file.read_text().split()} if file.exists() else set()


async def test_timers_run_in_the_worker_and_their_trouble_ends_nothing(
    own: Stack, name: str
) -> None:
    await own.context(name, {"provider": "none"})

    async def both() -> bool:
        ticked = (own.state_dir / "ticks").exists()
        return ticked and (own.state_dir / "leads").exists()

    await eventually(both, "timers run")
    await own.hook(name, b'{"n": 1}')
    [update] = await own.updates(name, 1)
    assert update["seq"] == 1
    worker = own.find("worker").pid
    assert processes(own.state_dir / "ticks") == processes(own.state_dir / "leads") == {worker}
    assert "a timer's own trouble" in own.log.read_text()


async def test_a_failing_stage_leaves_its_traceback(own: Stack, name: str) -> None:
    await own.context(name, {"provider": "none"})
    event_id = await own.hook(name, b'{"trip": "secret words"}')

    async def dead() -> bool:
        path = f"/api/v1/dead-letters/{event_id}"
        async with own.session() as session, session.get(path) as answer:
            return answer.status == 200 and (await answer.json())["state"] == "dead"

    await eventually(dead, "it is a dead letter")
    shown = await own.get(f"/dead-letters/{event_id}")
    assert shown["error"] == "KeyError: 'nope'"
    assert "trying_stages.py" in shown["traceback"]
    assert 'raise KeyError("nope")' in shown["traceback"]
    assert "secret words" not in shown["traceback"]
    done = await asyncio.to_thread(
        subprocess.run,
        own.command("dead", "show", event_id, "--url", own.url),
        capture_output=True,
        text=True,
        env=own.environment(),
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    lines = json.loads(done.stdout)["traceback"]
    assert lines == shown["traceback"].splitlines()
    assert '    raise KeyError("nope")' in lines
    log = own.log.read_text()
    assert log.count("the stage 'trips' (") == 1
    assert '"name": "trips"' in log


async def test_a_stage_that_ends_itself_ends_neither_worker_nor_partition(
    own: Stack, name: str
) -> None:
    await own.context(name, {"provider": "none"})
    worker = own.find("worker").pid
    left = await own.hook(name, b'{"leave": 1}')
    forgotten = await own.hook(name, b'{"forget": 1}')
    [update] = await own.updates(name, 1)
    assert update["event_id"] == forgotten, "the partition goes on behind it"

    async def dead() -> Any:
        path = f"/api/v1/dead-letters/{left}"
        async with own.session() as session, session.get(path) as answer:
            return answer.status == 200 and await answer.json()

    letter = await eventually(dead, "it is a dead letter")
    assert letter["error"] == "SystemExit: 3"
    assert own.find("worker").pid == worker

    async def told() -> list[str]:
        lines = own.log.read_text().splitlines()
        return [line for line in lines if "was never awaited" in line]

    [line] = await eventually(told, "what is never awaited is told")
    assert json.loads(line)["logger"] == "py.warnings"


def command(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "hookstream.app.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": f"{folder}:{Path.cwd()}",
            "HOOKSTREAM_AGENTS": "wrong_stages",
            "HOOKSTREAM_STATE_DIR": str(folder / "state"),
        },
    )


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("@app.stage(after='dedupe')\nasync def route(event): return event", "called 'route'"),
        ("@app.stage(after='dedup')\nasync def mine(event): return event", "mean 'dedupe'"),
        ("@app.stage(after='dedupe')\ndef mine(event): return event", "`async def mine(event)`"),
        ("@app.stage(after='dedupe')\nasync def mine(): return None", "take one event"),
    ],
)
def test_a_wrong_stage_is_a_sentence_at_the_start(tmp_path: Path, source: str, says: str) -> None:
    (tmp_path / "wrong_stages.py").write_text(f"from hookstream import app\n\n{source}\n")
    done = command(tmp_path, "agents")
    assert done.returncode == 78, done.stderr
    assert says in done.stderr
    assert "wrong_stages.py" in done.stderr
    assert "Traceback" not in done.stderr
