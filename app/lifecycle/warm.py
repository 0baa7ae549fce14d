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
    KeptEvent,
    pack_block,
    read_block,
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
    """An entry that is due: ``kept`` is None for one that nobody will look for."""

    entry_id: str
    data: bytes
    kept: KeptEnvelope | None


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
class Progress:
    """Where to look next in a partition's stream."""

    partition: Partition
    #: Everything before it was looked at; what was left behind is in ``behind``.
    after: str = "-"
    #: The oldest entry of each tool that was left, since it is not due yet or is too few.
    behind: dict[Owner, str] = field(default_factory=dict)
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

    async def move(self, partition: Partition, pressure: Pressure) -> int:
        """Pack what is due in one partition, and say how many entries left their stream.

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
        until = min(last, f"{max(0, due_ms)}-0", key=entry_order)
        return await _Look(self, progress, catalog, now_ms, pressure).run(until)

    async def _done_until(self, progress: Progress) -> str | None:
        """The last entry that all groups are through with, and whose events are all on record.

        An event that is not on record yet is found in its stream only.
        """
        number = progress.partition.number
        # first the groups, then the end of what they had to record
        last = await done_until(self._redis, keys.events(number))
        if last is None:
            return None
        seen, found = progress.seen, None
        if seen is None or await is_recorded(self._redis, number, seen[1]):
            found = seen[0] if seen else None
            progress.seen = (last, await audit_end(self._redis, number))
            if found is None and await is_recorded(self._redis, number, progress.seen[1]):
                found = last
        return found


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
    ) -> None:
        self._mover = mover
        self._progress = progress
        self._catalog = catalog
        self._now_ms = now_ms
        self._pressure = pressure
        self._number = progress.partition.number
        self._gathered: dict[Owner, Gathered] = {}
        self._behind: dict[Owner, str] = {}
        self._moved = 0

    async def run(self, until: str) -> int:
        """Look from where something may be due to ``until``."""
        redis, stream = self._mover._redis, keys.events(self._number)
        progress = self._progress
        begin = place = self._begin()
        looked = 0
        while looked < LOOK_ENTRIES:
            page = await redis.xrange(stream, place, until, count=PAGE)
            for taken in await asyncio.to_thread(_read, page):
                await self._take(taken)
            looked += len(page)
            if page:
                place = f"({page[-1][0].decode()}"
            if len(page) < PAGE:
                break
        await self._rest()
        for owner, entry in progress.behind.items():
            if not _key(begin) <= _key(entry) < _key(place):
                self._leave(owner, entry)
        progress.behind = self._behind
        progress.after = max(progress.after, place, key=_key)
        self._note_due()
        return self._moved

    def _begin(self) -> str:
        """From where on something may be due: what was left of some tool, or what is new."""
        due = [
            entry
            for owner, entry in self._progress.behind.items()
            if self._is_due(owner, entry, gathered=True)
        ]
        return min([*due, self._progress.after], key=_key)

    def _is_due(self, owner: Owner, entry_id: str, *, gathered: bool = False) -> bool:
        ttl = ttl_of(self._catalog, owner[1])
        if ttl is None:
            return False
        stays = hot_ms(ttl, self._pressure)
        if gathered:
            stays += gather_ms(ttl, self._pressure)
        return entry_order(entry_id)[0] + stays <= self._now_ms

    async def _take(self, taken: Taken | None) -> None:
        if taken is None:
            return
        owner = (taken.kept.tenant, taken.kept.tool_id) if taken.kept else ("", "")
        if not self._is_due(owner, taken.entry_id):
            self._leave(owner, taken.entry_id)
            return
        gathered = self._gathered.get(owner)
        if gathered and _hour(gathered.entries[0].entry_id) != _hour(taken.entry_id):
            await self._pack(owner)
            gathered = None
        if gathered is None:
            gathered = self._gathered[owner] = Gathered()
        gathered.add(taken)
        if gathered.full:
            await self._pack(owner)

    def _leave(self, owner: Owner, entry_id: str) -> None:
        known = self._behind.get(owner)
        if known is None or entry_order(entry_id) < entry_order(known):
            self._behind[owner] = entry_id

    async def _rest(self) -> None:
        """Pack what is worth it, or has waited long enough; the others are left for later."""
        for owner, gathered in list(self._gathered.items()):
            first = gathered.entries[0].entry_id
            if len(gathered.entries) >= WORTH_A_BLOCK or self._is_due(owner, first, gathered=True):
                await self._pack(owner)
            else:
                self._leave(owner, first)

    def _note_due(self) -> None:
        ages = [
            entry_order(entry)[0] + hot_ms(ttl, self._pressure)
            for owner, entry in self._behind.items()
            if (ttl := ttl_of(self._catalog, owner[1])) is not None
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
            self._leave(owner, gathered.entries[0].entry_id)
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
            self._leave(owner, gathered.entries[0].entry_id)
            return
        self._moved += deleted
        metrics.TIER_MOVED.labels(left=HOT).inc(deleted)


def _key(place: str) -> tuple[tuple[int, int], bool]:
    """Order of places of a stream as XRANGE takes them: ``(id`` is behind ``id``, ``-`` first."""
    if place == "-":
        return (0, 0), False
    return entry_order(place.removeprefix("(")), place.startswith("(")


def _hour(entry_id: str) -> int:
    return entry_order(entry_id)[0] // HOUR_MS


def _read(page: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> list[Taken | None]:
    """Entries as they are to be moved; None for what only a newer build can read, which stays."""
    found: list[Taken | None] = []
    for entry_id, fields in page:
        data = fields.get(b"d", b"")
        kept = None
        try:
            kept = read_kept(data)
        except UnknownVersionError:
            found.append(None)
            continue
        except CodecError:
            # no envelope: the dead letter that it became has its bytes
            pass
        found.append(Taken(entry_id.decode(), data, kept))
    return found


def _packed(wanted: Iterable[Taken]) -> bytes:
    """A block of these, read again and compared."""
    events = [KeptEvent(taken.entry_id, _whole(taken)) for taken in wanted]
    block = pack_block(events)
    if read_block(block) != events:
        raise CodecError("a block that was packed does not read as what was put into it")
    return block


def _whole(taken: Taken) -> bytes:
    assert taken.kept is not None
    try:
        return taken.kept.whole()
    except UnknownDictionaryError:
        raise
    except (MissingBlobError, CodecError):
        # what is lost or damaged is so in any tier
        return taken.data
