"""What the control groups around this process say: a container's limits, for one."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["group_files"]


def group_files(root: Path, controller: str, unified: str, legacy: str) -> Iterator[Path]:
    """The files that there are of this process's groups and of those around them.

    ``root``: where ``proc`` and ``sys`` are; ``unified`` and ``legacy``: a file's name in control
    groups of version 2 and 1, where ``controller`` has a tree of its own.
    """
    mount = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return  # not Linux
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _upwards(mount, path, unified)
        elif controller in controllers.split(","):
            yield from _upwards(mount / controller, path, legacy)


def _upwards(mount: Path, path: str, name: str) -> Iterator[Path]:
    # within a container its own group may be the mount itself: what is not there is passed over
    group = mount / path.strip("/")
    for folder in (group, *group.parents):
        with suppress(OSError):
            if (folder / name).exists():
                yield folder / name
        if folder == mount:
            return
