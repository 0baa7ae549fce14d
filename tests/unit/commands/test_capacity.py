"""The plan: what it promises of its numbers."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.commands.capacity import (
    FIGURES,
    Figures,
    Load,
    Measured,
    load_figures,
    plan_for,
)
from hookstream.app.commands.plan import seconds, size, text
from hookstream.app.errors import BadRequestError

ROUND = Figures(
    receiver_cpu_us=200,
    worker_cpu_us=200,
    worker_context_cpu_us=100,
    redis_cpu_us=50,
    payload_bytes=10_000,
    redis_event_bytes=500,
    redis_bytes_per_payload_byte=0.1,
    redis_feed_bytes=600,
    redis_changelog_bytes=80,
    table_bytes=100,
    postgres_bytes=700,
    receiver_bytes=150e6,
    worker_bytes=250e6,
    warm_event_bytes=200,
    archive_event_bytes=150,
    move_cpu_us=40,
)
LOADS = st.builds(
    Load,
    rate=st.floats(0.01, 1e6),
    size=st.floats(1, 1e7),
    contexts_per_event=st.floats(0, 1000),
    hot_seconds=st.floats(0, 1e7),
    window_seconds=st.floats(0, 1e7),
    warm_seconds=st.floats(0, 1e7),
    cold_seconds=st.floats(0, 1e8),
    feed_seconds=st.floats(0, 1e7),
    contexts=st.floats(0, 1e6),
)


def test_numbers_are_those_of_a_calculation_by_hand() -> None:
    load = Load(
        1000,
        5000,
        contexts_per_event=2,
        hot_seconds=3600,
        window_seconds=7200,
        warm_seconds=10_000,
        cold_seconds=1_000_000,
        feed_seconds=3600,
        contexts=1000,
    )
    made = plan_for(load, ROUND)
    assert made.redis_events_bytes == 3_600_000 * (500 + 500)
    assert made.redis_feeds_bytes == 3_600_000 * 2 * 600
    assert made.redis_changelog_bytes == 7_200_000 * 80
    assert made.redis_warm_bytes == 10_000_000 * 200
    assert made.archive_bytes == 1_000_000_000 * 150
    assert made.redis_bytes == 3.6e9 + 2e9 + 4.32e9 + 0.576e9
    few = plan_for(dataclasses.replace(load, contexts=10), ROUND)
    assert few.redis_feeds_bytes == 10 * 100_000 * 600
    assert made.redis_memory_bytes == made.redis_bytes * 1.5
    assert made.redis_disk_bytes == made.redis_bytes * 3
    assert made.tables_disk_bytes == 7_200_000 * 100 * 2
    assert made.postgres_bytes_per_day == 86_400_000 * 700
    # 1000/s at 200 µs is a fifth of a core, at 440 µs two fifths: each fits one process
    assert (made.receivers, made.workers) == (1, 1)
    assert made.redis_cores == pytest.approx(0.05)
    busier = plan_for(dataclasses.replace(load, rate=10_000), ROUND)
    assert (busier.receivers, busier.workers) == (4, 8)


@given(LOADS, st.sampled_from([field.name for field in dataclasses.fields(Load)]))
def test_more_load_never_needs_less(load: Load, name: str) -> None:
    more = dataclasses.replace(load, **{name: getattr(load, name) * 2})
    before, after = plan_for(load, ROUND), plan_for(more, ROUND)
    for field in dataclasses.fields(before):
        assert getattr(after, field.name) >= getattr(before, field.name)


@given(LOADS)
def test_there_is_always_one_of_each_process(load: Load) -> None:
    made = plan_for(load, ROUND)
    assert made.receivers >= 1
    assert made.workers >= 1


def test_smaller_payloads_than_measured_are_not_taken_for_cheaper_ones() -> None:
    large, small = plan_for(Load(50_000, 10_000), ROUND), plan_for(Load(50_000, 10), ROUND)
    assert (small.receivers, small.workers) == (large.receivers, large.workers)
    assert small.redis_events_bytes < large.redis_events_bytes


@pytest.mark.parametrize(
    "load",
    [Load(0, 1), Load(1, 0), Load(-1, 1), Load(1, float("nan")), Load(1, 1, hot_seconds=-1)],
)
def test_a_load_that_cannot_be_is_refused(load: Load) -> None:
    with pytest.raises(BadRequestError, match="cannot be"):
        plan_for(load, ROUND)


def test_figures_are_read_and_what_is_missing_is_named(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    with pytest.raises(BadRequestError, match="hookstream bench --write"):
        load_figures(file)
    values = dataclasses.asdict(ROUND)
    file.write_text(json.dumps({"date": "2026-01-02", "machine": "a", "figures": values}))
    assert load_figures(file) == Measured(ROUND, "2026-01-02", "a")
    del values["table_bytes"]
    file.write_text(json.dumps({"figures": values}))
    with pytest.raises(BadRequestError, match="table_bytes"):
        load_figures(file)
    for broken in ("[]", "{", '{"figures": 1}'):
        file.write_text(broken)
        with pytest.raises(BadRequestError, match="not the figures"):
            load_figures(file)


@pytest.mark.skipif(not FIGURES.exists(), reason="nothing was measured yet")
def test_figures_that_are_shipped_can_be_planned_with() -> None:
    measured = load_figures()
    assert measured.machine
    assert plan_for(Load(1000, 5000), measured.figures).redis_bytes > 0


def test_text_names_what_a_person_should_do() -> None:
    load = Load(100_000, 5000)
    said = text(load, plan_for(load, ROUND), Measured(ROUND, "2026-01-02", "a machine"), 32)
    assert "HOOKSTREAM_PARTITIONS" in said
    assert "use a cluster" in said
    assert "a machine" in said
    calm = Load(10, 5000)
    said = text(calm, plan_for(calm, ROUND), Measured(ROUND, "", ""), 32)
    assert "HOOKSTREAM_PARTITIONS" not in said


def test_durations_and_sizes_are_as_people_write_them() -> None:
    assert (seconds("90s"), seconds("24h"), seconds("7d")) == (90, 86_400, 604_800)
    for wrong in ("", "5", "h", "-1h", "1w"):
        with pytest.raises(BadRequestError, match="duration"):
            seconds(wrong)
    assert (size(512), size(2**20), size(3 * 2**40)) == ("512.0 B", "1.0 MiB", "3.0 TiB")
