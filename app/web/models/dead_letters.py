"""Events that failed."""

from typing import Annotated, Any, Literal

from pydantic import Field

from hookstream.app.web.models.fields import Id, Model, Strict, Text

__all__ = [
    "LETTER_QUERY",
    "AttemptOut",
    "LetterChanged",
    "LetterFilterIn",
    "LetterList",
    "LetterOut",
]


class LetterFilterIn(Strict):
    """Which dead letters: those that match all that is given, past the ``cursor`` of a call."""

    tool: Id | None = None
    stage: Annotated[Text, Field(max_length=200)] | None = None
    since: Annotated[str, Field(max_length=64)] | None = None
    until: Annotated[str, Field(max_length=64)] | None = None
    cursor: Annotated[Text, Field(max_length=300)] | None = None


class LetterChanged(Model):
    """How many dead letters a call was about.

    ``more`` when it has to be made again, with its ``cursor``: so many were looked at.
    """

    matched: int
    changed: int
    more: bool
    cursor: str | None


class AttemptOut(Model):
    """One attempt that failed."""

    attempt: int
    at: str
    stage: str
    error: str


class LetterOut(Model):
    """An event that failed; in ``GET`` of one with its history and payload."""

    letter_id: str
    event_id: str | None
    tool_id: str
    type: str
    replay_id: str | None
    channel: str
    state: str
    stage: str
    error: str
    attempts: int
    first_failed_at: str
    last_failed_at: str
    traceback: str | None = None
    history: list[AttemptOut] | None = None
    headers: dict[str, str] | None = None
    content_type: str | None = None
    payload: Any = None
    payload_encoding: Literal["json", "text", "base64"] | None = None


class LetterList(Model):
    """A page of dead letters; ``cursor`` leads to the next, until it is null.

    A page may have fewer than asked for, or none: so many were looked at.
    """

    letters: list[LetterOut]
    cursor: str | None


LETTER_QUERY: dict[str, dict[str, object]] = {
    "tool": {"type": "string", "description": "Only of this tool."},
    "stage": {"type": "string", "description": "Only those that failed in this stage."},
    "since": {"type": "string", "format": "date-time"},
    "until": {"type": "string", "format": "date-time"},
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50},
    "cursor": {"type": "string", "description": "From the page before."},
}
