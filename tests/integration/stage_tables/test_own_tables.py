"""A stage that counts in a table, in a running system: killed, moved, emptied, and read by a page."""

import asyncio
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hookstream.app.redis import keys
from tests.support.stack import Stack, eventually

STAGES = """
from collections.abc import AsyncIterator

from aiohttp import web

from hookstream import Event, app

totals = app.Table("totals", default=int)
minutes = app.Table("minutes", default=int).tumbling(60.0, expires=3600.0)


@app.stage(after="dedupe")
async def count(event: Event) -> Event | None:
    totals[event.tool_id] += 1
    minutes[event.tool_id] += 1
    return event


@app.stage(after="check")
async def fails_at_first(event: Event) -> Event | None:
    tried = totals.get(("tried", event.event_id), 0)
    if b"late" in event.payload and event.event_id not in TRIED:
        TRIED.add(event.event_id)
        raise ValueError("not at the first time")
    return event


TRIED: set[str] = set()


@app.page("/counts/{tool}")
async def counts(page, request, tool):
    found = {"totals": totals.each(tool), "minutes": minutes.each(tool)}
    return page.json({name: sum(values) for name, values in found.items()})


@app.page("/open", public=True)
async def opened(page, request):
    return page.text("for everybody")
"""


class Counting(Stack):
    def worker_url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.worker_port}{path}"

    async def read(self, url: str, **headers: str) -> tuple[int, str]:
        async with aiohttp.ClientSession(headers=headers) as session, session.get(url) as answer:
            return answer.status, await answer.text()

    async def counts(self, tool: str) -> dict[str, int]:
        status, text = await self.read(self.worker_url(f"/counts/{tool}"), **self.headers)
        assert status == 200, text
        return dict(json.loads(text))

    async def counted(self, tool: str, count: int) -> None:
        """Wait until ``count`` events of a tool are delivered, and see that they are counted so."""
        await self.updates(tool, count)

        async def there() -> bool:
            return (await self.counts(tool))["totals"] == count

        await eventually(there, f"{count} events of {tool} are counted")

    async def hooks(self, tool: str, numbers: range, **more: Any) -> None:
        bodies = [json.dumps({"n": number, **more}).encode() for number in numbers]
        await asyncio.gather(*(self.hook(tool, body) for body in bodies))


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counting]:
    folder = tmp_path_factory.mktemp("counting")
    (folder / "counting_stages.py").write_text(STAGES)
    with Counting(
        folder,
        PYTHONPATH=f"{folder}:{Path.cwd()}",
        HOOKSTREAM_AGENTS="counting_stages",
        HOOKSTREAM_LEASE_TTL_SECONDS="2",
        HOOKSTREAM_RETRY_BASE_SECONDS="0.1",
    ) as running:
        yield running


async def test_events_are_counted_once_though_the_worker_is_killed_between(
    counting: Counting, name: str
) -> None:
    await counting.context(name, {"provider": "none"})
    for at in range(0, 300, 100):
        sending = asyncio.create_task(counting.hooks(name, range(at, at + 100)))
        await asyncio.sleep(0.05)
        counting.find("worker").send_signal(signal.SIGKILL)
        await sending
        await asyncio.to_thread(counting.wait_ready)
    await counting.counted(name, 300)
    counts = await counting.counts(name)
    assert counts["totals"] == 300


async def test_an_event_that_fails_behind_the_count_is_counted_once(
    counting: Counting, name: str
) -> None:
    await counting.context(name, {"provider": "none"})
    early = counting.hooks(name, range(20))
    late = counting.hooks(name, range(20, 40), late=True)
    await asyncio.gather(early, late)
    await counting.counted(name, 40)


async def test_a_table_that_is_lost_is_built_from_its_changelog(
    counting: Counting, name: str
) -> None:
    await counting.context(name, {"provider": "none"})
    await counting.hooks(name, range(30))
    await counting.counted(name, 30)
    await asyncio.to_thread(counting.stop)
    lost = sorted((counting.state_dir / "state" / "tables").glob("stages-*"))
    assert len(lost) == 8
    for folder in lost:
        shutil.rmtree(folder)
    await asyncio.to_thread(counting.start)
    await counting.hooks(name, range(30, 40))
    await counting.counted(name, 40)


async def test_a_partition_goes_to_another_worker_with_its_table_and_back(
    counting: Counting, name: str, tmp_path: Path
) -> None:
    await counting.context(name, {"provider": "none"})
    await counting.hooks(name, range(30))
    await counting.counted(name, 30)
    other = counting.another(tmp_path / "other", "worker", "--web-port", "0")
    try:

        async def moved() -> bool:
            health = await counting.read(counting.worker_url("/health"))
            part = json.loads(health[1])["parts"]["partitions"]
            return 0 < int(part["owned"]) < 8

        await eventually(moved, "the other worker has its share")
        await counting.hooks(name, range(30, 60))
        await counting.updates(name, 60)
        other.kill()
    finally:
        other.kill()
        other.wait(30)
    await counting.opened()
    await counting.hooks(name, range(60, 70))
    await counting.counted(name, 70)
