"""Dedupe: marks events whose message id an earlier one had within the tool's window.

In: batches of ``events[p]``. Out: the same, with duplicates' status set and the marks to write.
Drops nothing: a duplicate is recorded, and only not delivered. A replay passes by deliberately.
"""

from hookstream.app import channels
from hookstream.app.batch import Batch
from hookstream.app.main import app
from hookstream.app.status import Status
from hookstream.codecs.envelope import Event
from hookstream.tables.dedup import Candidate, decide, mark_key


@app.batches(channels.events, out=channels.deduped)
def dedupe(batch: Batch) -> None:
    """Marks duplicates. One RocksDB multi-get a batch, about 3 µs an event."""
    entries = list(batch.live())
    candidates = [candidate(entry.entry_id, entry.value) for entry in entries]
    known = batch.partition.dedup.get([mark_key(c.message_id) for c in candidates if c.window_ms])
    verdict = decide(candidates, known)
    for entry, first in zip(entries, verdict.duplicate_of, strict=True):
        if first:
            entry.status = Status.DUPLICATE
            entry.duplicate_of = first
    batch.changes.extend(verdict.changes)


def candidate(entry_id: str, event: Event) -> Candidate:
    """What dedup needs to know of an event; a replayed one has no window."""
    window_ms = 0 if event.replay_id else event.dedup_window_ms
    return Candidate(entry_id, event.event_id, event.message_id, window_ms)
