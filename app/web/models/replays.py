"""Replays."""

from typing import Annotated, Literal

from pydantic import Field

from hookstream.app.status import Status
from hookstream.app.web.models.fields import Id, Model, Strict, Text

#: The id of an import.
UUID_PATTERN = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"

__all__ = ["ReplayIn", "ReplayList", "ReplayOut"]


class ReplayIn(Strict):
    """What to send again: one event, or what matches all that is given of the filter.

    To where the subscriptions say now; to ``context_id`` alone when it is given; what a filter
    finds by its ``context``, to that one alone.
    """

    event_id: Annotated[str, Field(pattern=r"^[0-9a-f-]{36}$")] | None = None
    context_id: Id | None = None
    tool: Id | None = None
    type: Annotated[Text, Field(min_length=1, max_length=200)] | None = None
    status: Status | None = None
    context: Id | None = None
    since: Annotated[str, Field(max_length=64)] | None = None
    until: Annotated[str, Field(max_length=64)] | None = None
    imported: Annotated[str, Field(pattern=UUID_PATTERN)] | None = None
    rate: Annotated[float, Field(ge=0.1, le=10_000, allow_inf_nan=False)] | None = None


class ReplayOut(Model):
    """A replay and how far it has come.

    ``matched`` events were found when it began, at least, where ``matched_more``. ``sent`` of them
    are in their streams again, ``missing`` ones have no payload any more, ``processed`` ones are
    through, ``dead`` ones failed; of many these are counted to a bound only: ``counts_more``.
    """

    replay_id: str
    event_id: str | None
    filter: dict[str, str] | None
    context_id: str | None
    rate: float | None
    status: Literal["running", "done", "failed", "cancelled"]
    error: str
    matched: int
    matched_more: bool
    sent: int
    missing: int
    processed: int
    dead: int
    deliveries: int
    counts_more: bool
    created_at: str
    finished_at: str | None


class ReplayList(Model):
    """A page of replays, the newest first; ``cursor`` leads to the next."""

    replays: list[ReplayOut]
    cursor: str | None
