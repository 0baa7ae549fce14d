"""Rate limits of contexts: a token bucket each, by the generic cell rate algorithm.

GCRA (ITU-T I.371, 1996) keeps one number a bucket, the theoretical arrival time: when the next
update would be due if they came exactly at the rate. One that comes no more than the burst earlier
conforms.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from hookstream.tables.errors import TableCorruptError
from hookstream.tables.table import Table

__all__ = ["Rate", "RateTable", "decode_due", "encode_due", "rate_key"]

_DUE: Final = struct.Struct(">d")
#: The longest interval; a slower rate is taken for this one, so that times stay finite numbers.
_MAX_INTERVAL_MS: Final = 366 * 86_400_000.0


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit: updates a second, and how many may come at once."""

    updates_per_second: float
    burst: int = 1

    @property
    def interval_ms(self) -> float:
        """Time between two updates at exactly this rate."""
        return min(_MAX_INTERVAL_MS, 1000.0 / self.updates_per_second)

    def due_ms(self, arrival_ms: float, *, urgent: bool = False) -> float:
        """When the next update conforms; ``arrival_ms`` is the bucket's theoretical arrival time.

        ``urgent`` ones have the burst a second time: a flood of others does not hold them up.
        """
        burst = self.burst * 2 if urgent else self.burst
        return arrival_ms - self.interval_ms * (burst - 1)

    def taken(self, arrival_ms: float, now_ms: float) -> float:
        """The theoretical arrival time once an update has gone at ``now_ms``."""
        return max(arrival_ms, now_ms) + self.interval_ms

    def bounded(self, arrival_ms: float, now_ms: float) -> float:
        """A theoretical arrival time, no later than this rate itself could bring about.

        A lower rate before this one, or digests that went because too much was throttled, have
        taken more: without a bound they would silence a context for days.
        """
        return min(arrival_ms, now_ms + self.interval_ms * (self.burst * 2 + 1))

    def horizon_ms(self) -> float:
        """How long a bucket remembers: after it, an unused one is as good as new."""
        return self.interval_ms * self.burst * 2


def rate_key(name: str) -> bytes:
    """The table's key of a context, ``tenant/context_id``."""
    return name.encode()


def encode_due(arrival_ms: float) -> bytes:
    """8 bytes: the theoretical arrival time in Unix milliseconds."""
    return _DUE.pack(arrival_ms)


def decode_due(value: bytes) -> float:
    """The time in 8 bytes. Raises TableCorruptError when they are not 8."""
    try:
        (arrival_ms,) = _DUE.unpack(value)
    except struct.error as error:
        raise TableCorruptError(f"a rate of {len(value)} bytes instead of 8") from error
    return float(arrival_ms)


class RateTable(Table):
    """The buckets of one partition's contexts."""

    name = "rates"
    help = "When each rate-limited context may have its next update."
    families = ("arrivals",)

    def get(self, names: Sequence[str]) -> dict[str, float]:
        """Theoretical arrival times (Unix ms) of those contexts that have one: one multi-get.

        Raises:
            TableCorruptError: RocksDB cannot read what is there; rebuild the table.
        """
        if not names:
            return {}
        with self._errors():
            values: Any = self._families["arrivals"][[rate_key(name) for name in names]]
        return {
            name: decode_due(value)
            for name, value in zip(names, values, strict=True)
            if value is not None
        }
