"""From hot to warm: entries that every group is through with become blocks.

What moves is found by what is there and how old it is. What is remembered here from look to look
only says where to look: without it, everything is looked at.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mode.utils.logging import get_logger

from hookstream.app import metrics
from hookstream.app.bounded import Aside
from hookstream.app.durations import HOUR_MS
from hookstream.app.errors import UnavailableError
from hookstream.app.ids import entry_order
from hookstream.app.lifecycle.packing import Packable, Seal
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
from hookstream.codecs.dictionaries import BOOK
from hookstream.codecs.envelope import KeptEnvelope, is_event_id, read_kept
from hookstream.codecs.errors import CodecError, UnknownDictionaryError, UnknownVersionError
from hookstream.codecs.sealed import KEYS, month_of_event
from hookstream.codecs.warm_block import BLOCK_BYTES, BLOCK_EVENTS

__all__ = ["WarmMover"]

logger = get_logger(__name__)

#: Entries that are read in one round trip.
PAGE = 128
#: Most entries of a partition that are looked at before others are looked after.
LOOK_ENTRIES = 8192
#: Most bytes of entries that are gathered at a time.
HELD_BYTES = 64 * 1024 * 1024
#: For how long the blob of an event that has failed is kept when its entry goes: longer than dead
#: letters are.
FAILED_BLOB_MS = 60 * 24 * HOUR_MS
#: So many events are a block at once, though more might come.
WORTH_A_BLOCK = 64

PACK = "hookstream.app.lifecycle.packing:pack"

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

    @property
    def order(self) -> tuple[int, int]:
        """What entries are ordered by."""
        return entry_order(self.entry_id)

    @property
    def month(self) -> str:
        """In which its event was received: one key seals it."""
        return month_of_event(self.kept.event_id) if self.kept else ""

    @property
    def size(self) -> int:
        """Bytes of its payload."""
        return self.kept.stored.size if self.kept else 0


@dataclass(slots=True)
class Gathered:
    """Entries of one tool and hour that are on their way into a block."""

    entries: list[Taken] = field(default_factory=list)
    #: Of their payloads, and of the entries as they are in memory.
    size: int = 0
    held: int = 0

    def takes(self, taken: Taken) -> bool:
        """Whether another one fits: of the same hour and month, and not too large beside these."""
        same_hour = self.entries[0].ms // HOUR_MS == taken.ms // HOUR_MS
        return (
            same_hour
            and self.entries[0].month == taken.month
            and self.size + taken.size <= BLOCK_BYTES
        )

    def add(self, taken: Taken) -> None:
        self.entries.append(taken)
        self.size += taken.size
        self.held += len(taken.data)

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
        settled: Callable[[Sequence[str]], Awaitable[dict[str, str]]],
        catalog: Callable[[], Catalog],
        now_ms: Callable[[], int],
        aside: Aside | None = None,
    ) -> None:
        """``settled``: with which entry events are on record that will not come again.

        ``aside``: where packing is done, if not in threads.
        """
        self._aside = aside or Aside()
        self._settled = settled
        self._troubles: dict[Owner, str] = {}
        self._shortest_of: tuple[Catalog, Ttl] | None = None
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

    async def packed(self, wanted: Sequence[Taken], name: str) -> bytes:
        """The block ``name`` of these, whose blobs, keys and dictionaries were fetched.

        Raises:
            CodecError: it cannot be made of them.
            SealingKeyError: it is to be sealed, and there is no key for it now.
        """
        entries = [_packable(taken) for taken in wanted]
        seal = await self._seal(wanted, name)
        lacking: dict[int, bytes] = {}
        while True:
            # another process has the dictionaries that it was once given
            found: bytes | int = await self._aside.run("warm block", PACK, entries, lacking, seal)
            if isinstance(found, bytes):
                return found
            dictionary = BOOK.get(found)
            if dictionary is None or found in lacking:
                raise UnknownDictionaryError(found)
            lacking[found] = dictionary.content

    async def _seal(self, wanted: Sequence[Taken], name: str) -> Seal:
        data_keys, first = self._payloads.data_keys, wanted[0].kept
        if data_keys is None or first is None:
            return Seal()
        ids = {taken.kept.stored.key_id for taken in wanted if taken.kept}
        opens = [key for number in ids if (key := KEYS.get(number))]
        month = (first.tenant, month_of_event(first.event_id))
        await data_keys.ensure((month,))
        erased = [number for number in ids if KEYS.is_destroyed(number)]
        return Seal(opens, data_keys.key(*month), name, erased)

    def note(self, owner: Owner, error: Exception) -> None:
        """Say once, for each kind of trouble, why events of a tool stay hot."""
        kind = type(error).__name__
        if self._troubles.get(owner) != kind:
            self._troubles[owner] = kind
            logger.warning("events of %s/%s stay hot for now: %s", *owner, error)

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
        due_ms = now_ms - hot_ms(self._shortest(catalog), pressure)
        until = min(last, f"{max(0, due_ms)}-{2**64 - 1}", key=entry_order)
        return await _Look(self, progress, catalog, now_ms, pressure, eager).run(until)

    def _shortest(self, catalog: Catalog) -> Ttl:
        """That of the tool whose events are hot for the shortest time; found once a catalog."""
        if self._shortest_of is None or self._shortest_of[0] is not catalog:
            ttls = (Ttl(), *(tool.ttl for tool in catalog.tools.values()))
            self._shortest_of = catalog, min(ttls, key=lambda ttl: ttl.hot_ms)
        return self._shortest_of[1]

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
        #: Bytes of what is gathered.
        self._held = 0
        self._moved = 0

    async def run(self, until: str) -> int:
        """What was left and is due by now, and then what is new, up to ``until``."""
        progress = self._progress
        ripe = {owner: left for owner, left in progress.left.items() if self._is_ripe(owner, left)}
        if ripe:
            again = await self._again(ripe)
            progress.left = {
                owner: left for owner, left in progress.left.items() if owner not in ripe
            } | again
        after, new = await self._new(until)
        for owner, found in new.items():
            known = progress.left.setdefault(owner, found)
            if known is not found and known.few:
                known.few += found.few
        progress.after = after
        self._note_due()
        return self._moved

    def _is_ripe(self, owner: Owner, left: Left) -> bool:
        ms = entry_order(left.place)[0]
        return self._is_due(owner, ms, gathered=0 < left.few < WORTH_A_BLOCK)

    async def _again(self, ripe: Mapping[Owner, Left]) -> dict[Owner, Left]:
        """Pack what was left of some tools, as far as it is due; what is left of them now."""
        later: dict[Owner, Left] = {}
        begins = {owner: entry_order(left.place) for owner, left in ripe.items()}
        looked, place = 0, min((left.place for left in ripe.values()), key=entry_order)
        while len(later) < len(ripe):
            page = await self._page(place, self._progress.after)
            for taken in page:
                if taken.newer:
                    await self._pack_all()
                    continue
                owner = _owner(taken)
                if owner not in ripe or owner in later or taken.order < begins[owner]:
                    continue
                if self._is_due(owner, taken.ms):
                    await self._gather(owner, taken)
                else:
                    later[owner] = Left(taken.entry_id)
            looked += PAGE
            if len(page) < PAGE:
                break
            last = page[-1]
            place = f"({last.entry_id}"
            if looked >= LOOK_ENTRIES:
                # the others go on from here, or from where they begin
                for owner in ripe.keys() - later.keys():
                    later[owner] = Left(
                        last.entry_id if begins[owner] < last.order else ripe[owner].place
                    )
        return await self._rest(later)

    async def _new(self, until: str) -> tuple[str, dict[Owner, Left]]:
        """Look at what is new: up to which entry, and what is left of it."""
        looked, after = 0, self._progress.after
        left: dict[Owner, Left] = {}
        while looked < LOOK_ENTRIES:
            page = await self._page(f"({after}", until)
            for taken in page:
                if taken.newer:
                    await self._pack_all()
                    continue
                owner = _owner(taken)
                if self._is_due(owner, taken.ms):
                    await self._gather(owner, taken)
                else:
                    left.setdefault(owner, Left(taken.entry_id))
            looked += PAGE
            if page:
                after = page[-1].entry_id
            if len(page) < PAGE:
                break
        return after, await self._rest(left)

    async def _page(self, start: str, end: str) -> list[Taken]:
        page = await self._mover._redis.xrange(keys.events(self._number), start, end, count=PAGE)
        # not in a thread: to get the interpreter back from a busy loop takes longer than this does
        return _read(page)

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
        if gathered and not gathered.takes(taken):
            await self._pack(owner)
            gathered = None
        if gathered is None:
            gathered = self._gathered[owner] = Gathered()
        gathered.add(taken)
        self._held += len(taken.data)
        if gathered.full:
            await self._pack(owner)
        elif self._held > HELD_BYTES:
            await self._pack(max(self._gathered, key=lambda owner: self._gathered[owner].held))

    async def _pack_all(self) -> None:
        """Pack what is gathered: no block's range goes over an entry that stays."""
        for owner in list(self._gathered):
            await self._pack(owner)

    async def _rest(self, left: dict[Owner, Left]) -> dict[Owner, Left]:
        """Pack what is gathered where it is worth it, or has waited; all that is left then."""
        for owner, gathered in list(self._gathered.items()):
            first, count = gathered.entries[0], len(gathered.entries)
            if count >= WORTH_A_BLOCK or self._is_due(owner, first.ms, gathered=True):
                await self._pack(owner)
            else:
                self._forget(owner)
                _earlier(left, owner, Left(first.entry_id, count))
        for owner, stuck in self._stuck.items():
            _earlier(left, owner, stuck)
        self._stuck.clear()
        return left

    def _forget(self, owner: Owner) -> Gathered:
        gathered = self._gathered.pop(owner)
        self._held -= gathered.held
        return gathered

    def _leave(self, owner: Owner, gathered: Gathered) -> None:
        left = Left(gathered.entries[0].entry_id, len(gathered.entries))
        _earlier(self._stuck, owner, left)

    async def _blobs(self, wanted: Sequence[Taken]) -> tuple[list[str], list[str]]:
        """Blobs that go with these, and those that somebody may still need: an event that is tried
        again has another entry later, which names the same blob.

        Raises:
            UnavailableError: nobody can say which ones.
        """
        prefix = keys.blob(keys.events(self._number), "")
        named = {
            taken.kept.stored.blob: taken
            for taken in wanted
            if taken.kept and taken.kept.stored.blob.startswith(prefix)
        }
        if not named:
            return [], []
        ids = [taken.kept.event_id for taken in named.values() if taken.kept]
        settled = await self._mover._settled(ids)
        gone = [
            name
            for name, taken in named.items()
            if taken.kept and settled.get(taken.kept.event_id) == taken.entry_id
        ]
        return gone, sorted(named.keys() - set(gone))

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
        gathered = self._forget(owner)
        mover, partition = self._mover, self._progress.partition
        wanted = [taken for taken in gathered.entries if taken.kept and taken.kept.is_event]
        try:
            await mover._payloads.fetch(taken.kept.stored for taken in wanted if taken.kept)
            name = keys.warm_block(self._number, *owner, wanted[-1].entry_id) if wanted else ""
            block = await mover.packed(wanted, name) if wanted else b""
            blobs, lasting = await self._blobs(wanted)
        except (UnavailableError, CodecError) as error:
            mover.note(owner, error)
            self._leave(owner, gathered)
            return
        last = gathered.entries[-1].entry_id
        ends = (wanted[0].entry_id, wanted[-1].entry_id) if wanted else (last, last)
        entry = WarmEntry(*ends, len(wanted), len(block))
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
        if lasting:
            pipe = mover._redis.pipeline(transaction=False)
            for name in lasting:
                pipe.pexpire(name, FAILED_BLOB_MS)
            await pipe.execute()
        self._moved += deleted
        metrics.TIER_MOVED.labels(left=HOT).inc(deleted)


def _earlier(left: dict[Owner, Left], owner: Owner, found: Left) -> None:
    """Keep whichever of two places of a tool comes first."""
    known = left.get(owner)
    if known is None or entry_order(found.place) < entry_order(known.place):
        left[owner] = found


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
            if not is_event_id(kept.event_id):
                kept = None
        except UnknownVersionError:
            newer = True
        except CodecError:
            # no envelope: the dead letter that it became has its bytes
            pass
        name = entry_id.decode()
        found.append(Taken(name, entry_order(name)[0], data, kept, newer))
    return found


def _packable(taken: Taken) -> Packable:
    assert taken.kept is not None
    stored = taken.kept.stored
    payload = (stored.encoding, stored.data) if stored.blob else None
    return Packable(taken.entry_id, taken.data, payload)
