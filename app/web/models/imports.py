"""Imports of histories."""

from typing import Annotated, Any, Literal

from pydantic import Field

from hookstream.app.web.models.fields import Id, Model, Strict, Text

__all__ = ["EXPORT_QUERY", "ImportIn", "ImportList", "ImportOut", "ImportPageOut", "ImportStopIn"]


class ImportIn(Strict):
    """A history to bring in, or to go on with: by its tool, and what its source is called.

    ``restart``: from its beginning, whatever was noted; nothing comes twice by that.
    """

    tool: Id
    source: Annotated[Text, Field(min_length=1, max_length=512)]
    restart: bool = False


class ImportStopIn(Strict):
    """Why an import goes on no more; without a reason somebody has stopped it."""

    reason: Annotated[Text, Field(max_length=500)] = ""


class ImportOut(Model):
    """An import and how far it has come.

    ``status``: `stopped` by whoever ran it, or `failed` for a ``reason``. One that is `running` and
    was left is so until it is begun again: ``updated_at`` is when something of it came last.
    Of its lines ``imported`` are events now (``duplicates`` of them are of others), ``known`` ones
    were here already, ``expired`` ones are older than their tool's ``ttl``, ``erased`` ones are
    what an erasure was about, ``rejected`` ones are no events. ``place`` is for who reads the
    source.
    """

    import_id: str
    tool_id: str
    source: str
    status: Literal["running", "done", "stopped", "failed"]
    #: In the answer to who begins it: what it was before that; null where it is new.
    status_before: Literal["running", "done", "stopped", "failed"] | None
    reason: str
    place: dict[str, Any]
    imported: int
    duplicates: int
    known: int
    expired: int
    erased: int
    rejected: int
    created_at: str
    updated_at: str
    finished_at: str | None
    #: Lines, and bytes of them, that a page has at most.
    page_lines: int
    page_bytes: int


class RejectedOut(Model):
    """A line of a page that is no event: its number there, from 0 on, and why."""

    line: int
    reason: str


class ImportPageOut(Model):
    """What came of a page: how many lines became what, and those that are no events.

    ``no_zone``: lines whose time says no zone, and was taken as UTC.
    """

    imported: int
    duplicates: int
    known: int
    expired: int
    erased: int
    rejected: list[RejectedOut]
    no_zone: int


class ImportList(Model):
    """A page of imports, the newest first; ``cursor`` leads to the next."""

    imports: list[ImportOut]
    cursor: str | None


EXPORT_QUERY: dict[str, dict[str, object]] = {
    "since": {"type": "string", "format": "date-time", "description": "Received at or after."},
    "until": {"type": "string", "format": "date-time", "description": "Received before."},
    "cursor": {"type": "string", "description": "Behind this event: Hookstream-Last of the page."},
    "form": {"type": "string", "enum": ["hookstream", "predecessor"], "default": "hookstream"},
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 500},
}
