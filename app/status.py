"""The one list of statuses that an event can have."""

from enum import StrEnum

__all__ = ["Status"]


class Status(StrEnum):
    """What has become of an event; the word is the same in Redis, SQL, metrics, API and docs."""

    ACCEPTED = "accepted"  # durable, and on its way
    DELIVERED = "delivered"  # in the feed of at least one context
    UNROUTED = "unrouted"  # processed, and no context wanted it
    DUPLICATE = "duplicate"  # of an earlier event, named in duplicate_of
    RETRYING = "retrying"  # failed, and will be tried again
    DEAD = "dead"  # failed for good: a dead letter
    ERASED = "erased"  # by an erasure: nothing is left of it but that it was there
