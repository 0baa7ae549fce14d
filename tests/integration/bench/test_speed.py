"""Benchmarks of what an event costs."""

from pathlib import Path

import pytest

from tests.integration.bench.tried import works


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("ingest", ["bare aiohttp", "receiver, signed", "receiver, signed, share of bare"]),
        ("worker", ["worker", "FastStream, one by one", "worker to FastStream, one by one"]),
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
    ],
)
def test_cost_is_measured(name: str, figures: list[str], folder: Path) -> None:
    works(folder, name, figures)


def test_events_are_timed_from_end_to_end(folder: Path) -> None:
    lost = "lost, doubled or refused"
    _, rows = works(folder, "end-to-end", ["latency at 100/s, p99.9", lost])
    assert rows[lost]["high"] == 0
