"""Outboxes: which events have a line, and the events of lines when their turn comes."""

from collections.abc import Sequence

from hookstream.app.archive.rows import Place
from hookstream.app.stores.events import EventStore
from hookstream.app.streams.batch import Entry
from hookstream.app.streams.outcome import ERASED, Dropped, Duplicate
from hookstream.codecs.envelope import Event

__all__ = ["event_to_copy", "events_at"]


def event_to_copy(entry: Entry) -> Event | None:
    """An entry's event, where it is one to be copied: no duplicate, no replay, and not erased."""
    event = entry.value
    if not isinstance(event, Event) or event.replay_id:
        return None
    if isinstance(entry.outcome, Duplicate) or entry.outcome == Dropped(ERASED):
        return None
    return event


async def events_at(store: EventStore, wanted: Sequence[tuple[str, Place]]) -> list[Event | None]:
    """Events by their ids and the places that they came in; None where one is gone.

    Raises:
        UnavailableError: they cannot be read now.
    """
    found = await store.readable([place for _, place in wanted])
    events: list[Event | None] = []
    for (event_id, place), event in zip(wanted, found, strict=True):
        if event is None or event.event_id != event_id:
            # it was retried, and has moved on under its later entry; or it is gone
            event = await store.event(place.tenant, event_id)
        events.append(event)
    return events
