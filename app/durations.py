"""Lengths of time as people write them: ``24h``."""

import re
from typing import Final

__all__ = [
    "DAY_MS",
    "DURATION_PATTERN",
    "HOUR_MS",
    "duration_ms",
    "duration_seconds",
    "duration_text",
]

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
DURATION_PATTERN = r"^[1-9][0-9]{0,7}[smhd]$"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration_seconds(text: str) -> int:
    """Seconds in a duration such as ``24h``. Raises ValueError for another form."""
    if not re.fullmatch(DURATION_PATTERN, text):
        raise ValueError("a duration is a whole number and s, m, h or d, as in 24h")
    return int(text[:-1]) * _UNITS[text[-1]]


def duration_ms(text: str) -> int:
    """The same in milliseconds."""
    return duration_seconds(text) * 1000


def duration_text(seconds: int) -> str:
    """``seconds`` in hours where it is whole hours, else minutes, else seconds."""
    for unit in ("h", "m"):
        if seconds % _UNITS[unit] == 0:
            return f"{seconds // _UNITS[unit]}{unit}"
    return f"{seconds}s"
