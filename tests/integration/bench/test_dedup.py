"""The effectiveness benchmark, small: the same code, on real Redis and PostgreSQL."""

import dataclasses
from pathlib import Path

import pytest

from bench.dedup import Plan, run, traffic
from hookstream.app.deduplication.first_events import EventLog
from hookstream.app.deduplication.history import PartitionHistory
from hookstream.app.postgres.pool import Postgres
from hookstream.tables.dedup import Record

#: Filters are too large for all of them to stay in memory.
SMALL = Plan(
    events=20_000, partitions=4, workers=2, filter_events=40_000, memory_bytes=1 << 20, faults=40
)


@pytest.fixture(autouse=True)
def _save_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hookstream.app.deduplication.history.SAVE_BYTES", 1000)


async def test_nearly_every_copy_is_found_and_no_fresh_event_is_dropped(
    redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    result = await run(SMALL, redis_url, postgres_url, tmp_path)
    assert result.copies == 4_000
    assert result.effectiveness >= 0.999
    assert (result.dropped, result.wrong_first) == (0, 0)
    assert min(result.by_window, result.by_history, result.too_late, result.tried_again) > 10
    assert len(result.faults) == 5
    assert result.filters_saved
    assert result.filters_loaded


def test_traffic_has_as_many_copies_as_it_says_and_comes_in_order() -> None:
    plan = Plan(events=10_000)
    sent = list(traffic(plan, 0))
    kinds = [one.kind for one in sent]
    assert kinds.count("copy") == 2_000
    assert kinds.count("fresh") + kinds.count("copy") + kinds.count("late") == 10_000
    assert [one.at_ms for one in sent] == sorted(one.at_ms for one in sent)
    first = {one.original: one.at_ms for one in sent if one.kind == "fresh"}
    assert all(one.at_ms > first[one.original] for one in sent if one.kind == "copy")


async def test_the_ledger_notices_filters_that_come_back_empty(
    redis_url: str, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What proves that the first test can fail: history is lost with each owner."""

    async def empty(self: PartitionHistory, *_: object) -> dict[int, object]:
        return {}

    monkeypatch.setattr(PartitionHistory, "_load", empty)
    result = await run(SMALL, redis_url, postgres_url, tmp_path)
    assert result.effectiveness < 0.999


async def test_the_ledger_notices_suspicions_that_are_taken_for_duplicates(
    redis_url: str, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What proves that the first test can fail: a Bloom filter's word is taken for the truth."""

    async def believe(self: EventLog, partition: int, suspects: list[object]) -> object:
        some = Record("01a20bdb-fb6f-7016-a39a-1ba28763ccb5", "1-1", 2**47)
        return [some] * len(suspects), [True] * len(suspects)

    monkeypatch.setattr(EventLog, "first", believe)
    plan = dataclasses.replace(SMALL, filter_events=500, false_positives=0.05)
    result = await run(plan, redis_url, postgres_url, tmp_path)
    assert result.dropped


async def test_the_record_is_found_by_its_index(postgres_url: str) -> None:
    """Not by walking a tenant's events, whatever PostgreSQL knows of how many there are."""
    from hookstream.app.postgres.sql import statement

    async with Postgres(postgres_url) as postgres:
        await postgres.execute("TRUNCATE events")
        await postgres.execute(
            "INSERT INTO events (event_id, tenant, tool_id, provider, type, status, message_id,"
            " delivery_id, received_at, partition, entry_id, payload_bytes)"
            " SELECT gen_random_uuid(), 't', 'x', 'none', 'x', 'accepted', 'm' || n, '', now(), 0,"
            " n || '-0', 0 FROM generate_series(1, 20000) AS n"
        )
        for prepare in ("SELECT 1", "ANALYZE events"):
            await postgres.execute(prepare)
            rows = await postgres.fetch(
                f"EXPLAIN {statement('first_events')}",
                *(["t"], ["m7"], ["01a20bdb-fb6f-7016-a39a-1ba28763ccb5"], [0]),
            )
            plan = "\n".join(row[0] for row in rows)
            assert "events_by_message" in plan
            assert "events_by_place" not in plan
            assert "events_by_time" not in plan
