"""How many cores there are here: the machine's, or fewer where a container is limited."""

import os
from contextlib import suppress
from pathlib import Path

from hookstream.app.embedded.cgroups import group_files

__all__ = ["default_processes", "usable_cores"]

#: More are of no use by themselves: a Redis with one core for them is busy before that.
MOST_RECEIVERS, MOST_WORKERS = 4, 8


def usable_cores(root: Path = Path("/")) -> int:
    """Cores that processes here may use, at least one.

    ``root``: where ``proc`` and ``sys`` are.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    found = [float(len(affinity(0)) if affinity else os.cpu_count() or 1)]
    for file in group_files(root, "cpu", "cpu.max", "cpu.cfs_quota_us"):
        # "max 100000", "-1": no limit
        with suppress(OSError, ValueError, ZeroDivisionError):
            if file.name == "cpu.max":
                quota, period = map(int, file.read_text().split())
            else:
                quota = int(file.read_text())
                period = int((file.parent / "cpu.cfs_period_us").read_text())
            if quota > 0:
                found.append(quota / period)
    return max(1, int(min(found)))


def default_processes(cores: int) -> tuple[int, int]:
    """Receivers and workers for so many cores, which Redis, PostgreSQL and agents share.

    An event costs a worker more than a receiver, and older MCP clients have sessions only while one
    process serves them: the second receiver comes later than the second worker.
    """
    return min(MOST_RECEIVERS, max(1, cores // 4)), min(MOST_WORKERS, max(1, cores // 2))
