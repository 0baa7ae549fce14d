"""The catalog's rows: as the database has them, as bytes for a file, as what each stands for."""

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import orjson

from hookstream.app.addresses import networks_of
from hookstream.app.durations import duration_ms
from hookstream.app.keyring.tool_secrets import CLEAR, ToolSecrets
from hookstream.app.priority import rank
from hookstream.app.privacy.rules import Rules
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.roles import KEY_ROLES, Role
from hookstream.app.routing.catalog import ApiKey, Context, PayloadRule, Subscription, Tool, Ttl
from hookstream.app.routing.daily_rule import DailyRule
from hookstream.app.routing.keeping import Keeping
from hookstream.app.routing.matching import compile_condition, compile_types
from hookstream.app.routing.paths import Migration
from hookstream.app.routing.queues import SqsTarget
from hookstream.app.routing.tenants import Tenant, TenantQuotas
from hookstream.app.routing.topics import source_from
from hookstream.app.stores.row_checks import check_context, check_subscription, check_tool
from hookstream.app.summaries.templates import Template, TemplateBook, compile_template
from hookstream.tables.rates import Rate

__all__ = [
    "KEYS",
    "UNREADABLE",
    "Key",
    "Row",
    "Rows",
    "context_from_row",
    "decode_rows",
    "encode_rows",
    "key_of",
    "keys_from_row",
    "subject_of",
    "subscription_from_row",
    "template_from_row",
    "tenant_from_row",
    "tool_from_row",
]

Row = Mapping[str, Any]
#: What names a row in its table: values of the columns in :data:`KEYS`.
Key = tuple[str, ...]

#: What comes of a row that a newer release, or a person, has written: anything. Compilers and
#: libraries have errors of their own for it, and no row may keep a process from starting.
UNREADABLE: Final = (Exception,)

#: Of a tool's ``ttl``, in the order in which an event comes through them.
TIERS: Final = ("hot", "warm", "cold")

#: What a catalog is made of, each with the columns that name a row of it.
KEYS: Final[Mapping[str, Sequence[str]]] = {
    "tools": ("tool_id",),
    "contexts": ("tenant", "context_id"),
    "subscriptions": ("tenant", "context_id", "name"),
    "templates": ("tenant", "name"),
    "keys": ("key_id",),
    "schemas": ("tenant", "subject"),
    "tenants": ("tenant_id",),
    "masking": ("tenant",),
}

#: Of the bytes that stand for rows. Another one is not read.
FORMAT: Final = 1
#: Rows that become JSON in one go: other threads wait for that.
ENCODED_AT_ONCE: Final = 200
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
    tenants: Sequence[Row] = ()
    masking: Sequence[Row] = ()


def key_of(table: str, row: Row) -> Key:
    """What names a row. Raises KeyError where it lacks a column."""
    return tuple(row[column] for column in KEYS[table])


def encode_rows(rows: Rows) -> Iterator[bytes]:
    """Rows as JSON, in pieces."""
    yield head(rows.version, rows.token)
    for table in KEYS:
        yield b',"%s":[' % table.encode()
        found: Sequence[Row] = getattr(rows, table)
        for start in range(0, len(found), ENCODED_AT_ONCE):
            page = [_plain(table, row) for row in found[start : start + ENCODED_AT_ONCE]]
            yield (b"," if start else b"") + orjson.dumps(page)[1:-1]
        yield b"]"
    yield b"}"


def head(version: int, token: int) -> bytes:
    """How the JSON of a state's rows begins."""
    return b'{"format":%d,"version":%d,"token":%d' % (FORMAT, version, token)


def _plain(table: str, row: Row) -> dict[str, Any]:
    return {
        column: base64.b64encode(value).decode() if column in _BYTES.get(table, ()) else value
        for column, value in row.items()
    }


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
        # a copy that an earlier release has written does not have these
        found.setdefault("tenants", [])
        found.setdefault("masking", [])
        return Rows(found["version"], found["token"], *(found[name] for name in KEYS))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"damaged: {error!r}") from error


def tool_from_row(row: Row, secrets: ToolSecrets = CLEAR) -> Tool:
    """A tool as the database holds it, checked. Raises whatever the row makes it raise.

    Its sealed secrets have been opened: ``secrets.prepare``. Raises SealingKeyError where they
    could not be.
    """
    dedup, ordering = row["dedup"], row["ordering"]
    return check_tool(
        Tool(
            tool_id=row["tool_id"],
            tenant=row["tenant"],
            provider=row["provider"],
            secrets=secrets.opened(row),
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
            # a copy that an earlier release has written does not have these
            webhooks_per_second=row.get("webhooks_per_second"),
            allow_from=networks_of(row.get("allow_from", ())),
            public_url=row.get("public_url", ""),
            ttl=ttl_from(row.get("ttl") or {}),
            masking=Rules.from_dict(row.get("masking") or {}),
            source=source_from(row["source"]) if row.get("source") else None,
            forward=SqsTarget.from_dict(row["forward"]) if row.get("forward") else None,
            forwarded_since=_time(row.get("forwarded_since")),
            migration=Migration.from_dict(row["migration"]) if row.get("migration") else None,
        )
    )


def ttl_from(given: Mapping[str, str]) -> Ttl:
    """How long a tool's events stay where; what is not said is as in :class:`Ttl`.

    Raises:
        ValueError: one of them is no duration.
    """
    times = {f"{tier}_ms": duration_ms(given[tier]) for tier in TIERS if tier in given}
    return Ttl(**times)


def subject_of(row: Row) -> str | None:
    """The subject whose schema payloads of a tool must fit; None for none that could be one."""
    rule = row.get("payload_schema")
    subject = rule.get("subject") if isinstance(rule, Mapping) else None
    return subject if isinstance(subject, str) else None


def context_from_row(row: Row) -> Context:
    """A context, checked. Raises whatever the row makes it raise."""
    return check_context(
        Context(
            row["tenant"],
            row["context_id"],
            row["name"],
            row["priority"],
            row["token_budget"],
            Rate(**row["rate"]) if row["rate"] else None,
            DailyRule.from_dict(row["daily"]) if row["daily"] else None,
            # a copy that an earlier release has written does not have this
            Keeping.from_dict(row.get("retention") or {}),
        )
    )


def keys_from_row(row: Row) -> dict[bytes, ApiKey]:
    """What a row of a key opens, by SHA-256: its key, and the one before where that counts yet.

    Raises whatever the row makes it raise.
    """
    # a copy that an earlier release has written has agents' keys alone
    role = Role(row.get("role", Role.AGENT))
    if role not in KEY_ROLES:
        raise ValueError(f"no key has the role {role}")
    contexts = frozenset(row["contexts"]) if role == Role.AGENT else None
    until = _moment(row.get("expires_at"), math.inf)
    key = ApiKey(row["tenant"], contexts, row["key_id"], row["name"], role, until)
    found = {bytes(row["hash"]): key}
    if before := row.get("previous_hash"):
        ends = _moment(row["previous_until"], 0.0)
        found[bytes.fromhex(before)] = replace(key, until=min(until, ends))
    return found


def _time(value: datetime | str | None) -> datetime | None:
    """A time, which a copy of the catalog has as a text."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _moment(value: datetime | str | None, otherwise: float) -> float:
    """A time of the database, or of the file, which has texts, in Unix seconds."""
    if value is None:
        return otherwise
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    return at.timestamp()


def tenant_from_row(row: Row) -> Tenant:
    """A tenant. Raises whatever the row makes it raise."""
    quotas = TenantQuotas.from_dict(row["quotas"])
    return Tenant(row["tenant_id"], row["name"], row["state"], row["reason"], quotas)


def template_from_row(row: Row) -> Template:
    """A template, compiled. Raises whatever the row makes it raise."""
    template = compile_template(row["types"], row["source"])
    TemplateBook({"": [template]})  # its glob can be one
    return template


def subscription_from_row(row: Row, context: Context) -> Subscription:
    """A subscription of ``context``, compiled. Raises whatever the row makes it raise."""
    rank(row["priority"] or context.priority)  # raises here, once, not at each event
    subscription = Subscription(
        tenant=row["tenant"],
        context_id=row["context_id"],
        name=row["name"],
        tool_id=row["tool_id"],
        types=compile_types(tuple(row["types"])),
        condition=compile_condition(row["condition"]) if row["condition"] else None,
        priority=row["priority"] or context.priority,
        follow=row["follow"],
    )
    check_subscription(subscription, row["types"])
    return subscription
