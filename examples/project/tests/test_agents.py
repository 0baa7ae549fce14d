"""Without a server."""

from my_project.agents import by_build, shout

from hookstream.testing import find_duplicates, make_event, run_stage


def test_every_event_is_marked() -> None:
    [event] = run_stage(shout, [make_event({"build": 1})])
    assert event is not None
    assert event.headers["x-my-project"] == "seen"


def test_a_build_is_told_once() -> None:
    first, again = make_event({"build": 1}), make_event({"build": 1}, number=1)
    assert find_duplicates(by_build, [first, again]) == [None, first]
