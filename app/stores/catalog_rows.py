"""From the database's rows to a catalog, and rows as bytes for a file."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from mode.utils.logging import get_logger

from hookstream.app.errors import HookstreamError
from hookstream.app.postgres.pool import Postgres
from hookstream.app.priority import PRIORITIES, rank
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.routing.catalog import (
    AgentKey,
    Catalog,
    Context,
    PayloadRule,
    Subscription,
    Tool,
)
from hookstream.app.routing.daily_rule import DailyRule
from hookstream.app.routing.matching import compile_condition, compile_types
from hookstream.app.schema_registry.store import SchemaStore
from hookstream.app.summaries.templates import Template, TemplateBook, compile_template
from hookstream.tables.rates import Rate

__all__ = ["UNREADABLE", "Rows", "build", "decode_rows", "encode_rows", "read_rows"]

logger = get_logger(__name__)

Row = Mapping[str, Any]

#: What comes of a row that a newer release, or a person, has written.
UNREADABLE: Final = (HookstreamError, LookupError, TypeError, ValueError, AttributeError)

#: Of the bytes that stand for rows. Another one is not read.
FORMAT: Final = 1
_TABLES: Final = ("tools", "contexts", "subscriptions", "templates", "keys", "schemas")
#: Columns of bytes, which JSON cannot hold.
_BYTES: Final = {"keys": ("hash",), "schemas": ("identity", "compiled")}


@dataclass(frozen=True, slots=True)
class Rows:
    """What a catalog is made of, as the database has it."""

    version: int
    token: int
    tools: Sequence[Row] = ()
    contexts: Sequence[Row] = ()
    subscriptions: Sequence[Row] = ()
    templates: Sequence[Row] = ()
    keys: Sequence[Row] = ()
    schemas: Sequence[Row] = ()


async def read_rows(postgres: Postgres, schemas: SchemaStore, version: int, token: int) -> Rows:
    """The rows as they are now, under the name that the state had before they were read.

    Raises:
        UnavailableError: PostgreSQL is away.
    """
    tools = await postgres.fetch("SELECT * FROM tools")
    return Rows(
        version,
        token,
        tools,
        await postgres.fetch("SELECT * FROM contexts"),
        await postgres.fetch("SELECT * FROM subscriptions ORDER BY tenant, context_id, name"),
        await postgres.fetch("SELECT * FROM templates"),
        await postgres.fetch("SELECT * FROM api_keys"),
        await schemas.rows_of_tools() if any(row["payload_schema"] for row in tools) else (),
    )


def encode_rows(rows: Rows) -> bytes:
    """Rows as JSON."""
    tables = {
        name: [
            {
                column: base64.b64encode(value).decode()
                if column in _BYTES.get(name, ())
                else value
                for column, value in row.items()
            }
            for row in getattr(rows, name)
        ]
        for name in _TABLES
    }
    return orjson.dumps({"format": FORMAT, "version": rows.version, "token": rows.token, **tables})


def decode_rows(data: bytes) -> Rows:
    """What :func:`encode_rows` made.

    Raises:
        ValueError: the bytes are something else.
    """
    found = orjson.loads(data)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError("another format")
    try:
        for name, columns in _BYTES.items():
            for row in found[name]:
                row.update({column: base64.b64decode(row[column]) for column in columns})
        return Rows(found["version"], found["token"], *(found[name] for name in _TABLES))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"damaged: {error!r}") from error


async def build(
    rows: Rows, schemas: SchemaStore, *, offline: bool = False, before: Catalog | None = None
) -> Catalog:
    """The catalog in ``rows``; what cannot be used of it is left out, and said in the log.

    Tools and contexts that cannot be read stay as they were ``before``. ``offline``: PostgreSQL
    cannot be asked for what is not among the rows.
    """
    before = before or Catalog()
    tools: dict[str, Tool] = {}
    unreadable: set[str] = set()
    for row in rows.tools:
        name = row["tool_id"]
        try:
            tools[name] = tool_from_row(row)
        except UNREADABLE as error:
            unreadable.add(name)
            _say_unreadable("tool", name, error, known=name in before.tools)
            if name in before.tools:
                tools[name] = before.tools[name]
    contexts: dict[tuple[str, str], Context] = {}
    for row in rows.contexts:
        key = (row["tenant"], row["context_id"])
        try:
            contexts[key] = _context(row)
        except UNREADABLE as error:
            _say_unreadable("context", row["context_id"], error, known=key in before.contexts)
            if key in before.contexts:
                contexts[key] = before.contexts[key]
    by_tool: dict[str, list[Subscription]] = {}
    priorities: dict[tuple[str, str], set[str]] = {}
    for row in rows.subscriptions:
        context = contexts.get((row["tenant"], row["context_id"]))
        if context is None:
            continue
        # a subscription never reaches over to another tenant's tool
        wanted = [
            tool.tool_id
            for tool in tools.values()
            if row["tool_id"] in ("*", tool.tool_id) and tool.tenant == context.tenant
        ]
        try:
            subscription = _subscription(row, context)
        except UNREADABLE as error:
            logger.error(
                "subscription %s of context %s cannot be used: %s",
                row["name"],
                row["context_id"],
                error,
            )
            continue
        for tool_id in wanted:
            by_tool.setdefault(tool_id, []).append(subscription)
        name = (context.tenant, context.context_id)
        priorities.setdefault(name, set()).add(subscription.priority)
    return Catalog(
        rows.version,
        rows.token,
        tools,
        contexts,
        {tool: tuple(subs) for tool, subs in by_tool.items()},
        _books(rows.templates),
        {
            bytes(row["hash"]): AgentKey(row["tenant"], frozenset(row["contexts"]))
            for row in rows.keys
        },
        {name: frozenset(found) for name, found in priorities.items()},
        min(set().union(*priorities.values()), key=rank, default=PRIORITIES[-1]),
        await schemas.understood(rows.schemas, offline=offline),
        frozenset(
            tool
            for tool, subscriptions in by_tool.items()
            if any(subscription.priority == "critical" for subscription in subscriptions)
        ),
        frozenset(unreadable),
    )


def _say_unreadable(what: str, name: str, error: Exception, *, known: bool) -> None:
    then = "it stays as it was last known" if known else "it is left out"
    logger.error("%s %s cannot be read by this release: %r; %s", what, name, error, then)


def _context(row: Row) -> Context:
    return Context(
        row["tenant"],
        row["context_id"],
        row["name"],
        row["priority"],
        row["token_budget"],
        Rate(**row["rate"]) if row["rate"] else None,
        DailyRule.from_dict(row["daily"]) if row["daily"] else None,
    )


def tool_from_row(row: Row) -> Tool:
    """A tool as the database holds it."""
    dedup, ordering = row["dedup"], row["ordering"]
    return Tool(
        tool_id=row["tool_id"],
        tenant=row["tenant"],
        provider=row["provider"],
        secrets=tuple(row["secrets"]),
        options=SignatureOptions(**row["options"]),
        strategy=dedup["strategy"],
        fields=tuple(dedup["fields"]),
        window_ms=0 if dedup["strategy"] == "none" else dedup["window_seconds"] * 1000,
        order_by=ordering["by"],
        order_field=ordering["field"],
        on_error=ordering.get("on_error", "skip"),
        alert=row["alert"],
        function=dedup.get("name", ""),
        history_ms=dedup.get("history_seconds", 0) * 1000,
        payload_rule=PayloadRule(**row["payload_schema"]) if row["payload_schema"] else None,
    )


def _books(rows: Iterable[Row]) -> dict[str, TemplateBook]:
    found: dict[str, dict[str, list[Template]]] = {}
    for row in rows:
        try:
            template = compile_template(row["types"], row["source"])
        except UNREADABLE as error:
            logger.error(
                "template %s of tenant %s cannot be used: %s", row["name"], row["tenant"], error
            )
            continue
        found.setdefault(row["tenant"], {}).setdefault(row["provider"], []).append(template)
    return {tenant: TemplateBook(templates) for tenant, templates in found.items()}


def _subscription(row: Row, context: Context) -> Subscription:
    return Subscription(
        tenant=row["tenant"],
        context_id=row["context_id"],
        name=row["name"],
        tool_id=row["tool_id"],
        types=compile_types(tuple(row["types"])),
        condition=compile_condition(row["condition"]) if row["condition"] else None,
        priority=row["priority"] or context.priority,
        follow=row["follow"],
    )
