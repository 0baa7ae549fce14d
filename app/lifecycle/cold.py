"""From warm to cold: blocks that are due become objects of the archive, one a tool and hour."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hookstream.app import metrics
from hookstream.app.lifecycle.rules import hot_ms, ttl_of, warm_ms
from hookstream.app.lifecycle.warm import HOUR_MS, Owner
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.redis.memory import Pressure
from hookstream.app.routing.catalog import Catalog
from hookstream.app.stores.tiers import WARM, WarmEntry, warm_entry
from hookstream.app.streams.partition import Partition
from hookstream.codecs.errors import CodecError
from hookstream.codecs.warm_block import KeptEvent, read_block

__all__ = ["Archiving", "ColdMover", "WarmTotals"]

#: Blocks of one object: packed bytes from which on nobody waits for the end of their hour, and most
#: that one object is made of.
WORTH_AN_OBJECT = 8 * 1024 * 1024
#: Members of an index that are looked at in one round trip.
PAGE = 1000


class Archiving(Protocol):
    """The archive, as far as moving asks it."""

    async def covered(
        self, tenant: str, tool_id: str, partition: int, ranges: Sequence[tuple[str, str]]
    ) -> list[bool]:
        """Which ranges of entries are in objects already."""

    async def store(
        self, tenant: str, tool_id: str, partition: int, events: Sequence[KeptEvent]
    ) -> object:
        """Make them one object, written, read back, compared, and in the manifest."""


@dataclass(slots=True)
class WarmTotals:
    """What is warm in a partition, and since when (ms) its first block has been due."""

    events: int = 0
    size: int = 0
    due_since_ms: int | None = None


class ColdMover:
    """Archives what is due in this worker's partitions."""

    def __init__(
        self,
        redis: Any,
        scripts: Scripts,
        archive: Archiving,
        *,
        catalog: Callable[[], Catalog],
        now_ms: Callable[[], int],
    ) -> None:
        self._redis = redis
        self._scripts = scripts
        self._archive = archive
        self._catalog = catalog
        self._now_ms = now_ms

    async def move(self, partition: Partition, pressure: Pressure) -> WarmTotals:
        """Archive what is due in one partition; what is left there then.

        Raises:
            FencedError: another worker has the partition.
            UnavailableError: the archive, or its manifest, is away; nothing is deleted then.
            redis.exceptions.RedisError: what the server said.
        """
        totals = WarmTotals()
        for name in sorted(await self._redis.smembers(keys.warm_tools(partition.number))):
            tenant, _, tool_id = name.decode().partition("/")
            await self._move_tool(partition, (tenant, tool_id), pressure, totals)
        return totals

    async def _move_tool(
        self, partition: Partition, owner: Owner, pressure: Pressure, totals: WarmTotals
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
                if over or pressure or sum(block.size for block in group) >= WORTH_AN_OBJECT:
                    await self._archive_blocks(partition, owner, group)
                else:
                    left = [*group, *left]
            if left and left[0].last_ms + stays <= now_ms:
                since = left[0].last_ms + stays
                totals.due_since_ms = min(since, totals.due_since_ms or since)
        totals.events += sum(block.events for block in left)
        totals.size += sum(block.size for block in left)

    async def _archive_blocks(
        self, partition: Partition, owner: Owner, blocks: Sequence[WarmEntry]
    ) -> None:
        """Archive blocks of one hour, then delete them."""
        number = partition.number
        ranges = [(block.first, block.last) for block in blocks]
        covered = await self._archive.covered(*owner, number, ranges)
        names = [keys.warm_block(number, *owner, block.last) for block in blocks]
        fresh = [name for name, there in zip(names, covered, strict=True) if not there]
        if fresh:
            partition.check()
            pipe = self._redis.pipeline(transaction=False)
            for name in fresh:
                pipe.get(name)
            packed = await pipe.execute()
            events = await asyncio.to_thread(_unpacked, fresh, packed)
            if events:
                await self._archive.store(*owner, number, events)
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
        metrics.TIER_MOVED.labels(left=WARM).inc(sum(block.events for block in blocks))


def _by_hour(blocks: Iterable[WarmEntry]) -> list[list[WarmEntry]]:
    """Blocks in their order, those of one hour together, no more than make one object."""
    groups: list[list[WarmEntry]] = []
    size = 0
    for block in blocks:
        last = groups[-1] if groups else None
        if (
            last
            and last[0].first_ms // HOUR_MS == block.first_ms // HOUR_MS
            and size < WORTH_AN_OBJECT
        ):
            last.append(block)
            size += block.size
        else:
            groups.append([block])
            size = block.size
    return groups


def _unpacked(names: Sequence[str], packed: Sequence[bytes | None]) -> list[KeptEvent]:
    """The events of blocks.

    Raises:
        CodecError: a block is lost or damaged: it stays where it is, for people to look at.
    """
    events: list[KeptEvent] = []
    for name, data in zip(names, packed, strict=True):
        if data is None:
            raise CodecError(f"the warm block {name} is in its index, and not there")
        events += read_block(data)
    return events
