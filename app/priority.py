"""Priorities, and which goes first."""

from collections.abc import Iterable
from typing import Final

__all__ = ["PRIORITIES", "most_urgent", "rank"]

#: The most urgent first.
PRIORITIES: Final = ("critical", "high", "normal", "low")


def most_urgent(priorities: Iterable[str]) -> str:
    """The most urgent of some priorities; the least urgent there is where there are none."""
    return min(priorities, key=rank, default=PRIORITIES[-1])


def rank(priority: str) -> int:
    """0 for the most urgent. Raises ValueError for what is no priority."""
    return PRIORITIES.index(priority)
