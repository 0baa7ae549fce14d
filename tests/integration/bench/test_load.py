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


def test_a_cluster_and_slots_that_move_are_measured(folder: Path) -> None:
    figures = [
        "three masters: Redis",
        "three masters to one server: backlog",
        "key by key: latency while slots move, p99",
        "whole: latency while slots move, p99",
    ]
    found, rows = works(folder, "cluster", figures)
    assert rows["key by key: slots moved"]["low"] > 0
    # what a busy machine takes long for may come late, and late is no loss: no latency is asserted
    for what in ("lost", "doubled", "gaps", "overtaken", "workers_that_ended"):
        assert found["facts"][what] == 0
