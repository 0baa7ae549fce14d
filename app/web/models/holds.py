"""Legal holds."""

from typing import Annotated

from pydantic import Field

from hookstream.app.web.models.fields import Id, Model, Strict, Text

__all__ = ["HoldIn", "HoldList", "HoldOut", "ReleaseIn"]

EventId = Annotated[str, Field(pattern=r"^[0-9a-f-]{36}$")]
Reason = Annotated[Text, Field(min_length=1, max_length=500)]
Time = Annotated[str, Field(max_length=64)]


class HoldIn(Strict):
    """What is to be kept: without ``tool`` and ``context`` all of the tenant's.

    Of a range: events from ``first_event`` to ``last_event``, both counted, or those received from
    ``since`` on and before ``until``.
    """

    reason: Reason
    tool: Id | None = None
    context: Id | None = None
    first_event: EventId | None = None
    last_event: EventId | None = None
    since: Time | None = None
    until: Time | None = None


class ReleaseIn(Strict):
    """Why it is not needed any more."""

    reason: Reason


class HoldOut(Model):
    """A hold, in force until ``released_at``."""

    hold_id: str
    tool: str | None
    context: str | None
    first_event: str | None
    last_event: str | None
    reason: str
    placed_at: str
    released_at: str | None
    release_reason: str | None


class HoldList(Model):
    """A page of holds, the newest first; ``cursor`` leads to the next."""

    holds: list[HoldOut]
    cursor: str | None
