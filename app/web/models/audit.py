"""The audit trail."""

from typing import Any

from hookstream.app.web.models.fields import Model

__all__ = ["AUDIT_QUERY", "VERIFY_QUERY", "AuditList", "AuditOut", "VerifiedAuditOut"]


class AuditOut(Model):
    """A row: `record` says who did what; `hash` is SHA-256 over the bytes of `previous` and it."""

    seq: int
    previous: str
    hash: str
    record: dict[str, Any]


class AuditList(Model):
    """A page of rows, the newest first; ``cursor`` leads to the next."""

    rows: list[AuditOut]
    cursor: str | None


class AuditProblem(Model):
    """What is wrong with a row: missing, changed, moved, inserted or unlinked."""

    seq: int
    problem: str
    detail: str


class VerifiedAuditOut(Model):
    """A part of the chain that was looked through; ``next`` is the cursor of the part behind it.

    ``head`` is where the chain ends, ``start`` behind which row what is kept of it begins.
    """

    looked_at: int
    problems: list[AuditProblem]
    head: str
    start: str
    next: str | None


_TEXT: dict[str, object] = {"type": "string", "maxLength": 512}
_TIME: dict[str, object] = {"type": "string", "format": "date-time"}
_LINK: dict[str, object] = {"type": "string", "pattern": "^[0-9]{1,18}:[0-9a-f]{64}$"}
AUDIT_QUERY: dict[str, dict[str, object]] = {
    "actor": _TEXT,
    "action": {**_TEXT, "examples": ["tool.changed", "key.*"]},
    "kind": _TEXT,
    "object": _TEXT,
    "event": {"type": "string", "format": "uuid"},
    "since": _TIME,
    "until": _TIME,
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50},
    "cursor": {"type": "string", "pattern": "^[0-9]{1,18}$"},
}
VERIFY_QUERY: dict[str, dict[str, object]] = {"cursor": _LINK, "expect": _LINK}
