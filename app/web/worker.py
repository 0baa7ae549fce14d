"""What ``/health`` and ``/metrics`` ask of a worker; a process that only serves HTTP has none."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hookstream.app.circuit_breaker import Breaker
from hookstream.app.queues.states import QueueState

__all__ = ["AlertEndpoint", "Endpoint", "Leases", "Worker"]


class Leases(Protocol):
    """The partitions that this worker has, and what is in their way."""

    @property
    def owned(self) -> Collection[int]:
        """Their numbers."""

    @property
    def workers(self) -> Sequence[str]:
        """The workers that live, as far as this one knows."""

    def refused(self) -> Mapping[str, str]:
        """Streams that stand still because of what a server says."""


class Endpoint(Protocol):
    """Something outside that is asked through a circuit breaker."""

    @property
    def breaker(self) -> Breaker:
        """Its circuit breaker."""


class AlertEndpoint(Endpoint, Protocol):
    """Where alerts go."""

    async def failing(self) -> Mapping[str, int]:
        """Tools that fail too often now, with their failures."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker, as far as it can be asked how it does."""

    leases: Leases
    #: Tools whose circuit breaker is not closed here, with its state.
    tripped: Callable[[], Mapping[str, str]]
    alerts: AlertEndpoint
    #: None where no model is set.
    model: Endpoint | None
    #: How queues do that events are copied into.
    forwarding: Callable[[], Sequence[QueueState]] = lambda: ()
    #: How topics do: mirrors, and what agents take from.
    topics: Callable[[], Sequence[QueueState]] = lambda: ()
