"""What every table in RocksDB has: column families, a position in its changelog, honest errors."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

from mode.utils.logging import get_logger
from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DataBlockIndexType,
    DBCompressionType,
    Options,
    Rdict,
    WriteBatch,
    WriteBufferManager,
)

from hookstream.codecs.routed import Change
from hookstream.tables.errors import TableCorruptError, TableError, is_damage

__all__ = ["Change", "Table"]

logger = get_logger(__name__)

_POSITION: Final = b"changelog_position"


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
        # all files stay open: opening one again reads its filters, 70 µs of each lookup
        options.set_max_open_files(-1)
        # hashes and times lose a quarter by packing, and unpacking is most of what a read costs
        options.set_compression_type(DBCompressionType.none())
        blocks = BlockBasedOptions()
        blocks.set_data_block_index_type(DataBlockIndexType.binary_and_hash())
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


class Table:
    """One partition's part of a table, in a RocksDB of its own."""

    #: Its name in folders, changelogs and ``hookstream tables``.
    name: ClassVar[str]
    help: ClassVar[str]
    families: ClassVar[tuple[str, ...]]
    #: What its changelog is trimmed of has ended: a table that missed it is right all the same.
    trimmed_is_over: ClassVar[bool] = True

    def __init__(self, path: Path) -> None:
        """Open or create the table in the folder ``path``.

        Raises:
            TableError: the folder is in use by another process, or cannot be written.
            TableCorruptError: RocksDB cannot read what is there.
        """
        self.path = path
        options = _shared_memory().options()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = Rdict(
                str(path),
                options,
                column_families=dict.fromkeys(self.families, options),
                access_type=AccessType.read_write(),
            )
        except Exception as error:
            # a table can always be built anew, so whatever looks like damage is taken for it
            kind = TableCorruptError if is_damage(error) else TableError
            raise kind(f"cannot open the table in {path}: {error}") from error
        self._families = {name: self._db.get_column_family(name) for name in self.families}
        self._handles = {name: self._db.get_column_family_handle(name) for name in self.families}

    def apply(self, changes: Sequence[Change], position: str) -> None:
        """Write changes and the changelog id they reach, as one RocksDB batch.

        Raises:
            TableError: it cannot be written (the disk is full, say); open the table anew.
        """
        batch = WriteBatch(raw_mode=True)
        for key, value in changes:
            self._put(batch, key, value)
        batch.put(_POSITION, position.encode())
        with self._errors():
            self._db.write(batch)

    def _put(self, batch: Any, key: bytes, value: bytes) -> None:
        batch.put(key, value, self._handles[self.families[0]])

    def position(self) -> str:
        """The changelog id that this table has reached; "0-0" for a new one."""
        with self._errors():
            value = self._db.get(_POSITION)
        return value.decode() if value else "0-0"

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

    def compact(self) -> None:
        """Have its files forget what was deleted: until then they have it.

        Raises:
            TableError: it cannot be written; open the table anew.
        """
        with self._errors():
            # all of them: the log of what was written goes once none needs it any more
            for family in (*self._families.values(), self._db):
                family.flush()
                family.compact_range(None, None)

    def close(self) -> None:
        """Close RocksDB; the folder can then be opened by another process."""
        # RocksDB keeps its lock for as long as any handle of a column family lives
        self._handles.clear()
        for handle in (*self._families.values(), self._db):
            try:
                handle.close()
            except Exception as error:  # noqa: BLE001 rocksdict raises plain ones
                # it flushes first, which a full disk refuses; the changelog has it all
                logger.warning("%s: %s", self.path, error)

    @staticmethod
    def wipe(path: Path) -> None:
        """Delete a table's folder, to be rebuilt from the changelog."""
        shutil.rmtree(path, ignore_errors=True)
