"""Feeds that were tampered with: junk is passed over, and what is gone is told."""

from typing import Any

import pytest
import redis

from hookstream.app import embedded
from tests.support.stack import Stack, eventually


@pytest.fixture
def server(stack: Stack) -> Any:
    url = str(embedded.find_valkey(stack.state_dir / "state"))
    return redis.Redis.from_url(url, protocol=2)


def feed(server: Any, name: str) -> str:
    [key] = server.keys(f"*feed:default/{name}")
    return str(key.decode())


async def fill(stack: Stack, name: str, count: int, start: int = 1) -> None:
    """More updates, until the event log has their deliveries."""
    for n in range(start, start + count):
        await stack.hook(name, b'{"n": %d}' % n)
    await stack.updates(name, count, after=start - 1)

    async def recorded() -> bool:
        found = (await stack.get("/events", context=name))["events"]
        return len(found) == start + count - 1

    await eventually(recorded, "the event log has them")


@pytest.mark.parametrize("junk", [{"zz": "1"}, {"d": "no JSON"}, {"d": "[1]"}])
async def test_what_is_no_update_locks_nobody_out(
    stack: Stack, name: str, server: Any, junk: dict[str, str]
) -> None:
    await stack.context(name, {"provider": "none"})
    await fill(stack, name, 2)
    server.xadd(feed(server, name), junk, id="2-5")
    await fill(stack, name, 1, start=3)
    for path in (f"/contexts/{name}/updates?after=0", f"/contexts/{name}/updates?after=0&fold=1"):
        async with stack.session() as session, session.ws_connect(path) as socket:
            frame = await socket.receive_json(timeout=30)
            assert frame["type"] in ("update", "digest"), frame
    page = await stack.get(f"/contexts/{name}/updates", after="0")
    assert [update["seq"] for update in page["updates"]] == [1, 2, 3]


async def test_updates_that_were_deleted_are_told_with_a_reset(
    stack: Stack, name: str, server: Any
) -> None:
    await stack.context(name, {"provider": "none"})
    await fill(stack, name, 6)
    assert server.xdel(feed(server, name), "3-0", "4-0") == 2
    path = f"/contexts/{name}/updates?after=1&generation=0"
    async with stack.session() as session, session.ws_connect(path) as socket:
        frames = [await socket.receive_json(timeout=30) for _ in range(5)]
    assert [frame["type"] for frame in frames] == ["hello", "update", "reset", "update", "update"]
    assert [frame.get("seq") for frame in frames][1:] == [2, None, 5, 6]
    reset = frames[2]
    assert (reset["after"], reset["missing_count"]) == (4, 2)
    assert [one["seq"] for one in reset["missing"]] == [3, 4]
    # the same over HTTP: what comes before the hole, then what is behind it
    before = await stack.get(f"/contexts/{name}/updates", after="1")
    assert [update["seq"] for update in before["updates"]] == [2]
    assert "reset" not in before
    behind = await stack.get(f"/contexts/{name}/updates", after=str(before["next_after"]))
    assert [update["seq"] for update in behind["updates"]] == [5, 6]
    assert behind["reset"]["missing_count"] == 2


async def test_a_feed_that_was_deleted_is_told(stack: Stack, name: str, server: Any) -> None:
    await stack.context(name, {"provider": "none"})
    await fill(stack, name, 4)
    server.delete(feed(server, name))
    await fill(stack, name, 1, start=5)
    for path in (
        f"/contexts/{name}/updates?after=2",
        f"/contexts/{name}/updates?after=2&fold=1",
    ):
        async with stack.session() as session, session.ws_connect(path) as socket:
            reset = await socket.receive_json(timeout=30)
            assert (reset["type"], reset["after"], reset["missing_count"]) == ("reset", 4, 2)
            assert (await socket.receive_json(timeout=30))["seq"] == 5
