"""``hookstream migrate``: where a rollback goes, and what is printed."""

from typing import Any

import pytest

from hookstream.app.commands.migrate import before, table
from hookstream.app.errors import ConflictError


def shown(*modes: tuple[str, int]) -> dict[str, Any]:
    history = [
        {"mode": mode, "percent": percent, "generation": at, "at": "2026-11-30T12:00:00.000+00:00"}
        for at, (mode, percent) in enumerate(modes, 1)
    ]
    return {
        "tool_id": "github",
        "mode": modes[-1][0],
        "percent": modes[-1][1],
        "history": history,
        "waiting_keys": 1,
        "waiting_keys_more": False,
        "waiting_copies": 3,
        "hand_overs": [{"mark": "m", "key": "k", "since": "2026-11-30T12:00:00", "sent": False}],
    }


def test_a_rollback_goes_to_the_mode_before_and_the_next_one_further_back() -> None:
    modes = [("sqs", 0), ("shadow", 0), ("split", 10), ("split", 50)]
    assert before(shown(*modes)) == {"mode": "split", "percent": 10}
    assert before(shown(*modes, ("split", 10))) == {"mode": "shadow"}
    assert before(shown(*modes, ("split", 10), ("shadow", 0))) == {"mode": "sqs"}
    with pytest.raises(ConflictError, match="no mode before"):
        before(shown(*modes, ("split", 10), ("shadow", 0), ("sqs", 0)))


def test_a_rollback_of_a_second_move_does_not_go_to_a_mode_of_the_first_one() -> None:
    first = [("sqs", 0), ("shadow", 0), ("split", 50), ("redis", 0), ("sqs", 0)]
    assert before(shown(*first, ("redis", 0))) == {"mode": "sqs"}
    with pytest.raises(ConflictError, match="no mode before"):
        before(shown(*first))


def test_people_see_what_waits_and_the_modes_before() -> None:
    text = table(shown(("shadow", 0), ("split", 10)))
    assert text.splitlines()[:3] == [
        "github: split 10 %",
        "3 events are still to be copied into the old workers' queue",
        "1 ordering keys wait for old workers to be through with them",
    ]
    assert "not yet" in text
    assert "2026-11-30T12:00:00  shadow" in text
