"""Whatever both paths have made of events: each is in one class, and each difference is counted."""

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.routing.comparison import Attempt, Compared, Comparison, Known
from hookstream.app.routing.paths import OLD, OURS

NOW = 10_000_000_000
contexts = st.none() | st.frozensets(st.sampled_from("abc"), max_size=3)
attempts = st.lists(
    st.builds(Attempt, st.integers(0, NOW), contexts, st.sampled_from(["", "", "Timeout", "Gone"])),
    max_size=3,
)
events = st.lists(
    st.builds(
        Compared,
        event_id=st.uuids().map(str),
        received_ms=st.integers(NOW - 600_000, NOW),
        status=st.sampled_from(["accepted", "unrouted", "duplicate", "retrying", "dead", "erased"]),
        stage=st.sampled_from(["", "old-path", "old-path:render", "held", "check"]),
        error=st.sampled_from(["", "KeyError: x"]),
        payload_bytes=st.integers(0, 300_000),
        partition=st.integers(0, 3),
        place=st.tuples(st.integers(0, 20), st.integers(0, 2)),
        path=st.sampled_from([OLD, OURS]),
        copied=st.booleans(),
        key=st.sampled_from(["", "k", "l"]),
        contexts=contexts,
        delivered=st.booleans(),
        at_ms=st.none() | st.integers(NOW - 600_000, NOW + 1000),
        attempts=attempts.map(lambda found: tuple(sorted(found, key=lambda one: one.at_ms))),
    ),
    max_size=30,
)
#: What an event is counted in once, and those of them that are differences, by kind.
CLASSES = (
    "both", "only_old", "only_ours", "neither", "ours_alone", "old_alone", "nobody", "under_way",
    "not_reported",
)  # fmt: skip
KINDS = {
    "only-old": "only_old",
    "only-ours": "only_ours",
    "neither": "neither",
    "contexts": "contexts_other",
    "order": "out_of_order",
    "old-twice": "old_twice",
}


def compared(found: list[Compared], examples: int = 3, pages: int = 1) -> Comparison:
    comparison = Comparison(Known(NOW), examples=examples)
    for at in range(0, len(found), max(1, len(found) // pages)):
        comparison.add(0, found[at : at + max(1, len(found) // pages)])
    return comparison


def counts(comparison: Comparison) -> Counter[str]:
    found = comparison.hours()
    return (
        Counter({name: count or 0 for name, count in found[0][1].items()}) if found else Counter()
    )


@given(events, st.integers(1, 5))
def test_each_event_is_in_one_class_and_each_difference_is_counted(
    found: list[Compared], examples: int
) -> None:
    comparison = compared(found, examples)
    hour, causes = counts(comparison), comparison.causes()
    wanted = [one for one in found if one.attempts or one.status not in ("duplicate", "erased")]
    assert hour["events"] == sum(hour[name] for name in CLASSES) == len(wanted)
    assert hour["both"] == sum(
        hour[name] for name in ("contexts_equal", "contexts_other", "contexts_unknown")
    )
    for kind, name in KINDS.items():
        assert sum(one["count"] for one in causes if one["kind"] == kind) == hour[name], kind
    for one in causes:
        assert len(one["events"]) == min(one["count"], examples)


@given(events, st.integers(1, 7))
def test_pages_do_not_matter(found: list[Compared], pages: int) -> None:
    whole, parts = compared(found), compared(found, pages=pages)
    assert (whole.hours(), whole.causes()) == (parts.hours(), parts.causes())


@given(events)
def test_a_path_that_does_the_same_differs_in_nothing(found: list[Compared]) -> None:
    alike = [
        replace(
            one,
            status="unrouted",
            stage="old-path",
            error="",
            path=OLD,
            place=(at, 0),
            contexts=one.contexts or frozenset(),
            attempts=(Attempt(NOW + at, one.contexts or frozenset()),),
        )
        for at, one in enumerate(found)
    ]
    comparison = compared(alike)
    assert comparison.causes() == []
    assert counts(comparison)["contexts_equal"] == len(found)


@given(events, st.data())
def test_inversions_are_found_where_there_are_some(
    found: list[Compared], data: st.DataObject
) -> None:
    """Of one key, done in any order: nothing is told only where all were in order."""
    ends = data.draw(st.permutations(range(len(found))))
    done = [
        replace(one, key="k", place=(at, 0), attempts=(Attempt(NOW + end, None),))
        for at, (one, end) in enumerate(zip(found, ends, strict=True))
    ]
    assert (counts(compared(done))["out_of_order"] == 0) == (list(ends) == sorted(ends))
