"""Replays by filter: marked, in order, at a rate, cancelled, once through a crash."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from hookstream.app import embedded
from tests.support.stack import Stack, eventually


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


async def recorded(stack: Stack, tool: str, count: int, **more: str) -> list[dict[str, Any]]:
    """The tool's events once the event log has all of them as delivered, oldest first.

    Each context's deliveries are recorded on their own: ``context="…"`` waits for those of one.
    """
    query = {"tool": tool, "status": "delivered", "limit": "1000", **more}

    async def all_there() -> list[dict[str, Any]]:
        found = (await stack.get("/events", **query))["events"]
        return found if len(found) == count else []

    return list(reversed(await eventually(all_there, f"{count} events of {tool} are recorded")))


async def replay(stack: Stack, expect: int = 202, **body: Any) -> dict[str, Any]:
    async with stack.session() as session, session.post("/api/v1/replays", json=body) as answer:
        assert answer.status == expect, await answer.text()
        return dict(await answer.json())


async def ended(stack: Stack, replay_id: str, status: str = "done") -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        shown = await stack.get(f"/replays/{replay_id}")
        return shown if shown["status"] != "running" else None

    shown = await eventually(look, "the replay ends")
    assert shown["status"] == status, shown
    return dict(shown)


async def test_replay_by_filter_keeps_order_and_is_marked(stack: Stack) -> None:
    await stack.context("many", {"provider": "none"})
    await stack.context("other", {"provider": "none"})
    ids = [await stack.hook("many", b'{"n": %d}' % n) for n in range(60)]
    await stack.hook("many", b'{"n": 0}')  # a duplicate: not part of a replay
    await stack.hook("other", b"{}")
    await recorded(stack, "many", 60)
    begun = await replay(stack, tool="many", rate=5000)
    assert begun["matched"] == 60
    updates = await stack.updates("many", 60, after=60)
    assert [update["event_id"] for update in updates] == ids
    assert {update["replay_id"] for update in updates} == {begun["replay_id"]}

    async def counted() -> bool:
        shown = await stack.get(f"/replays/{begun['replay_id']}")
        return bool(shown["deliveries"] == 60)

    shown = await ended(stack, begun["replay_id"])
    await eventually(counted, "deliveries are counted")
    assert (shown["sent"], shown["processed"], shown["dead"], shown["missing"]) == (60, 60, 0, 0)
    # they are no new events
    found = await stack.get("/events", tool="many", limit="1000")
    assert len(found["events"]) == 61
    listed = (await stack.get("/replays"))["replays"]
    assert listed[0]["replay_id"] == begun["replay_id"]
    assert listed[0]["filter"]["tool"] == "many"


async def test_replay_of_a_context_goes_to_it_alone_and_one_may_be_named(stack: Stack) -> None:
    await stack.context("first", {"provider": "none"})
    await stack.put("/contexts/neighbour", {})
    await stack.put("/contexts/neighbour/subscriptions/all", {"tool": "first", "types": ["*"]})
    await stack.put("/contexts/newcomer", {})
    for n in range(3):
        await stack.hook("first", b"%d" % n)
    await recorded(stack, "first", 3, context="first")
    await stack.updates("neighbour", 3)
    begun = await replay(stack, context="first", rate=1000)
    assert begun["matched"] == 3
    await ended(stack, begun["replay_id"])
    assert len(await stack.updates("first", 3, after=3)) == 3
    begun = await replay(stack, tool="first", context_id="newcomer", rate=1000)
    await ended(stack, begun["replay_id"])
    assert len(await stack.updates("newcomer", 3)) == 3
    neighbour = await stack.get("/contexts/neighbour")
    assert neighbour["last_seq"] == 3


async def test_a_replay_that_nobody_has_ended_is_ended(stack: Stack) -> None:
    """As two leave it that look for each other's last word at one time."""
    await stack.context("through", {"provider": "none"})
    await stack.hook("through", b"{}")
    await recorded(stack, "through", 1)
    begun = await replay(stack, tool="through")
    await ended(stack, begun["replay_id"])
    connection = await asyncpg.connect(embedded.find_postgres(stack.state_dir / "state"))
    await connection.execute(
        "UPDATE replays SET status = 'running', finished_at = NULL WHERE replay_id = $1",
        begun["replay_id"],
    )
    await connection.close()
    await ended(stack, begun["replay_id"])


async def test_cancel_stops_a_slow_replay(stack: Stack) -> None:
    await stack.context("slow", {"provider": "none"})
    for n in range(20):
        await stack.hook("slow", b"%d" % n)
    await recorded(stack, "slow", 20)
    begun = await replay(stack, tool="slow", rate=1)

    async def some() -> bool:
        return bool((await stack.get(f"/replays/{begun['replay_id']}"))["sent"])

    await eventually(some, "the first event is sent")
    path = f"/api/v1/replays/{begun['replay_id']}/cancel"
    async with stack.session() as session:
        async with session.post(path) as answer:
            assert (answer.status, (await answer.json())["status"]) == (200, "cancelled")
        async with session.post(path) as answer:
            assert answer.status == 409
    # another one is not held up by it, and ends: the first has nothing more to send
    again = await replay(stack, tool="slow", rate=1000)
    await ended(stack, again["replay_id"])
    shown = await stack.get(f"/replays/{begun['replay_id']}")
    assert shown["status"] == "cancelled"
    assert 1 <= shown["sent"] < 20


async def test_what_is_wrong_with_a_replay_is_said(stack: Stack) -> None:
    for body, word in (
        ({}, "say which"),
        ({"rate": 5}, "say which"),
        ({"tool": "x", "rate": 0}, "rate"),
        ({"tool": "x", "since": "yesterday"}, "since"),
        ({"status": "odd"}, "status"),
        ({"tool": "x", "event_id": "0" * 36}, "event_id"),
    ):
        assert word in (await replay(stack, expect=400, **body))["detail"]
    await replay(stack, expect=404, tool="x", context_id="nowhere")
    begun = await replay(stack, tool="there-is-none")
    shown = await ended(stack, begun["replay_id"])
    assert (shown["matched"], shown["sent"]) == (0, 0)


async def test_replay_from_a_shell(stack: Stack) -> None:
    await stack.context("shell", {"provider": "none"})
    ids = [await stack.hook("shell", b"%d" % n) for n in range(5)]
    await recorded(stack, "shell", 5)

    def run(*arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            stack.command("replay", *arguments),
            env=stack.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "done: 5 of 5 processed" in run("--tool", "shell", "--rate", "1000")
    assert "done: 1 of 1 processed" in run(ids[0])
    begun = run("--tool", "shell", "--rate", "0.1", "--no-wait").split()[0]
    assert "cancelled" in run("--cancel", begun)
    assert begun in run("--list")
    assert "replay which?" in run(status=2)


async def test_killed_worker_goes_on_where_it_was(tmp_path: Path) -> None:
    with Stack(tmp_path) as stack:
        await stack.context("crash", {"provider": "none"})
        ids = [await stack.hook("crash", b"%d" % n) for n in range(80)]
        await recorded(stack, "crash", 80)
        begun = await replay(stack, tool="crash", rate=80)

        async def half() -> bool:
            return bool((await stack.get(f"/replays/{begun['replay_id']}"))["sent"] >= 20)

        await eventually(half, "a part is sent")
        stack.find("worker").kill()
        updates = await stack.updates("crash", 80, after=80)
        assert [update["event_id"] for update in updates] == ids
        shown = await ended(stack, begun["replay_id"])
        assert (shown["sent"], shown["processed"]) == (80, 80)
        assert (await stack.get("/contexts/crash"))["last_seq"] == 160
