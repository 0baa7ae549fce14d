"""The manifest in PostgreSQL: which objects there are, what is where in them, and what is covered.

A name is drawn before its object is written, and no name is drawn twice. Whoever crashes in
between leaves an unfinished row, which the next one that writes the same bytes goes on with; a day
later it is given up. So what may be deleted is known from here alone, never from a list of the
bucket.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from hookstream.app.archive.ranges import Covered, merged
from hookstream.app.archive.rows import Entry, Place, folder_of, parse_entry, place_number
from hookstream.app.durations import HOUR_MS
from hookstream.app.postgres.pool import Postgres, WholePostgres
from hookstream.app.postgres.sql import statement

__all__ = ["Located", "Manifest", "Removed", "Totals", "Written"]

#: Row groups that one look at the manifest gives a scan.
PAGE: Final = 500


class Located(NamedTuple):
    """A row group, and what it takes to read it. ``size`` is that of its object in bytes."""

    object: str
    row_group: int
    size: int
    footer_bytes: int
    oldest_ms: int = 0
    newest_ms: int = 0
    tenant: str = ""
    tool_id: str = ""

    @property
    def position(self) -> tuple[int, str, int]:
        """Where it is in the order in which a scan reads."""
        return self.oldest_ms, self.object, self.row_group


class Written(NamedTuple):
    """An object that has been begun: its name, and what was encoded (parquet.Encoded)."""

    name: str
    encoded: Any


class Removed(NamedTuple):
    """What left the archive."""

    objects: int
    events: int


@dataclass(frozen=True, slots=True)
class Totals:
    """All that the manifest has; ``leftovers``: names whose bytes are still to be deleted."""

    objects: int
    bytes: int
    events: int
    payload_bytes: int
    leftovers: int


class Manifest:
    """Every method raises UnavailableError while PostgreSQL is away."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = WholePostgres(postgres)

    async def covered(self, ranges: Sequence[tuple[str, str, int, Entry, Entry]]) -> list[bool]:
        """Which ranges of entries (tenant, tool, partition, first, last) are in objects."""
        columns = zip(*((*place, *first, *last) for *place, first, last in ranges), strict=True)
        rows = await self._postgres.fetch(statement("archive_covered"), *map(list, columns))
        return [row["covered"] for row in rows]

    async def covers(
        self, tenant: str, tool_id: str, ranges: Iterable[Covered], source: Any = None
    ) -> list[Covered]:
        """What is covered within some ranges; ``source``: a transaction's connection."""
        rows = await (source or self._postgres).fetch(
            statement("archive_covers"), tenant, tool_id, *_columns(ranges)[:5]
        )
        return [
            Covered(
                row["partition"],
                (row["first_ms"], row["first_seq"]),
                (row["last_ms"], row["last_seq"]),
                row["newest_ms"],
            )
            for row in rows
        ]

    async def begin(self, tenant: str, tool_id: str, encoded: Any, schema_version: int) -> Written:
        """Draw a name for an object, or find the one that the same bytes were begun under."""
        hour_ms = encoded.oldest_ms // HOUR_MS * HOUR_MS
        folder = folder_of(tenant, tool_id, hour_ms)
        name = f"{folder}/{encoded.first_event.hex[:12]}-{secrets.token_hex(6)}.parquet"
        row = await self._postgres.fetchrow(
            statement("archive_begin"),
            name,
            tenant,
            tool_id,
            hour_ms,
            schema_version,
            encoded.events,
            len(encoded.data),
            encoded.payload_bytes,
            encoded.footer_bytes,
            encoded.sha256,
            encoded.first_event,
            encoded.last_event,
            encoded.oldest_ms,
            encoded.newest_ms,
        )
        assert row is not None
        return Written(row["name"], encoded)

    async def finish(
        self,
        tenant: str,
        tool_id: str,
        written: Sequence[Written],
        ranges: Sequence[Covered],
        seen: Iterable[Covered],
    ) -> bool:
        """Have the manifest name objects that were read back, and what they cover.

        False, and nothing is changed, where within the ranges another part is covered than was
        ``seen``, or an object was given up.
        """
        async with self._postgres.transaction() as connection:
            await connection.execute(statement("archive_lock"), tenant, tool_id)
            known = await self.covers(tenant, tool_id, ranges, connection)
            if set(known) != set(seen):
                return False
            if not await self._finish(connection, tenant, tool_id, written):
                return False
            await connection.execute(
                statement("archive_uncover"),
                tenant,
                tool_id,
                [old.partition for old in known],
                [old.last[0] for old in known],
                [old.last[1] for old in known],
            )
            await connection.execute(
                statement("archive_cover"), tenant, tool_id, *_columns(merged([*known, *ranges]))
            )
        return True

    async def replace(
        self, tenant: str, tool_id: str, written: Written, old: Sequence[str]
    ) -> bool:
        """Have one object stand for others; False, and nothing is changed, where one has gone."""
        async with self._postgres.transaction() as connection:
            await connection.execute(statement("archive_lock"), tenant, tool_id)
            there = await connection.fetch(statement("archive_hold_objects"), old)
            if len(there) != len(old):
                return False
            if not await self._finish(connection, tenant, tool_id, [written]):
                return False
            await connection.execute(statement("archive_replace"), old)
        return True

    async def remove(self, tenant: str, tool_id: str, names: Sequence[str]) -> bool:
        """Have objects leave of which nothing is to be kept; False where one has gone."""
        async with self._postgres.transaction() as connection:
            await connection.execute(statement("archive_lock"), tenant, tool_id)
            there = await connection.fetch(statement("archive_hold_objects"), names)
            if len(there) != len(names):
                return False
            await connection.execute(statement("archive_replace"), names)
        return True

    async def _finish(
        self, connection: Any, tenant: str, tool_id: str, written: Sequence[Written]
    ) -> bool:
        names = sorted(each.name for each in written)
        there = await connection.fetch(statement("archive_hold_unfinished"), names)
        if len(there) != len(names):
            return False
        await connection.execute(statement("archive_finish"), names)
        rows = [
            (each.name, number, group)
            for each in written
            for number, group in enumerate(each.encoded.groups)
        ]
        await connection.execute(
            statement("archive_insert_ranges"),
            [name for name, _, _ in rows],
            [number for _, number, _ in rows],
            place_number(tenant, tool_id),
            [group.first_entry for _, _, group in rows],
            [group.last_entry for _, _, group in rows],
            [group.oldest_ms for _, _, group in rows],
            [group.newest_ms for _, _, group in rows],
            [group.events for _, _, group in rows],
        )
        return True

    async def abandon(self, names: Sequence[str] | None, before: datetime | None = None) -> None:
        """Give up what was begun: of these names, or (None) all that was begun ``before``."""
        await self._postgres.execute(statement("archive_abandon"), names, before)

    async def locate(self, places: Sequence[Place]) -> list[list[Located]]:
        """The row groups that may have each of the entries; most often one."""
        found: list[list[Located]] = [[] for _ in places]
        rows = await self._postgres.fetch(
            statement("archive_locate"),
            [place.tenant for place in places],
            [place.tool_id for place in places],
            [place_number(place.tenant, place.tool_id) for place in places],
            [parse_entry(place.entry_id)[0] for place in places],
        )
        for row in rows:
            located = Located(row["object"], row["row_group"], row["bytes"], row["footer_bytes"])
            found[row["number"] - 1].append(located)
        return found

    async def page(
        self,
        tenant: str,
        tool_id: str | None,
        behind: tuple[int, str, int],
        since_ms: int,
        until_ms: int,
    ) -> list[Located]:
        """The next row groups in the order of (oldest, object, row group); none: that was all."""
        if tool_id is None:
            query = statement("archive_page_of_tenant")
            which: list[Any] = [tenant]
        else:
            query = statement("archive_page_of_tool")
            which = [tenant, tool_id, place_number(tenant, tool_id)]
        rows = await self._postgres.fetch(query, *which, *behind, since_ms, until_ms, PAGE)
        return [_located(row) for row in rows]

    async def ranges_of(self, names: Sequence[str]) -> list[Located]:
        """All row groups of some objects, in order of time."""
        rows = await self._postgres.fetch(statement("archive_ranges_of"), names)
        return [_located(row) for row in rows]

    async def small_objects(
        self,
        below: int,
        before_ms: int,
        most_bytes: int,
        without: Iterable[tuple[str, str, int]] = (),
    ) -> list[Any]:
        """Small objects of the tool and day with the most of them, in order of time.

        ``without``: of other ones than these (tenant, tool, days since 1970).
        """
        columns = list(map(list, zip(*without, strict=True))) or [[], [], []]
        rows: list[Any] = await self._postgres.fetch(
            statement("archive_small_objects"), below, before_ms, most_bytes, *columns
        )
        return rows

    async def expire(
        self,
        tenant: str,
        tool_id: str,
        before_ms: int,
        held: Sequence[tuple[UUID, UUID]] = (),
    ) -> Removed:
        """Have objects whose newest event is older leave the manifest.

        ``held``: from which to which event something stays; so do objects that may have any of
        those.
        """
        row = await self._postgres.fetchrow(
            statement("archive_expire"),
            tenant,
            tool_id,
            before_ms,
            [first for first, _ in held],
            [last for _, last in held],
        )
        assert row is not None
        return Removed(row["objects"], row["events"])

    async def delete_tool(self, tenant: str, tool_id: str) -> Removed:
        """Have all of a tool leave the manifest."""
        async with self._postgres.transaction() as connection:
            await connection.execute(statement("archive_lock"), tenant, tool_id)
            row = await connection.fetchrow(statement("archive_delete_tool"), tenant, tool_id)
        return Removed(row["objects"], row["events"])

    async def leftovers(self, most: int) -> list[str]:
        """Names whose bytes are still to be deleted."""
        rows = await self._postgres.fetch(statement("archive_leftovers"), most)
        return [row["name"] for row in rows]

    async def forget_leftovers(self, names: Sequence[str]) -> None:
        """Their bytes are deleted."""
        await self._postgres.execute(statement("archive_forget_leftovers"), names)

    async def tools(self) -> list[tuple[str, str]]:
        """Tenant and tool of all that there is."""
        rows = await self._postgres.fetch(statement("archive_tools"))
        return [(row["tenant"], row["tool_id"]) for row in rows]

    async def totals(self) -> Totals:
        """What all of it amounts to."""
        row = await self._postgres.fetchrow(statement("archive_totals"))
        assert row is not None
        return Totals(**dict(row))

    async def state(self, names: Sequence[str]) -> Mapping[str, Any]:
        """What it says of some objects, finished or not."""
        rows = await self._postgres.fetch(statement("archive_object_state"), names)
        return {row["name"]: row for row in rows}

    async def objects(self, behind: str, most: int) -> list[Any]:
        """The finished objects whose names follow ``behind``."""
        rows: list[Any] = await self._postgres.fetch(statement("archive_object_page"), behind, most)
        return rows

    async def objects_of(self, tenant: str, tool_id: str | None) -> list[Any]:
        """The finished objects of a tenant, or of one of its tools, by name."""
        rows: list[Any] = await self._postgres.fetch(
            statement("archive_objects_of"), tenant, tool_id
        )
        return rows

    async def known_names(self, names: Sequence[str]) -> set[str]:
        """Which of these it has anything of."""
        rows = await self._postgres.fetch(statement("archive_known_names"), names)
        return {row["name"] for row in rows}


def _located(row: Any) -> Located:
    return Located(
        row["object"],
        row["row_group"],
        row["bytes"],
        row["footer_bytes"],
        row["oldest_ms"],
        row["newest_ms"],
        row["tenant"],
        row["tool_id"],
    )


def _columns(ranges: Iterable[Covered]) -> list[list[int]]:
    """Partitions, both parts of first and of last entries, newest receipts."""
    rows = [(each.partition, *each.first, *each.last, each.newest_ms) for each in ranges]
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * 6
