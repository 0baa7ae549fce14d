"""What people read of a comparison."""

from typing import Any

import pytest

from hookstream.app.commands.comparison_report import merged, report
from hookstream.app.routing.comparison import Comparison, Known
from hookstream.app.web.comparison import costs
from hookstream.app.web.models.comparison import HourOut
from tests.unit.routing.test_comparison import AT, EVENT, HOUR, NOW, A, Attempt, replace

PRICES = {"request_price": 0.4, "cpu_price": 0.04}


def answer(*events: Any, at: int = AT, examples: int = 1) -> dict[str, Any]:
    comparison = Comparison(Known(NOW), examples=examples)
    comparison.add(at, events)
    return {
        "tool_id": "github",
        "mode": "shadow",
        "since": "2026-11-30T10:00:00+00:00",
        "until": "2026-11-30T12:00:00+00:00",
        "cursor": None,
        "hours": [
            {"hour": f"2026-11-30T{at // HOUR:02}:00:00+00:00", **counts, **costs(counts, **PRICES)}
            for at, counts in comparison.hours()
        ],
        "causes": comparison.causes(),
    }


def test_an_hour_has_what_the_api_says_it_has() -> None:
    [hour] = answer(EVENT)["hours"]
    assert set(hour) == set(HourOut.model_fields)
    HourOut.model_validate(hour)


def test_costs_are_those_of_requests_and_of_cpu_time() -> None:
    figures = {
        "receiver_cpu_us": 100, "worker_cpu_us": 200, "redis_cpu_us": 50,
        "worker_context_cpu_us": 10,
    }  # fmt: skip
    counts = {"events_here": 4, "contexts_here": 5, "events_old": 2, "sqs_requests": 8}
    found = costs(counts, **PRICES, figures=figures)
    assert found["cpu_seconds"] == pytest.approx(0.00145, abs=0.001)
    # four requests an event; 362.5 µs of a core an event
    assert found["cost_old"] == pytest.approx(1.6)
    assert found["cost_ours"] == pytest.approx(362.5 / 3600 * 0.04, abs=1e-4)
    nothing = costs(dict.fromkeys(counts, 0), **PRICES)
    assert (nothing["cost_old"], nothing["cost_ours"]) == (None, None)


def test_answers_that_follow_each_other_are_one_report() -> None:
    lost = replace(EVENT, attempts=())
    other = replace(EVENT, event_id="e9", attempts=(Attempt(AT, A | {"`b`"}),))
    found = merged(
        [answer(lost, other, at=11 * HOUR), answer(replace(lost, event_id="e2"), at=10 * HOUR)]
    )
    assert [hour["hour"][11:13] for hour in found["hours"]] == ["10", "11"]
    text = report(found)
    assert "# github: old workers and Hookstream" in text
    lines = text.splitlines()
    head = next(line for line in lines if line.startswith("| hour"))
    all_of_it = next(line for line in lines if line.startswith("| all"))
    cells = dict(
        zip(
            (cell.strip() for cell in head.split("|")),
            (cell.strip() for cell in all_of_it.split("|")),
            strict=True,
        )
    )
    assert (cells["events"], cells["only ours"], cells["other"]) == ("3", "2", "1")
    assert len(head) == len(all_of_it)
    assert "- **Only Hookstream**, 2: they have not said" in text
    assert "  - `e1`\n  - `e2`" in text
    assert "  - `e9` missing here: " in text
    assert "None." in report(merged([answer(EVENT)]))
    assert "There were none." in report(merged([{**answer(), "hours": [], "causes": []}]))
