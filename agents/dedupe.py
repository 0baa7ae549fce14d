"""Dedupe: marks events whose message id an earlier one had within the tool's window or history.

In: batches of ``events[p]``. Out: the same, with duplicates' status set and the marks to write.
Drops nothing: a duplicate is recorded, and only not delivered. A replay passes by deliberately.
A second append of one event is a copy of itself, whatever the tool's window, and no news.
Events that have to wait (their key is blocked, their tool's circuit breaker is open) are told
apart here too, before any stage works on them; and of tools that move which old workers work on.
"""

from hookstream.app import channels, metrics, tasks
from hookstream.app.deduplication.lookup import HistoryLookup
from hookstream.app.deduplication.state import DedupState
from hookstream.app.errors import UnavailableError
from hookstream.app.failures.blocking import mark_waiting
from hookstream.app.failures.failed_events import origin_named_in
from hookstream.app.failures.hand_overs import decide_paths, tools_in_doubt
from hookstream.app.ids import random_bits
from hookstream.app.main import app
from hookstream.app.routing.catalog import Catalog
from hookstream.app.routing.event_keys import ask_again
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.stores.erasures import ErasureStore
from hookstream.app.streams.batch import Batch
from hookstream.app.streams.group import Group
from hookstream.app.streams.outcome import ERASED, Dropped, Duplicate
from hookstream.codecs.envelope import Event
from hookstream.codecs.errors import CodecError
from hookstream.tables.dedup import Candidate, Own, decide, mark_key, mark_keys


async def dedupe_together(group: Group) -> None:
    """The same for several batches; those are left that may have to ask the event log, or that
    know of a newer catalog.
    """
    catalog, history_lookup = app.services.catalog, app.services.history_lookup
    for batch in group:
        if not catalog.caught_up(*batch.registry_version) or looks_back(batch, history_lookup):
            group.leave(batch)
            continue
        with group.alone(batch):
            await dedupe(batch)


def looks_back(batch: Batch, history_lookup: HistoryLookup) -> bool:
    """Whether an event of a batch has a history, or may have been there before."""
    return any(
        entry.doubt_ms is not None
        or (
            isinstance(entry.value, Event)
            and min(entry.value.dedup_history_ms, history_lookup.longest_ms) > 0
        )
        for entry in batch.entries
    )


@app.batches(channels.events, out=channels.deduped, together=dedupe_together)
async def dedupe(batch: Batch) -> None:
    """Marks duplicates. One RocksDB multi-get a batch; the event log is asked about candidates
    only.

    About 8 µs of CPU an event, 11 with a history of 7 days (``python -m bench.dedup``).
    """
    name_late(batch)
    drop_erased(batch, app.services.erasures)
    await judge(batch, app.services.history_lookup)
    catalog = await known_to_senders(batch, app.services.catalog)
    decide_paths(batch, catalog, app.services.clock.now_ms(), random_bits())
    mark_waiting(batch, catalog)


async def known_to_senders(batch: Batch, cache: CatalogCache) -> Catalog:
    """The catalog, as new as the one that receivers of a batch's events knew.

    Where PostgreSQL is away an older one has to do, but not for tools of which it is not known
    whether old workers have their events.

    Raises:
        UnavailableError: there is such a tool; nothing was decided.
    """
    wanted = batch.registry_version
    catalog = await cache.catch_up(*wanted)
    if catalog.knows(*wanted):
        return catalog
    doubted = tools_in_doubt(batch, catalog)
    if doubted and not await cache.is_certain(*wanted):
        raise UnavailableError(
            f"whether old workers have the events of {', '.join(sorted(doubted))} is in "
            "PostgreSQL, which does not answer: they wait"
        )
    return cache.current


def name_late(batch: Batch) -> None:
    """Give events their message id whose dedup function failed in the receiver.

    One that fails here, too, is tried again later, alone.
    """
    for entry in batch.live():
        event: Event = entry.value
        if event.dedup_function and not event.replay_id:
            try:
                entry.value = ask_again(app.dedup_functions, event)
            except BaseException as error:  # a dedup function is user code
                if tasks.ends_task(error):
                    raise
                entry.fail("dedupe", error)
                continue
            entry.changed = True


def drop_erased(batch: Batch, erasures: ErasureStore) -> None:
    """Drop what an erasure was about and comes late: out of a spool, or of an older copy.

    What came after all erasures costs a comparison. What is dropped is erased in its stream soon.
    """
    for entry in batch.live():
        if entry.value.is_note:
            continue
        try:
            erasure = erasures.late_by(entry.value)
        except CodecError as error:
            entry.fail("dedupe", error)
            continue
        if erasure is not None:
            entry.outcome = Dropped(ERASED)
            metrics.ERASED_REPEATS.labels(where="stage").inc()
            erasures.strays.add((batch.partition.number, erasure.erasure_id))


async def judge(batch: Batch, history_lookup: HistoryLookup) -> None:
    """Decide which events are duplicates.

    Those that failed before they came here are told from copies of themselves only: a copy of what
    was delivered is not tried again, and a copy of what will be tried does not overtake it.

    Raises:
        UnavailableError: an event that came out of a spool after the copy window may have been
            delivered, and the event log that knows it does not answer; nothing was decided.
    """
    entries = [e for e in batch.entries if isinstance(e.value, Event)]
    candidates = [
        candidate(
            entry.entry_id,
            entry.value,
            again=bool(entry.failed_event_id),
            longest_ms=history_lookup.longest_ms,
            copy_ms=history_lookup.copy_ms,
            doubted=entry.doubt_ms is not None,
            origin=origin_named_in(entry.failed_event_id) if entry.failed_event_id else "",
            failed=entry.failure is not None,
        )
        for entry in entries
    ]
    known = batch.partition[DedupState].table.get(mark_keys(candidates))
    if any(entry.doubt_ms is not None for entry in entries):
        known |= await history_lookup.copies(batch.partition.number, entries, candidates, known)
    records = None
    if any(candidate.history_ms for candidate in candidates):
        events = [entry.value for entry in entries]
        keys = [mark_key(each.message_id) if each.window_ms else b"" for each in candidates]
        records = await history_lookup.records(batch.partition, events, candidates, keys, known)
    verdict = decide(candidates, known, records)
    for entry, first, layer in zip(entries, verdict.duplicate_of, verdict.layers, strict=True):
        entry.dedup = layer
        if first:
            entry.outcome = Duplicate(first)
    batch.changes.extend(verdict.changes)
    batch.remembered.extend(verdict.remembered)


def candidate(
    entry_id: str,
    event: Event,
    *,
    again: bool = False,
    longest_ms: int = 0,
    copy_ms: int = 0,
    doubted: bool = False,
    origin: str = "",
    failed: bool = False,
) -> Candidate:
    """What dedup needs to know of an event; its history is ``longest_ms`` at most.

    The mark of its message id tells a copy as well, where the tool's window is as long as the copy
    window. Where it is not, or no two events count as the same (a replay, strategy ``none``), or
    it failed before it could be judged, the event's own id has a mark. What is ``doubted`` is
    looked for by both.
    """
    message_id, window_ms = event.message_id, event.dedup_window_ms
    history_ms = min(event.dedup_history_ms, longest_ms)
    if event.replay_id or not window_ms or not message_id:
        message_id, window_ms, history_ms = "", 0, 0
    if event.is_note:
        return Candidate(
            entry_id,
            event.event_id,
            message_id,
            window_ms,
            history_ms=history_ms,
            noted_ms=event.received_at_ms,
        )
    own = None
    kept = failed or window_ms < copy_ms
    if kept or doubted or origin:
        name = f"{event.replay_id or event.tool_id}:{event.event_id}"
        own = Own(name, copy_ms if kept else 0, origin, failed)
    return Candidate(entry_id, event.event_id, message_id, window_ms, again, history_ms, own)
