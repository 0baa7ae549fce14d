"""Retention policies."""

from typing import Annotated, Any, Literal

from pydantic import Field

from hookstream.app.web.models.fields import Duration, Id, Model, Strict, Text

__all__ = ["PolicyIn", "PolicyList", "PolicyOut", "ProofList"]

DataClass = Literal["personal", "contact", "identity", "payment", "secret", "any"]


class PolicyIn(Strict):
    """Which events go, and when: of a tool, of types (``*`` stands for anything), with data of a
    class; what is left out means any."""

    delete_after: Duration
    tool: Id | None = None
    types: Annotated[Text, Field(min_length=1, max_length=200)] | None = None
    data_class: DataClass | None = None
    reason: Annotated[Text, Field(max_length=500)] = ""


class PolicyOut(Model):
    """A policy."""

    policy_id: str
    delete_after: str
    tool: str | None
    types: str | None
    data_class: DataClass | None
    reason: str
    created_at: str
    updated_at: str


class PolicyList(Model):
    """All policies."""

    policies: list[PolicyOut]


class ProofOut(Model):
    """What one run has deleted by the policy, of one tool and tier.

    ``ids_sha256`` is SHA-256 over the ids of the events, in their order, as 16 bytes each.
    """

    run_id: int
    rule: dict[str, Any]
    at: str
    tier: str
    tool: str
    deleted: int
    first_event: str
    last_event: str
    ids_sha256: str


class ProofList(Model):
    """A page of what was deleted, the newest run first; ``cursor`` leads to the next."""

    runs: list[ProofOut]
    cursor: str | None
