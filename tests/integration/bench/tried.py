"""How benchmarks are tried: on tiny counts, no time is asserted, and nothing is left running."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

__all__ = ["MODEL", "hookstream", "works"]

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


def hookstream(
    folder: Path, *arguments: str, timeout: float = 800
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


def works(folder: Path, name: str, figures: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a benchmark: all it has found, and its rows by what they are of."""
    done = hookstream(folder, "bench", name, "--quick", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["quick"]
    rows = {row["what"]: row for row in found["rows"]}
    assert set(figures) <= set(rows)
    assert all(row["low"] <= row["median"] <= row["high"] for row in found["rows"])
    assert set(MODEL.get(name, ())) <= set(found["model"])
    assert left_over(folder) == []
    assert not list(folder.glob("hookstream-bench-*"))
    return found, rows
