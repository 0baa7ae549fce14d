"""Erasures."""

from typing import Annotated, Any, Literal

from pydantic import Field

from hookstream.app.privacy.subjects import MAX_CHARACTERS, MAX_VALUES
from hookstream.app.web.models.fields import Id, Model, Strict, Text

__all__ = ["ErasureIn", "ErasureList", "ErasureOut"]

EventId = Annotated[str, Field(pattern=r"^[0-9a-f-]{36}$")]
Value = Annotated[Text, Field(min_length=1, max_length=MAX_CHARACTERS)]


class ErasureIn(Strict):
    """What to erase: exactly one of ``events``, ``tool``, ``context``, ``tenant``, ``subject``.

    ``subject`` are values of one person (mail, id, phone) by which whatever names it is found;
    they are kept as keyed hashes only. ``dry_run`` counts, and takes nothing out.
    """

    events: Annotated[list[EventId], Field(min_length=1, max_length=1000)] | None = None
    tool: Id | None = None
    context: Id | None = None
    tenant: Literal[True] | None = None
    subject: Annotated[list[Value], Field(min_length=1, max_length=MAX_VALUES)] | None = None
    reason: Annotated[Text, Field(max_length=500)] = ""
    dry_run: bool = False


class PlaceOut(Model):
    """What was found in one place, what of it is erased, what is left, and why."""

    place: str
    found: int
    erased: int
    left: int
    detail: str


class ErasureOut(Model):
    """An erasure, how far it has come, and its receipt.

    ``status``: ``running``; ``waiting`` for a legal hold; ``open``: something cannot be erased yet,
    ``detail`` says what, and it is tried again; ``done``. ``target`` says what was asked for, of a
    subject how many values there were. While it goes on ``looked_at`` says how many events, updates
    and rows of the event log were looked through, ``to_look_at`` how many there are, and
    ``seconds_left`` how long that takes still; null where it is not known.
    """

    erasure_id: str
    kind: Literal["event", "tool", "context", "tenant", "subject"]
    target: dict[str, Any]
    reason: str
    dry_run: bool
    status: Literal["running", "waiting", "open", "done"]
    detail: str
    steps_done: int
    steps: int
    looked_at: int | None
    to_look_at: int | None
    seconds_left: float | None
    places: list[PlaceOut]
    created_at: str
    finished_at: str | None


class ErasureList(Model):
    """A page of erasures, the newest first; ``cursor`` leads to the next."""

    erasures: list[ErasureOut]
    cursor: str | None
