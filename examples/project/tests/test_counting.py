"""Without a server, at a time that the test sets."""

from my_project.agents.count import LAST_MINUTE, count, of_minute, tell

from hookstream.testing import make_event, run_stage, tables


def test_events_are_counted_by_tool_and_minute() -> None:
    with tables() as clock:
        run_stage(count, [make_event(tool_id="ci"), make_event(tool_id="ci"), make_event()])
        assert of_minute() == {"ci": 2, "test": 1}
        clock.advance(60)
        assert of_minute() == {}
        assert of_minute(1) == {"ci": 2, "test": 1}
        tell()
        assert LAST_MINUTE.labels(tool="ci")._value.get() == 2
