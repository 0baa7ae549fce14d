"""How many examples Hypothesis makes up: all in ``make test``, a tenth in ``make unit``."""

import os
from typing import Any

from hypothesis import settings

__all__ = ["EVERY", "examples", "percent"]

#: The environment variable that says how many of each hundred are made up.
PERCENT = "EXAMPLES_PERCENT"
EVERY = 100


def percent() -> int:
    """How many of a hundred examples this run makes up; 100 unless :data:`PERCENT` says less."""
    return int(os.environ.get(PERCENT, EVERY))


def examples(count: int, **others: Any) -> settings:
    """Hypothesis' settings for ``count`` examples where all of them are made up, one at least."""
    return settings(max_examples=max(1, count * percent() // EVERY), **others)
