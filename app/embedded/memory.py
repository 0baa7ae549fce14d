"""How much memory there is here: the machine's, or less where a container or a group is limited."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["SHARE", "memory_bytes", "redis_bytes"]

#: What Redis may fill of it by itself: PostgreSQL and our processes are there, too, and while Redis
#: rewrites its file what changes is there twice.
SHARE = 0.4


def redis_bytes(root: Path = Path("/")) -> int:
    """What an embedded Redis may use where nobody has said it."""
    return int(memory_bytes(root) * SHARE)


def memory_bytes(root: Path = Path("/")) -> int:
    """Memory that processes here may use: the least of the machine's and of all cgroups' limits.

    ``root``: where ``proc`` and ``sys`` are.
    """
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *_limits(root)])


def _limits(root: Path) -> Iterator[int]:
    """The limits of this process's cgroups and of those around them, of version 1 and 2."""
    mount = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return  # not Linux
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _upwards(mount, path, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _upwards(mount / "memory", path, "memory.limit_in_bytes")


def _upwards(mount: Path, path: str, name: str) -> Iterator[int]:
    # within a container its own group may be the mount itself: what is not there is passed over
    group = mount / path.strip("/")
    for folder in (group, *group.parents):
        # no such group here, or "max"
        with suppress(OSError, ValueError):
            yield int((folder / name).read_text())
        if folder == mount:
            return
