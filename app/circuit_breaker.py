"""Circuit breaker: stops trying what keeps failing, and tries one at a time whether it works again.

After M. Nygard, "Release It!", 2007. Pure: it has no clock of its own.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = ["Breaker", "BreakerState"]


class BreakerState(StrEnum):
    """Closed lets everything pass, open nothing, half-open one probe."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(slots=True)
class Breaker:
    """Opens after ``threshold`` failures in a row, and asks again after ``wait_ms``.

    Each probe that fails doubles the wait, up to ``max_wait_ms``. Times are milliseconds of any
    clock that the caller keeps to.
    """

    threshold: int = 20
    wait_ms: int = 30_000
    max_wait_ms: int = 300_000
    state: BreakerState = BreakerState.CLOSED
    failures: int = 0
    opened: int = 0
    retry_at_ms: int = 0
    #: What the caller sent as the probe, if it cares to say.
    probe: str = ""

    def allow(self, now_ms: int) -> bool:
        """Whether to try now; an open breaker whose wait is over lets one through as its probe."""
        if self.state is BreakerState.CLOSED:
            return True
        # one that is further off than any wait is of a clock that has stepped back since
        due = now_ms >= self.retry_at_ms or self.retry_at_ms > now_ms + self.max_wait_ms
        if self.state is BreakerState.OPEN and due:
            self.state = BreakerState.HALF_OPEN
            return True
        return False

    def succeeded(self) -> None:
        """What was tried worked."""
        self.state = BreakerState.CLOSED
        self.failures = 0
        self.opened = 0
        self.probe = ""

    def failed(self, now_ms: int) -> None:
        """What was tried failed."""
        self.failures += 1
        if self.state is BreakerState.HALF_OPEN or (
            self.state is BreakerState.CLOSED and self.failures >= self.threshold
        ):
            wait = min(self.max_wait_ms, self.wait_ms * 2 ** min(self.opened, 20))
            self.state = BreakerState.OPEN
            self.opened += 1
            self.retry_at_ms = now_ms + wait
            self.probe = ""

    def reprobe(self, now_ms: int) -> None:
        """The probe went astray: let another one through at once."""
        self.state = BreakerState.OPEN
        self.retry_at_ms = now_ms
        self.probe = ""

    def to_dict(self) -> dict[str, Any]:
        """What has to be kept to go on after a restart."""
        return {
            "state": self.state.value,
            "failures": self.failures,
            "opened": self.opened,
            "retry_at_ms": self.retry_at_ms,
            "probe": self.probe,
        }

    @classmethod
    def from_dict(
        cls, kept: dict[str, Any], *, threshold: int = 20, wait_ms: int = 30_000
    ) -> "Breaker":
        """The breaker that :meth:`to_dict` described."""
        return cls(
            threshold=threshold,
            wait_ms=wait_ms,
            **{**kept, "state": BreakerState(kept["state"])},
        )
