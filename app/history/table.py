"""A table of somebody else's PostgreSQL as a history: its rows in the order of time."""

import base64
import hashlib
import json
import os
from collections.abc import Awaitable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg

from hookstream.app.errors import BadRequestError, HookstreamError
from hookstream.app.history.source import Line, ReadPage

__all__ = ["COLUMNS", "NAMES", "Table", "parse_columns", "query_of", "source_name"]

#: What a row may say, and the columns of the predecessor's table that are taken for it: inferred
#: from its messages, since nobody has its schema.
COLUMNS: Final[Mapping[str, str]] = {
    "id": "id",
    "received_at": "created_at",
    "event_type": "event_type",
    "delivery_id": "delivery_id",
    "payload": "payload",
}
#: All that a row may say: members of a line.
NAMES: Final = (
    *COLUMNS, "type", "headers", "content_type", "payload_text", "payload_base64",
)  # fmt: skip
#: Rows that the server gives at a time.
PREFETCH: Final = 500
#: What stands beside rows that are not placed in time.
NO_TIME: Final = "has no received_at: such rows come behind all others, and are no events"
CONNECT_SECONDS: Final = 20.0


def parse_columns(text: str) -> dict[str, str]:
    """``received_at=created_at,payload=body`` over :data:`COLUMNS`; ``headers=`` takes one away.

    Raises:
        BadRequestError: it is nothing of that form.
    """
    found = dict(COLUMNS)
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, column = (piece.strip() for piece in part.partition("="))
        if not equals or name not in NAMES:
            raise BadRequestError(f"--columns: NAME=COLUMN,…; a NAME is one of {', '.join(NAMES)}")
        if column:
            found[name] = column
        else:
            found.pop(name, None)
    if given := [name for name in ("payload_text", "payload_base64") if name in found]:
        if "payload=" not in text.replace(" ", ""):
            found.pop("payload", None)
        elif "payload" in found:
            raise BadRequestError(f"--columns: payload, or {given[0]}")
    return found


def query_of(table: str, columns: Mapping[str, str]) -> str:
    """A query that names columns as lines have them.

    >>> query_of("old.events", {"id": "id", "payload": "body"})
    'SELECT "id" AS "id", "body" AS "payload" FROM "old"."events"'
    """
    shown = ", ".join(f"{_quoted(column)} AS {_quoted(name)}" for name, column in columns.items())
    named = ".".join(map(_quoted, table.split(".")))
    return f"SELECT {shown} FROM {named}"  # noqa: S608 whoever runs it says what is read


def source_name(dsn: str, what: str) -> str:
    """What an import is called: the database and the table, never who may read it.

    Raises:
        BadRequestError: it is no address of a database.
    """
    try:
        parts = urlsplit(dsn)
        odd = "@" in parts.path + parts.fragment
    except ValueError:
        odd = True
    if odd:
        # a password with / or # in it would be taken for a name otherwise, and shown
        raise BadRequestError(
            "no address of a database: postgresql://USER@HOST:PORT/DATABASE, the password as "
            "PGPASSWORD, or percent-encoded"
        )
    place = parts.netloc.rpartition("@")[2]
    # of a socket its folder
    host = [part for part in parts.query.split("&") if part.startswith("host=")]
    return f"postgresql://{place}{parts.path}{'?' if host else ''}{''.join(host)}#{what}"[:512]


class Table:
    """A :class:`~hookstream.app.history.source.Source` of rows, by a cursor of the server's.

    Rows come in the order of ``received_at`` and, where there is one, ``id``; that is the place.
    """

    def __init__(
        self, name: str, dsn: str, query: str, ignored: Collection[str] = frozenset()
    ) -> None:
        """``query``: columns called as in :data:`NAMES`, without an order; ``ignored`` ones may be
        called anything, and are left out.
        """
        self.name = name
        self._ignored = ignored
        self._dsn = dsn
        self._query = query
        self._connection: Any = None
        self._kinds: dict[str, Any] = {}
        self._transaction: Any = None
        self._cursor: Any = None
        self._names: list[str] = []
        self._rows = 0
        self._expected = 0
        self._left: list[Any] = []
        #: All rows that have a time are read: those come that have none; then there is nothing.
        self._timeless = False
        self._ended = False
        self._place: dict[str, Any] = {}

    async def look(self) -> None:
        """Connect, and see whether the query can be asked."""
        await self._ask(self._look())

    async def open(self, place: dict[str, Any]) -> None:
        """Ask for all rows behind a place, in one snapshot."""
        if self._connection is None:
            await self.look()
        await self._ask(self._go_to(place))

    async def _ask(self, asked: Awaitable[None]) -> None:
        try:
            await asked
        except asyncpg.exceptions.SyntaxOrAccessError as error:
            # what is not there, or may not be read, among them
            raise BadRequestError(
                f"the table cannot be read: {error}. Wanted are a --table and its --columns, or "
                "one SELECT as --query, that this user may read"
            ) from error
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            said = str(error) or "it does not answer"
            raise HookstreamError(f"the table cannot be read: {said}") from error

    async def _look(self) -> None:
        try:
            self._connection = await asyncpg.connect(
                self._dsn,
                timeout=CONNECT_SECONDS,
                server_settings={"application_name": "hookstream import"},
            )
        except (OSError, TimeoutError, ValueError) as error:
            # ValueError: what stands in the address is not what belongs there
            number = getattr(error, "errno", None)
            said = os.strerror(number) if number and number > 0 else str(error)
            where = self.name.partition("#")[0]
            raise HookstreamError(
                f"{where} cannot be connected to: {said or 'it does not answer'}"
            ) from error
        self._transaction = self._connection.transaction(isolation="repeatable_read", readonly=True)
        await self._transaction.start()
        query = f"SELECT * FROM {self._rows_of_it} LIMIT 0"  # noqa: S608 whoever runs it says what is read
        looked = await self._connection.prepare(query)
        # only who asks it is told that it may not be read
        await looked.fetch()
        found = {one.name: one.type for one in looked.get_attributes()}
        self._kinds = {name: kind for name, kind in found.items() if name not in self._ignored}
        self._names = [name for name in self._kinds if name in NAMES]
        self._check(self._kinds)

    @property
    def _rows_of_it(self) -> str:
        # a comment at its end ends with its line
        return f"({self._query}\n) AS h"

    async def _go_to(self, place: dict[str, Any]) -> None:
        self._place = place
        if place.get("query", _digest(self._query)) != _digest(self._query):
            raise BadRequestError(
                "the table was read by other columns, or another query, up to "
                f"received_at {place.get('received_at')}: --restart reads it from its beginning by "
                "these; nothing comes twice by that"
            )
        query, arguments = self._ordered(self._kinds, place)
        plan = await self._connection.fetchval(f"EXPLAIN (FORMAT JSON) {query}", *arguments)
        found = json.loads(plan) if isinstance(plan, str) else plan
        self._expected = int(found[0]["Plan"]["Plan Rows"])
        self._cursor = await self._connection.cursor(query, *arguments)

    def _check(self, kinds: Mapping[str, Any]) -> None:
        if unknown := [name for name in kinds if name not in NAMES]:
            raise BadRequestError(
                f"the query has a column {unknown[0]}: call them {', '.join(NAMES)}, by AS "
                f"(`--ignore {unknown[0]}` leaves it out)"
            )
        if "received_at" not in kinds or not any(name.startswith("payload") for name in kinds):
            raise BadRequestError("the query needs the columns received_at and payload, by AS")
        if not kinds["received_at"].name.startswith("timestamp"):
            raise BadRequestError(
                "received_at has to be a timestamp: to_timestamp(…) makes one of a number, in "
                "--query"
            )

    def _ordered(self, kinds: Mapping[str, Any], place: Mapping[str, Any]) -> tuple[str, list[Any]]:
        """The query for what is behind a place, in order."""
        at = kinds["received_at"].name
        keys, arguments = ["received_at"], list[Any]()
        wanted = "WHERE received_at IS NOT NULL"
        if "id" in kinds:
            keys.append("id")
        if place.get("received_at"):
            # as texts: whatever types they are of, the server reads what it has written
            wanted += f" AND received_at >= $1::text::{at}"
            arguments = [place["received_at"]]
            # without, some of that time come again, which are known
            if "id" in kinds and place.get("id") is not None:
                kind = f"{_quoted(kinds['id'].schema)}.{_quoted(kinds['id'].name)}"
                behind = f"(received_at, id) > ($1::text::{at}, $2::text::{kind})"
                # rows without one come last of their time, and are behind nothing by themselves
                wanted += f" AND ({behind} OR id IS NULL)"
                arguments.append(place["id"])
        order = ", ".join(keys)
        return f"{self._asked_for} {wanted} ORDER BY {order}", arguments

    @property
    def _asked_for(self) -> str:
        shown = ', received_at::text AS "place at"' + (
            ', id::text AS "place id"' if "id" in self._kinds else ""
        )
        return f"SELECT *{shown} FROM {self._rows_of_it}"  # noqa: S608 whoever runs it says what is read

    async def page(self, lines: int, size: int) -> ReadPage:
        """The next rows as lines."""
        page, held = ReadPage(place=self._place), 0
        while len(page.lines) < lines:
            if not self._left and not await self._read(min(PREFETCH, lines)):
                self._ended = True
                page.more = False
                break
            row = self._left[0]
            line = self._line(row)
            if page.lines and held + len(line.text) > size:
                break
            self._left = self._left[1:]
            self._rows += 1
            held += len(line.text)
            if len(line.text) > size:
                line = Line(line.where, line.text[:1000], f"is longer than {size:,} bytes")
            page.lines.append(line)
            if self._timeless:
                continue
            page.place = {"received_at": row["place at"], "query": _digest(self._query)}
            if "id" in self._names:
                page.place["id"] = row["place id"]
        self._place = page.place
        return page

    async def _read(self, most: int) -> bool:
        """Have the server give some more rows; whether there were any."""
        try:
            self._left = await self._cursor.fetch(most)
            if not self._left and not self._timeless:
                # who said that a column is the time wants to know of rows that are left out by it
                self._timeless = True
                self._cursor = await self._connection.cursor(
                    f"{self._asked_for} WHERE received_at IS NULL"
                )
                self._left = await self._cursor.fetch(most)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise HookstreamError(
                f"the table cannot be read on: {error}. Start the same command again"
            ) from error
        except (ValueError, OverflowError) as error:
            # such as a time before the year 1
            raise HookstreamError(
                f"a row behind {json.dumps(self._place)} has a value that cannot be read "
                f"({error}): leave it out, by --query and WHERE"
            ) from error
        return bool(self._left)

    def share(self) -> float | None:
        """By how many rows the server's planner expects; None once there were more than that."""
        if self._ended:
            return 1.0
        return self._rows / self._expected if self._rows < self._expected else None

    async def close(self) -> None:
        """Leave the database."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _line(self, row: Any) -> Line:
        where = f"received_at {row['place at']}"
        if "id" in self._names:
            where = f"id {row['place id']}"
        trouble = NO_TIME if self._timeless else ""
        parts = []
        for name in self._names:
            value = row[name]
            if value is not None:
                written = _written(name, value)
                parts.append(f'"{written[0]}":{written[1]}')
        return Line(where, ("{" + ",".join(parts) + "}").encode(errors="replace"), trouble)


def _written(name: str, value: Any) -> tuple[str, str]:
    """A column as a member of a line: what it is called there, and its value in JSON."""
    if isinstance(value, (bytes, memoryview)) and name.startswith("payload"):
        return "payload_base64", json.dumps(base64.b64encode(bytes(value)).decode())
    if name == "payload":
        text = value if isinstance(value, str) else json.dumps(value)
        # asyncpg gives json and jsonb as the texts that they are
        return (name, text) if _is_json(text) else ("payload_text", json.dumps(text))
    if name == "headers" and isinstance(value, str) and _is_json(value):
        return name, value
    if isinstance(value, datetime):
        if name == "received_at":
            # what has no zone is taken as UTC there, and counted
            return name, json.dumps(value.isoformat())
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return name, json.dumps(aware.isoformat())
    if name == "id" and not isinstance(value, (str, int)):
        return name, json.dumps(str(value))
    return name, json.dumps(value if isinstance(value, (str, int, float, dict)) else str(value))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return "\n" not in text and "\r" not in text


def _digest(query: str) -> str:
    return hashlib.sha256(query.encode()).hexdigest()[:16]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
