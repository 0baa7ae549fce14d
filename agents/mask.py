"""Mask: hides personal data and secrets from all that comes behind, as the rules of tools say.

In: checked batches. Out: the same, with events as agents may see them: conditions, summaries,
updates, models and the errors of later stages know nothing else. What is stored stays as it was
sent, unless it was masked before it was kept. With ``block`` the event is a dead letter; an event
that cannot be masked is tried again, and never passes unmasked. Costs 15 µs an event where nothing
is found (``python -m tests.support.privacy_corpus --cost``), and where a model finds names, what
that takes.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from hookstream.app import channels
from hookstream.app.errors import BlockedByRuleError
from hookstream.app.main import app
from hookstream.app.privacy.forms import HIDDEN
from hookstream.app.privacy.masking import Masked
from hookstream.app.routing.maskers import ASIDE_BYTES, Maskers, count_masked
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.group import Group
from hookstream.app.streams.outcome import Accepted, Failed
from hookstream.codecs.envelope import Event


async def mask_together(group: Group) -> None:
    """The same for several batches; those are left of which the catalog, or a model, is asked."""
    for batch in group:
        if not app.services.catalog.caught_up(*batch.registry_version) or _asking(batch):
            group.leave(batch)
    await _mask(list(group))


@app.batches(channels.checked, out=channels.masked, together=mask_together)
async def mask(batch: Batch) -> None:
    """Hides what the rules of each event's tool say."""
    await app.services.catalog.catch_up(*batch.registry_version)
    await _mask([batch])


def _asking(batch: Batch) -> list[Entry]:
    """Those entries of a batch before which the model is to be asked."""
    maskers = app.services.maskers
    if not maskers.has_model:
        return []
    return [entry for entry in batch.entries if goes_on(entry) and asks(entry, maskers)]


async def _mask(batches: Sequence[Batch]) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    maskers = app.services.maskers
    tools = {entry.value.tool_id for batch in batches for entry in batch.live()}
    urgent = app.services.catalog.current.urgent_tools
    priority = "normal" if tools.isdisjoint(urgent) else "critical"
    asking = {id(entry): entry for batch in batches for entry in _asking(batch)}
    async with app.worker.scheduler.slot_for(batches, priority) as slot:
        for batch in batches:
            for entry in batch.entries:
                if id(entry) in asking:
                    continue
                event = entry.value
                if isinstance(event, Event) and event.payload_bytes > ASIDE_BYTES:
                    await asyncio.to_thread(mask_entry, entry, maskers, counts)
                else:
                    mask_entry(entry, maskers, counts)
                await slot.pause()
    for entry in asking.values():
        # others have the slot while the model computes
        await mask_by_model(entry, maskers, counts)
    count_masked(counts)


def goes_on(entry: Entry) -> bool:
    """Whether anybody will read of an entry's event: it goes on, or has failed before."""
    wanted = entry.failure is not None or isinstance(entry.outcome, Accepted)
    return wanted and isinstance(entry.value, Event)


def asks(entry: Entry, maskers: Maskers) -> bool:
    """Whether the model is to be asked; an event that cannot be masked at all fails later."""
    try:
        return maskers.asks(entry.value)
    except ValueError:
        return False


def mask_entry(entry: Entry, maskers: Maskers, counts: Counter[tuple[str, str]]) -> None:
    """Mask the event of an entry that goes on, and what is said of one that has failed before."""
    if goes_on(entry):
        with _told(entry, counts):
            _take(entry, _masked(entry, maskers), counts)


async def mask_by_model(entry: Entry, maskers: Maskers, counts: Counter[tuple[str, str]]) -> None:
    """The same where the model is asked first."""
    with _told(entry, counts):
        work = partial(_masked, entry, maskers)
        _take(entry, await maskers.settled(entry.value, work), counts)


def _masked(entry: Entry, maskers: Maskers) -> Masked | Failed:
    """An entry's event, or why it failed, as agents may see it."""
    masker, failure = maskers.of(entry.value), entry.failure
    if failure is not None:
        error, trace = masker.text(failure.error), masker.text(failure.trace)
        return replace(failure, error=error, trace=trace)
    return masker.event(entry.value)


def _take(entry: Entry, found: Masked | Failed, counts: Counter[tuple[str, str]]) -> None:
    if isinstance(found, Failed):
        entry.outcome = found
    elif found.event is not entry.value:
        counts.update(found.counts)
        entry.value, entry.changed = found.event, True


@contextmanager
def _told(entry: Entry, counts: Counter[tuple[str, str]]) -> Iterator[None]:
    """Take an event that cannot be masked, or is blocked, out of the batch's way."""
    failure = entry.failure
    try:
        yield
    except BlockedByRuleError as error:
        counts[error.kind, "block"] += 1
        entry.fail("mask", error, final=True)
    except Exception as error:  # noqa: BLE001 one event's trouble is not its neighbours'
        if failure is None:
            entry.fail("mask", error)
        else:
            # why it failed may quote what it has
            entry.outcome = replace(failure, error=HIDDEN, trace="")
