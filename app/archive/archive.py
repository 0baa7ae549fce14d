"""The archive: events in, events out, and what leaves it.

What is stored is first written under a name that the manifest has drawn, then read back and
compared, and only then stands in the manifest, together with the ranges of entries that it covers.
What leaves goes the other way: out of the manifest first. Reads ask the manifest, then read the
footer and one row group of an object. They ask again where it has gone meanwhile (compaction).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics
from hookstream.app.archive.cache import ReadCache
from hookstream.app.archive.manifest import Located, Manifest, Removed, Totals, Written
from hookstream.app.archive.objects import MissingObjectError, Objects
from hookstream.app.archive.ranges import Covered, Placed, merged, not_in, place
from hookstream.app.archive.rows import (
    MAX_MS,
    ArchivedEvent,
    Place,
    Row,
    entry_id,
    join,
    parse_entry,
)
from hookstream.app.archive.scan import Ordered, in_order, keyed
from hookstream.app.archive.verification import Difference, verify
from hookstream.app.archive_address import ArchiveAddress
from hookstream.app.bounded import Aside
from hookstream.app.durations import DAY_MS
from hookstream.app.errors import ArchiveDamagedError, SealingKeyError, UnavailableError
from hookstream.app.keyring.data_keys import DataKeys
from hookstream.app.postgres.pool import Postgres
from hookstream.app.redis.keys import warm_block
from hookstream.codecs.errors import ErasedError, UnknownKeyError
from hookstream.codecs.sealed import KEYS, MonthKey, key_ids, month_of

if TYPE_CHECKING:
    from hookstream.app.archive import parquet

__all__ = ["Archive"]

logger = get_logger(__name__)

T = TypeVar("T")

#: Threads in which Arrow and zstd work; they let the event loop go on.
THREADS: Final = 2
#: How often a store begins again because somebody else has stored some of the same meanwhile.
STORE_TRIES: Final = 4
#: How often a read asks the manifest again because an object has gone.
FIND_TRIES: Final = 3
#: Of row groups at a time, by one call of `find`.
FIND_CONCURRENCY: Final = 4
#: What has fewer bytes is put together with others, up to so many of all of them.
SMALL_BYTES: Final = 8 << 20
COMPACTED_BYTES: Final = 32 << 20
#: No event is received later.
END_MS: Final = MAX_MS + 1
#: What was begun and not finished for so long is given up.
UNFINISHED: Final = timedelta(days=1)
LEFTOVERS: Final = 500
_BLOCKS: Final = "hookstream.app.archive.blocks"


class Archive(Service):
    """A folder or bucket of Parquet objects, and their manifest in PostgreSQL.

    Every method raises UnavailableError where one of them is away: then nothing that the caller has
    may be thrown away. None of them deletes what the manifest does not say is gone.
    """

    mundane_level = "debug"

    def __init__(
        self,
        address: ArchiveAddress,
        postgres: Postgres,
        *,
        cache_bytes: int,
        objects: Objects | None = None,
        data_keys: DataKeys | None = None,
        **kwargs: Any,
    ) -> None:
        """``objects``: the folder or bucket at ``address``, if it is to be a special one.

        ``data_keys``: without them nothing is sealed, nor opened that is.
        """
        super().__init__(**kwargs)
        self.address = address
        self.objects = objects or Objects(address)
        self.manifest = Manifest(postgres)
        self.cache = ReadCache(cache_bytes)
        self.data_keys = data_keys
        if data_keys is not None:
            data_keys.when_destroyed(self.cache.clear)
        #: Tenant, tool and day of small objects that could not be put together.
        self._spoilt: set[tuple[str, str, int]] = set()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="archive")

    async def on_stop(self) -> None:
        """Let its threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def check(self) -> None:
        """Look whether the folder or bucket is there: what is wrong is in ``objects.trouble``."""
        await self.objects.check(empty=not await self.manifest.tools())

    async def covered(
        self, tenant: str, tool_id: str, partition: int, ranges: Sequence[tuple[str, str]]
    ) -> list[bool]:
        """Whether all of a tool's entries in each range (first and last ``ms-seq``) are stored."""
        if not ranges:
            return []
        return await self.manifest.covered(
            [
                (tenant, tool_id, partition, parse_entry(first), parse_entry(last))
                for first, last in ranges
            ]
        )

    async def holds(self, places: Sequence[Place]) -> list[bool]:
        """Whether each entry is stored, by the manifest alone; of one that never was: either."""
        if not places:
            return []
        return await self.manifest.covered(
            [
                (place.tenant, place.tool_id, place.partition, entry, entry)
                for place in places
                for entry in [parse_entry(place.entry_id)]
            ]
        )

    async def located(self, places: Sequence[Place]) -> list[bool]:
        """Whether the manifest has a row group that may have each entry; none is read."""
        return [bool(groups) for groups in await self.manifest.locate(places)]

    async def store(
        self,
        tenant: str,
        tool_id: str,
        events: Sequence[ArchivedEvent],
        ranges: Sequence[tuple[int, str, str]],
        *,
        again: bool = False,
    ) -> list[str]:
        """Store events of a tool, in an object for each hour; names of what is new.

        ``ranges`` (partition, first and last entry) say of what the events are all there is of the
        tool: :meth:`covered` says so afterwards, and whatever else turns up in there is taken for
        stored. What is covered already is left out, so a call may be repeated after whatever
        became of the one before, also with more events than that had. ``again``: only
        what an object has indeed is left out, not what is taken for stored.

        The caller bounds how much it gives at a time: all of it is in memory twice.

        Raises:
            UnavailableError: archive or PostgreSQL is away; whether it is stored is not known.
            ArchiveDamagedError: what was read back is not what was written; it is not stored.
            CodecError: an event's envelope is none.
            ValueError: an entry's id is none, or in none of the ranges.
            SealingKeyError: payloads are to be sealed, and there is no key for them now.
        """
        wanted = merged(
            Covered(number, parse_entry(first), parse_entry(last)) for number, first, last in ranges
        )
        placed = await self._in_thread(place, events, wanted)
        for _ in range(STORE_TRIES):
            seen = await self.manifest.covers(tenant, tool_id, wanted)
            fresh = await self._in_thread(not_in, placed, seen)
            if again and len(fresh) < len(placed):
                fresh += await self._missing(tenant, tool_id, placed, fresh)
            if not fresh:
                return []
            encoded = await self._encoded(tenant, tool_id, fresh)
            written = [await self.write(tenant, tool_id, each) for each in encoded]
            if await self._finish(tenant, tool_id, written, wanted, seen):
                return [each.name for each in written]
        raise UnavailableError(
            f"others store events of the tool {tool_id} at the same time: try again shortly"
        )

    async def _encoded(
        self, tenant: str, tool_id: str, events: Sequence[ArchivedEvent]
    ) -> "list[parquet.Encoded]":
        keys = await self._keys(tenant, ())
        while True:
            found = await self._in_thread(_encode, tenant, tool_id, events, keys)
            if not isinstance(found, str):
                return found
            keys = {**(keys or {}), **(await self._keys(tenant, (found,)) or {})}

    async def _keys(self, tenant: str, months: Collection[str]) -> dict[str, MonthKey] | None:
        """The keys that seal what is of these months; None where nothing is sealed."""
        if self.data_keys is None or not self.data_keys.seals:
            return None
        await self.data_keys.ensure((tenant, month) for month in months)
        keys = {month: self.data_keys.key(tenant, month) for month in months}
        return {month: key for month, key in keys.items() if key is not None}

    async def store_blocks(
        self,
        tenant: str,
        tool_id: str,
        partition: int,
        blocks: Sequence[tuple[str, str, bytes]],
        aside: Aside,
    ) -> list[int] | None:
        """Store warm blocks (first and last entry, bytes) of which nothing is stored yet.

        How many events each of them had. None, and nothing is stored, where :meth:`store` has to
        look at their events: some are stored already, or cannot be.

        Raises:
            UnavailableError, ArchiveDamagedError: as :meth:`store`.
        """
        wanted = merged(
            Covered(partition, parse_entry(first), parse_entry(last)) for first, last, _ in blocks
        )
        if await self.manifest.covers(tenant, tool_id, wanted):
            return None
        packed = [(warm_block(partition, tenant, tool_id, last), data) for _, last, data in blocks]
        opens = await self.opening([data for _, data in packed])
        months = {key.month for key in opens}
        if not opens:
            # an event may have been received some time before it was appended
            ends = (parse_entry(end)[0] for first, last, _ in blocks for end in (first, last))
            months = {month_of(ms) for ms in ends}
        keys = await self._keys(tenant, months)
        arguments = (tenant, tool_id, partition, packed, wanted, opens, keys)
        found = await aside.run("archive", f"{_BLOCKS}:encode_blocks", *arguments)
        if found is None:
            return None
        counts, encoded = found
        written = [await self.write(tenant, tool_id, each, aside) for each in encoded]
        return counts if await self._finish(tenant, tool_id, written, wanted, ()) else None

    async def opening(self, values: Sequence[bytes | None]) -> list[MonthKey]:
        """The keys that open what is sealed among some values, but for those that are destroyed.

        Raises:
            SealingKeyError: one of them cannot be had now.
        """
        ids = key_ids(values)
        if ids and self.data_keys is not None:
            await self.data_keys.fetch(ids)
        return [key for number in sorted(ids) if (key := KEYS.get(number)) is not None]

    async def _finish(
        self,
        tenant: str,
        tool_id: str,
        written: Sequence[Written],
        wanted: Sequence[Covered],
        seen: Sequence[Covered],
    ) -> bool:
        """Have the manifest name what was written; False where another one has stored some of it
        meanwhile."""
        newest = max(each.encoded.newest_ms for each in written)
        covers = [each._replace(newest_ms=newest) for each in wanted]
        if await self.manifest.finish(tenant, tool_id, written, covers, seen):
            for each in written:
                metrics.ARCHIVE_WRITTEN_EVENTS.labels("store").inc(each.encoded.events)
                metrics.ARCHIVE_WRITTEN_BYTES.labels("store").inc(len(each.encoded.data))
            return True
        await self.manifest.abandon([each.name for each in written])
        await self.delete_leftovers()
        return False

    async def _missing(
        self,
        tenant: str,
        tool_id: str,
        placed: Sequence[Placed],
        fresh: Sequence[ArchivedEvent],
    ) -> list[ArchivedEvent]:
        """Which of the events that are not ``fresh`` no object has all the same."""
        known = {(event.partition, event.entry_id) for event in fresh}
        events = [event for *_, event in placed if (event.partition, event.entry_id) not in known]
        found = await self.find(
            [Place(tenant, tool_id, event.partition, event.entry_id) for event in events]
        )
        missing = [event for event, data in zip(events, found, strict=True) if data is None]
        if missing:
            logger.warning(
                "%d of %d events of %s/%s (the first is %s of partition %d) are in a range that "
                "is stored, and not in the archive: they are stored now",
                len(missing),
                len(events),
                tenant,
                tool_id,
                missing[0].entry_id,
                missing[0].partition,
            )
        return missing

    async def write(
        self, tenant: str, tool_id: str, encoded: "parquet.Encoded", aside: Aside | None = None
    ) -> Written:
        """Write an object and compare it with what is read back; it is in no manifest yet."""
        from hookstream.app.archive.parquet import SCHEMA_VERSION

        written = await self.manifest.begin(tenant, tool_id, encoded, SCHEMA_VERSION)
        await self.objects.put(written.name, encoded.data)
        try:
            data = await self.objects.get(written.name)
        except MissingObjectError as error:
            raise self._damaged(written.name, "is missing just after it was written") from error
        with self._reading(written.name):
            if aside:
                await aside.run("archive", f"{_BLOCKS}:check_rows", encoded, data)
            else:
                await self._in_thread(_parquet, "check_rows", encoded, data)
        return written

    async def find(self, places: Sequence[Place]) -> list[bytes | None]:
        """The envelopes of events; None for what is not in the archive.

        Reads each row group that is needed once, however many of its events are asked for.

        Raises:
            ArchiveDamagedError: an object that should have one of them cannot be read.
        """
        found: dict[int, bytes] = {}
        gone: str | None = None
        for _ in range(FIND_TRIES):
            left = [number for number in range(len(places)) if number not in found]
            if not left:
                break
            wanted: dict[Located, list[int]] = {}
            located = await self.manifest.locate([places[number] for number in left])
            for number, groups in zip(left, located, strict=True):
                for group in groups:
                    wanted.setdefault(group, []).append(number)
            gone = None
            for outcome in await self._find_in(wanted, places):
                if isinstance(outcome, str):
                    gone = outcome
                else:
                    found.update(outcome)
            if gone is None:
                break
        if gone is not None:
            raise self._damaged(gone, "is missing")
        return [found.get(number) for number in range(len(places))]

    async def _find_in(
        self, wanted: dict[Located, list[int]], places: Sequence[Place]
    ) -> list["dict[int, bytes] | str"]:
        free = asyncio.Semaphore(FIND_CONCURRENCY)

        async def one(group: Located, numbers: list[int]) -> "dict[int, bytes] | str":
            async with free:
                try:
                    read = await self.group(group)
                except MissingObjectError:
                    # compacted, or expired, since the manifest was asked
                    return group.object
                except ErasedError:
                    return {}
                entries = {
                    number: (places[number].partition, *parse_entry(places[number].entry_id))
                    for number in numbers
                }
                return await self._in_thread(_find, read, entries)

        return await asyncio.gather(*(one(*item) for item in wanted.items()))

    async def group(self, group: Located, *, keep: bool = True) -> "parquet.Group":
        """A row group, from memory or by one range of its object; ``keep``: for who asks next.

        Raises:
            MissingObjectError: there is no such object.
            ArchiveDamagedError: it is not what was written.
            ErasedError: the data key that sealed it was destroyed.
            SealingKeyError: its data key cannot be had now.
        """
        if not keep:
            return (await self._read_group(group))[0]
        found: parquet.Group = await self.cache.get(
            "row group", (group.object, group.row_group), lambda: self._read_group(group)
        )
        return found

    async def _footer(self, group: Located) -> tuple[Any, int]:
        """An object's footer, and the data key that it is sealed by, which is fetched; 0: none."""
        footer = await self.cache.get("footer", group.object, lambda: self._read_footer(group))
        with self._reading(group.object):
            sealed_by: int = await self._in_thread(_parquet, "sealed_by", footer)
        if sealed_by and self.data_keys is not None:
            await self.data_keys.fetch((sealed_by,))
        return footer, sealed_by

    async def _key_of(self, group: Located) -> MonthKey | None:
        """The key by which an object is sealed; None where it is not. Raises as :meth:`group`."""
        _, number = await self._footer(group)
        if not number:
            return None
        key = KEYS.get(number)
        if key is None:
            with self._reading(group.object):
                raise ErasedError(number) if KEYS.is_destroyed(number) else UnknownKeyError(number)
        return key

    async def _read_group(self, group: Located) -> tuple["parquet.Group", int]:
        footer, _ = await self._footer(group)
        with self._reading(group.object):
            span = await self._in_thread(_parquet, "span_of", footer, group.row_group, group.size)
        data = await self._read(group.object, span.start, span.end, group.size)
        with self._reading(group.object):
            read: parquet.Group = await self._in_thread(
                _parquet, "read_group", footer, group.row_group, data, span, group.size
            )
        return read, read.nbytes

    async def _read_footer(self, group: Located) -> tuple[Any, int]:
        start = group.size - group.footer_bytes
        tail = await self._read(group.object, start, group.size, group.size)
        with self._reading(group.object):
            footer = await self._in_thread(_parquet, "read_footer", tail, group.size)
        # what it is parsed to takes several times of what it was
        return footer, 4 * len(tail)

    async def _read(self, name: str, start: int, end: int, size: int) -> bytes:
        try:
            data = await self.objects.get_range(name, start, end)
        except UnavailableError:
            # what is asked for behind an object's end is refused in many ways
            if await self.objects.size(name) == size:
                raise
            data = b""
        metrics.ARCHIVE_READ_BYTES.inc(len(data))
        if len(data) != end - start:
            raise self._damaged(name, "is shorter than what was written")
        return data

    async def scan(
        self, tenant: str, tool_id: str | None, since_ms: int, until_ms: int
    ) -> AsyncIterator[list[ArchivedEvent]]:
        """Events that were received from ``since_ms`` on and before ``until_ms``, in that order.

        None: of all tools. Some hundred at a time; in memory are the row groups that overlap.
        What is stored, compacted or expired meanwhile: each event that stays is given once.

        Raises:
            ArchiveDamagedError: an object cannot be read; what was before it has been given.
        """
        try:
            rows = in_order(
                partial(self.manifest.page, tenant, tool_id), self._rows, since_ms, until_ms
            )
            async for some in rows:
                yield await self._in_thread(_events, some)
        except MissingObjectError as error:
            raise self._damaged(error.name, "is missing") from error

    async def _rows(self, group: Located) -> list[Ordered]:
        try:
            return await self._rows_of_all(group)
        except ErasedError:
            return []

    async def _rows_of_all(self, group: Located) -> list[Ordered]:
        # what is read once, from end to end, would drive out what is read again
        read = await self.group(group, keep=False)
        return await self._in_thread(keyed, read)

    async def expire(
        self,
        tenant: str,
        tool_id: str,
        before_ms: int,
        held: Sequence[tuple[UUID, UUID]] = (),
    ) -> Removed:
        """Delete the objects of a tool whose newest event was received before that.

        ``held``: from which to which event nothing goes.
        """
        removed = await self.manifest.expire(tenant, tool_id, before_ms, held)
        await self.delete_leftovers()
        return removed

    async def delete_tool(self, tenant: str, tool_id: str) -> Removed:
        """Delete all of a tool."""
        removed = await self.manifest.delete_tool(tenant, tool_id)
        await self.delete_leftovers()
        return removed

    async def delete_leftovers(self, *, now: datetime | None = None) -> int:
        """Delete the bytes of what has left the manifest, and what was begun a day ago; how many.

        Of all tools. Whoever crashes here leaves the rest to whoever calls it next.
        """
        await self.manifest.abandon(None, (now or datetime.now(UTC)) - UNFINISHED)
        deleted = 0
        while names := await self.manifest.leftovers(LEFTOVERS):
            for name in names:
                await self.objects.delete(name)
            await self.manifest.forget_leftovers(names)
            deleted += len(names)
        return deleted

    async def tools(self) -> list[tuple[str, str]]:
        """Tenant and tool of all that is stored."""
        return await self.manifest.tools()

    async def compact(self, before_ms: int) -> Removed:
        """Put small objects of one tool and day into one; how many there were, and their events.

        Of those whose newest event was received before that: the tool and day with the most of
        them, but for those that could not be put together before, in this process. None are left
        where it says 0. May be called by anybody at any time: who reads finds
        either, and of two that do the same one has done it in vain.

        Raises:
            ArchiveDamagedError: one of them cannot be read; all stay as they are.
        """
        rows = await self.manifest.small_objects(
            SMALL_BYTES, before_ms, COMPACTED_BYTES, self._spoilt
        )
        if len(rows) < 2:
            return Removed(0, 0)
        try:
            return await self._compact(rows)
        except UnavailableError:
            raise
        except Exception:
            first = rows[0]
            self._spoilt.add((first["tenant"], first["tool_id"], first["oldest_ms"] // DAY_MS))
            raise

    async def _compact(self, rows: Sequence[Any]) -> Removed:
        names = [row["name"] for row in rows]
        tenant, tool_id = rows[0]["tenant"], rows[0]["tool_id"]
        ranges = await self.manifest.ranges_of(names)
        events = sum(row["events"] for row in rows)

        async def source(
            behind: tuple[int, str, int], since_ms: int, until_ms: int
        ) -> list[Located]:
            later = (each for each in ranges if each.position > behind)
            return [
                each for each in later if each.newest_ms >= since_ms and each.oldest_ms < until_ms
            ]

        month = month_of(rows[0]["oldest_ms"])
        keys = await self._keys(tenant, (month,))
        writer = await self._in_thread(
            _parquet, "ObjectWriter", tenant, tool_id, keys[month] if keys else None
        )
        try:
            async for some in in_order(source, self._rows_of_all, 0, END_MS):
                await self._in_thread(writer.add, some)
        except ErasedError as error:
            # nothing of it can be written anew: it stays until its time is over
            raise ArchiveDamagedError(names[0], f"and others of its day stay: {error}") from error
        except MissingObjectError as error:
            if error.name in await self.manifest.state([error.name]):
                raise self._damaged(error.name, "is missing") from error
            # somebody else has compacted, or expired, it meanwhile
            return Removed(0, 0)
        encoded: parquet.Encoded = await self._in_thread(writer.finish)
        if encoded.events != events:
            raise self._damaged(
                names[0], f"and others of its day have {encoded.events} events of {events}"
            )
        written = await self.write(tenant, tool_id, encoded)
        done = await self.manifest.replace(tenant, tool_id, written, names)
        if done:
            metrics.ARCHIVE_WRITTEN_EVENTS.labels("compact").inc(events)
            metrics.ARCHIVE_WRITTEN_BYTES.labels("compact").inc(len(encoded.data))
        else:
            await self.manifest.abandon([written.name])
        await self.delete_leftovers()
        return Removed(len(names), events) if done else Removed(0, 0)

    async def objects_of(self, tenant: str, tool_id: str | None) -> list[Any]:
        """Rows of the manifest: name, tool and times of all objects of a tenant, or of a tool."""
        return await self.manifest.objects_of(tenant, tool_id)

    async def rows_of(self, name: str) -> AsyncIterator[list[Row]]:
        """All rows of an object, a row group at a time.

        Raises:
            ArchiveDamagedError: it cannot be read.
            ErasedError: the data key that sealed it was destroyed.
            SealingKeyError: its data key cannot be had now.
        """
        for group in await self.manifest.ranges_of([name]):
            try:
                read = await self.group(group, keep=False)
            except MissingObjectError as error:
                if not await self.manifest.state([name]):
                    return  # compacted, or expired, meanwhile: its rows are elsewhere
                raise self._damaged(name, "is missing") from error
            yield await self._in_thread(list, read.rows())

    async def sealed_by(self, name: str) -> int:
        """The data key that has sealed an object; 0 for none, and where it is gone.

        Raises:
            ArchiveDamagedError: it cannot be read.
            SealingKeyError: the key cannot be had now.
        """
        for group in (await self.manifest.ranges_of([name]))[:1]:
            with suppress(MissingObjectError):
                _, number = await self._footer(group)
                return number
        return 0

    async def leave_out(
        self,
        tenant: str,
        tool_id: str,
        name: str,
        gone: Container[tuple[int, int, int]],
        by: MonthKey | None = None,
    ) -> bool:
        """Have an object stand without some entries (partition, and both parts of the id).

        What stands in its place is written and read back before the manifest names it, and only
        then the old one goes; sealed by the same key, if that was, or ``by`` another one. False,
        and nothing is changed, where it has gone meanwhile.

        Raises:
            ArchiveDamagedError: it cannot be read.
            ErasedError: the data key that sealed it was destroyed.
            SealingKeyError: its data key cannot be had now.
        """
        groups = await self.manifest.ranges_of([name])
        try:
            key = await self._key_of(groups[0]) if groups else None
            key = by if key is not None and by is not None else key
        except MissingObjectError:
            return False
        writer = await self._in_thread(_parquet, "ObjectWriter", tenant, tool_id, key)
        kept = 0
        async for rows in self.rows_of(name):
            left = [row for row in rows if (row.partition, row.entry_ms, row.entry_seq) not in gone]
            kept += len(left)
            await self._in_thread(writer.add, left)
        if kept:
            encoded: parquet.Encoded = await self._in_thread(writer.finish)
            written = await self.write(tenant, tool_id, encoded)
            done = await self.manifest.replace(tenant, tool_id, written, [name])
            if not done:
                await self.manifest.abandon([written.name])
        else:
            done = await self.manifest.remove(tenant, tool_id, [name])
        await self.delete_leftovers()
        return done

    def verify(
        self, *, read: bool = True, now: datetime | None = None
    ) -> AsyncIterator[Difference]:
        """Every difference between manifest and objects, as it is found; nothing is changed.

        ``read``: objects are read whole and their checksums compared; else only their sizes.
        """
        return verify(self.manifest, self.objects, read=read, now=now)

    async def totals(self) -> Totals:
        """Objects, bytes and events in the manifest; also as metrics."""
        totals = await self.manifest.totals()
        metrics.ARCHIVE_OBJECTS.set(totals.objects)
        metrics.ARCHIVE_BYTES.set(totals.bytes)
        metrics.ARCHIVE_EVENTS.set(totals.events)
        return totals

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *arguments)

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        """What Arrow says of bytes that it cannot read is said of their object."""
        try:
            yield
        except (ArchiveDamagedError, UnavailableError, ErasedError):
            raise
        except UnknownKeyError as error:
            raise SealingKeyError(f"the archive's object {name} is {error}") from error
        except Exception as error:
            raise self._damaged(name, f"cannot be read ({error})") from error

    def _damaged(self, name: str, what: str) -> ArchiveDamagedError:
        metrics.ARCHIVE_DAMAGED.inc()
        error = ArchiveDamagedError(name, what)
        logger.error("%s", error)
        return error


def _parquet(name: str, *arguments: Any) -> Any:
    """A function of the module that imports Arrow: in a thread, since that takes a while."""
    from hookstream.app.archive import parquet

    return getattr(parquet, name)(*arguments)


def _encode(
    tenant: str, tool_id: str, events: Sequence[ArchivedEvent], keys: dict[str, MonthKey] | None
) -> "list[parquet.Encoded] | str":
    """The objects of events; or the month whose key is lacking."""
    from hookstream.app.archive import parquet

    try:
        return parquet.encode_by_hour(tenant, tool_id, events, keys)
    except parquet.LackingKeyError as error:
        return error.month


def _events(rows: Sequence[Row]) -> list[ArchivedEvent]:
    return [
        ArchivedEvent(row.partition, entry_id((row.entry_ms, row.entry_seq)), join(row))
        for row in rows
    ]


def _find(group: "parquet.Group", entries: dict[int, tuple[int, int, int]]) -> dict[int, bytes]:
    found = {number: group.find(*entry) for number, entry in entries.items()}
    return {number: envelope for number, envelope in found.items() if envelope is not None}
