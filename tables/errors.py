"""Errors of the tables."""

__all__ = ["TableCorruptError", "TableError"]


class TableError(Exception):
    """A table that cannot be opened, read or written."""


class TableCorruptError(TableError):
    """A table whose files cannot be trusted: wipe it and rebuild it from its changelog."""
