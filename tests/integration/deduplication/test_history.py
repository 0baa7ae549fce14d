"""Dedup history on real servers: exact after any restart, confirmed by the log, no guesses."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hookstream.agents.dedupe import judge
from hookstream.app.deduplication import first_events as records_module
from hookstream.app.deduplication.history import PartitionHistory
from hookstream.app.deduplication.state import DedupState
from hookstream.app.ids import new_event_id
from hookstream.app.postgres.pool import Postgres
from hookstream.app.redis import keys
from hookstream.app.status import Status
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.commit import Writes, commit
from hookstream.app.streams.event_log import audit
from hookstream.tables.bloom import DayFilter, FilterCache, Shape, number
from hookstream.tables.dedup import DAY_MS, mark_key
from tests.support.judging import HOUR_MS, NUMBER, Flow, Owner, event

SHAPE = Shape(300, 0.001)
DAYS = 3
#: A day far enough away that no key of these tests expires while they run.
TODAY = 30_000


@pytest.fixture
async def owner(redis_client: Any, tmp_path: Path) -> AsyncIterator[Owner]:
    made = Owner(redis_client, tmp_path)
    await made.scripts.load()
    await made.claim()
    yield made
    made.leave()


async def remember(
    owner: Owner, history: PartitionHistory, found: list[tuple[int, bytes]], *, reply: bool = True
) -> None:
    """A commit that has nothing but these keys; without ``reply`` its owner never hears of it."""
    writes = Writes()
    history.write(writes, found)
    if not reply:
        writes = Writes(writes.commands)
    await commit(owner.scripts, owner.partition, "events", writes)


def same(kept: DayFilter, wanted: list[bytes]) -> bool:
    """Whether a filter is, bit by bit, what it would be had it never left memory."""
    whole = DayFilter.new(SHAPE)
    whole.add(wanted, kept.position)
    return kept.encode() == whole.encode()


async def opened(owner: Owner, cache: FilterCache) -> PartitionHistory:
    return await PartitionHistory.open(owner.redis, owner.partition, SHAPE, DAYS, cache)


@pytest.mark.parametrize("seed", range(6))
async def test_history_is_exact_whatever_is_evicted_lost_or_handed_over(
    owner: Owner, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hookstream.app.deduplication.history.SAVE_BYTES", 100)
    draw = random.Random(seed)
    cache = FilterCache(2 * DayFilter.new(SHAPE).size_bytes)
    history = await opened(owner, cache)
    wanted: dict[int, list[bytes]] = {}
    now = TODAY * DAY_MS
    for step in range(250):
        now += draw.randrange(HOUR_MS)
        found = [
            ((now + n) // DAY_MS, mark_key(f"{seed}:{step}:{n}")) for n in range(draw.randint(1, 9))
        ]
        lost = draw.random() < 0.05
        await remember(owner, history, found, reply=not lost)
        for day, key in found:
            wanted.setdefault(day, []).append(key)
        if draw.random() < 0.1:
            cache.put("another partition", step, DayFilter.new(SHAPE))
        if lost or draw.random() < 0.05:
            await owner.claim(draw.choice(("w0", "w1")))
            history = await opened(owner, cache)
        if draw.random() < 0.3:
            today = now // DAY_MS
            days = range(today - draw.randint(0, DAYS), today + 1)
            for day, kept in (await history.filters(owner.redis, days)).items():
                assert same(kept, wanted[day])
    today = now // DAY_MS
    alive = {day for day in wanted if day >= today - DAYS}
    assert set(await history.filters(owner.redis, range(today - DAYS, today + 1))) == alive
    saved = await owner.redis.keys(keys.history(NUMBER) + ":*")
    assert {int(name.rpartition(b":")[2]) for name in saved} <= alive
    # what a saved filter has is not kept a second time
    entries = await owner.redis.xlen(keys.changelog(NUMBER, "history"))
    assert entries < 100


async def full_day(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """A day of which the most part is in a saved filter, and the rest in the changelog."""
    monkeypatch.setattr("hookstream.app.deduplication.history.SAVE_BYTES", 100)
    history = await opened(owner, FilterCache(1 << 20))
    wanted = [mark_key(f"m{n}") for n in range(700)]
    for start in range(0, 700, 7):
        found = [(TODAY, key) for key in wanted[start : start + 7]]
        await remember(owner, history, found)
    assert 0 < history.saved[TODAY] < 700
    return wanted


async def harm_saved(redis: Any) -> None:
    await redis.setrange(keys.history_day(NUMBER, TODAY), 100, b"\xff" * 50)


async def lose_saved(redis: Any) -> None:
    await redis.delete(keys.history_day(NUMBER, TODAY))


async def lose_changelog(redis: Any) -> None:
    await redis.delete(keys.changelog(NUMBER, "history"))


async def harm_changelog(redis: Any) -> None:
    changelog = keys.changelog(NUMBER, "history")
    [(last, _)] = await redis.xrevrange(changelog, count=1)
    await redis.xdel(changelog, last)
    await redis.xadd(changelog, {"d": b"\xff" * 9}, id=f"{int(last.partition(b'-')[0])}-999")


@pytest.mark.parametrize("harm", [harm_saved, lose_saved, lose_changelog, harm_changelog])
async def test_history_that_is_not_whole_suspects_everything(
    owner: Owner, harm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never silently empty: what cannot be read is asked of the event log, event by event."""
    wanted = await full_day(owner, monkeypatch)
    await harm(owner.redis)
    await owner.claim()
    history = await opened(owner, FilterCache(1 << 20))
    kept = (await history.filters(owner.redis, [TODAY]))[TODAY]
    assert not kept.readable
    assert kept.perhaps(number(wanted[0]))
    assert kept.perhaps(number(mark_key("a stranger")))
    # it goes on being counted, and is never saved as if it were whole
    await remember(owner, history, [(TODAY, mark_key("later"))])
    await remember(owner, history, [(TODAY + 1, mark_key("tomorrow"))])
    await owner.claim()
    history = await opened(owner, FilterCache(1 << 20))
    found = await history.filters(owner.redis, [TODAY, TODAY + 1])
    assert not found[TODAY].readable
    assert same(found[TODAY + 1], [mark_key("tomorrow")])


async def test_a_stale_owner_cannot_save(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    from hookstream.app.errors import FencedError

    wanted = await full_day(owner, monkeypatch)
    history = await opened(owner, FilterCache(1 << 20))
    await history.filters(owner.redis, [TODAY])
    stale = owner.partition
    owner.partition = None
    await owner.claim("w1")
    writes = Writes()
    history.write(writes, [(TODAY + 1, mark_key("x"))])
    assert any(command == "SET" for command, _, _ in writes.commands)
    with pytest.raises(FencedError):
        await commit(owner.scripts, stale, "events", writes)
    stale.close()
    history = await opened(owner, FilterCache(1 << 20))
    assert same((await history.filters(owner.redis, [TODAY]))[TODAY], wanted)


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Postgres]:
    postgres = Postgres(url)
    async with postgres:
        yield postgres


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[Postgres]:
    async with running(postgres_url) as made:
        await made.execute("TRUNCATE events")
        yield made


@pytest.fixture
async def flow(owner: Owner, postgres: Postgres) -> Flow:
    return Flow(owner, postgres)


NOW = TODAY * DAY_MS
LATER = NOW + 5 * HOUR_MS


async def test_a_late_copy_is_a_duplicate_of_the_first(flow: Flow) -> None:
    first = event(1, "m", NOW)
    assert await flow.passes(first, event(2, "other", NOW)) == ["", ""]
    await flow.owner.claim("w1")
    batch = await flow.judged(event(3, "m", LATER), event(4, "m", LATER + 1))
    assert [(e.status, e.duplicate_of, e.dedup) for e in batch.entries] == [
        (Status.DUPLICATE, first.event_id, "history"),
        (Status.DUPLICATE, first.event_id, "window"),
    ]
    await flow.commit(batch)
    # its history ends two days after the first, not after a copy
    assert await flow.passes(event(5, "m", NOW + 2 * DAY_MS - 1)) == ["history"]
    assert await flow.passes(event(6, "m", NOW + 2 * DAY_MS)) == [""]


async def test_a_suspicion_without_a_record_is_no_duplicate(flow: Flow) -> None:
    """As with a false positive: here the event log is taken away."""
    await flow.passes(event(1, "m", NOW))
    await flow.postgres.execute("TRUNCATE events")
    assert await flow.passes(event(2, "m", LATER)) == [""]


async def test_another_tenants_event_is_no_record(flow: Flow) -> None:
    await flow.passes(event(1, "m", NOW))
    assert await flow.passes(event(2, "m", LATER, tenant="other")) == [""]


async def test_a_duplicate_row_is_not_the_first(flow: Flow) -> None:
    await flow.passes(event(1, "m", NOW))
    assert await flow.passes(event(2, "m", NOW + 1)) == ["window"]
    await flow.postgres.execute("DELETE FROM events WHERE status <> 'duplicate'")
    assert await flow.passes(event(3, "m", LATER)) == [""]


async def test_redelivered_entry_is_not_a_duplicate_of_its_own_record(flow: Flow) -> None:
    """A failover took back the commit, and PostgreSQL has the record of it."""
    again = event(1, "m", LATER)
    await flow.passes(event(2, "old", NOW))
    judged = await flow.judged(again)
    await flow.recorder.record(judged.partition, [audit(judged)])
    history = flow.owner.partition[DedupState].history
    [kept] = (await history.filters(flow.owner.redis, [TODAY])).values()
    kept.add([mark_key(again.message_id)], kept.position)
    assert await flow.passes(again) == [""]


async def test_event_that_failed_and_comes_again_is_not_its_own_duplicate(flow: Flow) -> None:
    failed = event(1, "m", NOW)
    batch = await flow.judged(failed)
    batch.entries[0].fail("route", ValueError("once"))
    await flow.commit(batch)
    copy = await flow.judged(event(2, "m", LATER))
    assert copy.entries[0].duplicate_of == failed.event_id
    await flow.commit(copy)
    late = [Entry(f"{LATER + 2 * HOUR_MS}-0", b"", failed, failed_event_id=failed.event_id)]
    again = Batch("events", flow.owner.partition, late, lambda *_: None)
    await judge(again, flow.history_lookup)
    assert late[0].status is Status.ACCEPTED


async def test_a_replay_passes(flow: Flow) -> None:
    await flow.passes(event(1, "m", NOW))
    replay = event(1, "m", LATER, replay_id="r1", event_id=new_event_id(NOW, NUMBER, 1))
    batch = await flow.judged(replay)
    assert batch.entries[0].status is Status.ACCEPTED
    assert not batch.remembered


async def test_without_history_nothing_is_remembered_or_asked(flow: Flow) -> None:
    plain = {"dedup_history_ms": 0}
    assert await flow.passes(event(1, "m", NOW, **plain)) == [""]
    assert await flow.passes(event(2, "m", LATER, **plain)) == [""]
    assert flow.owner.partition[DedupState].history is None
    assert await flow.owner.redis.exists(keys.history(NUMBER)) == 0


async def test_what_is_on_its_way_to_the_record_counts(flow: Flow) -> None:
    """PostgreSQL is behind: the audit stream has what was decided."""
    first = event(1, "m", NOW)
    await flow.passes(first, recorded=False)
    batch = await flow.judged(event(2, "m", LATER), event(3, "n", LATER))
    assert [entry.duplicate_of for entry in batch.entries] == [first.event_id, ""]


async def test_a_record_that_is_too_far_behind_confirms_nothing(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records_module, "TAIL_ENTRIES", 3)
    for n in range(6):
        await flow.passes(event(n, f"m{n}", NOW + n), recorded=False)
    assert await flow.passes(event(9, "m5", LATER), recorded=False) == ["unconfirmed"]
    assert await flow.passes(event(10, "m0", LATER), recorded=False) == ["history"]


async def test_while_the_record_is_away_suspected_events_pass_marked(
    owner: Owner, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = Flow(owner, postgres)
    await flow.passes(event(1, "m", NOW))
    monkeypatch.setattr(postgres, "dsn", "postgresql://127.0.0.1:1/none")
    nobody = Flow(owner, Postgres("postgresql://127.0.0.1:1/none"))
    batch = await nobody.judged(event(2, "m", LATER), event(3, "new", LATER))
    assert [(e.status, e.dedup) for e in batch.entries] == [
        (Status.ACCEPTED, "unconfirmed"),
        (Status.ACCEPTED, ""),
    ]
    await flow.commit(batch)
    rows = await postgres.fetch("SELECT dedup FROM events ORDER BY event_id")
    assert [row["dedup"] for row in rows] == ["", "unconfirmed", ""]


async def test_a_record_that_hangs_holds_up_one_batch_for_a_second(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio
    import time

    await flow.passes(event(1, "m", NOW))
    monkeypatch.setattr(records_module, "TIMEOUT_SECONDS", 0.2)

    async def hang(*_: Any) -> Any:
        await asyncio.sleep(5)

    monkeypatch.setattr(flow.postgres, "fetch", hang)
    begun = time.monotonic()
    assert await flow.passes(event(2, "m", LATER)) == ["unconfirmed"]
    assert await flow.passes(event(3, "m", LATER + 2 * HOUR_MS)) == ["unconfirmed"]
    assert time.monotonic() - begun < 4.0
