"""Bring a partition's table to exactly what was committed, from its changelog."""

import asyncio
from pathlib import Path

from mode.utils.logging import get_logger
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from hookstream.app import keys
from hookstream.app.ids import entry_order
from hookstream.codecs.routed import decode_changes
from hookstream.tables.dedup import DedupTable
from hookstream.tables.errors import TableCorruptError

__all__ = ["open_restored"]

logger = get_logger(__name__)

PAGE_ENTRIES = 1000


async def open_restored(redis: Redis, folder: Path, number: int) -> DedupTable:
    """Open partition ``number``'s dedup table below ``folder`` and replay what it has missed.

    A table that is corrupt, or ahead of the changelog (Redis lost its tail in a failover), is
    wiped and rebuilt.

    Raises:
        TableError: another process has the folder open, or it cannot be written.
    """
    path = folder / f"dedup-{number}"
    changelog = keys.changelog(number)
    last = await _last_id(redis, changelog)
    try:
        table = DedupTable(path)
        if entry_order(table.position()) > entry_order(last):
            logger.warning("%s is ahead of its changelog: rebuilding it", path)
            table.close()
            DedupTable.wipe(path)
            table = DedupTable(path)
    except TableCorruptError as error:
        logger.warning("%s: rebuilding it", error)
        DedupTable.wipe(path)
        table = DedupTable(path)
    await _replay(redis, changelog, table)
    return table


async def _replay(redis: Redis, changelog: str, table: DedupTable) -> None:
    total = 0
    while True:
        entries = await redis.xrange(changelog, f"({table.position()}", "+", count=PAGE_ENTRIES)
        for entry_id, fields in entries:
            _, changes = decode_changes(fields[b"d"])
            table.apply(changes, entry_id.decode())
        total += len(entries)
        if len(entries) < PAGE_ENTRIES:
            break
        logger.info("%s: %d entries replayed", changelog, total)
        await asyncio.sleep(0)


async def _last_id(redis: Redis, stream: str) -> str:
    try:
        info = await redis.xinfo_stream(stream)
    except ResponseError as error:
        if "no such key" in str(error):
            return "0-0"
        raise
    return str(info["last-generated-id"].decode())
