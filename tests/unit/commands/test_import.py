"""What `hookstream import` says, and which lines it refuses before any is sent."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hookstream.app.commands.import_ import table
from hookstream.app.commands.import_lines import Reading, Rejects, check_writable
from hookstream.app.errors import BadRequestError
from hookstream.app.history.source import Line, ReadPage

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def shown(status: str, at: str, reason: str = "") -> dict[str, Any]:
    names = ("imported", "duplicates", "known", "expired", "erased", "rejected")
    return {
        "import_id": f"id-{status}", "tool_id": "t", "status": status, "reason": reason,
        "updated_at": f"2026-11-30T{at}+00:00", "source": "s", **dict.fromkeys(names, 0),
    }  # fmt: skip


def test_one_that_was_left_shows_since_when_nothing_came_and_one_that_failed_why() -> None:
    said = table(
        [
            shown("running", "11:59:30"),
            shown("running", "08:57:00"),
            shown("failed", "08:00:00", "there is no table x"),
            shown("done", "08:00:00"),
        ],
        NOW,
    )
    lines = said.splitlines()
    assert lines[1].split()[2:4] == ["running", "0"]
    assert "running, quiet for 3 h 3 min" in lines[2]
    assert lines[-1] == "id-failed failed: there is no table x"
    assert "quiet" not in lines[3] + lines[4]


def lines(*texts: bytes) -> list[Line]:
    return [Line(f"f:{n}", text, number=n) for n, text in enumerate(texts, 1)]


OURS = b'{"received_at":5,"payload":1,"type":"a"}'
THEIRS = b'{"received_at":5,"payload":1,"repo_name":"a"}'
WRONG = b"no json"


@pytest.mark.parametrize(
    ("form", "texts", "refused"),
    [
        ("hookstream", [THEIRS, WRONG, THEIRS], "f:1: `repo_name` is a member of the predecessor"),
        ("predecessor", [WRONG, OURS], "f:2: `type` is a member of Hookstream's own format"),
        # some of them are: the others are told one by one
        ("hookstream", [THEIRS, OURS], ""),
        ("predecessor", [THEIRS, OURS], ""),
        ("hookstream", [WRONG], ""),
        ("hookstream", [], ""),
    ],
)
def test_a_file_of_the_other_format_is_refused_before_any_line_is_passed_over(
    form: str, texts: list[bytes], refused: str
) -> None:
    reading = Reading(form, "")
    if refused:
        with pytest.raises(BadRequestError, match=refused) as error:
            reading.check(lines(*texts))
        assert "Nothing was imported" in str(error.value)
    else:
        reading.check(lines(*texts))


def test_members_that_are_ignored_are_not_sent() -> None:
    text = b'{"received_at":5,"payload":1,"zone":"x","source":"y"}'
    sent, troubles = Reading("hookstream", "zone, source").lines(ReadPage(lines(text)))
    assert json.loads(sent[0].text) == {"received_at": 5, "payload": 1}
    assert troubles == []
    sent, troubles = Reading("predecessor", "").lines(ReadPage(lines(text)))
    assert sent == []
    assert "`zone`" in troubles[0][1]


def test_lines_that_are_not_shown_are_counted_and_it_is_said_how_to_see_them(
    tmp_path: Path,
) -> None:
    told: list[str] = []
    rejects = Rejects(tmp_path / "no events.jsonl", told.append)
    rejects.keep([(one, "is none") for one in lines(*[WRONG] * 8)])
    rejects.end()
    assert told == [f"f:{n}: is none" for n in range(1, 9)]
    rejects.keep([(one, "is none") for one in lines(*[WRONG] * 5)])
    rejects.end()
    assert told[10:] == [
        "and 3 more lines are no events: jq -r '.where + \": \" + .reason' "
        f"'{tmp_path}/no events.jsonl'"
    ]


def test_a_file_for_rejects_that_cannot_be_is_said_at_the_start(tmp_path: Path) -> None:
    check_writable(tmp_path / "a")
    for path, says in ((tmp_path, "is a folder"), (tmp_path / "none" / "a", "there is no folder")):
        with pytest.raises(BadRequestError, match=f"{says}.*--rejects FILE"):
            check_writable(path)
