"""So many a second for each key, with room for bursts; in this process's memory.

A token bucket, kept as one number a key: the generic cell rate algorithm (ITU-T I.371). Pure: the
clock comes in, in seconds of any clock that does not go back.
"""

from collections.abc import Hashable
from dataclasses import dataclass

__all__ = ["Pace", "TokenBuckets"]

#: Above so many keys those whose bucket is full again are forgotten: they are as good as new.
SWEPT_KEYS = 4096


@dataclass(frozen=True, slots=True)
class Pace:
    """``seconds`` for a token, and so many of them that may be taken ahead; 0: no limit."""

    seconds: float
    room_seconds: float

    @classmethod
    def of(cls, per_second: float, burst: float) -> "Pace":
        """So many a second, with room for ``burst`` at once; ``per_second`` 0: no limit."""
        seconds = 1 / per_second if per_second else 0.0
        return cls(seconds, (max(1.0, burst) - 1) * seconds)


class TokenBuckets:
    """A bucket of ``burst`` tokens for each key, into which ``per_second`` come back.

    ``per_second`` 0: no limit. A key may have a pace of its own.
    """

    def __init__(self, per_second: float, burst: float) -> None:
        self._pace = Pace.of(per_second, burst)
        #: When each bucket is full again.
        self._full_at: dict[Hashable, float] = {}
        self._sweep_above = SWEPT_KEYS

    def wait_seconds(self, key: Hashable, now: float, own: Pace | None = None) -> float:
        """How long until the key has a token; 0 where it has one. Nothing is taken."""
        pace = own or self._pace
        if not pace.seconds:
            return 0.0
        return max(0.0, self._full_at.get(key, 0.0) - now - pace.room_seconds)

    def take(self, key: Hashable, now: float, own: Pace | None = None, tokens: int = 1) -> float:
        """Take tokens, and return 0; without one, how many seconds until there is one.

        Whoever has one may take more than there are: the next one comes so much later.
        """
        pace = own or self._pace
        if not pace.seconds:
            return 0.0
        if wait := self.wait_seconds(key, now, pace):
            return wait
        self.charge(key, now, pace, tokens)
        return 0.0

    def charge(self, key: Hashable, now: float, pace: Pace, tokens: int = 1) -> None:
        """Take tokens, be there any or not: they have been used already."""
        self._full_at[key] = max(self._full_at.get(key, now), now) + tokens * pace.seconds
        if len(self._full_at) > self._sweep_above:
            self._full_at = {one: at for one, at in self._full_at.items() if at > now}
            self._sweep_above = max(SWEPT_KEYS, 2 * len(self._full_at))
