"""What is wrong with one partition, one entry or one worker's disk is nobody else's trouble."""

import asyncio
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from hookstream.app import embedded
from hookstream.app.ids import partition_of
from hookstream.app.redis import keys
from hookstream.proto.envelope_pb2 import Envelope
from tests.support.stack import Stack, eventually, free_port

PARTITIONS = 8


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("bad")) as stack:
        yield stack


@pytest.fixture
async def client(running: Stack) -> Any:
    url = embedded.find_valkey(running.state_dir / "state")
    made = redis.asyncio.Redis.from_url(str(url), protocol=2)
    yield made
    await made.aclose()


def apart(name: str) -> tuple[str, str]:
    """Two names of tools whose events, and whose feeds, are in partitions of their own."""
    places: set[int] = set()
    found: list[str] = []
    for number in range(1000):
        tool = f"{name}{number}"
        mine = {
            partition_of(PARTITIONS, "default", tool, tool),
            partition_of(PARTITIONS, "default", tool),
        }
        if len(mine) == 1 and not mine & places:
            places |= mine
            found.append(tool)
            if len(found) == 2:
                break
    return found[0], found[1]


async def workers(stack: Stack) -> dict[str, Any]:
    return dict((await stack.health())["parts"]["workers"])


async def test_a_wrong_type_in_one_partition_stops_that_one_alone(
    running: Stack, client: "redis.asyncio.Redis"
) -> None:
    bad, good = apart("t")
    for tool in (bad, good):
        await running.context(tool, {"provider": "none"})
        await running.hook(tool, b'{"n": 1}')
        await running.updates(tool, 1)
    number = partition_of(PARTITIONS, "default", bad)
    worker = running.find("worker")
    await client.rename(keys.source_positions(number), "kept")
    await client.set(keys.source_positions(number), "no hash")
    worker.send_signal(signal.SIGTERM)
    await asyncio.to_thread(worker.wait, 30)

    async def named() -> bool:
        troubles = (await workers(running))["troubles"].values()
        return any(str(number) in trouble["waits"] for trouble in troubles)

    await eventually(named, "/health names the partition")
    assert (await running.health())["status"] == "degraded"
    await running.hook(bad, b'{"n": 2}')
    later = await running.hook(good, b'{"n": 2}')
    assert (await running.updates(good, 1, after=1))[0]["event_id"] == later
    await client.delete(keys.source_positions(number))
    await client.rename("kept", keys.source_positions(number))
    assert (await running.updates(bad, 1, after=1))[0]["seq"] == 2

    async def well() -> bool:
        return (await workers(running))["status"] == "ok"

    await eventually(well, "/health says that it is over")


@pytest.mark.parametrize("channel", ["events", "updates", "audit", "deferred:low"])
async def test_what_nobody_of_ours_wrote_is_put_aside(
    running: Stack, client: "redis.asyncio.Redis", channel: str, name: str
) -> None:
    await running.context(name, {"provider": "none"})
    await running.hook(name, b'{"n": 1}')
    await running.updates(name, 1)
    worker = running.find("worker").pid
    before = {failed_event async for failed_event in client.scan_iter("*:letter:*")}
    bad: list[dict[Any, Any]] = [
        {"zz": "notanumber"},
        {"d": b"\xff\xff\xff"},
        {"d": b"", "a": "x"},
        {"d": b"", "r": b"\xff"},
    ]
    if channel == "events":
        # envelopes of a version that is known, of events that no receiver makes
        strange = Envelope(schema_version=1, event_id="42")
        late = Envelope(schema_version=1, event_id=str(uuid.uuid4()), dedup_window_ms=-1)
        bad += [{"d": strange.SerializeToString()}, {"d": late.SerializeToString()}]
    for number in range(PARTITIONS):
        for fields in bad:
            await client.xadd(keys.stream(channel, number), fields)

    async def put_aside() -> bool:
        found = {failed_event async for failed_event in client.scan_iter("*:letter:*")}
        return len(found - before) == PARTITIONS * len(bad)

    await eventually(put_aside, "each of them is a dead letter")
    later = await running.hook(name, b'{"n": 2}')
    assert (await running.updates(name, 1, after=1))[0]["event_id"] == later
    assert running.find("worker").pid == worker


async def test_a_worker_that_cannot_write_leaves_its_share_to_others(
    running: Stack, tmp_path: Path
) -> None:
    folder = tmp_path / "second"
    folder.mkdir()
    (folder / "tables").write_text("a file where its tables should be")
    second = running.another(folder, "worker", "--web-port", str(free_port()))
    try:

        async def says_why() -> bool:
            found = await workers(running)
            return any("cannot be written" in note["why"] for note in found["troubles"].values())

        await eventually(says_why, "/health says why it takes nothing", 60)
        found = await workers(running)
        assert len(found["alive"]) == 1
        assert not found["unowned_partitions"]
        (folder / "tables").unlink()

        async def shares() -> bool:
            rows = (await running.get("/partitions"))["partitions"]
            owners = {row["owner"] for row in rows}
            return len(owners) == 2 and None not in owners

        try:
            await eventually(shares, "it takes its share once it can", 120)
        except AssertionError as error:
            rows = (await running.get("/partitions"))["partitions"]
            log = (folder / "process.log").read_text()[-3000:]
            raise AssertionError(f"{rows}\n{await workers(running)}\n{log}") from error
    finally:
        second.terminate()
        await asyncio.to_thread(second.wait, 30)
