"""Tenants, their quotas, and what they use."""

from typing import Annotated, Literal

from pydantic import Field

from hookstream.app.web.models.fields import Id, Model, Strict, Text
from hookstream.app.web.models.tools import MaskingIn

__all__ = [
    "CONFIRM_QUERY",
    "METRICS_QUERY",
    "SuspendIn",
    "TenantChange",
    "TenantIn",
    "TenantList",
    "TenantMaskingOut",
    "TenantMetrics",
    "TenantOut",
]

Rate = Annotated[float, Field(gt=0, le=1e9)]
#: Numbers that a double holds exactly.
Count = Annotated[int, Field(ge=1, le=2**53)]


class QuotasIn(Strict):
    """How much a tenant may have and send; null: as in the whole installation, or any number."""

    events_per_second: Rate | None = None
    events_per_day: Count | None = None
    bytes_per_day: Count | None = None
    tools: Count | None = None
    contexts: Count | None = None
    keys: Count | None = None
    subscriptions: Count | None = None
    sockets: Count | None = None
    replays: Count | None = None


class TenantIn(Strict):
    """A new tenant."""

    tenant_id: Id
    name: Annotated[Text, Field(max_length=200)] = ""
    quotas: QuotasIn = Field(default_factory=QuotasIn)


class TenantChange(Strict):
    """What is another now; what is left out stays, a quota that is null is taken away."""

    name: Annotated[Text, Field(max_length=200)] | None = None
    quotas: QuotasIn | None = None


class SuspendIn(Strict):
    """Why: whoever is refused is told."""

    reason: Annotated[Text, Field(max_length=200)] = ""


class DeletionOut(Model):
    """How far the deletion of a tenant has come.

    ``deleted`` counts what was found so far, by kind; what is waited for is counted each time. It
    is through when two passes in a row have found nothing: then ``finished_at`` is set. ``error``:
    what was in its way last.
    """

    step: str
    deleted: dict[str, int]
    passes: int
    error: str
    asked_at: str
    finished_at: str | None


class TenantOut(Model):
    """A tenant; of one that is gone there is its ``deletion`` alone, and ``state`` is deleted."""

    tenant_id: str
    name: str
    state: Literal["active", "suspended", "deleting", "deleted"]
    reason: str
    quotas: dict[str, float]
    deletion: DeletionOut | None
    created_at: str | None
    updated_at: str | None


class TenantList(Model):
    """A page of tenants; ``cursor`` leads to the next, until it is null."""

    tenants: list[TenantOut]
    cursor: str | None


class TenantMaskingOut(Model):
    """What holds for personal data in all of a tenant's tools; null where it has no rules."""

    tenant_id: str
    masking: MaskingIn | None
    updated_at: str | None


class DayOut(Model):
    """What was accepted in a day (UTC), and how often something was refused for which quota."""

    events: int
    bytes: int
    refused: dict[str, int]


class QuotaUse(Model):
    """How much of a quota is used; null where that is not a number, or there is no quota."""

    name: str
    used: int | None
    most: float | None


class ContextUse(Model):
    """How far a context's feed and its clients have come."""

    context_id: str
    last_seq: int
    acknowledged_seq: int
    throttled: int


class TenantMetrics(Model):
    """What a tenant uses. ``contexts`` are the first thousand, by their ids."""

    tenant_id: str
    state: str
    today: DayOut
    yesterday: DayOut
    quotas: list[QuotaUse]
    contexts: list[ContextUse]


METRICS_QUERY: dict[str, dict[str, object]] = {
    "format": {
        "type": "string",
        "enum": ["json", "prometheus"],
        "description": "`prometheus`: as text for a scrape.",
    },
}
CONFIRM_QUERY: dict[str, dict[str, object]] = {
    "confirm": {"type": "string", "description": "The tenant's id once more."},
}
