"""Takes a tool's events out again, from whichever tier they are in, as lines of JSON."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from hookstream.app.history.records import to_predecessor, write_record
from hookstream.app.ids import id_range
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.stores.events import EventStore, place_of
from hookstream.codecs.envelope import Event

__all__ = ["FORMATS", "ExportPage", "Exporter"]

#: Events that are read at a time, and bytes of lines after which a page ends.
READ: Final = 100
MOST_BYTES: Final = 16 * 1024 * 1024

#: What a line may be written as.
FORMATS: Final[dict[str, Callable[[Event, Any], bytes]]] = {
    "hookstream": write_record,
    "predecessor": lambda event, row: to_predecessor(event),
}


@dataclass(slots=True)
class ExportPage:
    """Lines of a page, and the events in them. ``last``: the event behind which the next begins.

    ``more``: whether there may be a next. ``missing``: events whose payload is not to be had any
    more.
    """

    lines: list[bytes]
    events: list[str]
    last: str
    more: bool = True
    missing: int = 0


class Exporter:
    """Reads pages in the order in which events were received."""

    def __init__(self, postgres: Postgres, events: EventStore) -> None:
        self._postgres = postgres
        self._events = events

    async def page(
        self,
        tenant: str,
        tool_id: str,
        *,
        since: datetime | None,
        until: datetime | None,
        after: str,
        limit: int,
        form: str,
    ) -> ExportPage:
        """At most ``limit`` events, behind the event ``after``; as recorded, and not yet gone.

        Raises:
            UnavailableError: PostgreSQL or the archive is away.
        """
        first, end = id_range(since, until)
        # behind the one before the first
        place = UUID(after) if after else UUID(int=max(0, first.int - 1))
        page = ExportPage([], [], after)
        size = 0
        while len(page.events) + page.missing < limit and size < MOST_BYTES:
            wanted = min(READ, limit - len(page.events) - page.missing)
            rows = await self._postgres.fetch(
                statement("export_events"), tenant, tool_id, place, end, wanted
            )
            found = await self._events.readable([place_of(tenant, row) for row in rows])
            for row, event in zip(rows, found, strict=True):
                if event is None:
                    page.missing += 1
                    continue
                line = FORMATS[form](event, row)
                size += len(line)
                page.lines.append(line)
                page.events.append(event.event_id)
            if rows:
                place = rows[-1]["event_id"]
                page.last = str(place)
            if len(rows) < wanted:
                page.more = False
                break
        return page
