"""From hot to warm: entries that every group is through with become blocks.

What moves is found by what is there and how old it is. What is remembered here from look to look
only says where to look: without it, everything is looked at.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mode.utils.logging import get_logger

from hookstream.app import metrics
from hookstream.app.ids import entry_order
from hookstream.app.lifecycle.rules import gather_ms, hot_ms, ttl_of
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.redis.errors import is_missing
from hookstream.app.redis.memory import Pressure
from hookstream.app.routing.catalog import Catalog, Ttl
from hookstream.app.stores.tiers import HOT, WarmEntry
from hookstream.app.streams.event_log import audit_end, is_recorded
from hookstream.app.streams.partition import Partition
from hookstream.codecs.envelope import KeptEnvelope, read_kept
from hookstream.codecs.errors import (
    CodecError,
    MissingBlobError,
    UnknownDictionaryError,
    UnknownVersionError,
)
from hookstream.codecs.warm_block import (
    BLOCK_BYTES,
    BLOCK_EVENTS,
    pack_block,
)

__all__ = ["HOUR_MS", "WarmMover"]

logger = get_logger(__name__)

HOUR_MS = 3_600_000
#: Entries that are read in one round trip.
PAGE = 128
#: Most entries of a partition that are looked at before others are looked after.
LOOK_ENTRIES = 8192
#: So many events are a block at once, though more might come.
WORTH_A_BLOCK = 64

#: A tenant and a tool of it.
Owner = tuple[str, str]


@dataclass(slots=True)
class Taken:
    """An entry; ``kept`` is None for what is no envelope, or one of a version of ``newer`` builds.

    Nobody looks for the former, and the latter stays where it is.
    """

    entry_id: str
    #: When the entry was appended.
    ms: int
    data: bytes
    kept: KeptEnvelope | None
    newer: bool = False


@dataclass(slots=True)
class Gathered:
    """Entries of one tool and hour that are on their way into a block."""

    entries: list[Taken] = field(default_factory=list)
    size: int = 0

    def add(self, taken: Taken) -> None:
        self.entries.append(taken)
        self.size += taken.kept.stored.size if taken.kept else 0

    @property
    def full(self) -> bool:
        return len(self.entries) >= BLOCK_EVENTS or self.size >= BLOCK_BYTES


@dataclass(slots=True)
class Left:
    """Entries of a tool that were left in their stream, none of them before ``place``."""

    place: str
    #: How many of them are due already, but too few to be packed; 0: the first one is not due.
    few: int = 0


@dataclass(slots=True)
class Progress:
    """Where to look next in a partition's stream."""

    partition: Partition
    #: The last entry that was looked at; ``left`` says which ones before it are there still.
    after: str = "0-0"
    left: dict[Owner, Left] = field(default_factory=dict)
    #: The last entry that all groups were through with, and the end of the audit stream then.
    seen: tuple[str, str] | None = None


class WarmMover:
    """Packs what is due in this worker's partitions."""

    def __init__(
        self,
        redis: Any,
        scripts: Scripts,
        payloads: Payloads,
        *,
        catalog: Callable[[], Catalog],
        now_ms: Callable[[], int],
    ) -> None:
        self._redis = redis
        self._scripts = scripts
        self._payloads = payloads
        self._catalog = catalog
        self._now_ms = now_ms
        self._progress: dict[int, Progress] = {}
        #: Since when (ms) the first entry of each partition that did not move has been due.
        self.due_since: dict[int, int] = {}

    def keep(self, owned: Mapping[int, Partition]) -> None:
        """Forget partitions that are another's."""
        for number in [
            n for n, known in self._progress.items() if owned.get(n) is not known.partition
        ]:
            del self._progress[number]
            self.due_since.pop(number, None)

    async def move(self, partition: Partition, pressure: Pressure, *, eager: bool = False) -> int:
        """Pack what is due in one partition, and say how many entries left their stream.

        ``eager``: nothing waits for others to be packed with.

        Raises:
            FencedError: another worker has the partition.
            redis.exceptions.RedisError: what the server said; what is packed is packed.
        """
        progress = self._progress.get(partition.number)
        if progress is None or progress.partition is not partition:
            progress = self._progress[partition.number] = Progress(partition)
        self.due_since.pop(partition.number, None)
        last = await self._done_until(progress)
        if last is None:
            return 0
        catalog, now_ms = self._catalog(), self._now_ms()
        ttls = (Ttl(), *(tool.ttl for tool in catalog.tools.values()))
        due_ms = now_ms - min(hot_ms(ttl, pressure) for ttl in ttls)
        until = min(last, f"{max(0, due_ms)}-{2**64 - 1}", key=entry_order)
        return await _Look(self, progress, catalog, now_ms, pressure, eager).run(until)

    async def _done_until(self, progress: Progress) -> str | None:
        """The last entry that all groups are through with, and whose events are all on record.

        An event that is not on record yet is found in its stream only.
        """
        number = progress.partition.number
        # first the groups, then the end of what they had to record
        last = await done_until(self._redis, keys.events(number))
        if last is None:
            return None
        end = await audit_end(self._redis, number)
        if await is_recorded(self._redis, number, end):
            progress.seen = None
            return last
        # under load something always waits: then what was seen before counts
        before = progress.seen
        if before is None or await is_recorded(self._redis, number, before[1]):
            progress.seen = (last, end)
        else:
            before = None
        return before[0] if before else None


async def done_until(redis: Any, stream: str) -> str | None:
    """The last entry of a stream up to which every group of it has acknowledged all there was.

    None where nobody has read it, or there is no such stream. Raises what else Redis says.
    """
    try:
        groups = await redis.xinfo_groups(stream)
    except Exception as error:
        if is_missing(error):
            return None
        raise
    ends = []
    for group in groups:
        end = group["last-delivered-id"].decode()
        if group["pending"]:
            pending = await redis.xpending(stream, group["name"])
            if pending["pending"]:
                end = _before(pending["min"].decode())
        ends.append(end)
    return min(ends, key=entry_order, default=None)


def _before(entry_id: str) -> str:
    """The highest id below another one."""
    ms, seq = entry_order(entry_id)
    return f"{ms}-{seq - 1}" if seq else f"{max(0, ms - 1)}-{2**64 - 1}"


class _Look:
    """One look through a partition: what is due is gathered by tool and hour, and packed."""

    def __init__(
        self,
        mover: WarmMover,
        progress: Progress,
        catalog: Catalog,
        now_ms: int,
        pressure: Pressure,
        eager: bool,
    ) -> None:
        self._eager = eager
        self._mover = mover
        self._progress = progress
        self._catalog = catalog
        self._now_ms = now_ms
        self._pressure = pressure
        self._number = progress.partition.number
        self._gathered: dict[Owner, Gathered] = {}
        #: What could not be packed.
        self._stuck: dict[Owner, Left] = {}
        self._moved = 0

    async def run(self, until: str) -> int:
        """What was left and is due by now, and then what is new, up to ``until``."""
        progress = self._progress
        for owner, left in list(progress.left.items()):
            if self._is_ripe(owner, left):
                found = await self._again(owner, left)
                del progress.left[owner]
                if found:
                    progress.left[owner] = found
        after, new = await self._new(until)
        for owner, found in new.items():
            known = progress.left.setdefault(owner, found)
            if known is not found and known.few:
                known.few += found.few
        progress.after = after
        self._note_due()
        return self._moved

    def _is_ripe(self, owner: Owner, left: Left) -> bool:
        return self._is_due(
            owner, entry_order(left.place)[0], gathered=0 < left.few < WORTH_A_BLOCK
        )

    async def _again(self, owner: Owner, left: Left) -> Left | None:
        """Pack what was left of a tool, as far as it is due; what is left of it now."""
        looked, place, later = 0, left.place, None
        while later is None:
            page = await self._page(place, self._progress.after)
            for taken in page:
                if taken.newer or _owner(taken) != owner:
                    continue
                if not self._is_due(owner, taken.ms):
                    later = Left(taken.entry_id)
                    break
                await self._gather(owner, taken)
            looked += PAGE
            if len(page) < PAGE:
                break
            place = f"({page[-1].entry_id}"
            if looked >= LOOK_ENTRIES:
                later = later or Left(page[-1].entry_id)
        return await self._rest(owner) or later

    async def _new(self, until: str) -> tuple[str, dict[Owner, Left]]:
        """Look at what is new: up to which entry, and what is left of it."""
        looked, after = 0, self._progress.after
        left: dict[Owner, Left] = {}
        while looked < LOOK_ENTRIES:
            page = await self._page(f"({after}", until)
            for taken in page:
                owner = _owner(taken)
                if taken.newer:
                    continue
                if self._is_due(owner, taken.ms):
                    await self._gather(owner, taken)
                else:
                    left.setdefault(owner, Left(taken.entry_id))
            looked += PAGE
            if page:
                after = page[-1].entry_id
            if len(page) < PAGE:
                break
        for owner in list(self._gathered):
            if found := await self._rest(owner):
                left.setdefault(owner, found)
        return after, left

    async def _page(self, start: str, end: str) -> list[Taken]:
        page = await self._mover._redis.xrange(keys.events(self._number), start, end, count=PAGE)
        return await asyncio.to_thread(_read, page)

    def _is_due(self, owner: Owner, ms: int, *, gathered: bool = False) -> bool:
        ttl = ttl_of(self._catalog, owner)
        if ttl is None:
            return False
        stays = hot_ms(ttl, self._pressure)
        if gathered and not self._eager:
            stays += gather_ms(ttl, self._pressure)
        return ms + stays <= self._now_ms

    async def _gather(self, owner: Owner, taken: Taken) -> None:
        gathered = self._gathered.get(owner)
        if gathered and gathered.entries[0].ms // HOUR_MS != taken.ms // HOUR_MS:
            await self._pack(owner)
            gathered = None
        if gathered is None:
            gathered = self._gathered[owner] = Gathered()
        gathered.add(taken)
        if gathered.full:
            await self._pack(owner)

    async def _rest(self, owner: Owner) -> Left | None:
        """Pack what is gathered of a tool if it is worth it, or has waited; else it is left."""
        gathered = self._gathered.get(owner)
        if gathered is None:
            return self._stuck.pop(owner, None)
        first, count = gathered.entries[0], len(gathered.entries)
        if count >= WORTH_A_BLOCK or self._is_due(owner, first.ms, gathered=True):
            await self._pack(owner)
            return self._stuck.pop(owner, None)
        del self._gathered[owner]
        return self._stuck.pop(owner, None) or Left(first.entry_id, count)

    def _leave(self, owner: Owner, gathered: Gathered) -> None:
        first = gathered.entries[0].entry_id
        self._stuck.setdefault(owner, Left(first, len(gathered.entries)))

    def _note_due(self) -> None:
        ages = [
            entry_order(left.place)[0] + hot_ms(ttl, self._pressure)
            for owner, left in self._progress.left.items()
            if (ttl := ttl_of(self._catalog, owner)) is not None
        ]
        if ages:
            self._mover.due_since[self._number] = min(ages)

    async def _pack(self, owner: Owner) -> None:
        """Put what was gathered of a tool into a block."""
        gathered = self._gathered.pop(owner)
        mover, partition = self._mover, self._progress.partition
        wanted = [taken for taken in gathered.entries if taken.kept and not taken.kept.replay_id]
        await mover._payloads.fetch(taken.kept.stored for taken in wanted if taken.kept)
        try:
            block = await asyncio.to_thread(_packed, wanted) if wanted else b""
        except UnknownDictionaryError as error:
            logger.warning("events of %s/%s stay hot for now: %s", *owner, error)
            self._leave(owner, gathered)
            return
        last = gathered.entries[-1].entry_id
        ends = (wanted[0].entry_id, wanted[-1].entry_id) if wanted else (last, last)
        entry = WarmEntry(*ends, len(wanted), len(block))
        stored = [taken.kept.stored for taken in wanted if taken.kept]
        blobs = [one.blob for one in stored if one.blob and one.data is not None]
        partition.check()
        deleted = await mover._scripts.call(
            "keep_warm",
            [
                keys.lease(self._number),
                keys.events(self._number),
                keys.warm_block(self._number, *owner, entry.last),
                keys.warm_index(self._number, *owner),
                keys.warm_tools(self._number),
                *blobs,
            ],
            [
                partition.epoch,
                partition.nonce,
                block,
                entry.encode(),
                entry.last_ms,
                "/".join(owner),
                last,
                *(taken.entry_id for taken in gathered.entries),
            ],
        )
        if deleted < 0:
            # some group has been given an entry again: it is looked at anew
            self._leave(owner, gathered)
            return
        self._moved += deleted
        metrics.TIER_MOVED.labels(left=HOT).inc(deleted)


def _owner(taken: Taken) -> Owner:
    return (taken.kept.tenant, taken.kept.tool_id) if taken.kept else ("", "")


def _read(page: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> list[Taken]:
    """Entries with what is to be known of them to move them."""
    found: list[Taken] = []
    for entry_id, fields in page:
        data = fields.get(b"d", b"")
        kept, newer = None, False
        try:
            kept = read_kept(data)
        except UnknownVersionError:
            newer = True
        except CodecError:
            # no envelope: the dead letter that it became has its bytes
            pass
        name = entry_id.decode()
        found.append(Taken(name, entry_order(name)[0], data, kept, newer))
    return found


def _packed(wanted: Iterable[Taken]) -> bytes:
    """A block of these, read again and compared."""
    return pack_block((taken.entry_id, _whole(taken)) for taken in wanted)


def _whole(taken: Taken) -> Sequence[bytes]:
    assert taken.kept is not None
    try:
        return taken.kept.whole()
    except UnknownDictionaryError:
        raise
    except (MissingBlobError, CodecError):
        # what is lost or damaged is so in any tier
        return (taken.data,)
