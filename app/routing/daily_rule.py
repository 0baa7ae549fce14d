"""When a context is told of its day."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Self
from zoneinfo import ZoneInfo

__all__ = ["DailyRule"]


@dataclass(frozen=True, slots=True)
class DailyRule:
    """When a context wants the summary of its day, and in how many tokens."""

    at: time
    zone: ZoneInfo
    #: Nothing is due for a time before the rule was made.
    since: datetime
    token_budget: int | None = None

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Self:
        """The rule as the database holds it."""
        return cls(
            time.fromisoformat(kept["at"]),
            ZoneInfo(kept["timezone"]),
            datetime.fromisoformat(kept["since"]),
            kept["token_budget"],
        )

    def newest(self, now: datetime) -> date:
        """The newest day (in the context's zone) whose time has come at ``now``.

        Where clocks are put forward over the time of day, it comes with the first minute that
        there is; where they are put back, the first of the two counts.
        """
        local = now.astimezone(self.zone)
        return local.date() if local.time() >= self.at else local.date() - timedelta(days=1)

    def due(self, now: datetime, told: date | None) -> date | None:
        """The day to be told of at ``now``, if its summary has not been made yet."""
        day = self.newest(now)
        if told is not None and day <= told:
            return None
        moment = datetime.combine(day, self.at, self.zone)
        return day if moment.timestamp() > self.since.timestamp() else None
