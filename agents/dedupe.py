"""Dedupe: marks events whose message id an earlier one had within the tool's window or history.

In: batches of ``events[p]``. Out: the same, with duplicates' status set and the marks to write.
Drops nothing: a duplicate is recorded, and only not delivered. A replay passes by deliberately.
Events that have to wait (their key is held back, their tool's circuit breaker is open) are told
apart here too, before any stage works on them.
"""

from hookstream.app import channels
from hookstream.app.batch import Batch
from hookstream.app.identity import ask_again
from hookstream.app.lookback import LookBack
from hookstream.app.main import app
from hookstream.app.status import Status
from hookstream.app.waiting import mark_waiting
from hookstream.codecs.envelope import Event
from hookstream.tables.dedup import Candidate, decide, mark_key

#: How long one and the same event is recognised when it was appended twice, whatever its tool says.
COPY_WINDOW_MS = 3_600_000


@app.batches(channels.events, out=channels.deduped)
async def dedupe(batch: Batch) -> None:
    """Marks duplicates. One RocksDB multi-get a batch; the record is asked about suspicions only.

    About 8 µs of CPU an event, 11 with a history of 7 days (``python -m bench.dedup``).
    """
    name_late(batch)
    await judge(batch, app.parts.lookback)
    mark_waiting(batch, app.parts.registry.current)


def name_late(batch: Batch) -> None:
    """Give events their message id whose dedup function failed in the receiver.

    One that fails here, too, is tried again later, alone.
    """
    for entry in batch.live():
        event: Event = entry.value
        if event.dedup_function and not event.replay_id:
            try:
                entry.value = ask_again(app.dedup_functions, event)
            except Exception as error:  # noqa: BLE001 a dedup function is user code
                entry.fail("dedupe", error)
                continue
            entry.changed = True


async def judge(batch: Batch, lookback: LookBack) -> None:
    """Decide which events are duplicates."""
    entries = list(batch.live())
    candidates = [
        candidate(
            entry.entry_id,
            entry.value,
            again=bool(entry.letter_id),
            longest_ms=lookback.longest_ms,
        )
        for entry in entries
    ]
    keys = [mark_key(candidate.message_id) for candidate in candidates]
    known = batch.partition.dedup.get(keys)
    records = None
    if any(candidate.history_ms for candidate in candidates):
        events = [entry.value for entry in entries]
        records = await lookback.records(batch.partition, events, candidates, keys, known)
    verdict = decide(candidates, known, records)
    for entry, first, layer in zip(entries, verdict.duplicate_of, verdict.layers, strict=True):
        entry.dedup = layer
        if first:
            entry.status = Status.DUPLICATE
            entry.duplicate_of = first
    batch.changes.extend(verdict.changes)
    batch.remembered.extend(verdict.remembered)


def candidate(
    entry_id: str, event: Event, *, again: bool = False, longest_ms: int = 0
) -> Candidate:
    """What dedup needs to know of an event; its history is ``longest_ms`` at most.

    Where no two events count as the same (a replay, strategy ``none``) the event's own id stands
    in, so that only a second append of this very event is recognised.
    """
    message_id, window_ms = event.message_id, event.dedup_window_ms
    history_ms = min(event.dedup_history_ms, longest_ms)
    if event.replay_id:
        message_id, window_ms = f"{event.replay_id}:{event.event_id}", COPY_WINDOW_MS
        history_ms = 0
    elif not window_ms:
        message_id, window_ms = f"{event.tool_id}:{event.event_id}", COPY_WINDOW_MS
        history_ms = 0
    return Candidate(entry_id, event.event_id, message_id, window_ms, again, history_ms)
