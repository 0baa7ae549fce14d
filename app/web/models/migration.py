"""Tools that move from old workers to here."""

from typing import Annotated, Literal

from pydantic import Field

from hookstream.app.web.models.fields import Model, Strict, Text

__all__ = ["ConfirmedOut", "HandOverOut", "HandOversIn", "MigrationOut", "ShiftIn", "ShiftOut"]

Mode = Literal["sqs", "shadow", "split", "redis", "only"]


class ShiftIn(Strict):
    """The mode that a tool is to have; ``percent`` of ordering keys that are ours, of ``split``.

    ``rollback``, instead: the one before its last shift; once more, the one before that.
    """

    mode: Mode | None = None
    percent: Annotated[int, Field(ge=0, le=100)] | None = None
    rollback: bool = False


class ShiftOut(Model):
    """A mode that a tool has had, from then on; ``rollback``: it was gone back to."""

    mode: Mode
    percent: int
    generation: int
    at: str
    rollback: bool = False


class HandOverOut(Model):
    """An ordering key that waits for old workers to be through with it; its mark is in their queue
    once it is ``sent``."""

    mark: str
    key: str
    since: str
    sent: bool


class MigrationOut(Model):
    """How far a tool has moved. ``mode`` is null where it does not.

    ``hand_overs``: the first that are under way; of all there are ``waiting_keys``, or more.
    ``waiting_copies``: events that are still to be copied into its queue. ``workers_behind``:
    living workers that have not heard of the last change yet, and go by the one before.
    """

    tool_id: str
    mode: Mode | None
    percent: int
    generation: int
    history: list[ShiftOut]
    waiting_keys: int
    waiting_keys_more: bool
    hand_overs: list[HandOverOut]
    waiting_copies: int
    workers_behind: int


class HandOversIn(Strict):
    """Marks that old workers have come to, or ``all`` that are in their queue by now."""

    marks: list[Annotated[Text, Field(max_length=64)]] = Field([], max_length=1000)
    all: bool = False


class ConfirmedOut(Model):
    """How many hand-overs are confirmed, and which marks are none that is under way.

    ``not_sent``: those of ``all`` that are not confirmed, since their marks are not in the queue.
    """

    confirmed: int
    unknown: list[str]
    not_sent: int = 0
