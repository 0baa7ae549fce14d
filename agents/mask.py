"""Mask: hides personal data and secrets from all that comes behind, as the rules of tools say.

In: checked batches. Out: the same, with events as agents may see them: conditions, summaries,
updates, models and the errors of later stages know nothing else. What is stored stays as it was
sent. With ``block`` the event is a dead letter; an event that cannot be masked is tried again, and
never passes unmasked. Costs 15 µs an event where nothing is found (``python -m
tests.support.privacy_corpus --cost``).
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from hookstream.app import channels, metrics
from hookstream.app.errors import BlockedByRuleError
from hookstream.app.main import app
from hookstream.app.routing.maskers import ASIDE_BYTES, Maskers
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.group import Group
from hookstream.app.streams.outcome import Accepted
from hookstream.codecs.envelope import Event


async def mask_together(group: Group) -> None:
    """The same for several batches; those are left whose catalog is to be caught up with."""
    for batch in group:
        if not app.services.catalog.caught_up(*batch.registry_version):
            group.leave(batch)
    await _mask(list(group))


@app.batches(channels.checked, out=channels.masked, together=mask_together)
async def mask(batch: Batch) -> None:
    """Hides what the rules of each event's tool say."""
    await app.services.catalog.catch_up(*batch.registry_version)
    await _mask([batch])


async def _mask(batches: Sequence[Batch]) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    tools = {entry.value.tool_id for batch in batches for entry in batch.live()}
    urgent = app.services.catalog.current.urgent_tools
    priority = "normal" if tools.isdisjoint(urgent) else "critical"
    async with app.worker.scheduler.slot_for(batches, priority) as slot:
        for batch in batches:
            for entry in batch.entries:
                event = entry.value
                if isinstance(event, Event) and event.payload_bytes > ASIDE_BYTES:
                    await asyncio.to_thread(mask_entry, entry, app.services.maskers, counts)
                else:
                    mask_entry(entry, app.services.maskers, counts)
                await slot.pause()
    for (kind, action), count in counts.items():
        metrics.MASKED.labels(kind=kind, action=action).inc(count)


def mask_entry(entry: Entry, maskers: Maskers, counts: Counter[tuple[str, str]]) -> None:
    """Mask the event of an entry that goes on, and what is said of one that has failed before."""
    event = entry.value
    failure = entry.failure
    goes_on = failure is not None or isinstance(entry.outcome, Accepted)
    if not goes_on or not isinstance(event, Event):
        return
    try:
        masker = maskers.of(event)
        if failure is not None:
            error, trace = masker.text(failure.error), masker.text(failure.trace)
            entry.outcome = replace(failure, error=error, trace=trace)
            return
        masked = masker.event(event)
    except BlockedByRuleError as error:
        counts[error.kind, "block"] += 1
        entry.fail("mask", error, final=True)
    except Exception as error:  # noqa: BLE001 one event's trouble is not its neighbours'
        if failure is None:
            entry.fail("mask", error)
    else:
        if masked.event is not event:
            counts.update(masked.counts)
            entry.value, entry.changed = masked.event, True
