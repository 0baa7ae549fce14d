"""A stage that keeps the event loop keeps its partitions for a while, and then loses them."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.support.stack import Stack, eventually, free_port, fresh, own_stages

#: A lease, the bound of what is renewed beside a loop that stands still, and stalls on both sides.
LEASE, BOUND, SHORT, LONG = 1.5, 9.0, 4.0, 19.0
STAGE = """
import os
import time
from pathlib import Path
from hookstream.app.main import app

def block(seconds):
    time.sleep(seconds)

@app.stage(after="dedupe")
async def stubborn(event):
    wish = event.data() or {{}}
    began = Path({folder!r}, wish.get("block", ""))
    if wish.get("block") and not began.exists():
        began.write_text(str(os.getpid()))
        block(wish["seconds"])
        Path({folder!r}, wish["block"] + "-over").touch()
    return event
"""


class Two(Stack):
    """Two workers, one of them that of `hookstream up`."""

    second: "subprocess.Popen[bytes]"
    second_port: int


@pytest.fixture(scope="module")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Two]:
    folder = tmp_path_factory.mktemp("stalls")
    stages = own_stages(folder, "stubborn_stage", STAGE.format(folder=str(folder)))
    with Two(
        folder,
        HOOKSTREAM_LEASE_TTL_SECONDS=str(LEASE),
        HOOKSTREAM_REDIS_TIMEOUT_SECONDS="0.5",
        HOOKSTREAM_STALL_LEASE_SECONDS=str(BOUND),
        HOOKSTREAM_STALL_SECONDS="0.5",
        **stages,
    ) as stack:
        stack.second_port = free_port()
        stack.second = stack.another(
            folder / "second", "worker", "--web-port", str(stack.second_port)
        )
        try:
            yield stack
        finally:
            stack.second.terminate()
            await asyncio.to_thread(stack.second.wait, 30)


async def leases(stack: Stack) -> dict[int, tuple[str, int]]:
    shown = await stack.get("/partitions")
    return {row["partition"]: (row["owner"], row["epoch"]) for row in shown["partitions"]}


async def shared(stack: Stack) -> dict[int, tuple[str, int]]:
    """Wait until both workers have partitions, and all are owned."""

    async def settled() -> dict[int, tuple[str, int]] | None:
        found = await leases(stack)
        names = {owner for owner, _ in found.values()}
        return found if "" not in names and None not in names and len(names) == 2 else None

    # one of them starts meanwhile
    return dict(await eventually(settled, "two workers share all partitions", timeout_seconds=90))


async def blocked(stack: Two, name: str, seconds: float) -> tuple[list[str], int]:
    """Send an event that blocks its worker, others around it; their ids, and the process id."""
    await stack.context(name, {"provider": "none"})
    ids = [await stack.hook(name, json.dumps({"n": n}).encode()) for n in range(3)]
    body = json.dumps({"block": name, "seconds": seconds}).encode()
    ids.append(await stack.hook(name, body))
    ids += [await stack.hook(name, json.dumps({"n": n}).encode()) for n in range(3, 8)]
    file = stack.state_dir / name

    async def begun() -> int:
        text = file.read_text() if file.exists() else ""
        return int(text or 0)

    return ids, int(await eventually(begun, "a worker is blocked"))


async def check(stack: Stack, name: str, ids: list[str]) -> None:
    """All of them once, in order."""
    updates = await stack.updates(name, len(ids))
    assert [update["event_id"] for update in updates] == ids
    assert [update["seq"] for update in updates] == list(range(1, len(ids) + 1))
    assert (await stack.get(f"/contexts/{name}"))["last_seq"] == len(ids)


async def test_a_stall_below_the_bound_costs_no_lease_and_is_told(two: Two, name: str) -> None:
    before = await shared(two)
    ids, pid = await blocked(two, name, SHORT)
    log = two.log if pid == two.find("worker").pid else two.state_dir / "second" / "process.log"

    async def told() -> bool:
        return "time.sleep(seconds)" in log.read_text()

    await eventually(told, "the stack is logged")
    assert not (two.state_dir / f"{name}-over").exists(), "while it stands still"
    await check(two, name, ids)
    assert (two.state_dir / f"{name}-over").exists()
    assert await leases(two) == before
    port = two.worker_port if pid == two.find("worker").pid else two.second_port
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        async with fresh(session, "/health") as answer:
            part: dict[str, Any] = (await answer.json())["parts"]["event_loop"]
        async with fresh(session, "/metrics") as answer:
            rows = dict(row.rsplit(" ", 1) for row in (await answer.text()).splitlines())
    assert (part["status"], part["pid"]) == ("degraded", pid)
    worst = max(part["lately"], key=lambda stall: float(stall["seconds"]))
    assert worst["where"].endswith("in block")
    assert SHORT - 1 < worst["seconds"] < SHORT + 2
    assert "asyncio.to_thread" in part["do"]
    assert float(rows["hookstream_event_loop_stalls_total"]) == part["stalls"]
    assert float(rows["hookstream_event_loop_longest_stall_seconds"]) > SHORT - 1
    assert float(rows["hookstream_stalled_lease_renewals_total"]) > 0


async def test_a_stall_beyond_the_bound_goes_to_another_worker_and_nothing_is_doubled(
    two: Two, name: str
) -> None:
    before = await shared(two)
    ids, pid = await blocked(two, name, LONG)

    async def taken() -> bool:
        return len({owner for owner, _ in (await leases(two)).values() if owner}) == 1

    await eventually(taken, "the other worker takes over")
    # and delivers what the first one is still at
    await check(two, name, ids)
    assert not (two.state_dir / f"{name}-over").exists()

    async def over() -> bool:
        return (two.state_dir / f"{name}-over").exists()

    await eventually(over, "the blocked worker wakes")
    after = await shared(two)
    assert {n: owner for n, (owner, _) in after.items()} == {
        n: owner for n, (owner, _) in before.items()
    }
    ids.append(await two.hook(name, b'{"n": 8}'))
    await check(two, name, ids)
    log = two.log if pid == two.find("worker").pid else two.state_dir / "second" / "process.log"
    assert "HOOKSTREAM_STALL_LEASE_SECONDS" in log.read_text()
