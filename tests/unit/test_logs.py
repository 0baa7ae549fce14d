"""What is logged: the fields of a line, what bounds it, and whose event it is about."""

import asyncio
import io
import json
import logging
import logging.config
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from structlog.contextvars import bind_contextvars, bound_contextvars

from hookstream.app import tasks
from hookstream.app.logs import MAX_LINES, LimitedHandler, LogFormat, logging_config
from hookstream.app.stages import EventStageRunner
from hookstream.app.testing import make_event, run_batch
from hookstream.codecs.envelope import Event

logger = logging.getLogger("hookstream.tests.logs")


class Screen(io.StringIO):
    """Standard error as a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., io.StringIO]]:
    """Configures logging for a test; what is written to standard error."""
    root, ours = logging.getLogger(), logging.getLogger("hookstream")
    before = (root.handlers[:], root.level, ours.level)

    def configure(
        log_format: LogFormat, error: io.StringIO | None = None, **settings: int
    ) -> io.StringIO:
        error = error or io.StringIO()
        monkeypatch.setattr(sys, "stderr", error)
        logging.config.dictConfig(logging_config("info", log_format, **settings))
        return error

    yield configure
    for handler in root.handlers:
        handler.close()
    root.handlers[:], root.level = before[0], before[1]
    ours.setLevel(before[2])


def lines(error: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in error.getvalue().splitlines()]


def test_a_line_has_its_fields_and_a_time_with_its_zone(
    configured: Callable[..., io.StringIO],
) -> None:
    error = configured("auto")
    logger.info("%d events of %s", 3, 'a "tool" — 工具', extra={"route": "/hooks/{tool_id}"})
    [line] = lines(error)
    assert list(line)[:5] == ["time", "level", "logger", "message", "process"]
    assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
    assert (line["level"], line["logger"]) == ("info", "hookstream.tests.logs")
    assert line["message"] == '3 events of a "tool" — 工具'
    assert line["route"] == "/hooks/{tool_id}"
    assert isinstance(line["process"], int)


def test_lines_of_libraries_are_of_the_same_form(configured: Callable[..., io.StringIO]) -> None:
    error = configured("json")
    logging.getLogger("some.library").warning("it says %r", b"bytes")
    logging.getLogger("some.library").info("not wanted")
    assert [line["message"] for line in lines(error)] == ["it says b'bytes'"]


def test_a_terminal_gets_text_and_a_setting_decides(
    configured: Callable[..., io.StringIO],
) -> None:
    screen = configured("auto", Screen())
    logger.info("for people")
    assert "for people" in screen.getvalue()
    assert not screen.getvalue().startswith("{")
    as_json = configured("json", Screen())
    logger.info("for programs")
    assert lines(as_json)[0]["message"] == "for programs"
    as_text = configured("text")
    logger.info("for people")
    assert as_text.getvalue().endswith("\n")
    assert "\x1b" not in as_text.getvalue(), "a file has no colours"


def test_what_is_logged_as_text_cannot_forge_a_line_or_drive_a_terminal(
    configured: Callable[..., io.StringIO],
) -> None:
    error = configured("text")
    logger.info("said: %s", "x\n2026-01-01T00:00:00Z [info] forged\x1b[2J\r")
    try:
        raise ValueError("\x1b]0;title\x07")
    except ValueError:
        logger.exception("failed")
    assert "\n2026-01-01" not in error.getvalue()
    assert not set(error.getvalue()) & {"\x1b", "\r", "\x07"}


def test_an_error_is_data_and_bounded(configured: Callable[..., io.StringIO]) -> None:
    error = configured("json")

    def deep(left: int) -> None:
        if left:
            deep(left - 1)
        try:
            raise ExceptionGroup("group", [ValueError("x" * 100_000) for _ in range(100)])
        except ExceptionGroup as group:
            raise RuntimeError("y" * 100_000) from group

    try:
        deep(200)
    except RuntimeError:
        logger.exception("failed")
    [line] = lines(error)
    first, second = line["exception"]
    assert (first["exc_type"], second["exc_type"]) == ("RuntimeError", "ExceptionGroup")
    assert "deep" in {frame["name"] for frame in first["frames"]}
    assert len(error.getvalue()) < 20_000


def test_half_a_surrogate_pair_is_logged(configured: Callable[..., io.StringIO]) -> None:
    buffer = io.BytesIO()
    configured("json", io.TextIOWrapper(buffer, "utf-8", errors="backslashreplace"))
    logger.info("half: %s", "\ud83d")
    assert json.loads(buffer.getvalue())["message"] == "half: \ud83d"


def test_the_same_line_is_said_so_often_a_minute_and_then_counted() -> None:
    written: list[str] = []

    class Written(LimitedHandler):
        def format(self, record: logging.LogRecord) -> str:
            written.append(record.getMessage())
            return ""

    handler = Written(2)
    handler.setStream(io.StringIO())

    def say(message: str, at: float, level: int = logging.INFO, name: str = "one") -> None:
        record = logging.LogRecord(name, level, "", 0, "%s", (message,), None)
        record.created = at
        handler.handle(record)

    for _ in range(5):
        say("same", 1000.0)
    say("other", 1001.0)
    say("same", 1002.0, name="two")
    assert written == ["same", "same", "other", "same"]
    say("later", 1061.0)
    assert written[4:] == ["same (repeated 3 times within a minute)", "later"]
    say("same", 1062.0)
    assert written[-1] == "same", "a new minute"
    for _ in range(3):
        say("detail", 1063.0, logging.DEBUG)
    assert written[-3:] == ["detail"] * 3, "at debug all of it is wanted"
    for _ in range(4):
        say("last words", 1064.0)
    handler.close()
    assert written[-1] == "last words (repeated 2 times within a minute)"


def test_a_line_that_cannot_be_put_together_ends_nobodys_work(
    configured: Callable[..., io.StringIO],
) -> None:
    error = configured("json", repeats_per_minute=5)
    logger.info("%d events", "many")
    logger.info("x" * 1_000_000)
    assert "tests/unit/test_logs.py" in error.getvalue(), "it says where"
    [message] = [json.loads(line)["message"] for line in error.getvalue().splitlines()[-1:]]
    assert message == "x" * 10_000


def test_different_lines_without_end_are_not_remembered_without_end() -> None:
    handler = LimitedHandler(1)
    handler.setStream(io.StringIO())
    handler.setFormatter(logging.Formatter("%(message)s"))
    out = handler.stream
    for number in range(5000):
        handler.handle(logging.LogRecord("one", logging.INFO, "", 0, f"{number}", (), None))
    assert len(handler._seen) <= MAX_LINES + 1
    # nor are they written: who may have different lines written could fill the disk
    assert len(out.getvalue().splitlines()) == MAX_LINES + 1
    handler.handle(logging.LogRecord("two", logging.ERROR, "", 7, "of another place", (), None))
    assert out.getvalue().endswith("of another place\n")
    handler.close()
    assert "other lines of None:0 (repeated 3999 times within a minute)" in out.getvalue()


def test_a_line_about_an_event_has_its_id(configured: Callable[..., io.StringIO]) -> None:
    error = configured("json")
    with bound_contextvars(event_id="019a"):
        logger.info("about it")
    logger.info("about nothing")
    assert [line.get("event_id") for line in lines(error)] == ["019a", None]


async def test_a_task_is_not_about_the_event_that_began_it(
    configured: Callable[..., io.StringIO],
) -> None:
    error = configured("json")

    async def fails() -> None:
        logger.info("at work for all")
        raise ValueError("of its own")

    async def request() -> None:
        bind_contextvars(event_id="019a", request_id="r1")
        task = tasks.spawn("test_logs.fails", fails())
        logger.info("the request")
        await asyncio.wait([task])

    await asyncio.create_task(request())
    await asyncio.sleep(0)
    said = {line["message"].partition(" (")[0]: line.get("event_id") for line in lines(error)}
    assert said == {
        "the request": "019a",
        "at work for all": None,
        "the task test_logs.fails failed": None,
    }


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_what_a_stage_logs_has_the_id_of_its_event(
    configured: Callable[..., io.StringIO], concurrency: int
) -> None:
    error = configured("json")

    async def stage(event: Event) -> Event:
        logger.info("looking at %s", event.event_id)
        await asyncio.sleep(0)
        if event.data() == 1:
            raise KeyError("nope")
        return event

    events = [make_event(number, number=number) for number in range(3)]
    await run_batch(EventStageRunner("stage", stage, concurrency), events)
    logger.info("behind it")
    said = lines(error)
    looked = [line for line in said if line["message"].startswith("looking at ")]
    assert [f"looking at {line['event_id']}" for line in looked] == [
        line["message"] for line in looked
    ]
    [failed] = [line for line in said if line["level"] == "error"]
    assert failed["event_id"] == events[1].event_id
    assert failed["exception"][0]["exc_type"] == "KeyError"
    assert "event_id" not in said[-1]
