"""Errors of the tables."""

__all__ = ["TableCorruptError", "TableError", "is_damage"]

_NOT_THE_FILES_FAULT = (
    "lock file",
    "lock hold",
    "No space left",
    "Disk quota",
    "File too large",
    "Permission denied",
    "Read-only file system",
    "Too many open files",
    "Cannot allocate memory",
)


class TableError(Exception):
    """A table that cannot be opened, read or written."""


class TableCorruptError(TableError):
    """A table whose files cannot be trusted: wipe it and rebuild it from its changelog."""


def is_damage(error: BaseException) -> bool:
    """Whether RocksDB could not open a folder because of what is in it.

    Damaged files fail in many words; what another process or the machine is to blame for (the lock
    is held, the disk is full) in few, so those are what is looked for.
    """
    return not any(word in str(error) for word in _NOT_THE_FILES_FAULT)
