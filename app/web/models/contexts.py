"""Contexts."""

from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator, ConfigDict, Field

from hookstream.app.durations import duration_seconds
from hookstream.app.web.models.fields import (
    Duration,
    Model,
    Priority,
    Strict,
    Text,
)

__all__ = ["ContextIn", "ContextList", "ContextOut", "DailyIn", "RateIn", "RetentionIn"]

MAX_RETENTION_SECONDS = 3650 * 86400


def _zone(text: str) -> str:
    if text not in available_timezones():
        raise ValueError("a time zone of the IANA database, as in Europe/Berlin")
    return text


class RateIn(Strict):
    """How many updates a context takes."""

    updates_per_second: Annotated[float, Field(ge=0.000001, le=100_000)]
    burst: Annotated[int, Field(ge=1, le=1_000_000)] = 1


class DailyIn(Strict):
    """When a context gets the summary of its day, in its own time zone, and in how many tokens."""

    at: Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", examples=["08:00"])]
    timezone: Annotated[
        str, Field(max_length=64, examples=["Europe/Berlin"]), AfterValidator(_zone)
    ] = "UTC"
    token_budget: Annotated[int, Field(ge=64, le=100_000)] | None = None


def _age(text: str) -> str:
    if not 3600 <= duration_seconds(text) <= MAX_RETENTION_SECONDS:
        raise ValueError("a feed keeps its updates from 1h to 3650d")
    return text


def _acknowledged(text: str) -> str:
    if duration_seconds(text) > MAX_RETENTION_SECONDS:
        raise ValueError("a feed keeps what was acknowledged for at most 3650d")
    return text


class RetentionIn(Strict):
    """What a feed keeps: so long, so many updates, and for so long what was acknowledged.

    Whatever comes first counts. What is left out is as in the whole installation.
    """

    age: Annotated[Duration, AfterValidator(_age), Field(examples=["30d"])] | None = None
    updates: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    acknowledged: (
        Annotated[Duration, AfterValidator(_acknowledged), Field(examples=["7d"])] | None
    ) = None


class ContextIn(Strict):
    """What one AI agent session watches."""

    name: Annotated[Text, Field(max_length=200)] = ""
    priority: Priority = "normal"
    rate: RateIn | None = None
    token_budget: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    daily: DailyIn | None = None
    retention: RetentionIn | None = None


class ContextOut(ContextIn):
    """A context as it is kept, with how far its feed has come."""

    model_config = ConfigDict(extra="ignore")

    context_id: str
    last_seq: int
    acknowledged_seq: int
    created_at: str
    updated_at: str


class ContextList(Model):
    """A page of the contexts of the key's tenant, by their ids; ``cursor`` leads to the next."""

    contexts: list[ContextOut]
    cursor: str | None
