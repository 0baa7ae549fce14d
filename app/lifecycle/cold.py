"""From warm to cold: blocks that are due become objects of the archive, one a tool and hour."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mode.utils.logging import get_logger

from hookstream.app import metrics
from hookstream.app.archive.archive import Archive
from hookstream.app.archive.rows import ArchivedEvent
from hookstream.app.errors import ArchiveDamagedError
from hookstream.app.lifecycle.rules import hot_ms, ttl_of, warm_ms
from hookstream.app.lifecycle.warm import HOUR_MS, Owner
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.redis.memory import Pressure
from hookstream.app.routing.catalog import Catalog
from hookstream.app.stores.tiers import COLD, WARM, WarmEntry, warm_entry
from hookstream.app.streams.partition import Partition
from hookstream.codecs.errors import CodecError
from hookstream.codecs.warm_block import KeptEvent, read_block

__all__ = ["ColdMover", "WarmTotals"]

logger = get_logger(__name__)

#: Blocks of one object: packed bytes from which on nobody waits for the end of their hour, and most
#: that one object is made of.
WORTH_AN_OBJECT = 8 * 1024 * 1024
#: Objects that are made of smaller ones before others are looked after.
COMPACTIONS = 8
DAY_MS = 86_400_000


@dataclass(slots=True)
class WarmTotals:
    """What is warm in a partition, since when (ms) the first is due, what was archived."""

    events: int = 0
    archived: int = 0
    size: int = 0
    due_since_ms: int | None = None


class ColdMover:
    """Archives what is due in this worker's partitions."""

    def __init__(
        self,
        redis: Any,
        scripts: Scripts,
        archive: Archive,
        *,
        catalog: Callable[[], Catalog],
        now_ms: Callable[[], int],
    ) -> None:
        self._redis = redis
        self._scripts = scripts
        self._archive = archive
        self._catalog = catalog
        self._now_ms = now_ms

    async def move(
        self, partition: Partition, pressure: Pressure, *, eager: bool = False
    ) -> WarmTotals:
        """Archive what is due in one partition; what is left there then.

        ``eager``: nothing waits for the end of its hour.

        Raises:
            FencedError: another worker has the partition.
            UnavailableError: the archive, or its manifest, is away; nothing is deleted then.
            redis.exceptions.RedisError: what the server said.
        """
        totals = WarmTotals()
        for name in sorted(await self._redis.smembers(keys.warm_tools(partition.number))):
            tenant, _, tool_id = name.decode().partition("/")
            try:
                await self._move_tool(partition, (tenant, tool_id), pressure, totals, eager)
            except (ArchiveDamagedError, CodecError) as error:
                # others' go on; this one's stay warm and are tried again
                logger.error("events of %s/%s cannot be archived: %s", tenant, tool_id, error)
        return totals

    async def expire(self, is_mine: Callable[[str, str], bool]) -> int:
        """Forget archived events whose time is over, of the tools that ``is_mine`` says; how many.

        Raises:
            UnavailableError: the archive, or its manifest, is away.
        """
        catalog, now_ms, gone = self._catalog(), self._now_ms(), 0
        for tenant, tool_id in await self._archive.tools():
            ttl = ttl_of(catalog, tool_id)
            if ttl is None or not is_mine(tenant, tool_id):
                continue
            over_ms = now_ms - ttl.hot_ms - ttl.warm_ms - ttl.cold_ms
            removed = await self._archive.expire(tenant, tool_id, over_ms)
            gone += removed.events
        metrics.TIER_MOVED.labels(left=COLD).inc(gone)
        return gone

    async def compact(self) -> int:
        """Put small objects of days that are over into larger ones; how many there were.

        Raises:
            UnavailableError: the archive, or its manifest, is away.
        """
        before_ms, compacted = self._now_ms() // DAY_MS * DAY_MS, 0
        for _ in range(COMPACTIONS):
            replaced = await self._archive.compact(before_ms)
            compacted += replaced.objects
            if not replaced.objects:
                break
        return compacted

    async def _move_tool(
        self,
        partition: Partition,
        owner: Owner,
        pressure: Pressure,
        totals: WarmTotals,
        eager: bool,
    ) -> None:
        ttl, now_ms = ttl_of(self._catalog(), owner[1]), self._now_ms()
        index = keys.warm_index(partition.number, *owner)
        members = await self._redis.zrange(index, 0, -1)
        blocks = [warm_entry(member) for member in members]
        left = blocks
        if ttl is not None:
            stays = hot_ms(ttl, pressure) + warm_ms(ttl, pressure)
            due = [block for block in blocks if block.last_ms + stays <= now_ms]
            left = blocks[len(due) :]
            for group in _by_hour(due):
                over = (group[-1].first_ms // HOUR_MS + 1) * HOUR_MS + stays <= now_ms
                if (
                    over
                    or eager
                    or pressure
                    or sum(block.size for block in group) >= WORTH_AN_OBJECT
                ):
                    totals.archived += await self._archive_blocks(partition, owner, group)
                else:
                    left = [*group, *left]
            if left and left[0].last_ms + stays <= now_ms:
                since = left[0].last_ms + stays
                totals.due_since_ms = min(since, totals.due_since_ms or since)
        totals.events += sum(block.events for block in left)
        totals.size += sum(block.size for block in left)

    async def _archive_blocks(
        self, partition: Partition, owner: Owner, blocks: Sequence[WarmEntry]
    ) -> int:
        """Archive blocks of one hour, then delete them; how many events were in them."""
        number = partition.number
        ranges = [(block.first, block.last) for block in blocks]
        covered = await self._archive.covered(*owner, number, ranges)
        fresh = [block for block, there in zip(blocks, covered, strict=True) if not there]
        if fresh:
            partition.check()
            pipe = self._redis.pipeline(transaction=False)
            for block in fresh:
                pipe.get(keys.warm_block(number, *owner, block.last))
            packed = await pipe.execute()
            events, damaged = await asyncio.to_thread(_unpacked, fresh, packed)
            for block, error in damaged.items():
                logger.error(
                    "the warm block %s cannot be archived and stays: %s",
                    keys.warm_block(number, *owner, block.last),
                    error,
                )
            blocks = [block for block in blocks if block not in damaged]
            if events:
                taken = [ArchivedEvent(number, event.entry_id, event.envelope) for event in events]
                whole = [(number, block.first, block.last) for block in blocks]
                await self._archive.store(*owner, taken, whole)
        names = [keys.warm_block(number, *owner, block.last) for block in blocks]
        partition.check()
        await self._scripts.call(
            "drop_warm",
            [keys.lease(number), keys.warm_index(number, *owner), keys.warm_tools(number), *names],
            [
                partition.epoch,
                partition.nonce,
                "/".join(owner),
                *(block.encode() for block in blocks),
            ],
        )
        archived = sum(block.events for block in blocks)
        metrics.TIER_MOVED.labels(left=WARM).inc(archived)
        return archived


def _by_hour(blocks: Iterable[WarmEntry]) -> list[list[WarmEntry]]:
    """Blocks in their order, those of one hour together, no more than make one object."""
    groups: list[list[WarmEntry]] = []
    hour, size = -1, 0
    for block in blocks:
        if block.first_ms // HOUR_MS == hour and size < WORTH_AN_OBJECT:
            groups[-1].append(block)
            size += block.size
        else:
            groups.append([block])
            hour, size = block.first_ms // HOUR_MS, block.size
    return groups


def _unpacked(
    blocks: Sequence[WarmEntry], packed: Sequence[bytes | None]
) -> tuple[list[KeptEvent], dict[WarmEntry, CodecError]]:
    """The events of blocks, and those of them that cannot be read."""
    events: list[KeptEvent] = []
    damaged: dict[WarmEntry, CodecError] = {}
    for block, data in zip(blocks, packed, strict=True):
        if data is None:
            # nothing that could be kept: it leaves the index with the others
            logger.error("a warm block up to %s is in its index, and not there", block.last)
            continue
        try:
            events += read_block(data)
        except CodecError as error:
            damaged[block] = error
    return events, damaged
