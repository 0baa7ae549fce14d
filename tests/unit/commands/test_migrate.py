"""``hookstream migrate``: what is printed."""

from typing import Any

from hookstream.app.commands.migrate import table


def shown(*modes: tuple[str, int]) -> dict[str, Any]:
    history = [
        {
            "mode": mode,
            "percent": percent,
            "generation": at,
            "at": "2026-11-30T12:00:00.000+00:00",
            "rollback": at > 2,
        }
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
        "workers_behind": 0,
        "hand_overs": [{"mark": "m", "key": "k", "since": "2026-11-30T12:00:00", "sent": False}],
    }


def test_people_see_what_waits_and_the_modes_before() -> None:
    text = table(shown(("shadow", 0), ("split", 10)))
    assert text.splitlines()[:3] == [
        "github: split 10 %",
        "3 events are still to be copied into the old workers' queue",
        "1 ordering keys wait for old workers to be through with them",
    ]
    assert "not yet" in text
    assert "2026-11-30T12:00:00  shadow" in text
    assert "rollback" not in text
    back = table(shown(("shadow", 0), ("split", 10), ("shadow", 0)))
    assert back.splitlines()[-1].split() == ["2026-11-30T12:00:00", "shadow", "rollback"]


def test_people_are_told_of_workers_that_do_not_know_a_first_mode() -> None:
    found = shown(("sqs", 0))
    assert "heard" not in table(found)
    assert "2 of the workers have not heard of this first" in table(found | {"workers_behind": 2})
    assert "1 of the workers has not heard" in table(found | {"workers_behind": 1})
    # it was asked for again
    assert "heard" in table(shown(("sqs", 0), ("sqs", 0)) | {"workers_behind": 1})
    # of later ones each worker moves keys when it hears of them
    assert "heard" not in table(shown(("sqs", 0), ("redis", 0)) | {"workers_behind": 2})
