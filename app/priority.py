"""Priorities, and which goes first."""

from collections.abc import Iterable
from typing import Final

__all__ = ["DEFERRABLE", "PRIORITIES", "channel_name", "most_urgent", "rank"]

#: The most urgent first.
PRIORITIES: Final = ("critical", "high", "normal", "low")
#: Priorities that may wait; ``critical`` never does for pressure alone.
DEFERRABLE: Final = PRIORITIES[1:]


def most_urgent(priorities: Iterable[str]) -> str:
    """The most urgent of some priorities; the least urgent there is where there are none."""
    return min(priorities, key=rank, default=PRIORITIES[-1])


def rank(priority: str) -> int:
    """0 for the most urgent. Raises ValueError for what is no priority."""
    return PRIORITIES.index(priority)


def channel_name(priority: str) -> str:
    """The channel of what is deferred with a priority."""
    return f"deferred:{priority}"
