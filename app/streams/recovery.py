"""Bring a partition's table to exactly what was committed, from its changelog."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from mode.utils.logging import get_logger

from hookstream.app.ids import entry_order
from hookstream.app.redis import keys
from hookstream.codecs.errors import CodecError
from hookstream.codecs.routed import decode_changes
from hookstream.tables.errors import TableCorruptError
from hookstream.tables.table import Change, Table

__all__ = ["open_restored"]

logger = get_logger(__name__)

PAGE_ENTRIES = 1000
T = TypeVar("T", bound=Table)


async def open_restored(redis: Any, folder: Path, number: int, kind: type[T]) -> T:
    """Open partition ``number``'s table of one kind below ``folder`` and replay what it has missed.

    A table is trusted if the changelog still holds the entry that it has reached; or if all of it
    was lost or trimmed away, and Redis has not lost anything else. One that is corrupt, or ahead
    (Redis lost its tail in a failover), or has missed what compaction took away, is wiped and
    rebuilt from what there is.

    Raises:
        TableError: another process has the folder open, or it cannot be written.
    """
    path = folder / f"{kind.name}-{number}"
    changelog = keys.changelog(number, kind.name)
    table = None
    try:
        table = kind(path)
        if await _is_of(redis, number, changelog, table):
            await _replay(redis, changelog, table)
            return table
        logger.warning("%s is not of this changelog: rebuilding it", path)
    except TableCorruptError as error:
        logger.warning("%s: rebuilding it", error)
    except BaseException:
        _close(table)
        raise
    _close(table)
    kind.wipe(path)
    table = kind(path)
    try:
        await _replay(redis, changelog, table)
    except BaseException:
        _close(table)
        raise
    return table


def _close(table: Table | None) -> None:
    """Left open, it could not be opened again for as long as anything remembers the error."""
    if table is not None:
        table.close()


async def _replay(redis: Any, changelog: str, table: Table) -> None:
    total = 0
    while True:
        entries = await redis.xrange(changelog, f"({table.position()}", "+", count=PAGE_ENTRIES)
        for entry_id, fields in entries:
            table.apply(_changes(changelog, entry_id, fields), entry_id.decode())
        total += len(entries)
        if len(entries) < PAGE_ENTRIES:
            break
        logger.info("%s: %d entries replayed", changelog, total)
        await asyncio.sleep(0)


def _changes(changelog: str, entry_id: bytes, fields: Mapping[bytes, bytes]) -> list[Change]:
    """What an entry changes: nothing, if nobody of ours can have written it."""
    try:
        if b"d" not in fields:
            raise CodecError(f"it has no field d, only {sorted(fields)[:10]}")
        return decode_changes(fields[b"d"])[1]
    except CodecError as error:
        logger.error("%s: entry %s is passed over: %s", changelog, entry_id.decode(), error)
        return []


async def _is_of(redis: Any, number: int, changelog: str, table: Table) -> bool:
    """Whether a table has nothing that Redis has not, by the position that it says it is at."""
    position = table.position()
    if position == "0-0" or await redis.xrange(changelog, position, position):
        return True
    first = await redis.xrange(changelog, "-", "+", count=1)
    if first and entry_order(first[0][0].decode()) < entry_order(position):
        # it holds other entries of that time
        return False
    if first and not table.trimmed_is_over:
        # compaction has passed it: what the changelog has is all there is
        return False
    # what the table has reached was trimmed away, or the changelog was lost. The same commit wrote
    # to the audit stream: where that is as far, the table is not ahead, and knows more than nothing
    if not await redis.exists(keys.audit(number)):
        return False
    info = await redis.xinfo_stream(keys.audit(number))
    reached = entry_order(info["last-generated-id"].decode())
    if reached[0] < entry_order(position)[0]:
        return False
    logger.warning("%s has lost what a table here has reached: the table is kept", changelog)
    return True
