"""An event that kills whoever works on it is given up, and its neighbours are delivered."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio

from hookstream.app import embedded
from tests.support.stack import Stack, eventually, own_stages

STAGE = """
import os, signal
from pathlib import Path
from hookstream import app

HERE = Path({folder!r})

@app.stage(after="dedupe")
async def deadly(event):
    wish = event.data()
    if wish.get("kills") and not (HERE / "mended").exists():
        with (HERE / "deaths").open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return event
"""


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    settings = own_stages(tmp_path, "deadly_stages", STAGE.format(folder=str(tmp_path)))
    with Stack(tmp_path, **settings) as running:
        await running.context("poison", {"provider": "none"})
        await running.context("innocent", {"provider": "none"})
        yield running


def deaths(stack: Stack) -> int:
    file = stack.state_dir / "deaths"
    return len(file.read_text()) if file.exists() else 0


async def test_what_kills_its_worker_is_given_up_and_its_neighbours_go_on(stack: Stack) -> None:
    async def post(tool: str, n: int, *, kills: bool = False) -> str:
        return await stack.hook(tool, json.dumps({"n": n, "kills": kills}).encode())

    # they come while the worker stands still: so it takes all of them in one hand
    worker = stack.find("worker")
    worker.suspend()
    before = [await post("poison", n) for n in range(20)]
    poison = await post("poison", 20, kills=True)
    after = [await post("poison", n) for n in range(21, 40)]
    innocent = [await post("innocent", n) for n in range(20)]
    worker.resume()

    async def dead() -> bool:
        async with (
            stack.session() as session,
            session.get(f"/api/v1/dead-letters/{poison}") as response,
        ):
            return response.status == 200 and (await response.json())["state"] == "dead"

    await eventually(dead, "the poison is a dead letter", 240)
    assert deaths(stack) == 6
    updates = await stack.updates("poison", 39)
    assert [update["event_id"] for update in updates] == before + after
    assert [update["seq"] for update in updates] == list(range(1, 40))
    others = await stack.updates("innocent", 20)
    assert [update["event_id"] for update in others] == innocent
    letter = await stack.get(f"/dead-letters/{poison}")
    assert (letter["stage"], letter["tool_id"]) == ("crashed", "poison")
    assert letter["payload"] == {"n": 20, "kills": True}
    shown = await asyncio.to_thread(
        subprocess.run,
        stack.command("dead", "show", poison, "--url", stack.url),
        env={**stack.environment(), "HOOKSTREAM_ADMIN_KEY": stack.key},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert "crashed" in shown.stdout
    assert "6 times the worker died" in shown.stdout

    async def nothing_counted() -> bool:
        client = redis.asyncio.Redis.from_url(
            str(embedded.find_valkey(stack.state_dir / "state")), protocol=2
        )
        async with client:
            return not [key async for key in client.scan_iter("{hs:*}:deaths:*")]

    await eventually(nothing_counted, "what was counted is forgotten")
    (stack.state_dir / "mended").touch()
    async with (
        stack.session() as session,
        session.post(f"/api/v1/dead-letters/{poison}/retry") as response,
    ):
        assert response.status in (200, 202), await response.text()
    [late] = await stack.updates("poison", 1, after=39)
    assert (late["event_id"], late["seq"]) == (poison, 40)
