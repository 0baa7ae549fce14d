"""What is kept of a partition for stages' tables, and what a batch's commit writes to them.

One changelog a partition for all tables. Its compaction goes in passes: once it is more than twice
as large as after the last one, each commit looks at its oldest entries, writes what is still the
newest of them again behind all others, and trims them. So it holds all that lives, and no more than
about twice as much; the same commit does both, so nothing is ever missing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from mode.utils.logging import get_logger

from hookstream.app.ids import entry_order
from hookstream.app.redis import keys
from hookstream.app.stage_tables.window import Window
from hookstream.app.streams.batch import Batch, Entry, event_of
from hookstream.app.streams.commit import Writes
from hookstream.app.streams.outcome import Accepted, Dropped
from hookstream.app.streams.partition import OpenState, Partition, decoded
from hookstream.app.streams.recovery import open_restored
from hookstream.codecs.errors import CodecError
from hookstream.codecs.routed import Change, decode_changes, encode_changes
from hookstream.tables.stages import StageTable

__all__ = [
    "COMPACT_BYTES",
    "ChangelogSize",
    "TablesState",
    "Values",
    "latest_of",
    "opens_tables",
    "settle",
    "time_ms",
    "with_expired",
    "write_tables",
]

logger = get_logger(__name__)

#: A smaller changelog is not compacted.
COMPACT_BYTES = 256 * 1024
#: Entries that one commit looks at.
PAGE_ENTRIES = 16
#: Windows that one commit deletes, beside as many as it writes.
EXPIRED_AT_A_TIME = 100
#: What a change costs beside its key and value.
CHANGE_BYTES = 8


class Values(Protocol):
    """A partition's values: RocksDB, or what a test has in its place."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""

    def scan(self, start: bytes, end: bytes, limit: int | None = None) -> list[Change]:
        """Keys in a range, in their order, with values."""

    def newest(self, changes: Sequence[Change], position: str) -> list[Change]:
        """Those changes that nothing has written over since."""

    def apply(self, changes: Sequence[Change], position: str) -> None:
        """Write; an empty value deletes."""

    def position(self) -> str:
        """The changelog id that has been reached."""

    def close(self) -> None:
        """Close it."""


@dataclass(frozen=True, slots=True)
class ChangelogSize:
    """The bytes of a changelog now, and after its last compaction.

    ``until``: the last entry that the compaction under way looks at; "" where none is.
    """

    logged: int = 0
    kept: int = 0
    until: str = ""

    @classmethod
    def decode(cls, key: str, values: Mapping[bytes, bytes]) -> "ChangelogSize":
        """From its hash; what is malformed is as if nothing was known."""
        numbers = {name: values[name] for name in (b"logged", b"kept") if name in values}
        found = decoded(key, numbers, bytes.decode, int)
        until = decoded(key, {b"until": values.get(b"until", b"")}, bytes.decode, _entry_id)
        return cls(found.get("logged", 0), found.get("kept", 0), until.get("until", ""))

    def begun(self, position: str) -> "ChangelogSize":
        """With a compaction under way, if one is due."""
        if self.until or self.logged <= 2 * self.kept + COMPACT_BYTES:
            return self
        return replace(self, until=position)


@dataclass(slots=True, eq=False)
class TablesState:
    """The values of one partition, and how large their changelog is.

    ``windows``: tables with windows that were written here, by what their keys begin with.
    ``latest_ms``: the time of the newest event whose writes were committed here, since the
    partition was opened.
    """

    values: Values
    windows: dict[bytes, Window] = field(default_factory=dict)
    size: ChangelogSize = field(default_factory=ChangelogSize)
    latest_ms: int = 0
    #: Of each table with windows: all that begin before this were deleted.
    _expired: dict[bytes, int] = field(default_factory=dict)

    def close(self) -> None:
        """Close the table."""
        self.values.close()

    def wipe(self) -> None:
        """Delete the table's folder."""
        if isinstance(self.values, StageTable):
            self.values.wipe(self.values.path)

    def expired(self, latest_ms: int, limit: int) -> tuple[list[Change], dict[bytes, int]]:
        """Deletions of windows that are over, ``limit`` of each table at most; and how far it came.

        Walks from where the last walk ended, so it reads only what it deletes.
        """
        found: list[Change] = []
        reached = dict(self._expired)
        for prefix, window in self.windows.items():
            start, oldest = reached.get(prefix, 0), window.oldest(latest_ms)
            if start >= oldest:
                continue
            first, end = prefix + Window.encode(start), prefix + Window.encode(oldest)
            page = self.values.scan(first, end, limit)
            found += [(key, b"") for key, _ in page]
            full = len(page) == limit
            reached[prefix] = Window.decode(page[-1][0][len(prefix) :]) if full else oldest
        return found, reached

    def follow(
        self, changes: Sequence[Change], position: str, latest_ms: int, reached: dict[bytes, int]
    ) -> None:
        """Take over what is committed.

        Raises:
            TableError: it cannot be written.
        """
        self.values.apply(changes, position)
        self.latest_ms, self._expired = latest_ms, reached

    def is_over(self, key: bytes, latest_ms: int) -> bool:
        """Whether a key is of a window that has expired."""
        for prefix, window in self.windows.items():
            if key.startswith(prefix):
                return window.is_over(Window.decode(key[len(prefix) :]), latest_ms)
        return False


def opens_tables(redis: Any, folder: Path, wanted: Callable[[], bool]) -> OpenState:
    """Opens the tables of a partition below ``folder``, as their changelog has them.

    ``wanted``: whether any stage has declared a table.
    """

    async def open_state(partition: Partition, lease: Mapping[bytes, bytes]) -> None:
        if not wanted():
            return
        number = partition.number
        state = TablesState(await open_restored(redis, folder, number, StageTable))
        # from here on whatever fails closes it
        partition.add(state)
        key = keys.table_log(number)
        state.size = ChangelogSize.decode(key, await redis.hgetall(key))

    return open_state


def settle(batch: Batch) -> list[Change]:
    """What a batch has written to tables, of those events that do not come again.

    To be called when it is decided what becomes of each, before anything is sent.

    Raises:
        SplitBatchError: an event has built on what another wrote that comes again.
    """
    if not batch.tables:
        return []
    batch.tables.taken = True
    return batch.tables.settle(batch.entries, _comes_again)


def _comes_again(entry: Entry) -> bool:
    return not isinstance(entry.outcome, (Accepted, Dropped))


async def write_tables(redis: Any, writes: Writes, batch: Batch, changes: Sequence[Change]) -> None:
    """Add to a commit what ``settle`` gave, windows that expire, and a step of compaction.

    The commits of one channel only may do that, one at a time: what is read here is out of date
    when another one has written to tables.
    """
    if not changes:
        return
    number, state = batch.partition.number, batch.partition[TablesState]
    latest_ms = latest_of(batch)
    changes, reached = with_expired(state, changes, latest_ms)
    changelog, size = keys.changelog(number, StageTable.name), state.size
    size = size.begun(state.values.position())
    trimmed = ""
    if size.until:
        again, freed, trimmed, over = await _oldest(redis, changelog, state, size.until, changes)
        changes = [*changes, *again]
        logged = max(0, size.logged - freed) + _bytes(changes)
        size = ChangelogSize(logged, logged) if over else replace(size, logged=logged)
    else:
        size = replace(size, logged=size.logged + _bytes(changes))

    def follow(entry_id: str) -> None:
        state.follow(changes, entry_id, latest_ms, reached)
        state.size = size

    writes.append(changelog, encode_changes(StageTable.name, changes), then=follow)
    if trimmed:
        writes.add("XTRIM", changelog, "MINID", _behind(trimmed))
    log = ("logged", size.logged, "kept", size.kept, "until", size.until)
    writes.add("HSET", keys.table_log(number), *log)


def latest_of(batch: Batch) -> int:
    """The time of the newest event by now, of those that do not come again."""
    times = [time_ms(entry) for entry in batch.entries if not _comes_again(entry)]
    return max([batch.partition[TablesState].latest_ms, *times])


def with_expired(
    state: TablesState, changes: Sequence[Change], latest_ms: int
) -> tuple[list[Change], dict[bytes, int]]:
    """Changes without those to windows that have expired by now, which are deleted."""
    left = [change for change in changes if not state.is_over(change[0], latest_ms)]
    expired, reached = state.expired(latest_ms, len(changes) + EXPIRED_AT_A_TIME)
    return [*left, *expired], reached


async def _oldest(
    redis: Any, changelog: str, state: TablesState, until: str, changes: Iterable[Change]
) -> tuple[list[Change], int, str, bool]:
    """The oldest entries of a changelog, up to ``until``.

    Returns what of them is to be written again, their bytes, the last one's id, and whether there
    are no more.
    """
    written = {key for key, _ in changes}
    page = await redis.xrange(changelog, "-", until, count=PAGE_ENTRIES)
    again: dict[bytes, bytes] = {}
    freed, last = 0, ""
    for entry_id, fields in page:
        last = entry_id.decode()
        try:
            _, old = decode_changes(fields.get(b"d", b""))
        except CodecError as error:
            logger.error("%s: entry %s is passed over: %s", changelog, last, error)
            continue
        freed += _bytes(old)
        again |= dict(state.values.newest(old, last))
    kept = [(key, value) for key, value in again.items() if key not in written]
    return kept, freed, last, len(page) < PAGE_ENTRIES or last == until


def time_ms(entry: Entry) -> int:
    """The time of an entry's event: when it was received, else when it was appended."""
    event = event_of(entry.value)
    return event.received_at_ms if event else entry_order(entry.entry_id)[0]


def _bytes(changes: Iterable[Change]) -> int:
    return sum(len(key) + len(value) + CHANGE_BYTES for key, value in changes)


def _behind(entry_id: str) -> str:
    ms, seq = entry_order(entry_id)
    return f"{ms}-{seq + 1}"


def _entry_id(value: bytes) -> str:
    text = value.decode()
    if text:
        entry_order(text)
    return text
