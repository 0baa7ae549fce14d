"""Subscriptions, kept or only tried."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from hookstream.app.web.models.fields import Id, Model, Priority, Strict, Text

__all__ = [
    "DryRunIn",
    "DryRunMatch",
    "DryRunOut",
    "SubscriptionIn",
    "SubscriptionList",
    "SubscriptionOut",
]


class SubscriptionIn(Strict):
    """Which events reach the context: of a tool, or with ``*`` of every tool of the tenant."""

    tool: Id | Literal["*"]
    types: list[Annotated[Text, Field(min_length=1, max_length=200)]] = Field(
        ["*"], min_length=1, max_length=64
    )
    where: Annotated[Text, Field(max_length=4096)] = ""
    follow: Annotated[Text, Field(max_length=200)] = ""
    priority: Priority | None = None


class DryRunIn(SubscriptionIn):
    """A subscription that is not saved, and the past events to try it on, the newest first."""

    since: Annotated[str, Field(max_length=64)] | None = None
    until: Annotated[str, Field(max_length=64)] | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 200


class DryRunMatch(Model):
    """A past event that a subscription would have matched."""

    event_id: str
    tool_id: str
    type: str
    received_at: str
    summary: str
    keys: list[str]


class DryRunOut(Model):
    """What a subscription would have matched; ``unreadable`` events' payloads are gone.

    ``errors``: for how many events the condition went wrong or over its bounds, by the kind.
    """

    examined: int
    matched: int
    unreadable: int
    errors: dict[str, int]
    events: list[DryRunMatch]


class SubscriptionOut(SubscriptionIn):
    """A subscription as it is kept.

    ``switched_off``: why it reaches nobody any more ("" where it does): its condition went over its
    bounds again and again. Setting it anew switches it on. ``errors``: for how many events the
    condition went wrong since it was set, which it then did not hold for.
    """

    model_config = ConfigDict(extra="ignore")

    name: str
    context_id: str
    switched_off: str
    errors: int
    last_error: str
    last_error_at: str | None
    created_at: str
    updated_at: str


class SubscriptionList(Model):
    """A page of a context's subscriptions, by their names; ``cursor`` leads to the next."""

    subscriptions: list[SubscriptionOut]
    cursor: str | None
