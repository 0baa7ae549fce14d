"""Each benchmark works, on tiny counts: no time is asserted, and nothing is left running."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from hookstream.app.plan import Figures
from tests.unit.test_plan import ROUND

ROOT = Path(__file__).resolve().parents[2]


def hookstream(
    tmp_path: Path, *arguments: str, timeout: float = 120
) -> "subprocess.CompletedProcess[str]":
    """A `hookstream` command with a temporary folder of its own, by which what it starts is known.

    The folder is short: sockets lie below it.
    """
    return subprocess.run(
        [sys.executable, "-m", "hookstream.app.cli", *arguments],
        env={**os.environ, "TMPDIR": str(tmp_path), "HOOKSTREAM_STATE_DIR": str(tmp_path / "s")},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def left_over(folder: Path) -> list[str]:
    """Command lines of processes that were started for a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(folder):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("ingest", ["bare aiohttp", "receiver, signed", "receiver, signed, share of bare"]),
        ("worker", ["worker", "FastStream, one by one", "worker to FastStream, one by one"]),
        ("end-to-end", ["latency at 100/s, p99.9", "lost, doubled or refused"]),
        ("memory", ["Redis, payloads of 512 bytes", "events, payloads of 512 bytes"]),
        ("recovery", ["backlog of 1500, done"]),
        ("growth", ["payloads of 0.5 KiB", "dedup table of 10,000 keys"]),
    ],
)
def test_benchmark_works_and_leaves_nothing_behind(
    name: str, figures: list[str], tmp_path: Path
) -> None:
    done = hookstream(tmp_path, "bench", name, "--quick", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["quick"]
    rows = {row["what"]: row for row in found["rows"]}
    assert set(figures) <= set(rows)
    assert all(row["low"] <= row["median"] <= row["high"] for row in found["rows"])
    if name == "end-to-end":
        assert rows["lost, doubled or refused"]["high"] == 0
    wanted = {"ingest": "receiver_cpu_us", "worker": "worker_cpu_us", "memory": "table_bytes"}
    if name in wanted:
        assert wanted[name] in Figures.__dataclass_fields__
        assert found["model"][wanted[name]] > 0
    assert left_over(tmp_path) == []
    assert not list(tmp_path.glob("hookstream-bench-*"))


def test_what_the_command_cannot_do_is_a_sentence(tmp_path: Path) -> None:
    for arguments, hint in (
        (("nothing",), "there is no benchmark 'nothing'"),
        (("ingest", "--quick", "--write"), "not worth keeping"),
        (("ingest", "--full"), "growth --full"),
    ):
        done = hookstream(tmp_path, "bench", *arguments)
        assert done.returncode == 2
        assert hint in done.stderr
        assert "Traceback" not in done.stderr


def test_plan_is_printed_for_people_and_as_json(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    measured = {"date": "2026-01-02", "machine": "m", "figures": dataclasses.asdict(ROUND)}
    file.write_text(json.dumps(measured))
    wanted = ("plan", "--rate", "100", "--size", "5000", "--hot", "1h", "--figures", str(file))
    done = hookstream(tmp_path, *wanted)
    assert done.returncode == 0, done.stderr
    assert "Redis memory" in done.stdout
    assert "receivers" in done.stdout
    found = json.loads(hookstream(tmp_path, *wanted, "--json").stdout)
    assert found["plan"]["redis_events_bytes"] == 360_000 * 1000
    assert found["measured"]["machine"] == "m"
    wrong = hookstream(tmp_path, *wanted, "--window", "soon")
    assert (wrong.returncode, "no such" in wrong.stderr) == (2, False)
    assert "duration" in wrong.stderr
