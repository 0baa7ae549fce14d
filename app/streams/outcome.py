"""What has become of an entry so far: exactly one of these; its status and its record follow."""

from dataclasses import dataclass
from typing import Literal, assert_never

from hookstream.app.status import Status

__all__ = [
    "ACCEPTED",
    "ERASED",
    "Accepted",
    "Blocked",
    "Dropped",
    "Duplicate",
    "Failed",
    "Outcome",
    "Quarantined",
    "status_of",
]

#: What a blocked entry waits for: its turn behind an earlier one of its ordering key, or the end
#: of its tool's circuit breaker. As it stands in Redis and in the event log.
Reason = Literal["held", "parked"]


@dataclass(frozen=True, slots=True)
class Accepted:
    """Still to be processed; or processed, and in the hands of the next channel."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """``of`` is the event id of the first occurrence; its own where it is a copy of itself."""

    of: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """Nobody gets it: ``stage`` wanted that; "" where no context subscribes to it."""

    stage: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """Why and where it could not be processed. ``final``: it is not tried again.

    ``trace``: the frames of its traceback, of code that is not ours.
    """

    stage: str
    error: str
    final: bool = False
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Blocked:
    """It waits for something else than its own next attempt; ``key`` is its ordering key."""

    reason: Reason
    key: str = ""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Its envelope has a ``version`` that only a newer worker reads: it waits for one."""

    version: int


#: The stage of what was dropped for an erasure, as the event log has it.
ERASED = "erased"
Outcome = Accepted | Duplicate | Dropped | Failed | Blocked | Quarantined

ACCEPTED = Accepted()


def status_of(outcome: Outcome) -> Status:
    """The status of an event that has come to this."""
    match outcome:
        case Accepted():
            return Status.ACCEPTED
        case Duplicate():
            return Status.DUPLICATE
        case Dropped():
            return Status.UNROUTED
        case Failed(final=True):
            return Status.DEAD
        case Failed() | Blocked() | Quarantined():
            return Status.RETRYING
        case _:
            assert_never(outcome)
