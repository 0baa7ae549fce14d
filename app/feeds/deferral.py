"""Deferral of a batch's updates: which go now, and which join the streams that wait."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from hookstream.app.feeds.priority_queues import Sorter
from hookstream.app.feeds.waiting import Deferred, Keys, Waiting
from hookstream.app.providers import correlation_keys
from hookstream.app.redis import keys
from hookstream.app.routing.catalog import Catalog
from hookstream.app.streams.batch import Entry
from hookstream.app.streams.commit import Writes
from hookstream.codecs.envelope import Event
from hookstream.codecs.errors import CodecError
from hookstream.codecs.routed import Finished, Target, only_targets

__all__ = ["DeferredPart", "Sorted", "sort_by_urgency", "write_deferred"]


@dataclass(slots=True, eq=False)
class DeferredPart:
    """An entry, for those of its targets that wait; ``names``: what it is about, by context."""

    entry: Entry
    priority: str
    targets: list[Target]
    names: dict[str, Keys]


@dataclass(slots=True)
class Sorted:
    """What goes now and what waits, each in the order of the stream; and what of each stream of
    deferred updates goes before both, in its order.
    """

    now: list[tuple[Entry, list[Target]]]
    later: list[DeferredPart] = field(default_factory=list)
    along: dict[str, list[Waiting]] = field(default_factory=dict)


def sort_by_urgency(entries: Sequence[Entry], sorter: Sorter, catalog: Catalog) -> Sorted:
    """Sort what a batch has. An entry whose payload would have to be looked into, and cannot be,
    fails. One that comes again takes nothing along: what it took may be what killed a worker.
    """
    going: list[tuple[Entry, list[Target]]] = []
    later: list[DeferredPart] = []
    places: dict[Waiting, tuple[DeferredPart, Target, list[Target]]] = {}
    for entry in entries:
        event = entry.value.event
        try:
            known, about = _about(event, entry.value.targets, catalog)
        except CodecError as error:
            entry.fail("deliver", error)
            continue
        go: list[Target] = []
        waits: dict[str, DeferredPart] = {}
        for target in entry.value.targets:
            name = keys.feed_field(event.tenant, target.context_id)
            asked = about if target.context_id in known else None
            stream = sorter.place(target.priority, name, asked)
            if stream is not None and not entry.sent:
                along = sorter.take_along(stream, target.priority, name, asked)
                for waiting in along or ():
                    # it was put aside, and goes after all
                    part, other, beside = places.pop(waiting)
                    part.targets.remove(other)
                    tenant = part.entry.value.event.tenant
                    del part.names[keys.feed_field(tenant, other.context_id)]
                    beside.append(other)
                stream = stream if along is None else None
            if stream is None:
                go.append(target)
                continue
            part = waits.setdefault(stream, DeferredPart(entry, stream, [], {}))
            part.targets.append(target)
            part.names[name] = about
            places[sorter.put(stream, {name: about})] = (part, target, go)
        going.append((entry, go))
        later += waits.values()
    return Sorted(
        [(entry, go) for entry, go in going if go],
        [part for part in later if part.targets],
        {
            stream: sorted(along, key=lambda waiting: waiting.at)
            for stream, along in sorter.along.items()
        },
    )


def _about(
    event: Event | Finished, targets: Sequence[Target], catalog: Catalog
) -> tuple[set[str], Keys]:
    """The contexts of an event that have updates of several priorities, and what it is about.

    In the others one stream keeps the order: where there are no such ones it is not asked (None).
    Raises CodecError.
    """
    mixed = {
        target.context_id
        for target in targets
        if len(catalog.priorities.get((event.tenant, target.context_id), ())) > 1
    }
    if not mixed:
        return mixed, None
    return mixed, event.keys if isinstance(event, Finished) else correlation_keys(event)


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
