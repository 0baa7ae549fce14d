"""A partition's dedup history in Redis: saved as it goes, read when it is needed, never guessed.

Every key that a commit remembers goes into ``changelog:history`` and every day's count into a hash,
in that commit's own script. A day's filter is saved with the changelog id that it has reached once
what lies behind it in the changelog is as large as the filter itself, and when its day is over. It
is read back as the saved one and what the changelog has behind it; the count says whether that is
all. Where it is not, the day counts as unreadable: everything is suspected, and the event log
decides.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mode.utils.logging import get_logger

from hookstream.app import metrics
from hookstream.app.ids import entry_order
from hookstream.app.redis import keys
from hookstream.app.streams.commit import Writes
from hookstream.app.streams.partition import Partition
from hookstream.codecs.errors import CodecError
from hookstream.codecs.routed import decode_changes, encode_changes
from hookstream.tables.bloom import KEY_BYTES, DayFilter, FilterCache, Shape
from hookstream.tables.dedup import DAY_MS
from hookstream.tables.errors import TableCorruptError

__all__ = ["TABLE", "PartitionHistory", "Remembering"]

logger = get_logger(__name__)

#: Name of the changelog.
TABLE = "history"
#: A smaller filter is not saved before this much is in the changelog behind it.
SAVE_BYTES = 32 * 1024
PAGE_ENTRIES = 1000
SAVED = b":saved"


@dataclass(slots=True)
class Remembering:
    """What one commit adds to the history, and which days it saves; in force once it is through."""

    keys: dict[int, list[bytes]] = field(default_factory=dict)
    saved: dict[int, int] = field(default_factory=dict)
    expired: list[int] = field(default_factory=list)


class PartitionHistory:
    """The history of one owned partition; its filters are in the process's :class:`FilterCache`.

    ``counts``: how many keys each day has; ``saved``: how many its saved filter has.
    """

    def __init__(
        self, number: int, owner: str, shape: Shape, days: int, cache: FilterCache
    ) -> None:
        self.number = number
        self.owner = owner
        self.shape = shape
        self.days = days
        self.cache = cache
        self.counts: dict[int, int] = {}
        self.saved: dict[int, int] = {}

    @classmethod
    async def open(
        cls, redis: Any, partition: Partition, shape: Shape, days: int, cache: FilterCache
    ) -> "PartitionHistory":
        """The history of a partition that was claimed: one round trip, no filter is read yet."""
        opened = cls(partition.number, partition.nonce, shape, days, cache)
        for name, value in (await redis.hgetall(keys.history(partition.number))).items():
            day, _, saved = name.partition(b":")
            (opened.saved if saved else opened.counts)[int(day)] = int(value)
        return opened

    def close(self) -> None:
        """Let the filters go; all that they know is in Redis."""
        self.cache.drop(self.owner)

    def to_save(self, oldest: int, newest: int) -> list[int]:
        """Days before ``oldest`` whose filters are not saved whole: they have to be read for that.

        Until they are, the changelog keeps all that came after them.
        """
        return [
            day
            for day, count in self.counts.items()
            if newest - self.days <= day < oldest and count != self.saved.get(day, 0)
        ]

    async def filters(self, redis: Any, days: Iterable[int]) -> dict[int, DayFilter]:
        """The filters of those ``days`` on which anything was remembered.

        What is not in memory is read: one round trip, and one more for each 1,000 entries of the
        changelog behind it.
        """
        found: dict[int, DayFilter] = {}
        missing = []
        for day in days:
            if not self.counts.get(day):
                continue
            kept = self.cache.get(self.owner, day)
            if kept is None:
                missing.append(day)
            else:
                found[day] = kept
        if missing:
            found |= await self._load(redis, missing)
        return found

    async def _load(self, redis: Any, days: Sequence[int]) -> dict[int, DayFilter]:
        pipe = redis.pipeline(transaction=False)
        for day in days:
            pipe.get(keys.history_day(self.number, day))
        loaded = {
            day: self._decoded(day, data)
            for day, data in zip(days, await pipe.execute(), strict=True)
        }
        behind = {
            day: kept
            for day, kept in loaded.items()
            if kept.readable and kept.count < self.counts[day]
        }
        if behind:
            await self._replay(redis, behind)
        for day, kept in loaded.items():
            if kept.readable and kept.count != self.counts[day]:
                logger.error(
                    "history of partition %d: day %d has %d keys and %d of them can be read; until "
                    "it is over every event is looked up in the event log",
                    *(self.number, day, self.counts[day], kept.count),
                )
                loaded[day] = kept = DayFilter.unreadable()
            if not kept.readable:
                metrics.HISTORY_UNREADABLE.inc()
            metrics.HISTORY_LOADED.inc()
            self.cache.put(self.owner, day, kept)
        return loaded

    def _decoded(self, day: int, data: bytes | None) -> DayFilter:
        if data is None:
            return DayFilter.new(self.shape)
        try:
            return DayFilter.decode(data)
        except TableCorruptError as error:
            logger.error("history of partition %d, day %d: %s", self.number, day, error)
            return DayFilter.unreadable()

    async def _replay(self, redis: Any, behind: Mapping[int, DayFilter]) -> None:
        """Bring filters to the changelog's end."""
        changelog = keys.changelog(self.number, TABLE)
        start = min((kept.position for kept in behind.values()), key=entry_order)
        while True:
            entries = await redis.xrange(changelog, f"({start}", "+", count=PAGE_ENTRIES)
            for entry_id, fields in entries:
                start = entry_id.decode()
                try:
                    _, changes = decode_changes(fields.get(b"d", b""))
                except CodecError as error:
                    # the count will say whether anything is missing
                    logger.error("%s %s: %s", changelog, start, error)
                    continue
                for name, joined in changes:
                    kept = behind.get(int.from_bytes(name, "big"))
                    if kept is not None and entry_order(start) > entry_order(kept.position):
                        kept.add(_split(joined), start)
            if len(entries) < PAGE_ENTRIES:
                return

    def write(self, writes: Writes, remembered: Sequence[tuple[int, bytes]]) -> Remembering:
        """Add to a commit what a batch gives to remember; saves what is due for it.

        Adds at most one changelog entry, 16 bytes an event.
        """
        work = Remembering()
        for day, key in remembered:
            work.keys.setdefault(day, []).append(key)
        if not work.keys:
            return work
        newest = max(work.keys)
        self._write_saved(writes, work, newest)
        for day in [day for day in self.counts if day < newest - self.days]:
            work.expired.append(day)
            writes.add("DEL", keys.history_day(self.number, day))
            writes.add("HDEL", keys.history(self.number), day, b"%d" % day + SAVED)
        counts = [
            part
            for day, added in work.keys.items()
            for part in (day, self.counts.get(day, 0) + len(added))
        ]
        writes.add("HSET", keys.history(self.number), *counts)
        changes = [(day.to_bytes(4, "big"), b"".join(added)) for day, added in work.keys.items()]
        writes.append(
            keys.changelog(self.number, TABLE),
            encode_changes(TABLE, changes),
            then=lambda entry_id: self.written(work, entry_id),
        )
        return work

    def _write_saved(self, writes: Writes, work: Remembering, newest: int) -> None:
        reached = "0-0"
        left = False
        for day, count in self.counts.items():
            unsaved = count - self.saved.get(day, 0)
            if not unsaved or day < newest - self.days:
                continue
            kept = self.cache.get(self.owner, day)
            if kept is None or (kept.readable and day == newest and not _is_due(kept, unsaved)):
                left = True
            elif kept.readable:
                expires_ms = (day + self.days + 2) * DAY_MS
                writes.add(
                    "SET", keys.history_day(self.number, day), kept.encode(), "PXAT", expires_ms
                )
                writes.add("HSET", keys.history(self.number), b"%d" % day + SAVED, count)
                work.saved[day] = count
                reached = max(reached, kept.position, key=entry_order)
        if work.saved and not left:
            # all that came before is in what is saved now, or was
            writes.add("XTRIM", keys.changelog(self.number, TABLE), "MINID", reached)

    def written(self, work: Remembering, changelog_id: str) -> None:
        """The commit is through; ``changelog_id`` is that of its entry in the changelog."""
        for day in work.expired:
            self.counts.pop(day, None)
            self.saved.pop(day, None)
            self.cache.remove(self.owner, day)
        self.saved.update(work.saved)
        metrics.HISTORY_SAVED.inc(len(work.saved))
        for day, added in work.keys.items():
            kept = self.cache.get(self.owner, day)
            if kept is None and not self.counts.get(day):
                kept = DayFilter.new(self.shape)
                self.cache.put(self.owner, day, kept)
            self.counts[day] = self.counts.get(day, 0) + len(added)
            # one that had to leave memory is read again, with this entry, when it is asked for
            if kept is not None:
                kept.add(added, changelog_id)


def _is_due(kept: DayFilter, unsaved: int) -> bool:
    """Whether what is in the changelog behind a filter is as large as the filter."""
    return unsaved * KEY_BYTES >= max(SAVE_BYTES, kept.size_bytes)


def _split(joined: bytes) -> list[bytes]:
    return [joined[at : at + KEY_BYTES] for at in range(0, len(joined), KEY_BYTES)]
