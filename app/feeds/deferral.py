"""Deferral of a batch's updates: which go now, and which join the streams that wait."""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from hookstream.app.feeds.priority_queues import Deferred, Keys, Sorter
from hookstream.app.providers import correlation_keys
from hookstream.app.redis import keys
from hookstream.app.routing.catalog import Catalog
from hookstream.app.streams.batch import Entry
from hookstream.app.streams.commit import Writes
from hookstream.codecs.envelope import Event
from hookstream.codecs.errors import CodecError
from hookstream.codecs.routed import Finished, Target, only_targets

__all__ = ["DeferredPart", "sort_by_urgency", "write_deferred"]


@dataclass(slots=True)
class DeferredPart:
    """An entry, for those of its targets that wait; ``names``: what it is about, by context."""

    entry: Entry
    priority: str
    targets: list[Target]
    names: dict[str, Keys]


def sort_by_urgency(
    entries: Sequence[Entry], sorter: Sorter, catalog: Catalog
) -> tuple[list[tuple[Entry, list[Target]]], list[DeferredPart]]:
    """What goes now, and what waits, each in the order of the stream.

    An entry whose payload would have to be looked into, and cannot be, fails.
    """
    now: list[tuple[Entry, list[Target]]] = []
    later: list[DeferredPart] = []
    for entry in entries:
        event = entry.value.event
        try:
            about = _about(event, entry.value.targets, catalog)
        except CodecError as error:
            entry.fail("deliver", error)
            continue
        go: list[Target] = []
        waits: dict[str, DeferredPart] = {}
        for target in entry.value.targets:
            name = keys.feed_field(event.tenant, target.context_id)
            known = about.get(target.context_id)
            stream = sorter.place(target.priority, name, known)
            if stream is None:
                go.append(target)
                continue
            part = waits.setdefault(stream, DeferredPart(entry, stream, [], {}))
            part.targets.append(target)
            part.names[name] = known
            sorter.put(stream, {name: known})
        if go:
            now.append((entry, go))
        later += waits.values()
    return now, later


def _about(event: Event | Finished, targets: Sequence[Target], catalog: Catalog) -> dict[str, Keys]:
    """What an event is about, for the contexts that have updates of several priorities.

    In the others one stream keeps the order. Raises CodecError.
    """
    mixed = {
        target.context_id
        for target in targets
        if len(catalog.priorities.get((event.tenant, target.context_id), ())) > 1
    }
    if not mixed:
        return {}
    return dict.fromkeys(
        mixed, event.keys if isinstance(event, Finished) else correlation_keys(event)
    )


def write_deferred(writes: Writes, number: int, waiting: Deferred, part: DeferredPart) -> None:
    """Append an entry, for some of its targets, to a stream of deferred updates.

    What it is about is written beside it, so that a new owner learns it without reading it all.
    """
    raw = part.entry.raw
    if len(part.targets) < len(part.entry.value.targets):
        raw = only_targets(raw, part.targets)
    writes.append(
        keys.deferred(number, part.priority),
        raw,
        then=lambda entry_id: waiting.add(entry_id, part.names),
        k=orjson.dumps(part.names),
    )
