"""What old workers did, out of a file: a wrong line is named, and those before it are taken."""

import asyncio
import gzip
import json
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import zstandard
from aiohttp import web

from hookstream.app.commands.old_results import BATCH_RESULTS
from tests.support.door import Door
from tests.support.sqs import SqsServer
from tests.support.stack import Stack

BEGAN = datetime.now(UTC)


@pytest.fixture(autouse=True)
def _began(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old workers are done with things of this test, not of those before it."""
    monkeypatch.setattr(sys.modules[__name__], "BEGAN", datetime.now(UTC))


@pytest.fixture(autouse=True)
async def tool(own: Stack, sqs_server: SqsServer, name: str) -> None:
    """One that has old workers."""
    url = sqs_server.queue(name)
    tool = {"provider": "none", "forward": {"sqs": {"queue_url": url}}}
    await own.put(f"/tools/{name}", tool)


async def compare(
    own: Stack, name: str, *arguments: str, status: int = 0, given: bytes = b""
) -> tuple[str, str]:
    """`hookstream migrate compare`: what it says on both streams."""
    process = await asyncio.create_subprocess_exec(
        *own.command("--quiet", "migrate", "compare", name, *arguments),
        env=own.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate(given)
    assert process.returncode == status, err.decode()
    assert b"Traceback" not in err
    return out.decode(), err.decode()


def lines_of(count: int) -> list[str]:
    at = BEGAN.isoformat()
    return [json.dumps({"delivery_id": f"r-{n}", "finished_at": at}) for n in range(count)]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            {"delivery_id": "x", "finished_at": "2026-11-30T12:00:00"},
            "finished_at: Input should have timezone info; wanted is a time with its zone, such as "
            "2026-11-30T12:00:00.120Z",
        ),
        (
            {"delivery_id": "x", "finishedat": "2026-11-30T12:00:00Z"},
            "finished_at: Field required; wanted is a time with its zone, such as "
            "2026-11-30T12:00:00.120Z; finishedat: there is no such field: did you mean "
            "finished_at? Lines before",
        ),
        (
            {"delivery_id": "x", "finished_at": BEGAN.isoformat(), "context": []},
            "context: there is no such field: did you mean contexts? Lines before",
        ),
        ({"finished_at": BEGAN.isoformat()}, "either `event_id` or `delivery_id`"),
        (
            {"delivery_id": "x", "finished_at": "2020-01-01T00:00:00Z"},
            "finished_at: x was done at 2020-01-01T00:00:00+00:00, and the tool has had its "
            "`forward` since ",
        ),
        (
            {"delivery_id": "x", "finished_at": "2036-01-01T00:00:00Z"},
            "finished_at: x is done at 2036-01-01T00:00:00+00:00, and here it is ",
        ),
        ("{", "is no JSON: "),
        ('{"delivery_id": NaN}', "is no JSON: "),
        ('"x"', "is no JSON object"),
    ],
)
async def test_a_wrong_line_of_results_is_named_by_its_file_and_number(
    own: Stack, name: str, tmp_path: Path, wrong: Any, says: str
) -> None:
    """Not by its number in the request that it went in; what stands before it is taken."""
    before = lines_of(BATCH_RESULTS * 2 + 3)
    bad = wrong if isinstance(wrong, str) else json.dumps(wrong)
    path = tmp_path / "done.jsonl.gz"
    # lines that are empty count, as an editor counts them
    path.write_bytes(gzip.compress("\n".join(["", *before, bad, *lines_of(2)]).encode()))
    _, err = await compare(own, name, "--results", str(path), status=2)
    number = len(before) + 2
    assert f"hookstream: {path}, line {number:,}: {says}" in err
    assert f"{len(before):,} results taken, 0 were known" in err
    assert "start the same command again; what is said twice changes nothing" in err


async def test_results_come_from_wherever_a_history_does(
    own: Stack, name: str, tmp_path: Path
) -> None:
    data = "\n".join(lines_of(2)).encode()
    folder = tmp_path / "results"
    folder.mkdir()
    for number, (file, packed) in enumerate(
        (("a.jsonl", data), ("a.jsonl.zst", zstandard.compress(data)), ("a", gzip.compress(data)))
    ):
        path = folder / file
        path.write_bytes(packed)
        _, err = await compare(own, name, "--results", str(path))
        assert f"{0 if number else 2} results taken, {2 if number else 0} were known" in err
        assert "100.0 %, 2 results" in err
        path.unlink()
    more = data + b"\n" + lines_of(3)[2].encode()
    _, err = await compare(own, name, "--results", "-", given=more)
    assert "3 results, 2 known" in err
    assert "1 results taken, 2 were known" in err
    (folder / "empty.jsonl").touch()
    _, err = await compare(own, name, "--results", str(folder / "empty.jsonl"))
    assert "0 results taken" in err
    for wrong, says in (
        (folder, "is a folder: name its files"),
        (folder / "none.jsonl", "there is no file"),
    ):
        _, err = await compare(own, name, "--results", str(wrong), status=2)
        assert says in err
        assert "Errno" not in err
    (folder / "cut.gz").write_bytes(gzip.compress(data)[:-4])
    _, err = await compare(own, name, "--results", str(folder / "cut.gz"), status=2)
    assert "breaks off behind line" in err


async def test_a_comparison_is_broken_off_without_a_half_report(
    own: Stack, name: str, tmp_path: Path
) -> None:
    path, page = tmp_path / "done.jsonl", tmp_path / "report.md"
    path.write_text("\n".join(lines_of(BATCH_RESULTS + 1)))
    page.write_text("of yesterday")
    arguments = ("--results", str(path), "--markdown", str(page))
    async with Door(own.url) as door:

        async def busy(request: web.Request) -> web.StreamResponse | None:
            results = sum(path.endswith("/results") for _, path in door.calls)
            return web.json_response({"detail": "x"}, status=503) if results > 1 else None

        door.answer = busy
        command = own.command("--quiet", "migrate", "compare", name, "--url", door.url, *arguments)
        process = await asyncio.create_subprocess_exec(
            *command, env=own.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stderr is not None
        while b"waiting: " not in (line := await process.stderr.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert f"{BATCH_RESULTS} results taken, 0 were known".encode() in err
    assert page.read_text() == "of yesterday"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["done.jsonl", "report.md"]
    # a report that cannot be written is said before anything is asked
    nowhere = str(tmp_path / "none" / "report.md")
    _, err = await compare(own, name, "--markdown", nowhere, status=2)
    assert "cannot be written: No such file or directory" in err
