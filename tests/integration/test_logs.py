"""What a running system logs: JSON in a file, text on a terminal, an id from request to stage."""

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.stack import Stack, eventually, fresh, own_stages

STAGES = """
import logging

from hookstream import Event, app

logger = logging.getLogger("hookstream.my_stages")


@app.stage(after="dedupe")
async def talks(event: Event) -> Event | None:
    print("printed", "by", "a", "stage")
    logger.info("a stage looks at it")
    if b"trip" in event.payload:
        raise KeyError("nope")
    return event
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("logs")
    with Stack(
        folder,
        **own_stages(folder, "talking_stages", STAGES),
        HOOKSTREAM_LOG_LEVEL="debug",
        HOOKSTREAM_LOG_REPEATS_PER_MINUTE="5",
        HOOKSTREAM_RETRY_MAX_ATTEMPTS="1",
    ) as running:
        yield running


def logged(stack: Stack) -> list[dict[str, Any]]:
    """The lines in the log, without what `up` itself says to people."""
    lines = stack.log.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


async def test_one_id_leads_from_the_request_to_what_a_stage_says(stack: Stack) -> None:
    await stack.context("ids", {"provider": "none"})
    async with stack.session() as session:
        sent = {"data": b'{"trip": 1}', "headers": {"X-Request-Id": "from-the-client-1"}}
        async with session.post("/hooks/ids", **sent) as answer:
            assert answer.status == 202
            assert answer.headers["X-Request-Id"] == "from-the-client-1"
            event_id = (await answer.json())["event_id"]

    async def failed() -> bool:
        return any("entries failed" in line["message"] for line in logged(stack))

    await eventually(failed, "its failure is logged")
    about = [line for line in logged(stack) if line.get("event_id") == event_id]
    said = [line["message"] for line in about]
    assert said[0] == "POST /hooks/{tool_id} 202"
    assert about[0]["request_id"] == "from-the-client-1"
    assert said[1] == "a stage looks at it"
    assert said[2].startswith("the stage 'talks' (")
    assert about[2]["exception"][0]["frames"][-1]["name"] == "talks"
    assert "1 of 1 entries failed" in said[3]
    assert {line["process"] for line in about} == {
        stack.find("receive").pid,
        stack.find("worker").pid,
    }


async def test_what_a_stage_prints_is_no_warning(stack: Stack) -> None:
    await stack.context("prints", {"provider": "none"})
    await stack.hook("prints", b"{}")
    await stack.updates("prints", 1)
    assert "\nprinted by a stage\n" in stack.log.read_text()
    assert not [line for line in logged(stack) if "printed" in line["message"]]


async def test_a_header_that_is_too_long_leaves_nothing_in_the_log(stack: Stack) -> None:
    head = b"POST /hooks/ids HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer s3cret"
    for _ in range(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
        writer.write(head + b"x" * 9000 + b"\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.0 431")
        writer.close()
    async with stack.session() as session, fresh(session, "/metrics") as answer:
        metrics = await answer.text()
    assert 'hookstream_malformed_requests_total{kind="LineTooLong"} 20.0' in metrics
    malformed = [line for line in logged(stack) if "malformed" in line["message"]]
    assert len(malformed) == 5
    assert {line["level"] for line in malformed} == {"info"}
    assert malformed[0]["remote"] == "127.0.0.1"
    assert "s3cret" not in stack.log.read_text()


async def test_requests_that_are_refused_are_lines_without_what_was_sent(stack: Stack) -> None:
    path = "/hooks/s3cret-tool?token=s3cret"
    async with stack.session() as session, session.post(path, data=b"s3cret") as answer:
        request_id = answer.headers["X-Request-Id"]
        assert answer.status == 404
    [line] = [line for line in logged(stack) if line.get("request_id") == request_id]
    assert line["level"] == "info"
    assert (line["method"], line["route"], line["status"]) == ("POST", "/hooks/{tool_id}", 404)
    assert line["remote"] == "127.0.0.1"
    assert "s3cret" not in stack.log.read_text()


def test_on_a_terminal_children_write_text() -> None:
    """A child of `up` is a guarded process, which has our standard error."""
    child = (
        "import logging.config, logging; from hookstream.app.logs import logging_config;"
        "logging.config.dictConfig(logging_config('info'));"
        "logging.getLogger('hookstream').info('from a child')"
    )
    parent = (
        "import sys; from hookstream.app.embedded.process import GuardedProcess;"
        f"GuardedProcess([sys.executable, '-c', {child!r}]).wait(30)"
    )
    ours, theirs = pty.openpty()
    try:
        command = [sys.executable, "-c", parent]
        subprocess.run(command, stderr=theirs, env={**os.environ, "NO_COLOR": "1"}, check=True)
        said = os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "from a child" in said
    assert "{" not in said
