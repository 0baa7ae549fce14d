"""A table of somebody else's PostgreSQL as a history: its rows in the order of time."""

import base64
import json
from collections.abc import Mapping
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
    """What an import is called: the database and the table, never who may read it."""
    parts = urlsplit(dsn)
    port = f":{parts.port}" if parts.port else ""
    return f"postgresql://{parts.hostname or ''}{port}{parts.path}#{what}"[:512]


class Table:
    """A :class:`~hookstream.app.history.source.Source` of rows, by a cursor of the server's.

    Rows come in the order of ``received_at`` and, where there is one, ``id``; that is the place.
    """

    def __init__(self, name: str, dsn: str, query: str) -> None:
        """``query``: columns called as in :data:`NAMES`, without an order."""
        self.name = name
        self._dsn = dsn
        self._query = query
        self._connection: Any = None
        self._transaction: Any = None
        self._cursor: Any = None
        self._names: list[str] = []
        self._rows = 0
        self._expected = 0
        self._left: list[Any] = []
        self._place: dict[str, Any] = {}

    async def open(self, place: dict[str, Any]) -> None:
        """Ask for all rows behind a place, in one snapshot."""
        try:
            await self._open(place)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise HookstreamError(f"the table cannot be read: {error}") from error

    async def _open(self, place: dict[str, Any]) -> None:
        self._place = place
        self._connection = await asyncpg.connect(
            self._dsn,
            timeout=CONNECT_SECONDS,
            server_settings={"application_name": "hookstream import"},
        )
        self._transaction = self._connection.transaction(isolation="repeatable_read", readonly=True)
        await self._transaction.start()
        looked = await self._connection.prepare(
            f"SELECT * FROM ({self._query}) AS h LIMIT 0"  # noqa: S608 whoever runs it says what is read
        )
        kinds = {one.name: one.type for one in looked.get_attributes()}
        self._names = [name for name in kinds if name in NAMES]
        self._check(kinds)
        query, arguments = self._ordered(kinds, place)
        plan = await self._connection.fetchval(f"EXPLAIN (FORMAT JSON) {query}", *arguments)
        found = json.loads(plan) if isinstance(plan, str) else plan
        self._expected = int(found[0]["Plan"]["Plan Rows"])
        self._cursor = await self._connection.cursor(query, *arguments)

    def _check(self, kinds: Mapping[str, Any]) -> None:
        if unknown := [name for name in kinds if name not in NAMES]:
            raise BadRequestError(
                f"the query has a column {unknown[0]}: call them {', '.join(NAMES)}, by AS"
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
            if "id" in kinds and "id" in place:
                kind = f"{_quoted(kinds['id'].schema)}.{_quoted(kinds['id'].name)}"
                wanted += f" AND (received_at, id) > ($1::text::{at}, $2::text::{kind})"
                arguments = [place["received_at"], place["id"]]
            else:
                # some of that time again, which are known
                wanted += f" AND received_at >= $1::text::{at}"
                arguments = [place["received_at"]]
        shown = ', received_at::text AS "place at"' + (
            ', id::text AS "place id"' if "id" in kinds else ""
        )
        order = ", ".join(keys)
        query = f"SELECT *{shown} FROM ({self._query}) AS h {wanted} ORDER BY {order}"  # noqa: S608 whoever runs it says what is read
        return query, arguments

    async def page(self, lines: int, size: int) -> ReadPage:
        """The next rows as lines."""
        page, held = ReadPage(place=self._place), 0
        while len(page.lines) < lines:
            if not self._left:
                try:
                    self._left = await self._cursor.fetch(min(PREFETCH, lines))
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                    raise HookstreamError(
                        f"the table cannot be read on: {error}. Start the same command again"
                    ) from error
                if not self._left:
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
                line = Line(line.where, line.text[:1000], f"is longer than {size} bytes")
            page.lines.append(line)
            page.place = {"received_at": row["place at"]}
            if "id" in self._names:
                page.place["id"] = row["place id"]
        self._place = page.place
        return page

    def share(self) -> float | None:
        """By how many rows the server expects; an estimate of its planner."""
        return min(1.0, self._rows / self._expected) if self._expected else None

    async def close(self) -> None:
        """Leave the database."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _line(self, row: Any) -> Line:
        where = f"received_at {row['place at']}"
        if "id" in self._names:
            where = f"id {row['place id']}"
        parts = []
        for name in self._names:
            value = row[name]
            if value is not None:
                written = _written(name, value)
                parts.append(f'"{written[0]}":{written[1]}')
        return Line(where, ("{" + ",".join(parts) + "}").encode(errors="replace"))


def _written(name: str, value: Any) -> tuple[str, str]:
    """A column as a member of a line: what it is called there, and its value in JSON."""
    if isinstance(value, (bytes, memoryview)) and name.startswith("payload"):
        return "payload_base64", json.dumps(base64.b64encode(bytes(value)).decode())
    if name == "payload":
        text = value if isinstance(value, str) else json.dumps(value)
        # asyncpg gives json and jsonb as the texts that they are
        return (name, text) if _is_json(text) else ("payload_text", json.dumps(text))
    if name == "headers" and isinstance(value, str):
        return name, value if _is_json(value) else "null"
    if isinstance(value, datetime):
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


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
