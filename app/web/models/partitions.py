"""Partitions, and how far behind they are."""

from hookstream.app.web.models.fields import Model

__all__ = ["PartitionList", "PartitionOut"]


class PartitionOut(Model):
    """Who owns a partition, and how far behind each of its streams is."""

    partition: int
    owner: str | None
    epoch: int
    lease_seconds: float
    streams: dict[str, dict[str, float | None]]


class PartitionList(Model):
    """All partitions, and the workers that are alive."""

    workers: list[str]
    partitions: list[PartitionOut]
