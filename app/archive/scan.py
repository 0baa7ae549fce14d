"""Archived events in order of time, a row group after the other."""

from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterator
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from hookstream.app.archive.manifest import Located
from hookstream.app.archive.objects import MissingObjectError
from hookstream.app.archive.rows import Row
from hookstream.app.durations import DAY_MS

if TYPE_CHECKING:
    from hookstream.app.archive.parquet import Group

__all__ = ["Key", "Ordered", "in_order", "keyed"]

#: Rows given at a time.
BATCH_EVENTS: Final = 256

#: When it was received, its entry and partition, its id: by this events are in order.
Key = tuple[int, int, int, int, bytes]
Ordered = tuple[Key, Row]
#: The next row groups behind one of them (oldest, object, row group), in that order: of those
#: whose newest event is of the first time or later, and their oldest of before the second.
Source = Callable[[tuple[int, str, int], int, int], Awaitable[list[Located]]]


#: Reads a row group; gives its rows in any order.
Reader = Callable[[Located], Awaitable[list[Ordered]]]


def key_of(row: Row) -> Key:
    """Where an event is in the order of all."""
    return row.received_at, row.entry_ms, row.entry_seq, row.partition, row.event_id


def keyed(group: "Group") -> list[Ordered]:
    """A row group's rows with where they are in the order of all."""
    return [(key_of(row), row) for row in group.rows()]


async def in_order(
    source: Source, read: Reader, since_ms: int, until_ms: int
) -> AsyncIterator[list[Row]]:
    """Rows that were received from ``since_ms`` on and before ``until_ms``, in order, each once.

    In memory are the row groups that overlap at a time. Where an object goes meanwhile, it is gone
    on behind the last row that was given: what was compacted is found where it is now.

    Raises:
        MissingObjectError: an object is not there, and the manifest names it all the same.
    """
    reached: Key = (since_ms, -1, -1, -1, b"")
    missing = ""
    while True:
        try:
            async for rows in _behind(reached, source, read, until_ms, missing):
                reached = key_of(rows[-1])
                yield rows
        except MissingObjectError as error:
            if error.name == missing:
                raise
            missing = error.name
            continue
        return


async def _behind(
    reached: Key, source: Source, read: Reader, until_ms: int, missing: str
) -> AsyncIterator[list[Row]]:
    waiting: list[tuple[Key, int, Row]] = []
    seen: dict[tuple[str, int], int] = {}
    while groups := await _next(source, reached[0], until_ms, seen):
        for group in groups:
            for rows in _before(waiting, (group.oldest_ms, -1, -1, -1, b""), reached):
                reached = key_of(rows[-1])
                yield rows
            seen[group.object, group.row_group] = group.newest_ms
            for key, row in await read(group):
                if reached < key and key[0] < until_ms:
                    heappush(waiting, (key, len(seen), row))
        seen = {name: newest for name, newest in seen.items() if newest >= reached[0]}
    for rows in _before(waiting, None, reached):
        reached = key_of(rows[-1])
        yield rows


async def _next(
    source: Source, reached_ms: int, until_ms: int, seen: Container[tuple[str, int]]
) -> list[Located]:
    """The next row groups that were not seen, as the manifest has them now.

    Asked for are again those that may be half done: compaction puts what is to come into row groups
    that begin before it.
    """
    # an object has events of one day at most: what began before cannot reach here
    behind = (reached_ms - DAY_MS, "", -1)
    while groups := await source(behind, reached_ms, until_ms):
        fresh = [group for group in groups if (group.object, group.row_group) not in seen]
        if fresh:
            return fresh
        behind = groups[-1].position
    return []


def _before(
    waiting: list[tuple[Key, int, Row]], end: Key | None, reached: Key
) -> Iterator[list[Row]]:
    """What comes before ``end`` (None: all of it) and behind what was given, in batches."""
    rows: list[Row] = []
    while waiting and (end is None or waiting[0][0] < end):
        key, _, row = heappop(waiting)
        if key <= reached:
            # read a second time, out of what was made of its object
            continue
        reached = key
        rows.append(row)
        if len(rows) == BATCH_EVENTS:
            yield rows
            rows = []
    if rows:
        yield rows
