"""Benchmarks of what is kept, and of what has gathered."""

from pathlib import Path

import pytest

from tests.integration.bench.tried import works


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("memory", ["Redis, payloads of 512 bytes", "events, payloads of 512 bytes"]),
        ("recovery", ["backlog of 1500, done"]),
        (
            "growth",
            ["payloads of 0.5 KiB", "1,000 events behind", "dedup table of 10,000 keys"],
        ),
        (
            "archive",
            ["stored", "of one block: compared", "archived", "compacted", "found, p99", "scanned"],
        ),
        ("lifecycle", ["worker, to warm", "bytes warm", "found cold, p99"]),
    ],
)
def test_what_is_kept_is_measured(name: str, figures: list[str], folder: Path) -> None:
    works(folder, name, figures)


def test_a_soak_loses_nothing(folder: Path) -> None:
    found, _ = works(folder, "soak", ["part 6 of 6, latency p99", "Redis holds"])
    assert found["facts"]["lost"] == found["facts"]["doubled"] == found["facts"]["gaps"] == 0
