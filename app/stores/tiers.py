"""Where events are kept: hot in their stream, warm in a block, cold in the archive.

What moves is written further on before it is taken away, so whoever asks in this order finds it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mode.utils.logging import get_logger

from hookstream.app import metrics
from hookstream.app.archive.archive import Archive
from hookstream.app.archive.rows import Place
from hookstream.app.errors import ArchiveDamagedError, SealingKeyError, UnavailableError
from hookstream.app.ids import entry_order
from hookstream.app.keyring.data_keys import DataKeys
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.codecs.errors import CodecError, ErasedError, UnknownKeyError, UnknownVersionError
from hookstream.codecs.sealed import block_place, key_ids
from hookstream.codecs.warm_block import read_block

__all__ = ["COLD", "ERASED", "GONE", "HOT", "WARM", "Tiers", "WarmEntry", "warm_entry"]

logger = get_logger(__name__)

HOT, WARM, COLD, GONE = "hot", "warm", "cold", "gone"
#: In whichever tier it was: the data key of its month was destroyed.
ERASED = "erased"

#: Unpacked blocks that are kept for who reads on, in bytes of their events.
CACHE_BYTES = 32 * 1024 * 1024
#: Blocks that are unpacked aside, on a thread: smaller ones take less than a millisecond.
ASIDE_BYTES = 64 * 1024
#: Events whose blocks, or row groups, are opened together when it is looked whether they have them.
LOOKED_INTO = 32


@dataclass(frozen=True, slots=True)
class WarmEntry:
    """A warm block, as its index has it: its first and last entry, its events, its bytes."""

    first: str
    last: str
    events: int
    size: int

    def encode(self) -> str:
        """Its member of the index."""
        return f"{self.first}:{self.last}:{self.events}:{self.size}"

    @property
    def first_ms(self) -> int:
        """When its first entry was appended."""
        return entry_order(self.first)[0]

    @property
    def last_ms(self) -> int:
        """When its last entry was appended."""
        return entry_order(self.last)[0]


def warm_entry(member: bytes) -> WarmEntry:
    """The block that a member of an index stands for."""
    first, last, events, size = member.decode().split(":")
    return WarmEntry(first, last, int(events), int(size))


#: A block's key, and its member of the index.
Block = tuple[str, bytes]


class Tiers:
    """Finds events in whichever tier they are, many at a time."""

    def __init__(
        self,
        redis: Any,
        scripts: Scripts,
        archive: Archive | None = None,
        cache_bytes: int = CACHE_BYTES,
        data_keys: DataKeys | None = None,
    ) -> None:
        self._data_keys = data_keys
        if data_keys is not None:
            data_keys.when_destroyed(self._forget_all)
        self._redis = redis
        self._scripts = scripts
        self._archive = archive
        self._cache: OrderedDict[Block, dict[str, bytes]] = OrderedDict()
        self._cached_bytes = 0
        self._cache_bytes = cache_bytes

    async def envelopes(self, places: Sequence[Place]) -> list[bytes | None]:
        """The events' envelopes as they are kept; None for those that are gone.

        One round trip for those that are hot, two more for those that are warm.

        Raises:
            UnavailableError: it cannot be asked whether the archive has them.
            redis.exceptions.RedisError: Redis does not answer.
        """
        if not places:
            return []
        pipe = self._redis.pipeline(transaction=False)
        for place in places:
            pipe.xrange(keys.events(place.partition), place.entry_id, place.entry_id)
        found: list[bytes | None] = [
            reply[0][1].get(b"d") if reply else None for reply in await pipe.execute()
        ]
        if missing := [at for at, data in enumerate(found) if data is None]:
            moved = await self.moved([places[at] for at in missing])
            for at, data in zip(missing, moved, strict=True):
                found[at] = data
        return found

    async def moved(self, places: Sequence[Place]) -> list[bytes | None]:
        """As :meth:`envelopes`, of events that are not hot any more."""
        found = await self._warm(places) if places else []
        missing = [at for at, data in enumerate(found) if data is None]
        if missing and self._archive is not None:
            cold = await self._archive.find([places[at] for at in missing])
            for at, data in zip(missing, cold, strict=True):
                found[at] = data
        return found

    async def tiers(self, places: Sequence[Place]) -> list[str]:
        """In which tier each event is; no payload is read.

        Raises:
            UnavailableError: it cannot be asked whether the archive has them.
            redis.exceptions.RedisError: Redis does not answer.
        """
        told = await self._told(places)
        found = [GONE if not one else HOT if one == 1 else WARM for one in told]
        missing = [at for at, tier in enumerate(found) if tier == GONE]
        if missing and self._archive is not None:
            held = await self._archive.holds([places[at] for at in missing])
            for at, there in zip(missing, held, strict=True):
                found[at] = COLD if there else GONE
        return found

    async def verified(
        self, places: Sequence[Place], told: Sequence[str], *, read: bool = False
    ) -> list[bool]:
        """Whether events are in the tiers that :meth:`tiers` has ``told`` of.

        That knows ranges of entries; here blocks are looked into, and whether the manifest has a
        row group. ``read``: row groups are looked into, too. What a damaged object should have is
        taken to be there: it is found damaged by itself.

        Raises:
            UnavailableError: the archive cannot be asked.
            redis.exceptions.RedisError: Redis does not answer.
        """
        there = [tier != GONE for tier in told]
        for tier, look in ((WARM, self._are_warm), (COLD, self._are_cold)):
            mine = [at for at, one in enumerate(told) if one == tier]
            for start in range(0, len(mine), LOOKED_INTO):
                some = mine[start : start + LOOKED_INTO]
                found = await look([places[at] for at in some], read)
                for at, one in zip(some, found, strict=True):
                    there[at] = one
        # what has moved on meanwhile is there now
        for at in [at for at, one in enumerate(there) if not one and told[at] == WARM]:
            [there[at]] = await self._are_cold([places[at]], read=True)
        return there

    async def _are_warm(self, places: Sequence[Place], read: bool) -> list[bool]:
        return [data is not None for data in await self._warm(places)]

    async def _are_cold(self, places: Sequence[Place], read: bool) -> list[bool]:
        if self._archive is None:
            return [False] * len(places)
        located = await self._archive.located(places)
        if not read:
            return located
        try:
            found = await self._archive.find(places)
        except ArchiveDamagedError:
            if len(places) == 1:
                return located
            return [one for place in places for one in await self._are_cold([place], read)]
        return [data is not None for data in found]

    async def _told(self, places: Sequence[Place]) -> list[Any]:
        """Of each place what ``find_tiers`` says: 1 for hot, else the blocks that may have it."""
        by_partition: dict[int, list[int]] = {}
        for at, place in enumerate(places):
            by_partition.setdefault(place.partition, []).append(at)
        told: list[Any] = [()] * len(places)
        replies = await asyncio.gather(
            *(
                self._ask(number, [places[at] for at in mine])
                for number, mine in by_partition.items()
            )
        )
        for mine, reply in zip(by_partition.values(), replies, strict=True):
            for at, one in zip(mine, reply, strict=True):
                told[at] = one
        return told

    async def _ask(self, partition: int, places: Sequence[Place]) -> list[Any]:
        indexes: dict[str, int] = {}
        arguments: list[Any] = []
        for place in places:
            index = keys.warm_index(partition, place.tenant, place.tool_id)
            arguments += place.entry_id, indexes.setdefault(index, len(indexes) + 2)
        reply: list[Any] = await self._scripts.call(
            "find_tiers", [keys.events(partition), *indexes], arguments
        )
        return reply

    async def _warm(self, places: Sequence[Place]) -> list[bytes | None]:
        told = await self._told(places)
        names = [
            [
                # a block that was made anew has another member of the index: it is another one
                (
                    keys.warm_block(
                        place.partition, place.tenant, place.tool_id, warm_entry(one).last
                    ),
                    one,
                )
                for one in (found if isinstance(found, list) else ())
            ]
            for place, found in zip(places, told, strict=True)
        ]
        blocks: dict[Block, dict[str, bytes]] = {name: {} for each in names for name in each}
        await self._open(blocks)
        return [
            next((data for name in each if (data := blocks[name].get(place.entry_id))), None)
            for place, each in zip(places, names, strict=True)
        ]

    async def _open(self, blocks: dict[Block, dict[str, bytes]]) -> None:
        """Fill in the events of blocks; none for one that is not there any more."""
        wanted = []
        for name in blocks:
            if (known := self._cache.get(name)) is not None:
                self._cache.move_to_end(name)
                blocks[name] = known
            else:
                wanted.append(name)
        metrics.TIER_CACHE.labels(tier=WARM, result="hit").inc(len(blocks) - len(wanted))
        metrics.TIER_CACHE.labels(tier=WARM, result="miss").inc(len(wanted))
        if not wanted:
            return
        pipe = self._redis.pipeline(transaction=False)
        for key, _ in wanted:
            pipe.get(key)
        found = await pipe.execute()
        if self._data_keys is not None:
            await self._data_keys.fetch(key_ids(found))
        for name, data in zip(wanted, found, strict=True):
            if data is None:
                continue
            if len(data) > ASIDE_BYTES:
                blocks[name] = await asyncio.to_thread(_events, name[0], data)
            else:
                blocks[name] = _events(name[0], data)
            if blocks[name]:
                self._remember(name, blocks[name])

    def is_erased(self, tenant: str, event_id: str) -> bool:
        """Whether a key of the month in which an event was received was destroyed."""
        return self._data_keys is not None and self._data_keys.is_erased(tenant, event_id)

    def _forget_all(self) -> None:
        self._cache.clear()
        self._cached_bytes = 0

    def _remember(self, name: Block, events: dict[str, bytes]) -> None:
        if name in self._cache:
            return
        self._cache[name] = events
        self._cached_bytes += _size(events)
        while self._cached_bytes > self._cache_bytes and len(self._cache) > 1:
            _, gone = self._cache.popitem(last=False)
            self._cached_bytes -= _size(gone)


def _size(events: dict[str, bytes]) -> int:
    return sum(map(len, events.values()))


def _events(name: str, data: bytes) -> dict[str, bytes]:
    """The events of a block by their entries; none of a damaged one, or one that is erased.

    Raises:
        UnavailableError: a newer build has made it.
        SealingKeyError: its key is not here.
    """
    try:
        return {event.entry_id: event.envelope for event in read_block(data, block_place(name))}
    except UnknownVersionError as error:
        raise UnavailableError(f"{name} is {error}") from error
    except UnknownKeyError as error:
        raise SealingKeyError(f"{name} is {error}") from error
    except ErasedError:
        return {}
    except CodecError as error:
        logger.error("the warm block %s cannot be read: %s", name, error)
        return {}
