"""The receiver's local spool: keeps accepted events on this machine's disk while Redis is away.

One RocksDB a process, written with fsync. Entries are numbered in the order of their arrival, and
leave in that order. Several processes of one state folder have a folder each; what a process that
is gone has left is taken over by another.
"""

import fcntl
import os
import struct
import time
from collections import Counter
from collections.abc import Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from mode.utils.logging import get_logger
from rocksdict import AccessType, Options, Rdict, WriteBatch, WriteOptions

from hookstream.app import metrics
from hookstream.app.errors import UnavailableError
from hookstream.tables.errors import is_damage

__all__ = ["Spool", "Spooled", "abandoned"]

logger = get_logger(__name__)

_NUMBER: Final = struct.Struct(">Q")
_HEAD: Final = struct.Struct(">QH")
MAX_FOLDERS = 256
#: Bytes of entries that are given at a time: they go to Redis in one command, which counts against
#: its memory with all that it carries. One that has been full would refuse more for ever.
SCAN_BYTES = 2 << 20
#: Entries that one scan passes over: about 10 ms.
MAX_SCANNED = 2048


@dataclass(frozen=True, slots=True)
class Spooled:
    """One entry: its number here, when it came (Unix ms), its stream and what to append there."""

    number: int
    at_ms: int
    key: str
    data: bytes


class Spool:
    """A durable first-in first-out queue, bounded in bytes.

    ``backlog`` counts the entries of each stream key; while one has any, whatever is new for it
    has to queue behind them. Entries that may have been appended to their stream already are *in
    doubt*; what another process has left is, for it may have been sending when it died.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.backlog: Counter[str] = Counter()
        self.entries = 0
        self.bytes = 0
        self.path = folder
        self._next = 0
        #: No entry has a lower number: looks begin here. What was removed costs who passes it.
        self._first = 0
        #: Entries below this number are of an earlier process.
        self._inherited = 0
        self._doubted: set[int] = set()
        #: Streams that the file beside the entries names.
        self._noted: set[str] = set()
        self._lock: IO[str] | None = None
        self._db: Any = None
        self._sync = WriteOptions()
        self._sync.sync = True

    def open(self) -> None:
        """Take the first folder that no living process has, with what is in it.

        Raises:
            UnavailableError: no folder can be opened or made (a full or read-only disk).
        """
        for slot in range(MAX_FOLDERS):
            if self.open_slot(slot):
                return
        raise UnavailableError(f"all {MAX_FOLDERS} spool folders in {self.folder} are in use")

    def open_slot(self, slot: int) -> bool:
        """Take folder number ``slot``; False when a living process has it.

        One that cannot be read is set aside for a person to look at, and a new one is begun.
        """
        path = self.path = self.folder / str(slot)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = open(  # noqa: SIM115 it stays open for as long as the digest flusher is ours
                os.open(path / "process", os.O_RDWR | os.O_CREAT, 0o600), "r+"
            )
        except OSError as error:
            raise UnavailableError(f"the spool {path} cannot be opened: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self.path, self._lock = path, lock
        try:
            self._load()
        except UnavailableError as error:
            self._close_db()
            if not is_damage(error):
                # a full disk, say: what is there is whole, and must be drained first
                self.close()
                raise
            aside = path / f"set-aside-{time.time_ns()}"
            logger.exception("the spool %s cannot be read: it is set aside as %s", path, aside)
            metrics.SPOOL_SET_ASIDE.inc()
            try:
                (path / "entries").rename(aside)
            except OSError as failed:
                raise UnavailableError(f"the spool {path} cannot be used: {failed}") from failed
            self._load()
        return True

    def _load(self) -> None:
        """Open RocksDB and count what is there."""
        self.backlog.clear()
        self.entries = self.bytes = self._next = self._first = 0
        self._doubted.clear()
        for entry in self._walk(0):
            self._count(entry, 1)
            self._next = entry.number + 1
        self._inherited = self._next
        self._note_anew()

    def peek(self) -> set[str] | None:
        """Streams with entries in the folder that could not be opened; None where it is not known.

        RocksDB opens nothing on a full disk, not even to be read: they are also in a file.
        """
        return _streams_of(self.path)

    def _note_streams(self, names: Set[str]) -> None:
        """Write down which streams have entries here, before they have."""
        if new := names - self._noted:
            try:
                with open(self.path / "streams", "a") as file:
                    file.writelines(f"{name}\n" for name in sorted(new))
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise UnavailableError(f"the spool cannot be written: {error}") from error
            self._noted |= new

    def _note_anew(self) -> None:
        """Leave out of the file what has no entries any more; too many names do no harm."""
        draft = self.path / "streams.new"
        with suppress(OSError):
            draft.write_text("".join(f"{name}\n" for name in sorted(self.backlog)))
            draft.replace(self.path / "streams")
            self._noted = set(self.backlog)

    def _database(self) -> Any:
        if self._db is None:
            options = Options(raw_mode=True)
            options.create_if_missing(True)
            options.set_write_buffer_size(8 << 20)
            options.set_keep_log_file_num(2)
            options.set_max_open_files(64)
            try:
                self._db = Rdict(
                    str(self.path / "entries"), options, access_type=AccessType.read_write()
                )
            except Exception as error:
                raise UnavailableError(
                    f"the spool {self.path} cannot be opened: {error}"
                ) from error
        return self._db

    def add(self, items: Sequence[tuple[str, bytes]], doubted: Set[int] = frozenset()) -> None:
        """Keep (stream key, data) pairs: one synced write for all of them.

        ``doubted``: places in ``items`` of what may have been appended already.

        Raises:
            UnavailableError: the spool is full, or cannot be written; none of them is kept.
        """
        size = sum(len(key) + len(data) for key, data in items)
        if self.bytes + size > self.max_bytes:
            raise UnavailableError(
                f"the spool is full ({self.bytes} of {self.max_bytes} bytes, "
                "HOOKSTREAM_SPOOL_MAX_BYTES) and Redis does not take these events now"
            )
        now_ms = time.time_ns() // 1_000_000
        entries = [
            Spooled(self._next + at, now_ms, key, data) for at, (key, data) in enumerate(items)
        ]
        self._note_streams({key for key, _ in items})
        batch = WriteBatch(raw_mode=True)
        for entry in entries:
            key = entry.key.encode()
            head = _HEAD.pack(entry.at_ms, len(key))
            batch.put(_NUMBER.pack(entry.number), head + key + entry.data)
        try:
            self._database().write(batch, self._sync)
        except UnavailableError:
            raise
        except Exception as error:
            # after a failed write this handle refuses all others: the next one gets a new handle
            self._close_db()
            raise UnavailableError(f"the spool cannot be written: {error}") from error
        self._doubted.update(self._next + at for at in doubted)
        if not self.entries:
            self._first = self._next
        self._next += len(entries)
        for entry in entries:
            self._count(entry, 1)

    def in_doubt(self, entry: Spooled) -> bool:
        """Whether an entry may have been appended to its stream already."""
        return entry.number < self._inherited or entry.number in self._doubted

    def doubt(self, entries: Sequence[Spooled]) -> None:
        """Entries are sent now: should they have to be sent again, the first time may count."""
        self._doubted.update(entry.number for entry in entries)

    def page(self, limit: int, after: int = -1) -> list[Spooled]:
        """The next entries past number ``after``, in order.

        Raises:
            UnavailableError: the spool cannot be read.
        """
        return self.scan(limit, after, frozenset())[0]

    def scan(self, limit: int, after: int, skip: Set[str]) -> tuple[list[Spooled], int]:
        """The next entries past number ``after`` of other streams than those of ``skip``.

        As many as ``limit`` and :data:`SCAN_BYTES` allow, one at least. Also how far it looked,
        which is bounded: number of an entry, -1 at the end.

        Raises:
            UnavailableError: the spool cannot be read.
        """
        found, size = [], 0
        for looked, entry in enumerate(self._walk(after + 1), 1):
            if entry.key not in skip:
                found.append(entry)
                size += len(entry.data)
            if len(found) >= limit or size >= SCAN_BYTES or looked >= max(limit, MAX_SCANNED):
                return found, entry.number
        return found, -1

    def _walk(self, start: int) -> Any:
        from_the_first = start <= self._first
        try:
            walk = self._database().iter()
            walk.seek(_NUMBER.pack(max(start, self._first)))
            while walk.valid():
                (number,) = _NUMBER.unpack(walk.key())
                if from_the_first:
                    from_the_first, self._first = False, number
                value = walk.value()
                at_ms, length = _HEAD.unpack_from(value)
                head = _HEAD.size + length
                yield Spooled(number, at_ms, value[_HEAD.size : head].decode(), value[head:])
                walk.next()
            walk.status()
        except UnavailableError:
            raise
        except Exception as error:
            raise UnavailableError(f"the spool {self.path} cannot be read: {error}") from error

    def remove(self, entries: Sequence[Spooled]) -> None:
        """Forget entries that Redis has.

        Raises:
            UnavailableError: it cannot be written; they will be sent again, and recognised.
        """
        batch = WriteBatch(raw_mode=True)
        for entry in entries:
            batch.delete(_NUMBER.pack(entry.number))
        try:
            self._database().write(batch)
        except Exception as error:
            self._close_db()
            raise UnavailableError(f"the spool cannot be written: {error}") from error
        for entry in entries:
            self._count(entry, -1)
            self._doubted.discard(entry.number)
        if not self.backlog:
            self._note_anew()

    def compact(self) -> None:
        """Have its files forget what was removed: until then they have it.

        Raises:
            UnavailableError: it cannot be written.
        """
        try:
            database = self._database()
            database.flush()
            database.compact_range(None, None)
        except UnavailableError:
            raise
        except Exception as error:
            raise UnavailableError(f"the spool cannot be written: {error}") from error

    def _count(self, entry: Spooled, sign: int) -> None:
        self.entries += sign
        self.bytes += sign * (len(entry.key) + len(entry.data))
        self.backlog[entry.key] += sign
        if self.backlog[entry.key] <= 0:
            del self.backlog[entry.key]

    def close(self) -> None:
        """Close RocksDB and give the folder up; what is in it stays."""
        self._close_db()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _close_db(self) -> None:
        database, self._db = self._db, None
        if database is not None:
            try:
                database.close()
            except Exception as error:  # noqa: BLE001 rocksdict raises plain ones
                # it flushes first, which a full disk refuses; what was synced is in the log
                logger.warning("the spool %s: %s", self.path, error)


def abandoned(folder: Path) -> set[int]:
    """Numbers of the folders in ``folder`` that have, or may have, entries and no living process.

    Looking takes nothing: the process that such a folder belongs to may come back.
    """
    try:
        paths = [path for path in folder.iterdir() if path.name.isdecimal()]
    except OSError:
        return set()
    return {int(path.name) for path in paths if _streams_of(path) != set() and not _is_held(path)}


def _streams_of(path: Path) -> set[str] | None:
    try:
        return set((path / "streams").read_text().split())
    except FileNotFoundError:
        return None if (path / "entries").exists() else set()
    except (OSError, UnicodeDecodeError):
        return None


def _is_held(path: Path) -> bool:
    try:
        with open(path / "process") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # by a living process, or out of our reach
    return False
