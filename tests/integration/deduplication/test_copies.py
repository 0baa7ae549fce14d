"""One event appended twice is delivered once, whatever its tool's window and however late it comes.

The reply of an append is lost, so its event goes to the spool and is appended again as it drains.
"""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from hookstream.agents.dedupe import judge
from hookstream.app.deduplication.state import DedupState
from hookstream.app.errors import UnavailableError
from hookstream.app.ids import partition_of_event
from hookstream.app.postgres.pool import Postgres
from hookstream.app.redis import keys
from hookstream.app.settings import Settings
from hookstream.app.status import Status
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.event_log import audit
from hookstream.codecs.envelope import Event, encode_event
from hookstream.tables.dedup import DAY_MS
from tests.support.judging import HOUR_MS, NUMBER, Flow, Owner, event
from tests.support.proxy import Proxy
from tests.support.servers import Node
from tests.support.stack import Stack, eventually

TODAY = 30_000
NOW = TODAY * DAY_MS
SHORT = {"dedup_window_ms": 5000, "dedup_history_ms": 0}
LONG = {"dedup_window_ms": DAY_MS, "dedup_history_ms": 0}
NONE = {"dedup_window_ms": 0, "dedup_history_ms": 0}


@pytest.fixture
async def owner(redis_client: Any, tmp_path: Path) -> AsyncIterator[Owner]:
    made = Owner(redis_client, tmp_path)
    await made.scripts.load()
    await made.claim()
    yield made
    made.leave()


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[Postgres]:
    async with Postgres(postgres_url) as made:
        await made.execute("TRUNCATE events")
        yield made


@pytest.fixture
async def flow(owner: Owner, postgres: Postgres) -> Flow:
    return Flow(owner, postgres)


async def comes(
    flow: Flow,
    one: Event,
    at_ms: int,
    *,
    doubt_ms: int | None = None,
    stream: bool = True,
    recorded: bool = True,
) -> Entry:
    """An entry of an event through judging and commit; it stays in its stream if ``stream``."""
    entry = Entry(f"{at_ms}-0", encode_event(one), one, doubt_ms=doubt_ms)
    if stream:
        await flow.owner.redis.xadd(keys.events(NUMBER), {"d": entry.raw}, id=entry.entry_id)
    batch = Batch("events", flow.owner.partition, [entry], lambda *_: None)
    await judge(batch, flow.history_lookup)
    await flow.commit(batch, recorded=recorded)
    return entry


def is_copy(entry: Entry) -> bool:
    return (entry.status, entry.duplicate_of) == (Status.DUPLICATE, entry.value.event_id)


@pytest.mark.parametrize("window", [SHORT, NONE, LONG], ids=["short", "none", "long"])
@pytest.mark.parametrize("how", ["same owner", "handed over", "disk lost"])
async def test_a_copy_is_known_after_the_tools_window_and_by_who_comes_after(
    flow: Flow, window: dict[str, int], how: str
) -> None:
    one = event(1, "m", NOW, **window)
    assert (await comes(flow, one, NOW)).status is Status.ACCEPTED
    if window is SHORT:
        # another true event takes the place of its message id's mark
        other = event(2, "m", NOW, **window)
        assert (await comes(flow, other, NOW + 6000)).status is Status.ACCEPTED
    if how == "handed over":
        await flow.owner.claim("w1")
    elif how == "disk lost":
        flow.owner.partition.close()
        flow.owner.partition.wipe()
        flow.owner.partition = None
        await flow.owner.claim()
    assert is_copy(await comes(flow, one, NOW + DAY_MS - 1))
    assert is_copy(await comes(flow, one, NOW + DAY_MS + 61 * 60_000))


async def test_a_copy_is_no_news_and_costs_the_record_nothing(flow: Flow) -> None:
    one = event(1, "m", NOW, **SHORT)
    await comes(flow, one, NOW)
    copy = await comes(flow, one, NOW + 10_000)
    assert copy.dedup == "copy"
    assert not audit(Batch("events", flow.owner.partition, [copy], lambda *_: None)).events


async def forget(flow: Flow) -> None:
    """All marks end: as if the copy window were over."""
    flow.owner.partition[DedupState].table.purge(NOW + 100 * DAY_MS)
    assert len(flow.owner.partition[DedupState].table) == 0


@pytest.mark.parametrize("window", [SHORT, NONE, LONG], ids=["short", "none", "long"])
@pytest.mark.parametrize("recorded", [True, False], ids=["in postgres", "on its way"])
async def test_a_doubted_event_is_looked_up_when_no_mark_is_left(
    flow: Flow, window: dict[str, int], recorded: bool
) -> None:
    one, new = event(1, "m", NOW, **window), event(2, "n", NOW, **window)
    await comes(flow, one, NOW, recorded=recorded)
    await forget(flow)
    late = NOW + 3 * DAY_MS
    assert is_copy(await comes(flow, one, late, doubt_ms=late - NOW))
    assert (await comes(flow, new, late + 1, doubt_ms=late - NOW)).status is Status.ACCEPTED
    # what was delivered from here is known from now on, whoever sends it once more
    assert is_copy(await comes(flow, new, late + 2, doubt_ms=late - NOW))


async def test_what_only_postgresql_remembers_after_a_failover_is_delivered(flow: Flow) -> None:
    """Redis has lost entry and delivery: the entry that is left must not be taken for a copy."""
    one = event(1, "m", NOW, **SHORT)
    await flow.owner.redis.xadd(keys.events(NUMBER), {"d": b""}, id=f"{NOW - 1}-0")
    await comes(flow, one, NOW, stream=False)
    await forget(flow)
    late = NOW + 3 * DAY_MS
    assert (await comes(flow, one, late, doubt_ms=late - NOW)).status is Status.ACCEPTED


@pytest.mark.parametrize("over", [True, False])
async def test_what_is_gone_since_its_time_is_over_is_a_copy_all_the_same(
    flow: Flow, over: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is in no tier though it should be was lost: it has to be delivered."""
    one = event(1, "m", NOW, **SHORT)
    await comes(flow, one, NOW)
    await comes(flow, event(2, "n", NOW, **SHORT), NOW + 1)
    await flow.owner.redis.xtrim(keys.events(NUMBER), minid=NOW + 1, approximate=False)
    await forget(flow)
    monkeypatch.setattr(flow.history_lookup._records, "_is_over", lambda _: over)
    late = NOW + 3 * DAY_MS
    assert is_copy(await comes(flow, one, late, doubt_ms=late - NOW)) is over


async def test_while_the_record_is_away_only_what_marks_cannot_tell_waits(
    owner: Owner, postgres: Postgres
) -> None:
    away = Flow(owner, Postgres("postgresql://127.0.0.1:1/none"))

    async def passes(one: Event, at_ms: int, doubt_ms: int | None = None) -> bool:
        entry = await comes(away, one, at_ms, doubt_ms=doubt_ms, recorded=False)
        return entry.status is Status.ACCEPTED

    assert await passes(event(1, "m", NOW, **SHORT), NOW + HOUR_MS, HOUR_MS)
    old = event(2, "n", NOW, **SHORT)
    half = Settings().copy_window_seconds * 500
    for at_ms, doubt_ms in (
        (NOW + half, 0),  # Redis says that it is late
        (NOW + HOUR_MS, half),  # the receiver does
    ):
        entry = Entry(f"{at_ms}-5", encode_event(old), old, doubt_ms=doubt_ms)
        batch = Batch("events", owner.partition, [entry], lambda *_: None)
        with pytest.raises(UnavailableError, match="spool"):
            await judge(batch, away.history_lookup)
        assert not batch.changes
    # nobody doubts it: it does not wait for anybody
    assert await passes(old, NOW + half + 1)
    # a mark tells: nobody has to be asked
    assert not await passes(old, NOW + half + 2, half)


async def test_a_copy_that_cannot_be_unpacked_becomes_no_letter(flow: Flow) -> None:
    one = event(1, "m", NOW, **LONG)
    await comes(flow, one, NOW)
    copy = Entry(f"{NOW + 5}-0", encode_event(one), one)
    copy.fail("decode", ValueError("no dictionary yet"))
    batch = Batch("events", flow.owner.partition, [copy], lambda *_: None)
    await judge(batch, flow.history_lookup)
    assert is_copy(copy)
    assert copy.failure is None


async def test_a_copy_of_what_waits_for_its_next_try_does_not_overtake_it(flow: Flow) -> None:
    one = event(1, "m", NOW, **LONG)
    first = Entry(f"{NOW}-0", encode_event(one), one)
    first.fail("decode", ValueError("no dictionary yet"))
    batch = Batch("events", flow.owner.partition, [first], lambda *_: None)
    await judge(batch, flow.history_lookup)
    await flow.commit(batch)
    assert first.failure
    assert is_copy(await comes(flow, one, NOW + 5, doubt_ms=5))
    again = Entry(f"{NOW + 900}-0", first.raw, one, failed_event_id=one.event_id, attempts=1)
    batch = Batch("events", flow.owner.partition, [again], lambda *_: None)
    await judge(batch, flow.history_lookup)
    assert again.status is Status.ACCEPTED


async def test_replays_are_no_copies_of_their_event_and_are_of_themselves(flow: Flow) -> None:
    one = event(1, "m", NOW, **LONG)
    await comes(flow, one, NOW)
    replay = replace(one, replay_id="01a20bdb-fb6f-7016-a39a-1ba28763ccb5")
    assert (await comes(flow, replay, NOW + 5)).status is Status.ACCEPTED
    assert is_copy(await comes(flow, replay, NOW + 3 * HOUR_MS))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path / "redis").start()
    yield node
    node.kill()


TOOLS = {
    "short": {"provider": "none", "dedup": {"strategy": "payload", "window": "1s"}},
    "none": {"provider": "none", "dedup": {"strategy": "none"}},
    "payload": {"provider": "none"},
}


@asynccontextmanager
async def running(folder: Path, proxy: Proxy) -> AsyncIterator[Stack]:
    """`hookstream up` behind a proxy, which is served by the loop of the test."""
    stack = Stack(folder, HOOKSTREAM_REDIS_URL=proxy.url)
    await asyncio.to_thread(stack.start)
    try:
        yield stack
    finally:
        proxy.heal()
        await asyncio.to_thread(stack.stop)


@pytest.mark.parametrize("marks", ["kept", "lost"])
async def test_lost_replies_of_appends_deliver_nothing_twice(
    tmp_path: Path, server: Node, marks: str
) -> None:
    """Every append's reply is lost for longer than windows last, by the clock of Redis too."""
    async with Proxy(server.port) as proxy, running(tmp_path, proxy) as stack:
        for name, tool in TOOLS.items():
            await stack.context(name, tool)
        # from now on an append is carried out and its reply is lost: once more, and once more
        proxy.on_reply("close", "XADD", times=-1)
        sent = {name: [await stack.hook(name, b'{"n": 1}')] for name in TOOLS}
        for name in TOOLS:
            await stack.updates(name, 1)
        assert (await stack.health())["parts"]["spool"]["entries"] == len(TOOLS)
        numbers = {partition_of_event(ids[0]) for ids in sent.values()}
        with redis.Redis(port=server.port, socket_timeout=2, protocol=2) as client:
            seen = {number: client.xlen(keys.events(number)) for number in numbers}
            if marks == "lost":
                await lose_marks(stack, client)
            for number in numbers:
                # the clock of Redis jumps: what comes now is 61 minutes, or a day, later
                last = client.xinfo_stream(keys.events(number))["last-generated-id"]
                jump = 61 * 60_000 if marks == "kept" else 25 * HOUR_MS
                client.execute_command(
                    "XSETID", keys.events(number), f"{int(last.partition(b'-')[0]) + jump}-0"
                )

            async def copied() -> bool:
                return all(client.xlen(keys.events(n)) > seen[n] for n in numbers)

            await eventually(copied, "the spool has sent all of it again")
            proxy.heal()

            async def drained() -> bool:
                return bool((await stack.health())["parts"]["spool"]["entries"] == 0)

            await eventually(drained, "the spool is empty")
            for name in TOOLS:
                sent[name].append(await stack.hook(name, b'{"n": 2}'))
                found = [u["event_id"] for u in await stack.updates(name, 2)]
                assert found == sent[name]
            seqs = [client.hgetall(keys.seqs(number)) for number in range(8)]
            assert {n.decode(): int(s) for all_of in seqs for n, s in all_of.items()} == {
                f"default/{name}": 2 for name in TOOLS
            }


async def lose_marks(stack: Stack, client: Any) -> None:
    """Every mark is gone, as when the copy window is over: the event log alone knows."""

    async def recorded() -> bool:
        return all([(await stack.get("/events", tool=name))["events"] for name in TOOLS])

    await eventually(recorded, "all of it is on record")
    worker = stack.find("worker")
    worker.send_signal(signal.SIGSTOP)
    for number in range(8):
        client.delete(keys.changelog(number))
    shutil.rmtree(stack.state_dir / "state" / "tables")
    worker.kill()
