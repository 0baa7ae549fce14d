"""What a feed keeps: for how long, how many updates, and for how long what was acknowledged."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from hookstream.app.durations import duration_ms

__all__ = ["Keeping"]


@dataclass(frozen=True, slots=True)
class Keeping:
    """A context's own rule; None where it is that of the installation."""

    age_ms: int | None = None
    updates: int | None = None
    acknowledged_ms: int | None = None

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Self:
        """As the database has it: durations as in ``30d``. Raises whatever else makes it raise."""
        return cls(_given(kept.get("age")), kept.get("updates"), _given(kept.get("acknowledged")))

    def over(self, other: "Keeping") -> "Keeping":
        """This one, and what ``other`` says where this one says nothing."""
        return Keeping(
            other.age_ms if self.age_ms is None else self.age_ms,
            other.updates if self.updates is None else self.updates,
            other.acknowledged_ms if self.acknowledged_ms is None else self.acknowledged_ms,
        )


def _given(text: str | None) -> int | None:
    return None if text is None else duration_ms(text)
