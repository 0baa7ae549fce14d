"""How many cores there are, and how many processes for them."""

import os
from pathlib import Path

import pytest

from hookstream.app.cli import _counts_of_up
from hookstream.app.commands.everything import process_counts
from hookstream.app.embedded.cores import default_processes, usable_cores
from hookstream.app.settings import Settings
from tests.support.cgroups import write_groups

HERE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
V2, V1 = "0::/a/b\n", "5:devices:/\n4:cpu,cpuacct:/a/b\n0::/\n"
CASES = {
    "2: of its own": (V2, {"a/b/cpu.max": "100000 100000\n"}, 1),
    "2: less than one": (V2, {"a/b/cpu.max": "20000 100000\n"}, 1),
    "2: of one around it": (V2, {"a/b/cpu.max": "max 100000", "a/cpu.max": "100000 100000"}, 1),
    "2: none": (V2, {"a/b/cpu.max": "max 100000\n"}, HERE),
    "2: more than there are": (V2, {"a/b/cpu.max": "99900000 100000\n"}, HERE),
    "1: of its own": (
        V1,
        {"cpu/a/b/cpu.cfs_quota_us": "100000\n", "cpu/a/b/cpu.cfs_period_us": "100000\n"},
        1,
    ),
    "1: none": (
        V1,
        {"cpu/a/b/cpu.cfs_quota_us": "-1\n", "cpu/a/b/cpu.cfs_period_us": "100000\n"},
        HERE,
    ),
    "no cgroups": ("", {}, HERE),
}


@pytest.mark.parametrize("case", CASES)
def test_the_least_limit_counts(tmp_path: Path, case: str) -> None:
    said, files, right = CASES[case]
    write_groups(tmp_path, said, files)
    assert usable_cores(tmp_path) == right


@pytest.mark.parametrize(
    ("cores", "receivers", "workers"),
    [(1, 1, 1), (2, 1, 1), (4, 1, 2), (8, 2, 4), (16, 4, 8), (128, 4, 8)],
)
def test_processes_grow_with_the_cores(cores: int, receivers: int, workers: int) -> None:
    assert default_processes(cores) == (receivers, workers)


def test_what_was_asked_for_comes_first_then_the_settings_then_the_cores() -> None:
    nothing = Settings()
    assert process_counts(nothing, 0, 0, 8) == (2, 4)
    assert process_counts(nothing, 3, 1, 8) == (3, 1)
    said = Settings(receiver_processes=5, worker_processes=6)
    assert process_counts(said, 0, 0, 8) == (5, 6)
    assert process_counts(said, 1, 1, 8) == (1, 1)
    # a worker without a partition does nothing
    assert process_counts(Settings(partitions=2), 0, 0, 16) == (4, 2)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["up"], {}),
        (["up", "--receivers", "2"], {"receivers": 2}),
        (["up", "--workers=3", "--receivers", "1"], {"workers": 3, "receivers": 1}),
        (["up", "--help"], None),
        (["up", "--workers"], None),
        (["up", "--workers", "0"], None),
        (["up", "--workers", "65"], None),
        (["up", "--workers", "many"], None),
        (["worker"], None),
        ([], None),
    ],
)
def test_a_plain_up_starts_without_faust(
    arguments: list[str], found: dict[str, int] | None
) -> None:
    assert _counts_of_up(arguments) == found
