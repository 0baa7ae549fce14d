"""Both paths of a tool that moves, compared: which class an event is in, and why paths differ."""

from dataclasses import replace
from typing import Any

import pytest

from hookstream.app.routing.comparison import (
    CAUSES,
    GRACE_MS,
    OTHER,
    Attempt,
    Compared,
    Comparison,
    Known,
    latency_bucket,
    latency_ms,
)
from hookstream.app.routing.paths import OURS

HOUR = 3_600_000
NOW = 100 * HOUR
AT = NOW - 2 * HOUR
A, B = frozenset({"a"}), frozenset({"b"})
DONE = Attempt(AT + 50, A)
#: In `shadow`, and all is well.
EVENT = Compared(
    "e1", AT, "unrouted", "old-path", contexts=A, at_ms=AT + 5, attempts=(DONE,), place=(1, 0)
)
OURS_DONE = replace(EVENT, path=OURS, status="accepted", stage="", delivered=True)


def found(*events: Compared, known: Known = Known(NOW), examples: int = 10) -> tuple[Any, Any]:  # noqa: B008
    """Counts of the one hour that are not 0, and kinds with causes and counts."""
    comparison = Comparison(known, examples=examples)
    comparison.add(AT, events)
    [(_, counts)] = comparison.hours()
    causes = {(one["kind"], one["cause"]): one["count"] for one in comparison.causes()}
    return {name: count for name, count in counts.items() if count}, causes


def test_what_both_have_done_alike_is_no_difference() -> None:
    counts, causes = found(EVENT, replace(OURS_DONE, event_id="e2"))
    assert causes == {}
    assert (counts["events"], counts["both"], counts["contexts_equal"]) == (2, 2, 2)
    assert (counts["p50_ours_ms"], counts["p99_old_ms"]) == (5, pytest.approx(50, rel=0.05))
    assert (counts["events_old"], counts["sqs_requests"], counts["contexts_here"]) == (2, 6, 2)


@pytest.mark.parametrize(
    ("changed", "kind", "cause"),
    [
        ({"status": "duplicate", "stage": "", "contexts": None}, "only-old", "duplicate"),
        (
            {"stage": "old-path:render", "error": "KeyError: 'x'", "contexts": None},
            "only-old",
            "fails in stage render: KeyError",
        ),
        (
            {"path": OURS, "status": "dead", "stage": "check", "error": "Bad: no"},
            "only-old",
            "dead letter in stage check: Bad",
        ),
        (
            {"path": OURS, "status": "retrying", "stage": "held", "contexts": None},
            "only-old",
            "it waits (held)",
        ),
        ({"path": OURS, "status": "accepted", "stage": ""}, "only-old", "no update of it"),
        ({"contexts": frozenset()}, "only-old", "no subscription here wants it"),
        ({"contexts": frozenset(), "dropped_by": "quiet"}, "only-old", "the stage quiet"),
        ({"attempts": ()}, "only-ours", "they have not said"),
        ({"attempts": (Attempt(AT, error="Timeout"),)}, "only-ours", "error Timeout"),
        ({"attempts": (Attempt(AT, frozenset()),)}, "only-ours", "for no context"),
        ({"contexts": B}, "contexts", "narrower and wider"),
        ({"contexts": A | B}, "contexts", "are wider"),
        ({"attempts": (DONE, Attempt(AT + 60, A))}, "old-twice", "given it again"),
        (
            {"stage": "old-path:check", "error": "E", "contexts": None, "attempts": ()},
            "neither",
            "fails in stage check: E; old workers: they have not said",
        ),
        (
            {"contexts": None, "attempts": (Attempt(AT, error="Timeout"),)},
            "neither",
            "nothing is done here in mode `sqs`; old workers: error Timeout",
        ),
    ],
)
def test_a_difference_has_a_kind_and_a_likely_cause(
    changed: dict[str, Any], kind: str, cause: str
) -> None:
    _, causes = found(replace(EVENT, **changed))
    [(told_kind, told_cause)] = causes
    assert (told_kind, cause in told_cause) == (kind, True), causes


def test_what_was_never_copied_says_why() -> None:
    event = replace(EVENT, attempts=(), partition=3)
    _, causes = found(event, known=Known(NOW, {"e1": "too-large"}))
    assert causes == {("only-ours", "not copied: too-large"): 1}
    _, causes = found(event, known=Known(NOW, waiting={3: AT}))
    assert causes == {("only-ours", "its copy waits to be sent into their queue"): 1}
    _, causes = found(event, known=Known(NOW, waiting={3: AT + HOUR, 4: AT}))
    assert [cause for _, cause in causes] != ["its copy waits to be sent into their queue"]


def test_what_is_no_difference_is_told_apart() -> None:
    young = {"received_ms": NOW - GRACE_MS + 1, "attempts": ()}
    counts, causes = found(
        # one path alone was to have it
        replace(OURS_DONE, copied=False, attempts=()),
        replace(EVENT, contexts=None),
        # it reaches nobody, and nobody speaks of it
        replace(EVENT, contexts=frozenset(), attempts=()),
        # it may come yet
        replace(EVENT, **young),
        replace(OURS_DONE, delivered=False, **young),
        # it is theirs alone, and they say nothing
        replace(EVENT, contexts=None, attempts=()),
        # they do not say for whom
        replace(EVENT, attempts=(Attempt(AT + 50),)),
        # it is no event of its own
        replace(EVENT, status="duplicate", attempts=()),
        replace(EVENT, status="erased", attempts=()),
    )
    assert causes == {}
    assert counts["events"] == 7
    names = ("ours_alone", "old_alone", "nobody", "under_way", "not_reported", "both")
    assert [counts[name] for name in names] == [1, 1, 1, 2, 1, 1]
    assert counts["contexts_unknown"] == 1


def test_order_is_told_by_key_and_across_hours() -> None:
    def event(name: str, place: int, done: int, key: str = "k") -> Compared:
        return replace(
            EVENT, event_id=name, place=(place, 0), key=key, attempts=(Attempt(AT + done, A),)
        )

    events = [event("e1", 1, 90), event("e2", 2, 50), event("e3", 3, 95), event("x", 2, 10, "l")]
    counts, causes = found(*events)
    assert counts["out_of_order"] == 1
    assert causes == {("order", "old workers did not work on its group one after the other"): 1}
    _, causes = found(*events, known=Known(NOW, fifo=False))
    assert causes == {("order", "their queue is none of FIFO: it keeps no order"): 1}
    # ids of two receivers may not have the order of the stream
    counts, causes = found(event("e2", 2, 50), event("e1", 1, 40))
    assert "out_of_order" not in counts
    comparison = Comparison(Known(NOW), examples=1)
    comparison.add(AT, [event("e1", 1, 90)])
    comparison.add(AT + HOUR, [event("e2", 2, 50)])
    assert comparison.causes()[0]["events"] == [
        {"event_id": "e1", "other": "e2", "missing": [], "additional": []}
    ]
    comparison.add(AT + 3 * HOUR, [event("e3", 3, 60)])
    comparison.add(AT + 4 * HOUR, [event("e4", 4, 20)])
    assert comparison.causes()[0]["count"] == 2


def test_all_are_counted_and_the_first_of_each_cause_are_named() -> None:
    comparison = Comparison(Known(NOW), examples=2)
    comparison.add(AT, [replace(EVENT, event_id=f"e{n}", attempts=()) for n in range(5)])
    comparison.add(AT, [replace(EVENT, event_id="other", contexts=B)])
    many, one = comparison.causes()
    assert (many["count"], [event["event_id"] for event in many["events"]]) == (5, ["e0", "e1"])
    assert one["events"] == [
        {"event_id": "other", "other": None, "missing": ["a"], "additional": ["b"]}
    ]
    errors = [replace(EVENT, attempts=(Attempt(AT, error=f"E{n}"),)) for n in range(CAUSES + 30)]
    comparison.add(AT, errors)
    causes = comparison.causes()
    assert len(causes) == CAUSES + 1
    assert sum(one["count"] for one in causes if one["cause"] == OTHER) == 32


def test_what_is_not_here_counts_in_the_hour_in_which_it_was_done() -> None:
    comparison = Comparison(Known(NOW), examples=1)
    comparison.add(AT, [EVENT])
    comparison.add_alone(AT - HOUR, 3, 1, ["x"])
    (before, alone), (_, counts) = comparison.hours()
    assert (before, alone["events"], alone["only_old"], alone["errors_old"]) == (AT - HOUR, 3, 3, 1)
    assert counts["both"] == 1
    [cause] = comparison.causes()
    assert (cause["count"], cause["events"][0]["event_id"]) == (3, "x")


@pytest.mark.parametrize("ms", [0, 1, 7, 99, 1500, 86_400_000])
def test_latencies_are_right_within_five_percent(ms: int) -> None:
    from collections import Counter

    assert latency_ms(Counter({latency_bucket(ms): 3}), 0.5) == pytest.approx(
        max(1, ms), rel=0.05, abs=1
    )
    assert latency_ms(Counter(), 0.99) is None
