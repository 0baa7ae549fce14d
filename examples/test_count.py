"""Tests without a server: events go in, and the test says what time it is."""

from examples.count import count, counts
from hookstream.testing import make_event, run_stage, tables


def test_events_are_counted() -> None:
    with tables() as clock:
        run_stage(count, [make_event(), make_event(number=1)])
        assert counts["test"].now() == 2
        clock.advance(60)
        assert counts["test"].now() == 0
        assert counts["test"].delta(60) == 2
