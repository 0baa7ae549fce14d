"""How much memory there is here: the machine's, or less where a container or a group is limited."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hookstream.app.embedded.cgroups import group_files

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
    for file in group_files(root, "memory", "memory.max", "memory.limit_in_bytes"):
        # "max": no limit
        with suppress(OSError, ValueError):
            yield int(file.read_text())
