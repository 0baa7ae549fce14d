"""Priorities, and which goes first."""

from typing import Final

__all__ = ["PRIORITIES", "rank"]

#: The most urgent first.
PRIORITIES: Final = ("critical", "high", "normal", "low")


def rank(priority: str) -> int:
    """0 for the most urgent. Raises ValueError for what is no priority."""
    return PRIORITIES.index(priority)
