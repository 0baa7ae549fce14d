"""How long to wait before trying again."""

import random

__all__ = ["backoff_seconds", "retry_delay_ms"]


def backoff_seconds(attempt: int, *, jitter: float | None = None) -> float:
    """For connections: exponential from 50 ms to 5 s, the upper half of it random.

    ``jitter`` is in [0, 1); a random one where none is given.
    """
    share = random.random() if jitter is None else jitter
    return min(5.0, 0.05 * 2.0 ** min(attempt, 10)) * (0.5 + share / 2)


def retry_delay_ms(attempts: int, base_ms: int, max_ms: int, *, jitter: float | None = None) -> int:
    """For an event that has failed ``attempts`` times: exponential backoff with full jitter.

    Uniform between 0 and ``base_ms * 2 ** (attempts - 1)``, at most ``max_ms``, so that events
    which failed together do not come back together (M. Brooker, "Exponential Backoff And Jitter",
    AWS Architecture Blog, 2015).
    """
    share = random.random() if jitter is None else jitter
    return int(min(max_ms, base_ms * 2 ** min(attempts - 1, 40)) * share)
