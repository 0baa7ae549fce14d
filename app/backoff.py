"""How long to wait before trying again."""

import random

__all__ = ["backoff_seconds"]


def backoff_seconds(attempt: int, *, jitter: float | None = None) -> float:
    """Exponential from 50 ms to 5 s, the upper half of it random; ``jitter`` in [0, 1)."""
    share = random.random() if jitter is None else jitter
    return min(5.0, 0.05 * 2.0 ** min(attempt, 10)) * (0.5 + share / 2)
