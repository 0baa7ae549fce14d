"""Dedup windows: which stream entry first had a message id, and until when that counts.

The rule is :func:`decide`, a pure function; :class:`DedupTable` keeps its marks in RocksDB.
"""

import hashlib
import shutil
import struct
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mode.utils.logging import get_logger
from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    Options,
    Rdict,
    WriteBatch,
    WriteBufferManager,
)

from hookstream.tables.errors import TableCorruptError, TableError, is_damage

__all__ = [
    "Candidate",
    "DedupTable",
    "Mark",
    "Verdict",
    "decide",
    "decode_mark",
    "encode_mark",
    "entry_ms",
    "mark_key",
]

logger = get_logger(__name__)

Change = tuple[bytes, bytes]

_MARK: Final = struct.Struct(">QQQ16s")
_EXPIRY: Final = struct.Struct(">Q")
_POSITION: Final = b"changelog_position"


@dataclass(frozen=True, slots=True)
class Mark:
    """Who had a message id first: its stream entry, its event, and when the window ends (ms)."""

    entry_id: str
    event_id: str
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stream entry to be judged. ``window_ms`` 0 means: never a duplicate, leaves no mark.

    ``again``: the pipeline itself put this event into its stream once more, after a failure.
    """

    entry_id: str
    event_id: str
    message_id: str
    window_ms: int
    again: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """``duplicate_of[i]`` is the first event's id, or "" for a fresh one; ``changes`` the marks."""

    duplicate_of: tuple[str, ...]
    changes: tuple[Change, ...]


def entry_ms(entry_id: str) -> int:
    """The Redis time, in Unix milliseconds, at which a stream entry was appended."""
    return int(entry_id.partition("-")[0])


def mark_key(message_id: str) -> bytes:
    """16 bytes that stand for a message id (BLAKE2b: a sender must not be able to collide them).

    Raises:
        ValueError: for an empty message id; no key is built from an empty part.
    """
    if not message_id:
        raise ValueError("an event without a message id cannot be judged")
    return hashlib.blake2b(message_id.encode(), digest_size=16).digest()


def encode_mark(mark: Mark) -> bytes:
    """40 bytes: expiry, entry id (two integers), event id."""
    ms, _, seq = mark.entry_id.partition("-")
    return _MARK.pack(mark.expires_ms, int(ms), int(seq), uuid.UUID(mark.event_id).bytes)


def decode_mark(value: bytes) -> Mark:
    """The mark in 40 bytes.

    Raises:
        TableCorruptError: when they are not 40.
    """
    try:
        expires_ms, ms, seq, event = _MARK.unpack(value)
    except struct.error as error:
        raise TableCorruptError(f"a dedup mark of {len(value)} bytes instead of 40") from error
    return Mark(f"{ms}-{seq}", str(uuid.UUID(bytes=event)), expires_ms)


def decide(candidates: Sequence[Candidate], known: Mapping[bytes, Mark]) -> Verdict:
    """Judge a batch, in stream order. ``known`` holds the marks of its keys that exist.

    Time is the entry's own (Redis gave it), so a worker's clock cannot open or close a window.
    A redelivered entry finds its own mark and is itself, not a duplicate; so does an event that
    comes again after a failure. The same event in another entry otherwise (an append whose reply
    was lost, and that was repeated) is a copy: a duplicate of itself.
    """
    marks = dict(known)
    duplicate_of: list[str] = []
    changes: dict[bytes, bytes] = {}
    for candidate in candidates:
        if not candidate.window_ms:
            duplicate_of.append("")
            continue
        key = mark_key(candidate.message_id)
        now = entry_ms(candidate.entry_id)
        mark = marks.get(key)
        if mark and (
            mark.entry_id == candidate.entry_id
            or (candidate.again and mark.event_id == candidate.event_id)
        ):
            duplicate_of.append("")
        elif mark and now < mark.expires_ms:
            duplicate_of.append(mark.event_id)
        else:
            mark = Mark(candidate.entry_id, candidate.event_id, now + candidate.window_ms)
            marks[key] = mark
            changes[key] = encode_mark(mark)
            duplicate_of.append("")
    return Verdict(tuple(duplicate_of), tuple(changes.items()))


class SharedMemory:
    """One block cache and one write buffer budget for all partitions of a process."""

    def __init__(self, cache_bytes: int = 64 << 20, write_buffer_bytes: int = 64 << 20) -> None:
        self.cache = Cache(cache_bytes)
        self.write_buffers = WriteBufferManager(write_buffer_bytes, False)

    def options(self) -> Options:
        """RocksDB options that draw on the shared budgets."""
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.create_missing_column_families(True)
        options.set_write_buffer_size(4 << 20)
        options.set_max_write_buffer_number(3)
        options.set_write_buffer_manager(self.write_buffers)
        options.set_keep_log_file_num(2)
        options.set_max_open_files(64)
        blocks = BlockBasedOptions()
        blocks.set_block_cache(self.cache)
        blocks.set_bloom_filter(10, False)
        options.set_block_based_table_factory(blocks)
        return options


_shared: SharedMemory | None = None


def _shared_memory() -> SharedMemory:
    global _shared
    if _shared is None:
        _shared = SharedMemory()
    return _shared


class DedupTable:
    """The dedup windows of one partition in RocksDB.

    Two column families: ``marks`` by key, and ``expiry`` ordered by the time a mark ends, so that
    ended ones are found and deleted without reading a living one. About 2 µs an event in batches
    of 256.
    """

    name = "dedup"
    help = "Which stream entry first had a message id, until the tool's window ends."

    def __init__(self, path: Path) -> None:
        """Open or create the table in the folder ``path``.

        Raises:
            TableError: the folder is in use by another process, or cannot be written.
            TableCorruptError: RocksDB cannot read what is there.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        options = _shared_memory().options()
        try:
            self._db = Rdict(
                str(path),
                options,
                column_families={"marks": options, "expiry": options},
                access_type=AccessType.read_write(),
            )
        except Exception as error:
            # a table can always be built anew, so whatever looks like damage is taken for it
            kind = TableCorruptError if is_damage(error) else TableError
            raise kind(f"cannot open the table in {path}: {error}") from error
        self._marks = self._db.get_column_family("marks")
        self._expiry = self._db.get_column_family("expiry")
        self._marks_handle = self._db.get_column_family_handle("marks")
        self._expiry_handle = self._db.get_column_family_handle("expiry")
        self._purged_ms = 0

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Mark]:
        """The marks of those ``keys`` that have one: one multi-get.

        Raises:
            TableCorruptError: RocksDB cannot read what is there; rebuild the table.
        """
        if not keys:
            return {}
        with self._errors():
            values: Any = self._marks[list(keys)]
        return {
            key: decode_mark(value)
            for key, value in zip(keys, values, strict=True)
            if value is not None
        }

    def apply(self, changes: Sequence[Change], position: str) -> None:
        """Write marks and the changelog id they reach, as one RocksDB batch.

        Raises:
            TableError: it cannot be written (the disk is full, say); open the table anew.
        """
        batch = WriteBatch(raw_mode=True)
        for key, value in changes:
            batch.put(key, value, self._marks_handle)
            batch.put(value[:8] + key, b"", self._expiry_handle)
        batch.put(_POSITION, position.encode())
        with self._errors():
            self._db.write(batch)

    def position(self) -> str:
        """The changelog id that this table has reached; "0-0" for a new one."""
        with self._errors():
            value = self._db.get(_POSITION)
        return value.decode() if value else "0-0"

    def purge(self, now_ms: int, limit: int = 10_000) -> int:
        """Delete up to ``limit`` marks that ended before ``now_ms``; returns how many went.

        Reads only ended entries: ``expiry`` is walked from where the last purge stopped.

        Raises:
            TableError: it cannot be read or written; open the table anew.
        """
        with self._errors():
            return self._purge(now_ms, limit)

    def _purge(self, now_ms: int, limit: int) -> int:
        start = _EXPIRY.pack(self._purged_ms)
        end = _EXPIRY.pack(now_ms)
        batch = WriteBatch(raw_mode=True)
        ended: list[tuple[bytes, bytes]] = []
        walk = self._expiry.iter()
        walk.seek(start)
        while walk.valid() and len(ended) < limit:
            entry = walk.key()
            if entry >= end:
                break
            ended.append((entry[:8], entry[8:]))
            walk.next()
        walk.status()
        if not ended:
            return 0
        values: Any = self._marks[[key for _, key in ended]]
        for (expiry, key), value in zip(ended, values, strict=True):
            # a key that was marked anew after its window ended has a later expiry of its own
            if value is not None and value[:8] == expiry:
                batch.delete(key, self._marks_handle)
            batch.delete(expiry + key, self._expiry_handle)
        self._db.write(batch)
        (self._purged_ms,) = _EXPIRY.unpack(ended[-1][0])
        return len(ended)

    def __len__(self) -> int:
        """How many marks there are; walks all of them, so for tests and tools only."""
        walk = self._marks.iter()
        walk.seek_to_first()
        count = 0
        while walk.valid():
            count += 1
            walk.next()
        walk.status()
        return count

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """RocksDB's exceptions as ours: rocksdict raises plain ones."""
        try:
            yield
        except TableError:
            raise
        except Exception as error:
            corrupt = any(word in str(error) for word in ("Corruption", "checksum", "bad block"))
            kind = TableCorruptError if corrupt else TableError
            raise kind(f"{self.path}: {error}") from error

    def close(self) -> None:
        """Close RocksDB; the folder can then be opened by another process."""
        # RocksDB keeps its lock for as long as any handle of a column family lives
        del self._marks_handle, self._expiry_handle
        for handle in (self._marks, self._expiry, self._db):
            try:
                handle.close()
            except Exception as error:  # noqa: BLE001 rocksdict raises plain ones
                # it flushes first, which a full disk refuses; the changelog has it all
                logger.warning("%s: %s", self.path, error)

    @staticmethod
    def wipe(path: Path) -> None:
        """Delete the table's folder, to be rebuilt from the changelog."""
        shutil.rmtree(path, ignore_errors=True)
