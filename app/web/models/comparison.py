"""Both paths of a tool that moves from old workers to here, side by side."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from hookstream.app.web.models.fields import Model, Strict

__all__ = [
    "COMPARISON_QUERY",
    "CauseOut",
    "ComparisonOut",
    "DifferenceOut",
    "HourOut",
    "ResultIn",
    "ResultsIn",
    "ResultsOut",
]

#: Results of one call.
MOST_RESULTS = 500
EVENT_PATTERN = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
#: What old workers may call a context; those here are called no otherwise.
CONTEXT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,199}$"
#: What SQS takes for a million requests, and a cloud for a core an hour, in USD.
REQUEST_PRICE = 0.40
CPU_PRICE = 0.0405

COMPARISON_QUERY: dict[str, dict[str, object]] = {
    "since": {
        "type": "string",
        "format": "date-time",
        "description": "Events received from then on; 24 hours before `until` by default.",
    },
    "until": {"type": "string", "format": "date-time", "description": "Now by default."},
    "limit": {
        "type": "integer",
        "minimum": 1,
        "maximum": 100,
        "default": 10,
        "description": "How many events of each cause are named; all of them are counted.",
    },
    "cursor": {"type": "string", "description": "From the answer before."},
    "request_price": {
        "type": "number",
        "minimum": 0,
        "maximum": 1000,
        "default": REQUEST_PRICE,
        "description": "USD for a million requests to SQS.",
    },
    "cpu_price": {
        "type": "number",
        "minimum": 0,
        "maximum": 1000,
        "default": CPU_PRICE,
        "description": "USD for a core, an hour.",
    },
}


class ResultIn(Strict):
    """What old workers have done with an event, which they name by the attribute
    `hookstream_event_id` of its message, or by its `delivery_id`.

    ``contexts``: which it was for; without it that is not compared. ``error``: a word, where it
    went wrong.
    """

    event_id: Annotated[str, Field(pattern=EVENT_PATTERN)] | None = Field(
        None, description="the message's attribute hookstream_event_id: a UUID in lower case"
    )
    delivery_id: Annotated[str, Field(pattern=r"^[!-_a-~]{1,200}$")] | None = Field(
        None, description="delivery_id of the message's body: at most 200 characters, no blanks"
    )
    finished_at: AwareDatetime = Field(
        description="a time with its zone, such as 2026-11-30T12:00:00.120Z"
    )
    contexts: list[Annotated[str, Field(pattern=CONTEXT_PATTERN)]] | None = Field(
        None, max_length=1000, description="a list of ids of contexts here, 1,000 at most"
    )
    error: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{0,64}$")] = Field(
        "", description="a word of at most 64 characters, such as Timeout"
    )


class ResultsIn(Strict):
    """What old workers have done, in any order; what was said before changes nothing."""

    results: list[ResultIn] = Field(max_length=MOST_RESULTS)


class ResultsOut(Model):
    """How many results were new; the others were known already."""

    taken: int
    known: int


class HourOut(Model):
    """Counts of events that were received in an hour; latencies in ms, costs in USD for a million
    events, null where there were none."""

    hour: str
    events: int
    both: int
    only_old: int
    only_ours: int
    neither: int
    ours_alone: int
    old_alone: int
    nobody: int
    under_way: int
    not_reported: int
    contexts_equal: int
    contexts_other: int
    contexts_unknown: int
    out_of_order: int
    old_twice: int
    errors_old: int
    errors_ours: int
    p50_old_ms: int | None
    p99_old_ms: int | None
    p50_ours_ms: int | None
    p99_ours_ms: int | None
    events_old: int
    events_here: int
    contexts_here: int
    sqs_requests: int
    cpu_seconds: float
    cost_old: float | None
    cost_ours: float | None


class DifferenceOut(Model):
    """An event in which the paths differ; ``other``: the one that it was taken for, or that was
    done before it. ``missing`` contexts are those that old workers name alone, ``additional`` ones
    those that are found here alone."""

    event_id: str
    other: str | None = None
    missing: list[str] = []
    additional: list[str] = []


class CauseOut(Model):
    """A kind of difference and its likely cause: how many events, and the first of them."""

    kind: Literal["only-old", "only-ours", "neither", "contexts", "order", "old-twice"]
    cause: str
    count: int
    events: list[DifferenceOut]


class ComparisonOut(Model):
    """Both paths from ``since`` to ``until``; ``cursor`` is where to go on, null at the end."""

    tool_id: str
    mode: str | None
    since: str
    until: str
    hours: list[HourOut]
    causes: list[CauseOut]
    cursor: str | None
