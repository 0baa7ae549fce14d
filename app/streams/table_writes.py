"""What a batch's stages write to tables before it is committed: whose each write is, and in what
order.

An event's writes count when, and only when, the event gets through. One that fails comes again and
writes again, so what it has written is left out. Where another event of the batch has built on it,
that cannot be left out: then the batch is worked on once more, in two parts.
"""

from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from hookstream.codecs.routed import Change

if TYPE_CHECKING:
    from hookstream.app.streams.batch import Batch, Entry

__all__ = ["SCOPE", "Scope", "SplitBatchError", "TableWrites"]

E = TypeVar("E")


class SplitBatchError(Exception):
    """A batch in which others have built on what the entry ``at`` wrote, which does not count."""

    def __init__(self, at: int) -> None:
        super().__init__(f"others have built on what entry {at} wrote to a table")
        self.at = at


@dataclass(slots=True)
class TableWrites(Generic[E]):
    """The uncommitted writes of one batch. Entries are told apart by identity."""

    #: By key: who has written what since, or read it (None), in order.
    _touched: dict[bytes, list[tuple[E, bytes | None]]] = field(default_factory=dict)
    #: Somebody has taken what is here into a commit.
    taken: bool = False

    def __bool__(self) -> bool:
        return bool(self._touched)

    def read(self, key: bytes, reader: E) -> bytes | None:
        """What was written last; b"" where that is a deletion, None where nothing was."""
        touched = self._touched.get(key)
        if not touched:
            return None
        value = next((wrote for _, wrote in reversed(touched) if wrote is not None), None)
        if touched[-1][0] is not reader:
            touched.append((reader, None))
        return value

    def between(self, start: bytes, end: bytes, reader: E) -> Iterator[Change]:
        """All keys from ``start`` to before ``end`` that were written to, with what is there."""
        for key in [key for key in self._touched if start <= key < end]:
            value = self.read(key, reader)
            if value is not None:
                yield key, value

    def is_written(self, key: bytes, writer: E) -> bool:
        """Whether an entry has written to a key."""
        touched = self._touched.get(key, ())
        return any(who is writer and wrote is not None for who, wrote in touched)

    def put(self, key: bytes, value: bytes, writer: E) -> None:
        """Write; b"" deletes."""
        self._touched.setdefault(key, []).append((writer, value))

    def undo(self, writer: E) -> None:
        """Forget what an entry wrote that nobody has touched since."""
        for key, touched in list(self._touched.items()):
            while touched and touched[-1][0] is writer:
                touched.pop()
            if not touched:
                del self._touched[key]

    def settle(self, entries: Sequence[E], lost: Callable[[E], bool]) -> list[Change]:
        """What is to be committed: the last write to each key, without those of ``lost`` entries.

        Raises:
            SplitBatchError: an entry that is not lost has read or written a key after one that is.
        """
        changes: list[Change] = []
        entangled: list[int] = []
        for key, touched in self._touched.items():
            gone: E | None = None
            value = None
            for entry, wrote in touched:
                if lost(entry):
                    gone = entry if wrote is not None and gone is None else gone
                    continue
                if gone is not None:
                    entangled.append(next(n for n, each in enumerate(entries) if each is gone))
                    break
                value = wrote if wrote is not None else value
            if value is not None:
                changes.append((key, value))
        if entangled:
            raise SplitBatchError(min(entangled))
        return changes


@dataclass(slots=True, eq=False)
class Scope:
    """The entry for which a stage runs now."""

    batch: "Batch"
    entry: "Entry"
    #: No other entry of the batch is in the stage: it may write.
    alone: bool = True
    #: The stage has returned.
    over: bool = False
    #: To be called when it has: whether it put back what it changed.
    looks: list[Callable[[], None]] = field(default_factory=list)


#: The entry for which the code runs that asks.
SCOPE: ContextVar[Scope | None] = ContextVar("hookstream_scope", default=None)
