"""Stream channels of one's own: what is committed stays so, whatever is killed in between."""

import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis.asyncio

from hookstream.app import embedded, metrics
from hookstream.app.application import Hookstream
from hookstream.app.consumers import EventStream
from hookstream.app.redis import keys
from hookstream.app.settings import Settings
from hookstream.app.streams import channel
from hookstream.app.streams.batch import Batch
from hookstream.app.streams.channel import RedisStreamChannel
from hookstream.app.streams.commit import Writes, commit
from tests.support.stack import Stack, eventually, fresh, own_stages

#: Orders go through a function over batches and an agent over single ones. Both note what they
#: see, send it on, and wait while a file shuts them.
STAGES = """
import asyncio
from pathlib import Path

from hookstream import Event, app

FOLDER = Path({folder!r})

orders = app.stream_channel("orders", codec="json", batch_max=8)
totals = app.stream_channel("totals", codec="json")
results = app.stream_channel("results", codec="json")


async def note(name, n):
    with (FOLDER / name).open("a") as file:
        file.write(f"{{n}}\\n")
    shut = FOLDER / f"{{name}}.shut"
    while shut.exists() and n >= int(shut.read_text()):
        await asyncio.sleep(0.02)


@app.stage(after="dedupe")
async def order(event: Event) -> Event | None:
    data = event.data()
    for n in range(*data.get("orders", [0])):
        await orders.send(key=str(n % 3), value={{"n": n}})
    return event


@app.batches(orders)
async def add(batch):
    for value in batch.values():
        await note("orders", value["n"])
        batch.send(totals, value)


@app.agent(totals)
async def finish(stream):
    async for value in stream:
        await note("totals", value["n"])
        stream.send(results, value)
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("channels")
    (folder / "books").mkdir()
    with Stack(
        folder,
        **own_stages(
            folder, "trying_channels", STAGES.format(folder=str(folder)), "examples.sales"
        ),
        BOOKS=str(folder / "books"),
        HOOKSTREAM_RETRY_MAX_ATTEMPTS="1",
    ) as running:
        yield running


def noted(own: Stack, name: str) -> Counter[int]:
    file = own.state_dir / name
    return Counter(int(line) for line in file.read_text().split()) if file.exists() else Counter()


async def results(own: Stack) -> list[int]:
    """What has been sent to the last channel, all partitions."""
    client = redis.asyncio.Redis.from_url(
        str(embedded.find_valkey(own.state_dir / "state")), protocol=2
    )
    try:
        found = []
        for number in range(8):
            for _, fields in await client.xrange(keys.stream("results", number)):
                found.append(json.loads(fields[b"d"])["n"])
        return found
    finally:
        await client.aclose()


async def waiting(own: Stack, name: str) -> float:
    """What is read and not committed of a channel, and what is not read, as the API says it."""
    rows = (await own.get("/partitions"))["partitions"]
    streams = [row["streams"][name] for row in rows]
    return sum(stream["pending"] + (stream["lag"] or 0) for stream in streams)


async def test_a_killed_worker_repeats_nothing_that_was_committed(own: Stack, name: str) -> None:
    await own.context(name, {"provider": "none"})
    await own.hook(name, b'{"orders": [0, 20]}')

    async def all_through(count: int) -> bool:
        return len(await results(own)) >= count

    await eventually(partial(all_through, 20), "the first are through")
    (own.state_dir / "orders.shut").write_text("60")
    (own.state_dir / "totals.shut").write_text("30")
    await own.hook(name, b'{"orders": [20, 90]}')

    async def both_are_held() -> bool:
        return max(noted(own, "orders")) >= 60 and max(noted(own, "totals")) >= 30

    await eventually(both_are_held, "both have something that they do not finish")

    async def shown() -> bool:
        return await waiting(own, "orders") > 0 and await waiting(own, "totals") > 0

    await eventually(shown, "what waits is counted")
    async with aiohttp.ClientSession(own.url) as session, fresh(session, "/metrics") as answer:
        shown_metrics = await answer.text()
    for metric in ("lag_entries", "pending_entries", "oldest_seconds"):
        assert f'hookstream_stream_{metric}{{channel="totals"}}' in shown_metrics
    assert (await own.health())["parts"]["streams"]["totals"]["oldest_seconds"] > 0

    committed = await results(own)
    before = noted(own, "orders"), noted(own, "totals")
    own.find("worker").kill()
    for held in ("orders.shut", "totals.shut"):
        (own.state_dir / held).unlink()
    await eventually(partial(all_through, 90), "every order is through", 60)

    async def nothing_waits() -> bool:
        return await waiting(own, "orders") == await waiting(own, "totals") == 0

    await eventually(nothing_waits, "nothing waits")
    # what is sent within a commit is there once, whatever was killed
    assert Counter(await results(own)) == Counter(range(90))
    orders, totals = noted(own, "orders"), noted(own, "totals")
    assert set(orders) == set(totals) == set(range(90))
    # what was committed is not seen again; what was in hand is
    assert set(committed) >= set(range(20))
    assert {totals[n] for n in committed} == {1}
    assert {orders[n] for n in before[1]} == {1}
    assert max(orders.values()) == max(totals.values()) == 2


async def test_a_restart_gives_nothing_again(own: Stack, name: str) -> None:
    await own.context(name, {"provider": "none"})
    await own.hook(name, b'{"orders": [100, 110]}')

    async def through() -> bool:
        found = set(await results(own)) >= set(range(100, 110))
        return found and await waiting(own, "orders") == await waiting(own, "totals") == 0

    await eventually(through, "all are through")
    before = noted(own, "orders"), noted(own, "totals")
    await asyncio.to_thread(own.stop)
    await asyncio.to_thread(own.start)
    await own.hook(name, b'{"orders": [110, 111]}')

    async def next_is_there() -> bool:
        return 110 in await results(own)

    await eventually(next_is_there, "the next one is through")
    # all partitions have been opened by now, and looked at what was pending
    await own.opened()
    assert noted(own, "orders") - before[0] == noted(own, "totals") - before[1] == Counter([110])
    done = await asyncio.to_thread(
        subprocess.run,
        own.command("partitions", "--json", "--url", own.url),
        capture_output=True,
        text=True,
        env=own.environment(),
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    streams = json.loads(done.stdout)["partitions"][0]["streams"]
    assert {*Stack.STREAMS, "orders", "totals", "results", "sales", "priced"} == set(streams)
    assert "nothing takes from the stream channel 'results'" in own.log.read_text()


async def test_the_example_books_sales(own: Stack, name: str) -> None:
    await own.context(name, {"provider": "none"})
    sales = [
        {"number": number, "customer": f"c{number % 4}", "prices": [number, 1]}
        for number in range(20)
    ]
    await own.hook(name, json.dumps({"sales": sales}).encode())
    books = own.state_dir / "books"

    async def booked() -> bool:
        return len(list(books.iterdir())) == 20

    await eventually(booked, "every sale is booked")
    assert {file.name: file.read_text() for file in books.iterdir()} == {
        str(number): str(number + 1) for number in range(20)
    }


async def test_a_value_that_fails_is_a_dead_letter_that_shows_it(own: Stack, name: str) -> None:
    await own.context(name, {"provider": "none"})
    sale = {"number": 99, "customer": "c1"}
    await own.hook(name, json.dumps({"sales": [sale]}).encode())

    async def dead() -> list[dict[str, Any]]:
        letters: list[dict[str, Any]] = (await own.get("/dead-letters", stage="price"))["letters"]
        return letters

    [letter] = await eventually(dead, "it is a dead letter")
    assert (letter["channel"], letter["error"]) == ("sales", "KeyError: 'prices'")
    shown = await own.get(f"/dead-letters/{letter['letter_id']}")
    assert shown["payload"] == sale
    assert "examples/sales.py" in shown["traceback"]


@asynccontextmanager
async def running(app: Hookstream) -> AsyncIterator[Hookstream]:
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


@pytest.fixture
def app(
    tmp_path: Path, redis_client: "redis.asyncio.Redis", redis_url: str, postgres_url: str
) -> Hookstream:
    """A worker without a web server and without the pipeline."""
    made = Hookstream(
        Settings(
            state_dir=tmp_path,
            redis_url=redis_url,
            postgres_url=postgres_url,
            partitions=2,
            batch_max_events=16,
            retry_base_seconds=0.05,
            retry_max_seconds=0.1,
            retry_max_attempts=2,
        )
    )
    made.conf.web_enabled = False
    return made


async def fill(mine: RedisStreamChannel, count: int) -> None:
    for n in range(count):
        await mine.send(partition=0, value=n)


async def pending(client: "redis.asyncio.Redis", mine: RedisStreamChannel) -> int:
    return int((await client.xpending(keys.stream(mine.name, 0), keys.GROUP))["pending"])


async def test_a_stale_owner_acknowledges_nothing(
    app: Hookstream, redis_client: "redis.asyncio.Redis"
) -> None:
    mine = app.stream_channel("mine", codec="json")
    out = app.stream_channel("out", codec="json")
    seen: list[list[Any]] = []
    unacknowledged: list[int] = []

    @app.batches(mine)
    async def take(batch: Batch) -> None:
        seen.append(batch.values())
        batch.send(out, len(seen))
        if len(seen) == 1:
            lease = {"epoch": 99, "nonce": "another's"}
            await redis_client.hset(keys.lease(batch.partition.number), mapping=lease)
        else:
            unacknowledged.append(await pending(redis_client, mine))

    async with running(app):
        await fill(mine, 1)

        async def done() -> bool:
            return len(seen) > 1 and await pending(redis_client, mine) == 0

        await eventually(done, "it came again, and is acknowledged")
    assert seen == [[0], [0]]
    assert unacknowledged == [1]
    # nor did it write anything
    assert [fields for _, fields in await redis_client.xrange("{hs:0}:out")] == [{b"d": b"2"}]


async def test_a_worker_that_stops_commits_what_a_slow_agent_has_done(
    app: Hookstream, redis_client: "redis.asyncio.Redis"
) -> None:
    mine = app.stream_channel("mine", codec="json")
    seen: list[int] = []

    @app.agent(mine)
    async def take(stream: EventStream) -> None:
        async for n in stream:
            await asyncio.sleep(0.1)
            seen.append(n)

    async with running(app):
        await fill(mine, 300)

        async def some() -> bool:
            return len(seen) > 3

        await eventually(some, "it is at work")
        begun = asyncio.get_running_loop().time()
    # the one that it was working on, and not the rest of its batch
    assert asyncio.get_running_loop().time() - begun < app.settings.shutdown_timeout_seconds / 2
    [group] = await redis_client.xinfo_groups("{hs:0}:mine")
    assert group["pending"] + group["lag"] == 300 - len(seen)


async def test_what_is_done_is_trimmed_unless_another_group_needs_it(
    app: Hookstream, redis_client: "redis.asyncio.Redis"
) -> None:
    mine = app.stream_channel("mine", codec="json")
    seen = 0

    @app.agent(mine)
    async def take(stream: EventStream) -> None:
        nonlocal seen
        async for _ in stream:
            seen += 1

    async def all_done(count: int) -> bool:
        return seen == count and await pending(redis_client, mine) == 0

    async with running(app):
        await redis_client.xgroup_create("{hs:0}:mine", "theirs", id="0", mkstream=True)
        await fill(mine, 500)
        await eventually(partial(all_done, 500), "all are committed")
        assert await redis_client.xlen("{hs:0}:mine") == 500
        await redis_client.xgroup_destroy("{hs:0}:mine", "theirs")
        await fill(mine, 500)
        await eventually(partial(all_done, 1000), "all are committed")
        # whole nodes of the stream only
        assert await redis_client.xlen("{hs:0}:mine") < 250


async def test_what_fails_again_and_again_is_a_dead_letter_and_holds_nothing_up(
    app: Hookstream, redis_client: "redis.asyncio.Redis", caplog: pytest.LogCaptureFixture
) -> None:
    singles = app.stream_channel("singles", codec="json")
    batches = app.stream_channel("batches", codec="json")
    seen: list[int] = []
    summed: list[int] = []

    @app.agent(singles)
    async def each(stream: EventStream) -> None:
        async for n in stream:
            if n == 2:
                raise KeyError("nope")
            seen.append(n)

    @app.batches(batches)
    async def add(batch: Batch) -> None:
        if 2 in batch.values():
            raise KeyError("nope")
        summed.extend(batch.values())

    async with running(app):
        for mine in (singles, batches):
            await fill(mine, 5)
        await redis_client.xadd("{hs:0}:singles", {"d": b"not json"})

        async def all_dead() -> bool:
            return bool(await redis_client.zcard(keys.dead(0)) == 3)

        await eventually(all_dead, "both, and what cannot be read, are dead letters")
        assert await pending(redis_client, singles) == await pending(redis_client, batches) == 0
    assert seen == summed == [0, 1, 3, 4]
    letters = [
        await redis_client.hgetall(keys.failed_event(0, name.decode()))
        for name in await redis_client.zrange(keys.dead(0), 0, -1)
    ]
    assert sorted((one[b"channel"], one[b"stage"]) for one in letters) == [
        (b"batches", b"batch"),
        (b"singles", b"decode"),
        (b"singles", b"each"),
    ]
    [single] = [one for one in letters if one[b"stage"] == b"each"]
    assert single[b"attempts"] == b"2"
    assert b'raise KeyError("nope")' in single[b"traceback"]
    assert caplog.text.count("the agent 'each' (") == 1


async def test_a_slow_agent_that_looks_on_holds_nothing_up(
    app: Hookstream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(channel, "LOOKER_EVENTS", 20)
    numbers = app.pipeline_channel("numbers", codec="json")
    passed: list[int] = []
    first = asyncio.Event()

    @app.batches(numbers)
    async def stage(batch: Batch) -> None:
        await commit(app.services.scripts, batch.partition, batch.channel, Writes(), batch.entries)
        passed.extend(batch.values())
        batch.done()

    @app.agent(numbers)
    async def slow_one(batches: Any) -> None:
        async for _ in batches:
            first.set()
            await asyncio.Event().wait()

    async with running(app):
        await fill(numbers, 1)
        async with asyncio.timeout(30):
            await first.wait()
        await fill(numbers, 200)

        async def all_passed() -> bool:
            return len(passed) == 201

        await eventually(all_passed, "the stage has had all")
    dropped = metrics.AGENT_DROPPED.labels(agent="slow_one")._value.get()
    assert 200 - 20 - 16 <= dropped <= 200 - 20
    assert caplog.text.count("the agent slow_one is too slow for numbers") == 1
