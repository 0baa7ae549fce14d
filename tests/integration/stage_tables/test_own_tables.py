"""A stage that counts in a table, in a running system: killed, moved, emptied, read by a page."""

import asyncio
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis.asyncio

from hookstream.app import embedded
from hookstream.app.redis import keys
from tests.support import ROOT
from tests.support.stack import Stack, eventually, free_port, fresh, own_stages

STAGES = """
from hookstream import Event, app

totals = app.Table("totals", default=int)
minutes = app.Table("minutes", default=int).tumbling(60.0, expires=3600.0)
large = app.Table("large")


@app.stage(after="dedupe")
async def count_all(event: Event) -> Event | None:
    totals[event.tool_id] += 1
    minutes[event.tool_id] += 1
    if b"large" in event.payload:
        large[event.tool_id, event.data()["n"] % KEYS] = "x" * SIZE
    return event


@app.stage(after="check")
async def fails_at_first(event: Event) -> Event | None:
    if b"late" in event.payload and event.event_id not in TRIED:
        TRIED.add(event.event_id)
        raise ValueError("not at the first time")
    return event


TRIED: set[str] = set()
KEYS, SIZE = 10, 8000


@app.page("/totals/{tool}")
async def found(page, request, tool):
    found = {"totals": totals.each(tool), "minutes": minutes.each(tool)}
    found["large"] = [value == "x" * SIZE for key, value in large.items() if key[0] == tool]
    return page.json({name: sum(values) for name, values in found.items()})


@app.page("/nothing")
async def nothing(page, request):
    page.text("its return is missing")


@app.page("/open", public=True)
async def opened(page, request):
    return page.text("for everybody")
"""


class Counting(Stack):
    def worker_url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.worker_port}{path}"

    async def read(self, url: str, **headers: str) -> tuple[int, str]:
        async with aiohttp.ClientSession(headers=headers) as session, fresh(session, url) as answer:
            return answer.status, await answer.text()

    async def counts(self, tool: str) -> dict[str, int]:
        status, text = await self.read(self.worker_url(f"/totals/{tool}"), **self.headers)
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
    with Counting(
        folder,
        **own_stages(
            folder,
            "counting_stages",
            STAGES,
            "my_project.agents.count",
            paths=[ROOT / "examples" / "project"],
        ),
        HOOKSTREAM_LEASE_TTL_SECONDS="3",
        HOOKSTREAM_REDIS_TIMEOUT_SECONDS="1",
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


async def test_a_page_that_answers_nothing_is_named(counting: Counting) -> None:
    status, text = await counting.read(counting.worker_url("/nothing"), **counting.headers)
    assert status == 500
    assert json.loads(text)["title"] == "Internal error"
    said = "the page '/nothing' ("
    lines = [line for line in counting.log.read_text().splitlines() if said in line]
    assert "returned NoneType: a response is wanted" in lines[0]


@pytest.mark.parametrize("on_error", ["skip", "hold"])
async def test_an_event_that_fails_behind_the_count_is_counted_once(
    counting: Counting, name: str, on_error: str
) -> None:
    await counting.context(name, {"provider": "none", "ordering": {"on_error": on_error}})
    early = counting.hooks(name, range(20))
    # fewer than what opens the tool's circuit breaker
    late = counting.hooks(name, range(20, 30), late=True)
    await asyncio.gather(early, late)
    await counting.counted(name, 30)


async def test_a_changelog_is_bounded_and_a_lost_table_is_built_from_it(
    counting: Counting, name: str
) -> None:
    await counting.context(name, {"provider": "none"})
    for at in range(0, 300, 10):
        await counting.hooks(name, range(at, at + 10), large=True)
        await counting.counted(name, at + 10)
    # 2.4 MB were written, and 80 KB of it live
    assert await changelog_bytes(counting) < 1_000_000
    await asyncio.to_thread(counting.stop)
    lost = sorted((counting.state_dir / "state" / "tables").glob("stages-*"))
    assert len(lost) == 8
    for folder in lost:
        shutil.rmtree(folder)
    await asyncio.to_thread(counting.start)
    await counting.hooks(name, range(300, 310))
    await counting.counted(name, 310)
    assert (await counting.counts(name))["large"] == 10


async def changelog_bytes(stack: Stack) -> int:
    url = embedded.find_valkey(stack.state_dir / "state")
    async with redis.asyncio.Redis.from_url(str(url), protocol=2) as client:
        logs = [await client.xrange(keys.changelog(number, "stages")) for number in range(8)]
    return sum(len(fields[b"d"]) for entries in logs for _, fields in entries)


async def test_a_partition_goes_to_another_worker_with_its_table_and_back(
    counting: Counting, name: str, tmp_path: Path
) -> None:
    await counting.context(name, {"provider": "none", "ordering": {"by": "none"}})
    await counting.hooks(name, range(30))
    await counting.counted(name, 30)
    other = counting.another(tmp_path / "other", "worker", "--web-port", str(free_port()))
    try:

        async def moved() -> bool:
            health = await counting.read(counting.worker_url("/health"))
            part = json.loads(health[1])["parts"]["partitions"]
            return 0 < int(part["owned"]) < 8

        await eventually(moved, "the other worker has its share")
        await counting.hooks(name, range(30, 60))
        await counting.updates(name, 60)
        # what the other one counts is not here
        assert 0 < (await counting.counts(name))["totals"] < 60
    finally:
        other.kill()
        other.wait(30)
    await counting.opened()
    await counting.hooks(name, range(60, 70))
    await counting.counted(name, 70)


async def test_pages_are_served_where_tables_are_and_to_the_admin_key(
    counting: Counting, name: str
) -> None:
    await counting.context(name, {"provider": "none"})
    await counting.hooks(name, range(3))
    await counting.counted(name, 3)
    url = counting.worker_url(f"/totals/{name}")
    status, text = await counting.read(url)
    assert status == 401
    assert "admin key" in text
    assert (await counting.counts(name))["minutes"] in range(4), "of this minute"
    assert await counting.read(counting.worker_url("/open")) == (200, "for everybody")
    for path in ("/open", f"/totals/{name}"):
        status, text = await counting.read(counting.url + path, **counting.headers)
        assert status == 421
        assert f"port {counting.worker_port}" in text


async def test_a_worker_takes_no_webhooks_and_serves_no_api_mcp_or_console(
    counting: Counting, name: str
) -> None:
    await counting.context(name, {"provider": "none"})
    worker = counting.worker_url("")
    async with aiohttp.ClientSession(worker, headers=counting.headers) as session:
        for path in (
            f"/hooks/{name}",
            "/api/v1/tools",
            "/api/v1/openapi.json",
            "/registry/subjects",
            f"/contexts/{name}/updates",
            "/mcp",
            "/",
        ):
            for method in ("GET", "POST"):
                async with session.request(method, path, data=b"{}") as answer:
                    assert answer.status == 421, (method, path)
                    assert "HOOKSTREAM_WEB_PORT" in await answer.text()
        for path in ("/health", "/health/live", "/health/ready", "/metrics"):
            async with session.get(path) as answer:
                assert answer.status == 200, path


async def test_the_example_projects_count_has_a_page_and_a_metric(
    counting: Counting, name: str
) -> None:
    await counting.context(name, {"provider": "none"})
    await counting.hooks(name, range(5))
    await counting.counted(name, 5)
    status, text = await counting.read(counting.worker_url("/counts"), **counting.headers)
    assert status == 200
    counts = json.loads(text)
    assert sum(minute.get(name, 0) for minute in counts.values()) == 5
    status, text = await counting.read(counting.worker_url("/metrics"))
    assert "my_project_events_last_minute" in text


# emptied: another test's partitions would end the start first
@pytest.mark.usefixtures("redis_client")
async def test_a_page_that_would_hide_ours_ends_the_start(tmp_path: Path, redis_url: str) -> None:
    page = (
        "from hookstream import app\n\n\n"
        "@app.page('/api/mine')\nasync def mine(page, request): ...\n"
    )
    stack = Stack(
        tmp_path,
        **own_stages(tmp_path, "hiding_page", page),
        HOOKSTREAM_REDIS_URL=redis_url,
        HOOKSTREAM_POSTGRES_URL="postgresql://nobody@127.0.0.1:9/none",
        HOOKSTREAM_REDIS_ALLOW_UNSAFE="1",
    )
    done = await asyncio.to_thread(
        subprocess.run,
        stack.command("worker"),
        env=stack.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 78, done.stderr
    assert "'/api/mine'" in done.stderr
    assert "begins as one of Hookstream's own" in done.stderr
    assert "Traceback" not in done.stderr
