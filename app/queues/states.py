"""How queues and topics do, for ``/health`` and the log."""

import time
from dataclasses import dataclass, field
from typing import Final

from mode.utils.logging import get_logger
from prometheus_client import Counter

from hookstream.app import metrics
from hookstream.app.errors import HookstreamError

__all__ = ["QueueError", "QueueState"]

logger = get_logger(__name__)

#: The same trouble is a line in the log once in this time.
SAID_SECONDS: Final = 60.0


class QueueError(HookstreamError):
    """A queue, or a broker, did not do what it was asked for; ``kind`` is the label of a metric.

    The message names no account and no role: ``/health`` is open to anybody.
    """

    status = 503
    slug = "queue"
    title = "A queue cannot be asked"

    def __init__(self, kind: str, said: str) -> None:
        super().__init__(said)
        self.kind = kind


@dataclass(slots=True)
class QueueState:
    """How one queue of a tool does. ``trouble``: a kind of QueueError, or what is waited for; "".

    ``errors`` counts by tool and kind. ``word``: what stands in place of "queue" in the log.
    """

    tool_id: str
    queue: str
    trouble: str = ""
    detail: str = ""
    failures: int = 0
    errors: Counter = metrics.SQS_ERRORS
    word: str = "queue"
    _said: dict[str, float] = field(default_factory=dict)
    #: What was said last is that it is in trouble.
    _told: bool = False

    def well(self) -> None:
        """It does what it is asked for; the log has it where it had that it did not."""
        self.trouble = self.detail = ""
        self.failures = 0
        if self._told:
            self._told = False
            logger.info("%s is well again", self._name())

    def failed(self, error: QueueError) -> None:
        """It does not do what it is asked for; that is counted."""
        self.errors.labels(tool=self.tool_id, kind=error.kind).inc()
        self.failures += 1
        self.troubled(error.kind, str(error))

    def held_up(self, error: Exception) -> None:
        """It waits for something of ours: an error that says what, or one of Redis."""
        self.failures += 1
        if isinstance(error, HookstreamError):
            self.troubled(error.slug, str(error))
        else:
            self.troubled("redis", type(error).__name__)

    def troubled(self, kind: str, detail: str) -> None:
        """It does not; a line of the log says why, not each time."""
        self.trouble, self.detail = kind, detail
        now = time.monotonic()
        if now - self._said.get(kind, -SAID_SECONDS) >= SAID_SECONDS:
            self._said[kind], self._told = now, True
            logger.warning("%s: %s", self._name(), detail)

    def _name(self) -> str:
        whose = f" of tool {self.tool_id}" if self.tool_id else ""
        return f"the {self.word} {self.queue}{whose}"
