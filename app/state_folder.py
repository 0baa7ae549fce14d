"""The state folder and the admin key in it, closed to others of this machine where they are open.

An earlier start, a copied folder or a volume may have left them so. What could not be closed is
said, and what others may write is refused: who can plant a key there has one.
"""

import logging
import os
import stat
from pathlib import Path
from typing import Final

from hookstream.app.errors import SettingsError

__all__ = ["close_file", "close_folder"]

logger = logging.getLogger(__name__)

#: What stands in a state folder: where most is of this, the folder is one.
OURS: Final = frozenset(
    {
        "address", "admin.key", "faust", "marks.json", "postgres", "registry.json",
        "sealing.key", "spool", "tables", "valkey", "worker-id", "workers",
    }
)  # fmt: skip
#: Every new file system has one.
NOTHING: Final = frozenset({"lost+found"})
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def close_folder(path: Path) -> None:
    """Let nobody but its owner into a state folder; one that others have files in is left.

    Raises:
        SettingsError: everybody may write there, and that cannot be changed.
        OSError: it cannot be looked at.
    """
    mode = path.stat().st_mode
    if not mode & OTHERS:
        return
    if _is_state(path) and not mode & stat.S_ISVTX and _close(path, mode):
        logger.warning("%s was open to others of this machine: closed", path)
    elif mode & stat.S_IWOTH:
        raise SettingsError(
            f"HOOKSTREAM_STATE_DIR: everybody may write into {path}: name a folder of its own, or "
            f"`chmod 700 {path}`"
        )
    else:
        logger.warning(
            "others of this machine may look into %s: keep state in a folder of its own, with "
            "`chmod 700`", path,
        )  # fmt: skip


def close_file(path: Path) -> None:
    """Let nobody but its owner read a key.

    Raises:
        SettingsError: others may write it, or it is another user's.
        OSError: it cannot be looked at.
    """
    found = path.stat()
    mode = found.st_mode
    # root may read whichever key it is pointed at
    if os.geteuid() and found.st_uid not in (os.geteuid(), 0):
        raise SettingsError(f"{path} is another user's: delete it, and a new key is made")
    if not mode & OTHERS:
        return
    closed = _close(path, mode)
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SettingsError(
            f"others of this machine could write {path}: delete it, and a new key is made"
        )
    logger.warning(
        "others of this machine could read %s%s: delete it where they are not trusted, and a new "
        "key is made", path, ", which is closed now" if closed else "",
    )  # fmt: skip


def _is_state(path: Path) -> bool:
    """Whether a folder is there for this alone: no home, no checkout, nothing above those."""
    path = path.resolve()
    # with symbolic links and `~` as the operator's shell has them
    for place in (Path(os.path.expanduser("~")).resolve(), Path.cwd()):
        if place == path or path in place.parents:
            return False
    names = set(os.listdir(path)) - NOTHING
    return len(names - OURS) <= len(names & OURS)


def _close(path: Path, mode: int) -> bool:
    try:
        path.chmod(stat.S_IMODE(mode) & ~OTHERS)
    except OSError:
        # another's, as a volume may be, or on something that is read-only
        return False
    return True
