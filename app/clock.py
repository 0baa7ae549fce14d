"""Redis's time, so that no worker's own clock decides when something is due."""

import time

__all__ = ["RedisClock"]


class RedisClock:
    """Unix milliseconds as Redis counts them: its last answer and a monotonic clock since then.

    Before the first answer it is this machine's time.
    """

    def __init__(self) -> None:
        self._redis_ms = time.time_ns() / 1e6
        self._at = time.monotonic()

    def set(self, redis_ms: int) -> None:
        """Take what Redis has just said."""
        self._redis_ms = redis_ms
        self._at = time.monotonic()

    def now_ms(self) -> int:
        """The time now."""
        return int(self._redis_ms + (time.monotonic() - self._at) * 1000)
