"""Tiers, and what moves between them."""

from typing import Any

from hookstream.app.web.models.fields import Model

__all__ = ["LifecycleOut", "VerifiedOut"]


class LifecycleOut(Model):
    """What is in each tier, how full Redis is, and the last run of each worker."""

    memory: dict[str, Any]
    hot: dict[str, float]
    warm: dict[str, float]
    cold: dict[str, float]
    workers: dict[str, dict[str, Any]]


class VerifiedOut(Model):
    """A part of what is kept: what differs, and where the next part begins (null: that was all)."""

    part: str
    looked_at: int
    differences: list[str]
    tiers: dict[str, int]
    next: str | None
