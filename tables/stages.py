"""What stages keep in tables of their own: bytes by key, each with the entry that wrote it."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from hookstream.codecs.routed import Change
from hookstream.tables.table import Table

__all__ = ["StageTable"]

_POSITION: Final = struct.Struct(">QQ")


class StageTable(Table):
    """All tables of stages in one partition; a key begins with its table's name.

    With each value stands the changelog entry that wrote it, so that the changelog can be
    compacted: what an entry says of a key is out of date where another one wrote it last.
    """

    name = "stages"
    help = "What stages keep in tables of their own (app.Table)."
    families = ("values",)
    #: It may hold whatever a stage has put there: a table that missed what was trimmed is wrong.
    trimmed_is_over = False

    def __init__(self, path: Path) -> None:
        """As every table; see :class:`~hookstream.tables.table.Table`."""
        super().__init__(path)
        self._writer = b""

    def get(self, key: bytes) -> bytes | None:
        """The value of a key; None where it has none.

        Raises:
            TableError: it cannot be read; open the table anew.
        """
        with self._errors():
            value: bytes | None = self._families["values"].get(key)
        return None if value is None else value[_POSITION.size :]

    def scan(self, start: bytes, end: bytes, limit: int | None = None) -> list[Change]:
        """Keys from ``start`` to before ``end`` in their order, ``limit`` at most, with values.

        Raises:
            TableError: it cannot be read; open the table anew.
        """
        found: list[Change] = []
        with self._errors():
            walk = self._families["values"].iter()
            walk.seek(start)
            while walk.valid() and (limit is None or len(found) < limit):
                key = walk.key()
                if key >= end:
                    break
                found.append((key, walk.value()[_POSITION.size :]))
                walk.next()
            walk.status()
        return found

    def newest(self, changes: Sequence[Change], position: str) -> list[Change]:
        """Those changes of the entry ``position`` that nothing has written over since.

        Raises:
            TableError: it cannot be read; open the table anew.
        """
        latest = dict(changes)
        if not latest:
            return []
        writer = _writer(position)
        with self._errors():
            values: Any = self._families["values"][list(latest)]
        return [
            (key, value[_POSITION.size :])
            for key, value in zip(latest, values, strict=True)
            if value is not None and value[: _POSITION.size] == writer
        ]

    def apply(self, changes: Sequence[Change], position: str) -> None:
        """Write changes and the changelog id they reach; an empty value deletes its key.

        Raises:
            TableError: it cannot be written; open the table anew.
        """
        self._writer = _writer(position)
        super().apply(changes, position)

    def _put(self, batch: Any, key: bytes, value: bytes) -> None:
        if value:
            batch.put(key, self._writer + value, self._handles["values"])
        else:
            batch.delete(key, self._handles["values"])


def _writer(position: str) -> bytes:
    ms, _, seq = position.partition("-")
    return _POSITION.pack(int(ms), int(seq))
