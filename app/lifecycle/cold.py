"""From warm to cold: blocks that are due become objects of the archive, one a tool and hour."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mode.utils.logging import get_logger
from redis.exceptions import ResponseError

from hookstream.app import metrics
from hookstream.app.archive.archive import Archive
from hookstream.app.archive.rows import ArchivedEvent
from hookstream.app.bounded import Aside
from hookstream.app.durations import DAY_MS, HOUR_MS
from hookstream.app.errors import ArchiveDamagedError, FencedError, UnavailableError
from hookstream.app.lifecycle.rules import hot_ms, ttl_of, warm_ms
from hookstream.app.lifecycle.warm import Owner
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS, Scripts
from hookstream.app.redis.memory import Pressure
from hookstream.app.routing.catalog import Catalog, Ttl
from hookstream.app.stores.holds import Hold, held_events
from hookstream.app.stores.tiers import COLD, WARM, WarmEntry, warm_entry
from hookstream.app.streams.partition import Partition
from hookstream.codecs.errors import CodecError, ErasedError
from hookstream.codecs.sealed import block_place
from hookstream.codecs.warm_block import KeptEvent, read_block

__all__ = ["ColdMover", "WarmTotals"]

logger = get_logger(__name__)

#: Blocks of one object: packed bytes, or blocks, from which on nobody waits for the end of their
#: hour, and most that one object is made of. Packed bytes say little of what is unpacked: 8 blocks
#: are 64 MiB of events.
WORTH_AN_OBJECT = 8 * 1024 * 1024
MOST_BLOCKS = 8
#: Objects that are made of smaller ones before others are looked after.
COMPACTIONS = 8


@dataclass(slots=True)
class WarmTotals:
    """What is warm in a partition, since when (ms) the first is due, what was archived."""

    events: int = 0
    archived: int = 0
    size: int = 0
    due_since_ms: int | None = None

    def add(self, known: "Known") -> None:
        """Count what a tool has."""
        self.events += known.events
        self.size += known.size

    def due(self, left: Sequence[WarmEntry], stays: int) -> None:
        """Note since when blocks that are left, the oldest first, should have moved."""
        if left:
            since = left[0].last_ms + stays
            self.due_since_ms = min(since, self.due_since_ms or since)


@dataclass(frozen=True, slots=True)
class Known:
    """What a tool's index came to when all of it was read, and how it looked then."""

    looks: tuple[Any, ...] = ()
    events: int = 0
    size: int = 0


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
        aside: Aside | None = None,
    ) -> None:
        """``aside``: where objects are made, if not in threads."""
        self._aside = aside or Aside()
        self._redis = redis
        self._scripts = scripts
        self._archive = archive
        self._catalog = catalog
        self._now_ms = now_ms
        self._known: dict[int, dict[Owner, Known]] = {}
        #: Of which tools what kind of trouble has been told with its traceback.
        self._told: set[tuple[Owner, str]] = set()

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
        looks = await self._look(partition.number, pressure)
        for owner, due in looks.items():
            try:
                if isinstance(due, Exception):
                    raise due
                await self._move_tool(partition, owner, due, pressure, totals, eager)
            except (FencedError, UnavailableError):
                raise
            except Exception as error:
                # others' go on; this one's stay warm and are tried again
                if isinstance(error, REDIS_ERRORS) and type(error) is not ResponseError:
                    raise
                self._tell(owner, error)
            else:
                self._told = {one for one in self._told if one[0] != owner}
        return totals

    async def left(self, partition: Partition, pressure: Pressure) -> WarmTotals:
        """What is warm in one partition, and since when the first of it is due; nothing moves.

        Raises:
            redis.exceptions.RedisError: what the server said.
        """
        totals, catalog = WarmTotals(), self._catalog()
        for owner, due in (await self._look(partition.number, pressure)).items():
            ttl = ttl_of(catalog, owner)
            if not isinstance(due, Exception):
                totals.add(self._known[partition.number][owner])
                if ttl:
                    totals.due(due, _stays(ttl, pressure))
        return totals

    def _tell(self, owner: Owner, error: Exception) -> None:
        known = (owner, type(error).__name__)
        expected = isinstance(error, (ArchiveDamagedError, CodecError))
        logger.error(
            "events of %s/%s cannot be archived: %s",
            *owner,
            error,
            exc_info=None if expected or known in self._told else error,
        )
        self._told.add(known)

    async def _look(
        self, number: int, pressure: Pressure
    ) -> dict[Owner, list[WarmEntry] | Exception]:
        """Of each tool the blocks that are due; notes what all of its blocks come to.

        Of one whose index cannot be read, what is the matter with it.
        """
        names = sorted(await self._redis.smembers(keys.warm_tools(number)))
        owners = [(tenant, tool_id) for tenant, _, tool_id in map(_split, names)]
        if not owners:
            self._known.pop(number, None)
            return {}
        now_ms, catalog = self._now_ms(), self._catalog()
        pipe = self._redis.pipeline(transaction=False)
        for owner in owners:
            index = keys.warm_index(number, *owner)
            ttl = ttl_of(catalog, owner)
            until = now_ms - _stays(ttl, pressure) if ttl else -1
            pipe.zrangebyscore(index, "-inf", until)
            pipe.zcard(index)
            pipe.zrange(index, 0, 0)
            pipe.zrange(index, -1, -1)
        replies = iter(await pipe.execute(raise_on_error=False))
        before, known = self._known.get(number, {}), {}
        looks: dict[Owner, list[WarmEntry] | Exception] = {}
        changed: dict[Owner, tuple[Any, ...]] = {}
        for owner, due, count, first, last in zip(
            owners, replies, replies, replies, replies, strict=True
        ):
            looks[owner] = due if isinstance(due, Exception) else _entries(due)
            if isinstance(looks[owner], Exception):
                continue
            looked = (count, *first, *last)
            if before.get(owner, Known()).looks == looked:
                known[owner] = before[owner]
            else:
                changed[owner] = looked
        # the same number of blocks, and the same ends: it is what it was, and is not read again
        pipe = self._redis.pipeline(transaction=False)
        for owner in changed:
            pipe.zrange(keys.warm_index(number, *owner), 0, -1)
        found = await pipe.execute() if changed else ()
        for (owner, looked), members in zip(changed.items(), found, strict=True):
            blocks = _entries(members)
            if isinstance(blocks, Exception):
                looks[owner] = blocks
                continue
            events = sum(block.events for block in blocks)
            known[owner] = Known(looked, events, sum(block.size for block in blocks))
        self._known[number] = known
        return looks

    async def check(self) -> None:
        """Look whether the archive is there. Raises UnavailableError where it is not."""
        await self._archive.check()

    async def expire(self, is_mine: Callable[[str, str], bool], holds: Sequence[Hold] = ()) -> int:
        """Forget archived events whose time is over, of the tools that ``is_mine`` says; how many.

        What ``holds`` cover stays.

        Raises:
            UnavailableError: the archive, or its manifest, is away.
        """
        catalog, now_ms, gone = self._catalog(), self._now_ms(), 0
        for tenant, tool_id in await self._archive.tools():
            ttl = ttl_of(catalog, (tenant, tool_id))
            if ttl is None or not is_mine(tenant, tool_id):
                continue
            over_ms = now_ms - ttl.whole_ms
            held = held_events(holds, tenant, tool_id)
            removed = await self._archive.expire(tenant, tool_id, over_ms, held)
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
            try:
                replaced = await self._archive.compact(before_ms)
            except ArchiveDamagedError as error:
                # the archive leaves that tool and day out from now on
                logger.error("small objects of the archive stay as they are: %s", error)
                continue
            compacted += replaced.objects
            if not replaced.objects:
                break
        return compacted

    async def _move_tool(
        self,
        partition: Partition,
        owner: Owner,
        due: Sequence[WarmEntry],
        pressure: Pressure,
        totals: WarmTotals,
        eager: bool,
    ) -> None:
        totals.add(self._known[partition.number][owner])
        ttl, now_ms = ttl_of(self._catalog(), owner), self._now_ms()
        if ttl is None:
            return
        stays = _stays(ttl, pressure)
        left: list[WarmEntry] = []
        groups = _by_hour(due)
        while groups:
            group = groups.pop(0)
            over = (group[-1].first_ms // HOUR_MS + 1) * HOUR_MS + stays <= now_ms
            if not (over or eager or pressure >= Pressure.STRAIGHT or _is_full(group)):
                left += group
                continue
            try:
                gone, archived = await self._archive_blocks(partition, owner, group)
            except (CodecError, ValueError) as error:
                if len(group) > 1:
                    # whichever it is, the others go without it
                    groups[:0] = [[block] for block in group]
                    continue
                self._stuck(partition, owner, group[0], error)
                gone, archived = [], 0
            except ArchiveDamagedError as error:
                self._tell(owner, error)
                gone, archived = [], 0
            totals.archived += archived
            totals.events -= sum(block.events for block in gone)
            totals.size -= sum(block.size for block in gone)
            left += [block for block in group if block not in gone]
        totals.due(left, stays)

    def _stuck(
        self, partition: Partition, owner: Owner, block: WarmEntry, error: Exception | str
    ) -> None:
        logger.error(
            "the warm block %s cannot be archived and stays: %s",
            keys.warm_block(partition.number, *owner, block.last),
            error,
        )

    async def _archive_blocks(
        self, partition: Partition, owner: Owner, blocks: Sequence[WarmEntry]
    ) -> tuple[list[WarmEntry], int]:
        """Archive blocks of one hour, then delete them: those, and how many events they had."""
        number = partition.number
        ranges = [(block.first, block.last) for block in blocks]
        covered = await self._archive.covered(*owner, number, ranges)
        partition.check()
        pipe = self._redis.pipeline(transaction=False)
        for block in blocks:
            pipe.get(keys.warm_block(number, *owner, block.last))
        packed = await pipe.execute()
        if None not in packed and not any(covered):
            whole = [(b.first, b.last, data) for b, data in zip(blocks, packed, strict=True)]
            counts = await self._archive.store_blocks(*owner, number, whole, self._aside)
            if counts is not None:
                await self._drop(partition, owner, blocks)
                metrics.TIER_MOVED.labels(left=WARM).inc(sum(counts))
                return list(blocks), sum(counts)
        await self._archive.opening(packed)
        names = [keys.warm_block(number, *owner, block.last) for block in blocks]
        read, damaged = await asyncio.to_thread(_unpacked, blocks, names, packed)
        for block, error in damaged.items():
            self._stuck(partition, owner, block, error)
        fresh = [one for one, there in zip(blocks, covered, strict=True) if not there]
        await self._store(owner, number, {block: read[block] for block in fresh if block in read})
        for block, there in zip(blocks, covered, strict=True):
            if there and block in read:
                # somebody has crashed before it went, or its events came late
                try:
                    await self._store(owner, number, {block: read[block]})
                except (ArchiveDamagedError, CodecError, ValueError) as trouble:
                    self._stuck(partition, owner, block, trouble)
                    damaged[block] = trouble
        # of a block that is in its index only nothing can be kept: it leaves the index, and what it
        # should have had is not said to be archived
        gone = [block for block in blocks if block not in damaged]
        await self._drop(partition, owner, gone)
        archived = sum(len(read.get(block, ())) for block in gone)
        metrics.TIER_MOVED.labels(left=WARM).inc(archived)
        return gone, archived

    async def _drop(self, partition: Partition, owner: Owner, gone: Sequence[WarmEntry]) -> None:
        """Delete blocks that are archived."""
        number = partition.number
        names = [keys.warm_block(number, *owner, block.last) for block in gone]
        partition.check()
        await self._scripts.call(
            "drop_warm",
            [keys.lease(number), keys.warm_index(number, *owner), keys.warm_tools(number), *names],
            [
                partition.epoch,
                partition.nonce,
                "/".join(owner),
                *(block.encode() for block in gone),
            ],
        )

    async def _store(
        self, owner: Owner, number: int, blocks: Mapping[WarmEntry, Sequence[KeptEvent]]
    ) -> None:
        """Archive what no object has yet.

        A range says of what the archive was given, not of what it should have been given: an entry
        that was packed later, into a block that overlaps an older one, is in no object.
        """
        events = [
            ArchivedEvent(number, event.entry_id, event.envelope)
            for kept in blocks.values()
            for event in kept
        ]
        if events:
            whole = [(number, block.first, block.last) for block in blocks]
            await self._archive.store(*owner, events, whole, again=True)


def _split(name: bytes) -> tuple[str, str, str]:
    return name.decode().partition("/")


def _entries(members: Iterable[bytes]) -> list[WarmEntry] | Exception:
    try:
        return [warm_entry(member) for member in members]
    except ValueError as error:
        return error


def _stays(ttl: Ttl, pressure: Pressure) -> int:
    """For how long (ms) an event is in Redis."""
    return hot_ms(ttl, pressure) + warm_ms(ttl, pressure)


def _is_full(group: Sequence[WarmEntry]) -> bool:
    return len(group) >= MOST_BLOCKS or sum(block.size for block in group) >= WORTH_AN_OBJECT


def _by_hour(blocks: Iterable[WarmEntry]) -> list[list[WarmEntry]]:
    """Blocks in their order, those of one hour together, no more than make one object."""
    groups: list[list[WarmEntry]] = []
    for block in blocks:
        if (
            groups
            and block.first_ms // HOUR_MS == groups[-1][0].first_ms // HOUR_MS
            and not _is_full(groups[-1])
        ):
            groups[-1].append(block)
        else:
            groups.append([block])
    return groups


def _unpacked(
    blocks: Sequence[WarmEntry], names: Sequence[str], packed: Sequence[bytes | None]
) -> tuple[dict[WarmEntry, list[KeptEvent]], dict[WarmEntry, Exception]]:
    """The events of each block that is there, and those blocks that cannot be read.

    Of one whose data key was destroyed there is nothing left to be kept.
    """
    read: dict[WarmEntry, list[KeptEvent]] = {}
    damaged: dict[WarmEntry, Exception] = {}
    for block, name, data in zip(blocks, names, packed, strict=True):
        if data is None:
            logger.error("a warm block up to %s is in its index, and not there", block.last)
            continue
        try:
            read[block] = read_block(data, block_place(name))
        except ErasedError:
            logger.warning("the warm block %s is erased, and goes", name)
        except CodecError as error:
            damaged[block] = error
    return read, damaged
