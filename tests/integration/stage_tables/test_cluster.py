"""Tables and stream channels of one's own over a cluster: counted once, whatever is killed."""

import asyncio
import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.servers import ClusterSet, wait_until
from tests.support.stack import Stack, eventually, fresh, own_stages

STAGES = """
from pathlib import Path

from hookstream import Event, app

FOLDER = Path({folder!r})

counts = app.Table("counts", default=int)
orders = app.stream_channel("orders", codec="json", batch_max=8)
totals = app.stream_channel("totals", codec="json")


@app.stage(after="dedupe")
async def count(event: Event) -> Event | None:
    counts[event.tool_id] += 1
    n = event.data()["n"]
    await orders.send(key=str(n), value={{"n": n}})
    return event


@app.agent(orders)
async def add(stream):
    async for value in stream:
        if value["n"] == 7:
            raise ValueError("seven")
        stream.send(totals, value)


@app.batches(totals)
async def book(batch):
    for value in batch.values():
        (FOLDER / str(value["n"])).touch()


@app.page("/counts/{{tool}}")
async def found(page, request, tool):
    return page.json({{"count": sum(counts.each(tool))}})
"""


@pytest.fixture(scope="module")
def cluster_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSet]:
    cluster = ClusterSet(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def clustered(cluster_set: ClusterSet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("up")
    (folder / "books").mkdir()
    with Stack(
        folder,
        **own_stages(folder, "clustered_stages", STAGES.format(folder=str(folder / "books"))),
        HOOKSTREAM_REDIS_URL=cluster_set.url,
        HOOKSTREAM_LEASE_TTL_SECONDS="3",
        HOOKSTREAM_REDIS_TIMEOUT_SECONDS="1",
        HOOKSTREAM_RETRY_MAX_ATTEMPTS="1",
    ) as running:
        yield running


async def counted(running: Stack, tool: str, count: int) -> None:
    async def there() -> bool:
        url = f"http://127.0.0.1:{running.worker_port}/counts/{tool}"
        async with running.session() as session, fresh(session, url) as answer:
            return answer.status == 200 and await answer.json() == {"count": count}

    await eventually(there, f"{count} events are counted", 60)


async def booked(running: Stack, numbers: set[int]) -> None:
    async def there() -> bool:
        return {int(file.name) for file in (running.state_dir / "books").iterdir()} >= numbers

    await eventually(there, "every order is booked", 60)


async def hooks(running: Stack, tool: str, numbers: range) -> None:
    bodies = [json.dumps({"n": number}).encode() for number in numbers]
    await asyncio.gather(*(running.hook(tool, body) for body in bodies))


async def test_counts_and_orders_are_there_once_though_worker_and_master_are_killed(
    cluster_set: ClusterSet, clustered: Stack, name: str
) -> None:
    await clustered.context(name, {"provider": "none"})
    await hooks(clustered, name, range(30))
    clustered.find("worker").send_signal(signal.SIGKILL)
    await hooks(clustered, name, range(30, 60))
    await asyncio.to_thread(clustered.wait_ready)
    await counted(clustered, name, 60)
    await booked(clustered, set(range(60)) - {7})
    shown = await clustered.get("/dead-letters", stage="add")
    # what a stage sends may come twice: it runs again where its worker was killed
    assert {letter["error"] for letter in shown["letters"]} == {"ValueError: seven"}
    victim = cluster_set.masters()[0]
    victim.kill()
    wait_until(lambda: len(cluster_set.masters()) == 3, "a replica takes over")
    await hooks(clustered, name, range(60, 90))
    await counted(clustered, name, 90)
    await booked(clustered, set(range(90)) - {7})

    async def nothing_waits() -> Any:
        rows = (await clustered.get("/partitions"))["partitions"]
        streams = [row["streams"][name] for row in rows for name in ("orders", "totals")]
        return all(stream["pending"] == 0 and not stream["lag"] for stream in streams)

    await eventually(nothing_waits, "all of it is committed", 60)
