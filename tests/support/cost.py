"""What a piece of work costs, on a machine that may be busy: the least of some tries counts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

TRIES = 5


def least_cpu(work: Callable[[], object], within: float) -> float:
    """CPU seconds of this thread that ``work`` takes: the least of up to ``TRIES`` runs.

    A bound of a test stands for another order of growth, never for a figure: with its fault the
    work takes many times ``within``, on any machine and each time. Without it, the first run
    that a collector of garbage or a cold cache does not disturb is below, and ends this.
    """
    least = float("inf")
    for _ in range(TRIES):
        begun = time.thread_time()
        work()
        least = min(least, time.thread_time() - begun)
        if least < within:
            break
    return least
