"""A machine's ``proc`` and ``sys`` as far as they say which limits a process has."""

from collections.abc import Mapping
from pathlib import Path

__all__ = ["write_groups"]


def write_groups(root: Path, said: str, files: Mapping[str, str]) -> None:
    """What ``/proc/self/cgroup`` says, and files below ``/sys/fs/cgroup``, under ``root``."""
    below = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in {"proc/self/cgroup": said, **below}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
