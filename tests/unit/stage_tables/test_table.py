"""``app.Table`` and its windows, as a stage and its tests see them."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hookstream.app import metrics
from hookstream.app.application import Hookstream
from hookstream.app.errors import SettingsError, TableUseError, UnsupportedError
from hookstream.app.settings import Settings
from hookstream.app.stage_tables.table import REFUSED, Table, WindowedTable
from hookstream.app.stage_tables.values import MAX_KEY_BYTES, MAX_VALUE_BYTES
from hookstream.app.stages import EventStageRunner
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.outcome import Failed
from hookstream.app.streams.partition import Partition
from hookstream.app.testing import BEGIN_MS
from hookstream.codecs.envelope import Event
from hookstream.testing import make_event, run_batch, run_stage, stage_results, tables
from tests.support import ROOT

HERE = Path(__file__).name
MINUTE = 60_000
BEGIN = BEGIN_MS - BEGIN_MS % MINUTE


@pytest.fixture
def app(own_settings: Settings) -> Hookstream:
    return Hookstream(own_settings)


@pytest.fixture
def counts(app: Hookstream) -> Table:
    return app.Table("counts", default=int)


@pytest.fixture
def minutes(app: Hookstream) -> WindowedTable:
    return app.Table("minutes", default=int).tumbling(60.0, expires=timedelta(minutes=2))


def at(minute: float, **fields: Any) -> Event:
    return make_event(received_at_ms=BEGIN + int(minute * MINUTE), **fields)


def test_what_a_stage_writes_is_there_for_the_next_event(counts: Table) -> None:
    async def count(event: Event) -> Event | None:
        counts[event.tool_id] += 1
        counts["all", 1] = {"last": event.tool_id}
        return event

    with tables():
        run_stage(count, [make_event(tool_id="a"), make_event(tool_id="a")])
        run_stage(count, [make_event(tool_id="b")])
        assert counts["a"] == 2
        assert counts["nobody"] == 0, "the default is not put in"
        assert dict(counts.items()) == {"a": 2, "b": 1, ("all", 1): {"last": "b"}}
        assert "a" in counts
        assert "nobody" not in counts
        assert counts.get("nobody") is None
        assert counts.get("a") == 2
        assert set(counts) == set(counts.keys()) == {"a", "b", ("all", 1)}
        assert counts.each("a") == [2]
    with tables():
        assert list(counts.items()) == []


async def test_a_stage_sees_and_deletes_what_its_batch_has_written(app: Hookstream) -> None:
    table = app.Table("seen")
    found: list[Any] = []

    async def look(event: Event) -> Event | None:
        found.append(sorted(table.items()))
        if event.type == "delete":
            del table["x"]
            assert table.pop("y") == 2
            assert table.pop("y", "none") == "none"
        else:
            table["x"], table["y"] = 1, 2
        found.append(sorted(table.items()))
        with pytest.raises(KeyError):
            table["nobody"]
        with pytest.raises(KeyError):
            del table["nobody"]
        return event

    await stage_results(look, [make_event(), make_event(type="delete"), make_event()])
    both = [("x", 1), ("y", 2)]
    assert found == [[], both, both, [], [], both]


async def test_an_event_that_fails_has_written_nothing(counts: Table) -> None:
    async def count(event: Event) -> Event | None:
        counts["all"] += 1
        if event.type == "bad":
            raise ValueError("no")
        return event

    async def over_batch(batch: Batch) -> None:
        await EventStageRunner("count", count)(batch)

    with tables():
        entries = await run_batch(
            over_batch, [make_event(), make_event(type="bad"), make_event(), make_event()]
        )
        assert [isinstance(entry.outcome, Failed) for entry in entries] == [
            False,
            True,
            False,
            False,
        ]
        assert counts["all"] == 3


async def test_an_event_that_fails_in_a_later_stage_has_written_nothing(counts: Table) -> None:
    async def count(event: Event) -> Event | None:
        counts["all"] += 1
        return event

    async def fail(event: Event) -> Event | None:
        if event.type == "bad":
            raise ValueError("no")
        return event

    async def over_batch(batch: Batch) -> None:
        await EventStageRunner("count", count)(batch)
        await EventStageRunner("fail", fail)(batch)

    with tables():
        kinds = ["ok", "bad", "ok", "bad", "bad", "ok"]
        entries = await run_batch(over_batch, [make_event(type=kind) for kind in kinds])
        assert [isinstance(entry.outcome, Failed) for entry in entries] == [
            kind == "bad" for kind in kinds
        ]
        assert counts["all"] == 3


async def test_a_batch_function_says_whose_its_writes_are(counts: Table) -> None:
    async def over_batch(batch: Batch) -> None:
        for entry in batch.live():
            with batch.on(entry):
                counts["all"] += 1
        with pytest.raises(TableUseError, match=r"with batch\.on\(entry\)"):
            counts["all"] += 1

    with tables():
        await run_batch(over_batch, [make_event(), make_event()])
        assert counts["all"] == 2


async def test_a_batch_that_nobody_commits_may_not_end(counts: Table) -> None:
    batch = Batch("mine", Partition(0, 1, "n"), [Entry("1-0", b"", None)], lambda *_: None)
    batch.tables.put(b"key", b"1", batch.entries[0])
    with pytest.raises(TableUseError, match=r"'mine'.*not committed"):
        batch.done()


async def test_stages_whose_events_run_into_each_other_read_only(counts: Table) -> None:
    async def count(event: Event) -> Event | None:
        counts["all"] += 1
        return event

    errors: list[Any] = []

    async def over_batch(batch: Batch) -> None:
        await EventStageRunner("count", count, concurrency=2)(batch)
        errors.extend(entry.outcome for entry in batch.entries)

    await run_batch(over_batch, [make_event(), make_event()])
    assert all("concurrency above 1" in error.error for error in errors)


async def test_what_outlives_its_stage_may_not_write(counts: Table) -> None:
    later: list[asyncio.Task[None]] = []

    async def write() -> None:
        await asyncio.sleep(0)
        counts["all"] += 1

    async def count(event: Event) -> Event | None:
        later.append(asyncio.create_task(write()))
        return event

    with tables():
        await stage_results(count, [make_event()])
        with pytest.raises(TableUseError, match="has returned"):
            await later[0]


def test_outside_a_stage_a_table_is_read_only(counts: Table) -> None:
    with tables(), pytest.raises(TableUseError, match="is written in a stage"):
        counts["x"] = 1


def test_a_receiver_has_no_tables(app: Hookstream, counts: Table) -> None:
    app.producer_only = True
    with pytest.raises(TableUseError, match="in workers"):
        counts["x"]


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        (1.5, 1, "text, a whole number or a tuple"),
        (True, 1, "text, a whole number or a tuple"),
        (("a", None), 1, "text, a whole number or a tuple"),
        ("k" * MAX_KEY_BYTES, 1, f"and may have {MAX_KEY_BYTES}"),
        ("k", {1, 2}, "has to be JSON: set is not"),
        ("k", float("nan"), "has to be JSON"),
        ("k", [float("inf")], "has to be JSON"),
        ("k", "\ud800", "has to be JSON"),
        ("k", {1: "a"}, "come back as something else"),
        ("k", [(1, 2)], "come back as something else"),
        ("k", (1, 2), "come back as something else"),
        ("k", "x" * MAX_VALUE_BYTES, f"and may have {MAX_VALUE_BYTES}"),
    ],
)
def test_what_would_not_come_back_the_same_is_refused(
    counts: Table, key: Any, value: Any, says: str
) -> None:
    async def put(event: Event) -> Event | None:
        counts[key] = value
        return event

    with pytest.raises(TableUseError, match=says):
        run_stage(put, [make_event()])


@pytest.mark.parametrize(
    "value", [0, -1, 2**70, 1.5, "é\0", True, None, [], {"a": [1, {"b": None}]}, "x" * 1000]
)
def test_json_comes_back_as_it_was(counts: Table, value: Any) -> None:
    async def put(event: Event) -> Event | None:
        counts["k"] = value
        return event

    with tables():
        run_stage(put, [make_event()])
        assert counts["k"] == value
        assert type(counts["k"]) is type(value)


def test_windows_go_by_the_time_of_the_event(minutes: WindowedTable) -> None:
    seen: list[tuple[int, int]] = []

    async def count(event: Event) -> Event | None:
        minutes[event.tool_id] += 1
        seen.append((minutes[event.tool_id].current(), minutes[event.tool_id].delta(60)))
        return event

    with tables(now_ms=BEGIN) as clock:
        run_stage(count, [at(0), at(0.99), at(1), at(0.5), at(1.5), at(1.99)])
        assert seen == [(1, 0), (2, 0), (1, 2), (3, 0), (2, 3), (3, 3)]
        assert minutes["test"].now() == 3
        clock.advance(60)
        assert minutes["test"].now() == 3
        assert minutes["test"].delta(60) == 3
        assert dict(minutes.items()) == {"test": 3}
        assert list(minutes.keys(delta=60)) == ["test"]
        assert list(minutes.values()) == [3]
        assert "test" in minutes
        clock.advance(60)
        assert minutes["test"].now() == 0
        assert dict(minutes.items()) == {}
        assert minutes.each("test", delta=timedelta(minutes=1)) == [3]
        with pytest.raises(TableUseError, match="no event here"):
            minutes["test"].current()


def test_windows_expire_by_the_time_of_events(minutes: WindowedTable) -> None:
    async def count(event: Event) -> Event | None:
        minutes["a"] += 1
        return event

    with tables(now_ms=BEGIN) as clock:
        run_stage(count, [at(0), at(2.9), at(0.5)])
        assert minutes["a"].now() == 2, "late, and still kept"
        run_stage(count, [at(3.1), at(0.6)])
        assert minutes["a"].now() == 0, "over, and what comes so late has no window"
        clock.advance(180)
        assert minutes["a"].now() == 1


def test_hopping_windows_overlap(app: Hookstream) -> None:
    table = app.Table("hops", default=list).hopping(60, 20, expires=60)

    async def note(event: Event) -> Event | None:
        table["a"] += [event.type]
        table["b"] = event.type
        return event

    with tables(now_ms=BEGIN) as clock:
        run_stage(note, [at(0, type="x"), at(0.5, type="y")])
        assert table["a"].now() == ["x", "y"]
        clock.advance(20)
        assert table["a"].now() == ["y"]
        assert table["a"].delta(40) == ["x", "y"]
        assert table["b"].now() == "y"


def test_a_table_says_what_faust_has_and_it_has_not(counts: Table) -> None:
    for name in REFUSED:
        with pytest.raises(UnsupportedError, match=f"{name} of the table 'counts'"):
            getattr(counts, name)
    assert not hasattr(counts, "nothing_of_ours")


def test_a_table_that_cannot_be_is_refused_where_it_is_declared(app: Hookstream) -> None:
    app.Table("mine", help="for me")
    assert app.tables.data["mine"].help == "for me", "`hookstream tables` shows it"
    for declare, says in (
        (lambda: app.Table("mine"), f"two tables are called 'mine'.*{HERE}"),
        (lambda: app.Table("a b"), "a table's name has letters"),
        (lambda: app.Table("dedup"), "Hookstream's own"),
        (lambda: app.Table("kept1").tumbling(60), "say expires=SECONDS"),
        (lambda: app.Table("kept2").tumbling(0, expires=1), "above 0 seconds"),
        (lambda: app.Table("kept3").hopping(10, 20, expires=1), "at most the size"),
        (lambda: app.Table("more", partitions=8), f"partitions of app.Table .*{HERE}"),
    ):
        with pytest.raises(SettingsError, match=says):
            declare()
    two = app.Table("two")
    two.tumbling(60, expires=60)
    two.tumbling(60, expires=60)
    with pytest.raises(SettingsError, match="other windows already"):
        two.tumbling(30, expires=60)


def test_the_docs_have_what_tables_have_not() -> None:
    text = (ROOT / "docs" / "stages.md").read_text()
    assert [name for name in REFUSED if f"`{name}`" not in text] == []


def test_an_event_that_comes_after_its_window_is_counted_as_late_and_told_once(
    minutes: WindowedTable, caplog: pytest.LogCaptureFixture
) -> None:
    async def count(event: Event) -> Event | None:
        minutes["a"] += 1
        return event

    late = metrics.TABLE_LATE.labels(table="minutes")
    before = late._value.get()
    with tables():
        run_stage(count, [at(10)])
        assert late._value.get() == before
        run_stage(count, [at(1), at(2), at(9)])
    assert late._value.get() == before + 2
    assert caplog.text.count("an event came 540 s before the newest one of its partition") == 1
    assert "the table 'minutes' has expired" in caplog.text


@pytest.mark.parametrize("there", [False, True])
def test_a_value_that_is_changed_and_not_put_back_is_told_once(
    app: Hookstream, there: bool, caplog: pytest.LogCaptureFixture
) -> None:
    seen = app.Table("seen", default=list)
    by_minute = app.Table("by_minute", default=dict).tumbling(60, expires=60)

    async def forgets(event: Event) -> Event | None:
        seen["all"].append(event.type)
        return event

    async def forgets_in_windows(event: Event) -> Event | None:
        by_minute["all"].current()[event.type] = 1
        return event

    async def puts_back(event: Event) -> Event | None:
        seen["all"] = [*seen["all"], event.type]
        types = seen["all"]
        types.append("more")
        seen["all"] = types
        by_minute["all"] = {**by_minute["all"].current(), "n": len(seen["all"])}
        return event

    with tables():
        if there:
            run_stage(puts_back, [make_event()])
        run_stage(puts_back, [make_event(number=n) for n in range(3)])
        assert "put it back" not in caplog.text
        run_stage(forgets, [make_event(number=n) for n in range(3)])
        run_stage(forgets_in_windows, [make_event(number=n) for n in range(3)])
    assert caplog.text.count("of 'all' in the table 'seen' and not put it back") == 1
    assert caplog.text.count("of 'all' in the table 'by_minute' and not put it back") == 1
