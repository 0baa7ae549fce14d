"""Windows of time: which of them a moment is in, and when they are over."""

import struct
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from hookstream.app.errors import SettingsError

__all__ = ["Seconds", "Window", "ms_of"]

#: A length of time, as Faust has it.
Seconds = float | int | timedelta

#: Windows that one event may be in: each is a write of a stage.
MOST_WINDOWS: Final = 1000
_START: Final = struct.Struct(">Q")


def ms_of(length: Seconds) -> int:
    """A length of time in milliseconds."""
    seconds = length.total_seconds() if isinstance(length, timedelta) else length
    return round(seconds * 1000)


@dataclass(frozen=True, slots=True)
class Window:
    """Windows of ``size_ms``, one every ``step_ms``; each is kept ``keep_ms`` after its end."""

    size_ms: int
    step_ms: int
    keep_ms: int

    @classmethod
    def of(cls, table: str, size: Seconds, step: Seconds, expires: Seconds | None) -> "Window":
        """From seconds.

        Raises:
            SettingsError: a length is not above 0, the step is longer than the size, or nothing
                says when windows expire: they would become more and more.
        """
        if expires is None:
            raise SettingsError(
                f"windows of the table {table!r} have to expire: say expires=SECONDS, how long "
                "after its end a window is kept"
            )
        try:
            made = cls(ms_of(size), ms_of(step), ms_of(expires))
        except (TypeError, ValueError, OverflowError, AttributeError) as error:
            raise SettingsError(
                f"windows of the table {table!r}: lengths are numbers of seconds or timedelta, not "
                f"{size!r}, {step!r}, {expires!r}"
            ) from error
        if made.size_ms <= 0 or made.keep_ms < 0 or not 0 < made.step_ms <= made.size_ms:
            raise SettingsError(
                f"windows of the table {table!r}: the size is above 0 seconds, the step above 0 "
                "and at most the size, and expires at least 0"
            )
        if (count := made.size_ms // made.step_ms) > MOST_WINDOWS:
            raise SettingsError(
                f"windows of the table {table!r}: an event would be in {count} of them, and at "
                f"most {MOST_WINDOWS} are written for one: make the step longer"
            )
        return made

    def newest(self, at_ms: int) -> int:
        """The start of the last window that a moment is in."""
        return at_ms - at_ms % self.step_ms

    def starts(self, at_ms: int) -> list[int]:
        """The starts of all windows that a moment is in, the newest first."""
        newest = self.newest(at_ms)
        return [s for s in range(newest, at_ms - self.size_ms, -self.step_ms) if s >= 0]

    def is_over(self, start_ms: int, latest_ms: int) -> bool:
        """Whether a window has expired, where the newest event is of ``latest_ms``."""
        return start_ms < self.oldest(latest_ms)

    def oldest(self, latest_ms: int) -> int:
        """Windows that begin before this have expired."""
        return max(0, latest_ms - self.size_ms - self.keep_ms)

    @staticmethod
    def encode(start_ms: int) -> bytes:
        """A start as part of a key: in the order of time."""
        return _START.pack(max(0, start_ms))

    @staticmethod
    def decode(key: bytes) -> int:
        """The start at the beginning of ``key``."""
        (start_ms,) = _START.unpack(key[: _START.size])
        return int(start_ms)
