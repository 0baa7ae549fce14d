"""How queues do, for ``/health`` and the log."""

import time
from dataclasses import dataclass, field
from typing import Final

from mode.utils.logging import get_logger

from hookstream.app import metrics
from hookstream.app.sqs.client import SqsError

__all__ = ["QueueState"]

logger = get_logger(__name__)

#: The same trouble is a line in the log once in this time.
SAID_SECONDS: Final = 60.0


@dataclass(slots=True)
class QueueState:
    """How one queue of a tool does. ``trouble``: a kind of SqsError, or what is waited for; ""."""

    tool_id: str
    queue: str
    trouble: str = ""
    detail: str = ""
    failures: int = 0
    _said: dict[str, float] = field(default_factory=dict)

    def well(self) -> None:
        """It does what it is asked for."""
        self.trouble = self.detail = ""
        self.failures = 0

    def failed(self, error: SqsError) -> None:
        """SQS does not do what it is asked for; that is counted."""
        metrics.SQS_ERRORS.labels(tool=self.tool_id, kind=error.kind).inc()
        self.failures += 1
        self.troubled(error.kind, str(error))

    def troubled(self, kind: str, detail: str) -> None:
        """It does not; a line of the log says why, not each time."""
        self.trouble, self.detail = kind, detail
        now = time.monotonic()
        if now - self._said.get(kind, -SAID_SECONDS) >= SAID_SECONDS:
            self._said[kind] = now
            logger.warning("the queue %s of tool %s: %s", self.queue, self.tool_id, detail)
