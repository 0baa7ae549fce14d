"""A container's memory is its limit, whichever version of cgroups says so."""

import os
from pathlib import Path

import pytest

from hookstream.app.embedded.memory import SHARE, memory_bytes, redis_bytes
from tests.support.cgroups import write_groups

MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
MIB = 1 << 20
V2, V1 = "0::/a/b\n", "5:devices:/\n4:cpu,memory:/a/b\n0::/\n"
#: What /proc/self/cgroup says, files below /sys/fs/cgroup, and what is right.
CASES = {
    "2: of its own": (V2, {"a/b/memory.max": "104857600\n"}, 100 * MIB),
    "2: of one around it": (
        V2,
        {"a/b/memory.max": "max\n", "a/memory.max": "52428800"},
        50 * MIB,
    ),
    "2: in a container": ("0::/\n", {"memory.max": "104857600\n"}, 100 * MIB),
    "2: none": (V2, {"a/b/memory.max": "max\n", "memory.max": "max\n"}, MACHINE),
    "1: of its own": (V1, {"memory/a/b/memory.limit_in_bytes": "104857600\n"}, 100 * MIB),
    "1: in a container": (V1, {"memory/memory.limit_in_bytes": "52428800\n"}, 50 * MIB),
    "1: none": (V1, {"memory/a/b/memory.limit_in_bytes": "9223372036854771712\n"}, MACHINE),
    "no cgroups": ("", {}, MACHINE),
}


@pytest.mark.parametrize("case", CASES)
def test_the_least_limit_counts(tmp_path: Path, case: str) -> None:
    said, files, right = CASES[case]
    write_groups(tmp_path, said, files)
    assert memory_bytes(tmp_path) == right
    assert redis_bytes(tmp_path) == int(right * SHARE)


def test_this_machine_has_some() -> None:
    assert 0 < memory_bytes() <= MACHINE
