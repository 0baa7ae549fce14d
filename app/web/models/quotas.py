"""How much of each kind there may be."""

from hookstream.app.web.models.fields import Model

__all__ = ["QuotaList", "QuotaOut"]


class QuotaOut(Model):
    """What there is of one kind, and how much there may be; null for any number.

    Of ``subscriptions_per_context`` it is the context that has most.
    """

    name: str
    used: int
    most: int | None
    setting: str


class QuotaList(Model):
    """All quotas."""

    quotas: list[QuotaOut]
