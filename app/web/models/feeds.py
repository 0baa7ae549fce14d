"""What a context's feed has: updates, digests, daily summaries."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from hookstream.app.web.models.fields import Kind, Model, Priority, Strict

__all__ = [
    "DIGEST_QUERY",
    "FEED_QUERY",
    "UPDATES_QUERY",
    "AckIn",
    "AckOut",
    "DailyList",
    "DailyOut",
    "DigestOut",
    "FoldedList",
    "FoldedOut",
    "FoldedUpdateOut",
    "GoneDigestOut",
    "GoneKindOut",
    "GroupOut",
    "MissingOut",
    "ResetOut",
    "TruncatedOut",
    "UpdateList",
    "UpdateOut",
]


class FoldedOut(Model):
    """What an update stands for that is not one event's: how many, when, the first of their ids."""

    count: int
    first_at: int
    last_at: int
    event_ids: list[str]
    more: int


class UpdateOut(Model):
    """An update as it is in a context's feed.

    ``kind`` is ``update`` for one event's own, ``digest`` for one that stands for several which
    came faster than the context's rate (they can be read by its number), ``daily`` for a day's
    summary; those have no ``event_id`` and ``tool_id``, and say in ``folded`` what they stand for.
    ``erased`` is what is left of one that was erased, or whose data key was destroyed.
    """

    model_config = ConfigDict(extra="allow")

    type: Literal["update"]
    kind: Kind = "update"
    seq: int
    generation: int
    context_id: str
    event_id: str | None
    tool_id: str | None
    event_type: str
    priority: Priority
    summary: str
    data: dict[str, Any]
    received_at: int
    tokens: int


class MissingOut(Model):
    """An update that was delivered and that Redis has lost, as the event log has it."""

    seq: int
    event_id: str
    tool_id: str | None
    event_type: str | None
    received_at: int | None


class ResetOut(Model):
    """That Redis has lost data of a feed, which goes on ``after`` a number of ``generation``.

    ``missing`` are the first updates that are known to be missing behind where the client was,
    ``missing_count`` says how many there are (null: the event log did not answer).
    """

    type: Literal["reset"]
    context_id: str
    generation: int
    previous_generation: int | None
    after: int
    missing: list[MissingOut]
    missing_count: int | None


class GoneKindOut(Model):
    """How many of the events that updates told of were of one tool and type."""

    tool_id: str | None
    event_type: str | None
    events: int


class GoneDigestOut(Model):
    """What the event log has of updates that went; with ``more`` there are older ones than counted.

    ``kinds`` are the most frequent ones; ``first_at`` and ``last_at`` say when they were delivered.
    """

    text: str
    events: int
    more: bool
    kinds: list[GoneKindOut]
    first_at: int | None
    last_at: int | None


class TruncatedOut(Model):
    """That updates which the client has not had are kept no longer: no loss, but retention.

    ``updates`` counts the numbers from ``from_seq`` to ``to_seq``; ``digest`` is null where the
    event log did not answer.
    """

    type: Literal["truncated"]
    context_id: str
    generation: int
    from_seq: int
    to_seq: int
    updates: int
    digest: GoneDigestOut | None
    untrusted: list[str]


class UpdateList(Model):
    """A page of updates, none of two generations; the next one begins past ``next_after``.

    ``generation`` is the newest one of the feed. ``truncated`` and ``reset``, where there are any,
    come before them.
    """

    updates: list[UpdateOut]
    generation: int
    next_after: int
    reset: ResetOut | None = None
    truncated: TruncatedOut | None = None


class FoldedUpdateOut(Model):
    """An update that a digest stands for, with its place in it (from 1)."""

    model_config = ConfigDict(extra="allow")

    place: int
    context_id: str
    event_id: str
    tool_id: str
    event_type: str
    priority: Priority
    summary: str
    data: dict[str, Any]
    received_at: int
    tokens: int


class FoldedList(Model):
    """A page of what a digest stands for; the next one begins ``after`` the last place."""

    seq: int
    updates: list[FoldedUpdateOut]


class DailyOut(Model):
    """The summary of one context's day, which its feed has as the update ``seq``."""

    day: str
    seq: int
    summary: str
    tokens: int
    updates: int
    from_seq: int
    to_seq: int
    created_at: str
    untrusted: list[str]


class DailyList(Model):
    """A page of a context's daily summaries, the newest first; ``cursor`` leads to the next."""

    dailies: list[DailyOut]
    cursor: str | None


class GroupOut(Model):
    """Updates about one thing; each can be fetched by its event id."""

    key: str
    priority: Priority
    count: int
    types: dict[str, int]
    seqs: list[int]
    event_ids: list[str]
    first_at: int
    last_at: int
    summary: str


class AckIn(Strict):
    """Everything up to a sequence number (of a generation; 0: whichever) has been handled."""

    seq: Annotated[int, Field(ge=0, le=2**53)]
    generation: Annotated[int, Field(ge=0, le=2**53)] = 0


class AckOut(Model):
    """What counts as acknowledged now: it never goes back, nor beyond what was sent."""

    acknowledged_seq: int


class DigestOut(Model):
    """What is new in a context. ``text`` has at most ``budget`` tokens, ``tokens`` exactly.

    ``updates`` of the feed stand for ``events``. ``groups`` are what ``text`` shows, ``omitted``
    what it only counts. ``skipped`` updates past ``after`` are older than a digest looks back,
    those of ``truncated`` are kept no longer.
    """

    context_id: str
    budget: int
    tokens: int
    text: str
    untrusted: list[str]
    updates: int
    events: int
    skipped: int
    after: int
    last_seq: int
    generation: int
    groups: list[GroupOut]
    omitted: list[GroupOut]
    truncated: TruncatedOut | None = None


_AFTER = {"type": "integer", "minimum": 0, "maximum": 2**53}
DIGEST_QUERY: dict[str, dict[str, object]] = {
    "budget": {"type": "integer", "minimum": 64, "maximum": 100_000},
    "after": _AFTER,
}
FEED_QUERY: dict[str, dict[str, object]] = {
    "after": _AFTER,
    "generation": {**_AFTER, "description": "That of the update `after`, where it is known."},
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50},
}
UPDATES_QUERY: dict[str, dict[str, object]] = {
    "after": _AFTER,
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50},
}
