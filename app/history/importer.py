"""Brings in a page of a history: into the archive, the event log, and what dedup knows.

In that order, and each step may be done twice: ids of events follow from the source, the archive
leaves out what it has, and the log has an id once. So whoever is broken off sends the page again.
Nothing goes through stages, and nothing is delivered.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from mode.utils.logging import get_logger

from hookstream.app.archive.archive import Archive
from hookstream.app.archive.rows import ArchivedEvent
from hookstream.app.durations import DAY_MS
from hookstream.app.errors import (
    ArchiveDamagedError,
    BadRequestError,
    PayloadTooLargeError,
    SealingKeyError,
    UnavailableError,
)
from hookstream.app.history.past_events import PastEvent, past_events, place_in_archive
from hookstream.app.history.records import HistoryRecord, read_record
from hookstream.app.ingest.appender import Append, Appender
from hookstream.app.redis import keys
from hookstream.app.routing.catalog import Catalog, Tool
from hookstream.app.routing.event_keys import DedupFunction
from hookstream.app.routing.maskers import Maskers
from hookstream.app.settings import Settings
from hookstream.app.stores.erasures import ErasureStore
from hookstream.app.stores.imports import Counts, ImportedRow, ImportStore
from hookstream.codecs.envelope import Event, encode_event

__all__ = ["Importer", "Page", "Rejected"]

logger = get_logger(__name__)

#: Lines that are made events before others have the event loop.
AT_A_TIME: Final = 16
#: How far ahead of the clock here a source's may be.
AHEAD_MS: Final = 300_000
#: Payloads that are looked through for people before others have a turn, in bytes: 0.1 s.
LOOKED_THROUGH: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line that is no event: its number on the page, from 0 on, and why."""

    line: int
    reason: str


@dataclass(slots=True)
class Page:
    """What came of a page. ``row``: the import, as it is then. ``no_zone``: lines whose time was
    taken as UTC, since it does not say.
    """

    counts: Counts
    rejected: list[Rejected]
    row: Any
    no_zone: int


@dataclass(slots=True)
class _Fresh:
    """An event that is to be brought in; ``duplicate_of``: of which one it is a duplicate."""

    past: PastEvent
    event: Event
    duplicate_of: str = ""
    dedup: str = ""


class Importer:
    """Takes pages for tools. One at a time in a process: a page is in memory several times."""

    def __init__(
        self,
        *,
        settings: Settings,
        catalog: Callable[[], Catalog],
        archive: Archive,
        appender: Appender,
        erasures: ErasureStore,
        imports: ImportStore,
        maskers: Maskers,
        functions: Mapping[str, DedupFunction],
        now_ms: Callable[[], int],
        most_bytes: Callable[[Tool], int],
    ) -> None:
        """``most_bytes``: of a webhook of a tool."""
        self._settings = settings
        self._catalog = catalog
        self._archive = archive
        self._appender = appender
        self._erasures = erasures
        self._imports = imports
        self._maskers = maskers
        self._functions = functions
        self._now_ms = now_ms
        self._most_bytes = most_bytes
        self._turn = asyncio.Lock()

    async def take(
        self, row: Mapping[str, Any], tool: Tool, lines: Sequence[bytes], place: Mapping[str, Any],
        rejected: int = 0,
    ) -> Page:  # fmt: skip
        """Bring in the events of ``lines``; ``place``: where the source goes on behind them.

        ``row``: the import. ``rejected``: lines that its reader could make nothing of.

        Raises:
            UnavailableError: it cannot be done now; sent again, nothing is there twice.
            SealingKeyError, NerError: as at the tool's door.
        """
        async with self._turn:
            return await self._take(row, tool, lines, place, rejected)

    async def _take(
        self,
        row: Mapping[str, Any],
        tool: Tool,
        lines: Sequence[bytes],
        place: Mapping[str, Any],
        before: int,
    ) -> Page:
        tenant, import_id = tool.tenant, str(row["import_id"])
        await self._erasures.look()
        newest_erasure = self._erasures.newest(tenant)
        if self._erasures.unrecognised(tenant):
            raise UnavailableError(
                "somebody's data was erased, and the key by which it is recognised cannot be had "
                "now: nothing is brought in that might be it"
            )
        counts = Counts(rejected=before)
        rejected: list[Rejected] = []
        past, no_zone = await self._events(tool, lines, counts, rejected)
        past = await self._unknown(past, tool, counts)
        past = await self._unerased(past, tenant, counts)
        fresh = await self._judged(past, tool)
        await self._mask(fresh, tool)
        written = await self._store(fresh, tool)
        await self._tell_dedup(fresh, tool)
        counts.imported = len(fresh)
        counts.duplicates = sum(bool(one.duplicate_of) for one in fresh)
        counts.rejected += len(rejected)
        rows = [
            ImportedRow(
                one.event,
                one.past.partition,
                place_in_archive(one.event, one.past.partition).entry_id,
                one.duplicate_of,
                one.dedup,
            )
            for one in fresh
        ]
        noted = await self._imports.record(tenant, import_id, place, rows, counts, newest_erasure)
        if noted is None:
            await self._take_back(tool, written)
            raise UnavailableError("an erasure has begun meanwhile: send the page again")
        return Page(counts, rejected, noted, no_zone)

    async def _events(
        self, tool: Tool, lines: Sequence[bytes], counts: Counts, rejected: list[Rejected]
    ) -> tuple[list[PastEvent], int]:
        """The events of all lines that are some, each once, but for those whose time is over; and
        how many of these lines do not say of what zone their time is.
        """
        catalog, now_ms = self._catalog(), self._now_ms()
        records: list[tuple[int, HistoryRecord]] = []
        for number, line in enumerate(lines):
            if number % AT_A_TIME == AT_A_TIME - 1:
                await asyncio.sleep(0)
            try:
                record = read_record(line)
                self._check(record, tool, now_ms)
            except (BadRequestError, PayloadTooLargeError) as error:
                rejected.append(Rejected(number, str(error)))
                continue
            if now_ms - record.received_at_ms >= tool.ttl.whole_ms:
                counts.expired += 1
            else:
                records.append((number, record))
        owners = await self._imports.owners(
            {record.event_id for _, record in records if record.event_id}
        )
        found: dict[str, PastEvent] = {}
        for at, (number, record) in enumerate(records):
            if at % AT_A_TIME == AT_A_TIME - 1:
                await asyncio.sleep(0)
            mine = (tool.tenant, tool.tool_id)
            try:
                made = list(
                    past_events(
                        record,
                        tool,
                        partitions=self._settings.partitions,
                        registry_version=catalog.version,
                        registry_token=catalog.token,
                        functions=self._functions,
                        max_batch=self._settings.max_batch_events,
                        taken=owners.get(record.event_id, mine) != mine,
                    )
                )
            except BadRequestError as error:
                rejected.append(Rejected(number, str(error)))
                continue
            for one in made:
                if one.event.event_id in found:
                    counts.known += 1
                else:
                    found[one.event.event_id] = one
        rejected.sort(key=lambda one: one.line)
        return list(found.values()), sum(not record.zoned for _, record in records)

    def _check(self, record: HistoryRecord, tool: Tool, now_ms: int) -> None:
        if record.received_at_ms > now_ms + AHEAD_MS:
            raise BadRequestError("received_at: lies in the future")
        most = self._most_bytes(tool)
        if len(record.payload) > most:
            raise PayloadTooLargeError(
                f"the payload has {len(record.payload)} bytes, and a webhook of its provider has "
                f"{most} at most"
            )

    async def _unknown(
        self, past: Sequence[PastEvent], tool: Tool, counts: Counts
    ) -> list[PastEvent]:
        """Those that are not on record already: the page came before, or they are from here."""
        known = await self._imports.owners([one.event.event_id for one in past])
        counts.known += len(known)
        return [one for one in past if one.event.event_id not in known]

    async def _unerased(
        self, past: Sequence[PastEvent], tenant: str, counts: Counts
    ) -> list[PastEvent]:
        """Those that no erasure was about: what was erased stays away."""
        if not self._erasures.newest(tenant):
            return list(past)
        kept: list[PastEvent] = []
        page: list[PastEvent] = []
        size = 0
        for one in (*past, None):
            if one is not None:
                page.append(one)
                size += one.event.payload_bytes
            if page and (one is None or size >= LOOKED_THROUGH):
                kept += await asyncio.to_thread(self._apart, page)
                page, size = [], 0
        counts.erased += len(past) - len(kept)
        return kept

    def _apart(self, past: Sequence[PastEvent]) -> list[PastEvent]:
        erasures = self._erasures
        return [
            one
            for one in past
            if erasures.late_by(one.event) is None
            and not erasures.repeats(
                one.event.tenant, one.event.tool_id, one.event.message_id, one.event.delivery_id
            )
        ]

    async def _judged(self, past: Sequence[PastEvent], tool: Tool) -> list[_Fresh]:
        """Which of them are duplicates: of one that came to the tool itself, or of each other.

        As at the door: within the tool's window, or its history. Lines are in any order, so what
        came shortly after counts as well.
        """
        ordered = sorted(past, key=lambda one: (one.event.received_at_ms, one.event.event_id))
        near_ms = self._remembered_ms(tool)
        judged = [one.event.dedup_window_ms > 0 for one in ordered]
        wanted = [
            (one.event.message_id, one.event.received_at_ms) if mine else ("", 0)
            for one, mine in zip(ordered, judged, strict=True)
        ]
        alike = await self._imports.alike(tool.tenant, wanted, near_ms)
        firsts: dict[str, tuple[int, str]] = {}
        fresh: list[_Fresh] = []
        for at, (one, mine) in enumerate(zip(ordered, judged, strict=True)):
            event, first = one.event, one.duplicate_of
            if mine and not first:
                first = alike.get(at, "")
                before = firsts.get(event.message_id)
                if not first and before and event.received_at_ms - before[0] < near_ms:
                    first = before[1]
                if not first:
                    firsts[event.message_id] = (event.received_at_ms, event.event_id)
            fresh.append(_Fresh(one, event, first, "window" if first else ""))
        return fresh

    def _remembered_ms(self, tool: Tool) -> int:
        """For how long an event of a tool is one that others are duplicates of."""
        history_ms = min(tool.history_ms, self._settings.dedup_history_days * DAY_MS)
        return max(tool.window_ms, history_ms)

    async def _mask(self, fresh: Sequence[_Fresh], tool: Tool) -> None:
        """Keep what agents may see, where a tool keeps nothing else."""
        if not self._catalog().keeps_masked(tool):
            return
        for at, one in enumerate(fresh):
            if at % AT_A_TIME == AT_A_TIME - 1:
                await asyncio.sleep(0)
            blocked = one.event.blocked_by
            try:
                masked = await self._maskers.for_keeping(one.event)
            except ValueError as error:
                raise UnavailableError(f"events cannot be masked here now: {error}") from error
            one.event = replace(masked, blocked_by=masked.blocked_by or blocked)

    async def _store(self, fresh: Sequence[_Fresh], tool: Tool) -> list[str]:
        """Have the archive keep them; the names of objects that are new."""
        if not fresh:
            return []
        ends: dict[int, list[tuple[tuple[int, int], str]]] = {}
        events = []
        for one in fresh:
            place = place_in_archive(one.event, one.past.partition)
            first, _, second = place.entry_id.partition("-")
            order = (int(first), int(second))
            ends.setdefault(place.partition, []).append((order, place.entry_id))
            events.append(ArchivedEvent(place.partition, place.entry_id, encode_event(one.event)))
        ranges = [(number, min(some)[1], max(some)[1]) for number, some in ends.items()]
        try:
            return await self._archive.store(tool.tenant, tool.tool_id, events, ranges, again=True)
        except SealingKeyError as error:
            raise UnavailableError("events cannot be sealed here now: see /health") from error
        except ArchiveDamagedError as error:
            raise UnavailableError(f"the archive: {error}") from error

    async def _take_back(self, tool: Tool, names: Sequence[str]) -> None:
        """Delete objects again: the erasure has perhaps been through the archive before them."""
        if not names:
            return
        if await self._archive.manifest.remove(tool.tenant, tool.tool_id, names):
            await self._archive.delete_leftovers()
            return
        logger.error(
            "%d objects of tool %s were to leave the archive again, and are part of others "
            "by now: erase what was asked for once more",
            len(names),
            tool.tool_id,
        )

    async def _tell_dedup(self, fresh: Sequence[_Fresh], tool: Tool) -> None:
        """Have workers know those whose window, or history, goes on: a redelivery is one then."""
        now_ms, lasts_ms = self._now_ms(), self._remembered_ms(tool)
        notes = [
            Append(
                keys.events(one.past.partition),
                encode_event(
                    replace(
                        one.event,
                        payload=b"",
                        headers={},
                        enriched=b"",
                        delivery_id="",
                        content_type="",
                        is_note=True,
                    )
                ),
            )
            for one in fresh
            if one.event.dedup_window_ms
            and not one.duplicate_of
            and one.event.received_at_ms + lasts_ms > now_ms
        ]
        if notes:
            await self._appender.append_all(notes)
