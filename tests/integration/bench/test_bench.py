"""Each benchmark works, on tiny counts: no time is asserted, and nothing is left running."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hookstream.app.commands.capacity import Figures
from tests.unit.commands.test_capacity import ROUND

#: Which benchmark gives which figures of the plan: all of them, together.
MODEL = {
    "ingest": ("receiver_cpu_us",),
    "worker": ("worker_cpu_us", "worker_context_cpu_us", "redis_cpu_us"),
    "memory": (
        "payload_bytes",
        "redis_event_bytes",
        "redis_bytes_per_payload_byte",
        "redis_feed_bytes",
        "redis_changelog_bytes",
        "table_bytes",
        "postgres_bytes",
        "receiver_bytes",
        "worker_bytes",
    ),
    "lifecycle": ("warm_event_bytes", "archive_event_bytes", "move_cpu_us"),
}


def test_the_benchmarks_together_give_all_figures_of_the_plan() -> None:
    given = [name for names in MODEL.values() for name in names]
    assert sorted(given) == sorted(field.name for field in dataclasses.fields(Figures))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: the path of a socket below it may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="hs-") as path:
        yield Path(path)


def hookstream(
    folder: Path, *arguments: str, timeout: float = 240
) -> "subprocess.CompletedProcess[str]":
    """A `hookstream` command with a temporary folder of its own: it marks what it starts."""
    return subprocess.run(
        [sys.executable, "-m", "hookstream.app.cli", *arguments],
        env={**os.environ, "TMPDIR": str(folder), "HOOKSTREAM_STATE_DIR": str(folder / "s")},
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
        ("overload", ["accepted (202)", "critical, p99"]),
        ("soak", ["part 6 of 6, latency p99", "Redis holds"]),
        (
            "growth",
            [
                "payloads of 0.5 KiB",
                "1,000 events behind",
                "dedup table of 10,000 keys",
            ],
        ),
        ("scale", ["1 receiver", "2 receivers", "1 worker", "2 workers", "Redis beside 2 workers"]),
        (
            "budget",
            [
                "receiver at 100/s",
                "receiver at 100/s, floor",
                "worker at saturation",
                "PostgreSQL at saturation, floor",
                "all of ours at 100/s",
            ],
        ),
        (
            "archive",
            ["stored", "of one block: compared", "archived", "compacted", "found, p99", "scanned"],
        ),
        (
            "priority",
            [
                "no low ones: critical, p99",
                "low at 2 times what is sustained: critical, p99",
                "low at 2 times what is sustained: critical, in the worker, p99",
                "low at 2 times what is sustained: low delivered",
            ],
        ),
        ("lifecycle", ["worker, to warm", "bytes warm", "found cold, p99"]),
    ],
)
def test_benchmark_works_and_leaves_nothing_behind(
    name: str, figures: list[str], folder: Path
) -> None:
    done = hookstream(folder, "bench", name, "--quick", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["quick"]
    rows = {row["what"]: row for row in found["rows"]}
    assert set(figures) <= set(rows)
    assert all(row["low"] <= row["median"] <= row["high"] for row in found["rows"])
    if name == "end-to-end":
        assert rows["lost, doubled or refused"]["high"] == 0
    if name == "overload":
        assert rows["lost"]["high"] == rows["doubled"]["high"] == 0
    if name == "priority":
        assert not any(row["high"] for what, row in rows.items() if what.endswith("missing"))
    if name == "soak":
        assert found["facts"]["lost"] == found["facts"]["doubled"] == found["facts"]["gaps"] == 0
    assert set(MODEL.get(name, ())) <= set(found["model"])
    assert left_over(folder) == []
    assert not list(folder.glob("hookstream-bench-*"))


def test_what_the_command_cannot_do_is_a_sentence(folder: Path) -> None:
    for arguments, hint in (
        (("nothing",), "there is no benchmark 'nothing'"),
        (("ingest", "--quick", "--write"), "not worth keeping"),
        (("ingest", "--full"), "growth --full"),
    ):
        done = hookstream(folder, "bench", *arguments)
        assert done.returncode == 2
        assert hint in done.stderr
        assert "Traceback" not in done.stderr


def test_plan_is_printed_for_people_and_as_json(folder: Path) -> None:
    file = folder / "figures.json"
    measured = {"date": "2026-01-02", "machine": "m", "figures": dataclasses.asdict(ROUND)}
    file.write_text(json.dumps(measured))
    wanted = ("plan", "--rate", "100", "--size", "5000", "--hot", "1h", "--figures", str(file))
    done = hookstream(folder, *wanted)
    assert done.returncode == 0, done.stderr
    assert "Redis memory" in done.stdout
    assert "receivers" in done.stdout
    found = json.loads(hookstream(folder, *wanted, "--json").stdout)
    assert found["plan"]["redis_events_bytes"] == 360_000 * 1000
    assert found["measured"]["machine"] == "m"
    wrong = hookstream(folder, *wanted, "--window", "soon")
    assert (wrong.returncode, "no such" in wrong.stderr) == (2, False)
    assert "duration" in wrong.stderr
