"""Benchmarks of more load, and of more processes."""

from pathlib import Path

from tests.integration.bench.tried import works


def test_overload_is_measured(folder: Path) -> None:
    _, rows = works(folder, "overload", ["accepted (202)", "critical, p99"])
    assert rows["lost"]["high"] == rows["doubled"]["high"] == 0


def test_priorities_are_measured(folder: Path) -> None:
    flooded = "low at 2 times what is sustained"
    figures = [
        "no low ones: critical, p99",
        f"{flooded}: critical, p99",
        f"{flooded}: critical, in the worker, p99",
        f"{flooded}: low delivered",
    ]
    _, rows = works(folder, "priority", figures)
    assert not any(row["high"] for what, row in rows.items() if what.endswith("missing"))


def test_more_processes_are_measured(folder: Path) -> None:
    figures = ["1 receiver", "2 receivers", "1 worker", "2 workers", "Redis beside 2 workers"]
    works(folder, "scale", figures)
