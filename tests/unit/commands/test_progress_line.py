"""What people see of something long."""

import io

from hookstream.app.commands.progress_line import ProgressLine, lasts


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_rate_and_what_is_left_follow_from_what_was_done() -> None:
    now = [0.0]
    file = Terminal()
    line = ProgressLine(file, lambda: now[0])
    line.say(0, 0.0)
    for _ in range(10):
        now[0] += 1
        line.say(int(now[0]) * 500, now[0] / 100, "3 rejected")
    assert line.text(5000, 0.1, "3 rejected") == (
        " 10.0 %, 5,000 events, 500/s, 1 min 30 s left, 3 rejected"
    )
    line.end()
    shown = file.getvalue()
    assert shown.count("\r") == 11
    assert shown.endswith("\n")


def test_a_file_gets_a_line_now_and_then() -> None:
    now = [0.0]
    file = io.StringIO()
    line = ProgressLine(file, lambda: now[0])
    for _ in range(100):
        line.say(int(now[0]), None)
        now[0] += 0.25
    line.say(25, None, now=True)
    line.end()
    assert len(file.getvalue().splitlines()) == 4
    assert "%" not in file.getvalue()


def test_the_last_word_is_said_once_in_a_file_and_what_is_counted_has_its_name() -> None:
    now = [0.0]
    file = io.StringIO()
    line = ProgressLine(file, lambda: now[0], noun="results")
    line.say(5, 1.0, "2 known")
    now[0] += 1
    line.say(5, 1.0, "2 known", now=True)
    assert file.getvalue() == "100.0 %, 5 results, 2 known\n"
    line.say(5, 1.0, "3 known", now=True)
    assert file.getvalue().count("\n") == 2


def test_times_in_two_units() -> None:
    assert [lasts(s) for s in (0.4, 61, 7260, 90_000)] == [
        "0 s",
        "1 min 1 s",
        "2 h 1 min",
        "1 d 1 h",
    ]
