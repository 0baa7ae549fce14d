"""How far something long is, on one line of a terminal; elsewhere a line every ten seconds."""

import time
from collections.abc import Callable
from typing import Any, Final

__all__ = ["ProgressLine", "lasts"]

EVERY_SECONDS: Final = 0.5
EVERY_SECONDS_IN_FILES: Final = 10.0
#: Over what the present rate is taken.
RATE_SECONDS: Final = 30.0


class ProgressLine:
    """Writes to ``file`` what ``count`` of how much is done, how fast, and what is left."""

    def __init__(
        self, file: Any, clock: Callable[[], float] = time.monotonic, *, noun: str = "events"
    ) -> None:
        """``noun``: what is counted."""
        self._file = file
        self._clock = clock
        self._noun = noun
        self._terminal = bool(file.isatty())
        self._said_at = float("-inf")
        self._marks: list[tuple[float, int, float]] = []
        self._width = 0
        self._said: tuple[int, float | None, str] | None = None

    def say(self, count: int, share: float | None, more: str = "", *, now: bool = False) -> None:
        """``share``: of all, from 0 to 1, what is done; None where that is not known."""
        at = self._clock()
        self._marks.append((at, count, share or 0.0))
        while len(self._marks) > 2 and self._marks[0][0] < at - RATE_SECONDS:
            self._marks.pop(0)
        every = EVERY_SECONDS if self._terminal else EVERY_SECONDS_IN_FILES
        if not now and at - self._said_at < every:
            return
        if self._said == (count, share, more) and not self._terminal:
            # the last word was said already: only the rate would be another one
            return
        self._said_at, self._said = at, (count, share, more)
        self._write(self.text(count, share, more))

    def text(self, count: int, share: float | None, more: str = "") -> str:
        """The line as it is by what was said so far."""
        (first_at, first, first_share), (at, _, _) = self._marks[0], self._marks[-1]
        seconds = at - first_at
        parts = [f"{count:,} {self._noun}"]
        if share is not None:
            parts.insert(0, f"{share * 100:5.1f} %")
        if seconds > 0:
            parts.append(f"{(count - first) / seconds:,.0f}/s")
            if share is not None and share > first_share:
                left = (1 - share) * seconds / (share - first_share)
                parts.append(f"{lasts(left)} left")
        return ", ".join([*parts, *([more] if more else [])])

    def end(self) -> None:
        """What comes next is on a line of its own."""
        if self._terminal and self._width:
            self._file.write("\n")
            self._width = 0

    def _write(self, text: str) -> None:
        if self._terminal:
            self._file.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self._file.write(text + "\n")
        self._file.flush()


def lasts(seconds: float) -> str:
    """A time that is left, in its two largest units.

    >>> lasts(42), lasts(3725), lasts(200_000)
    ('42 s', '1 h 2 min', '2 d 7 h')
    """
    whole = int(seconds)
    for unit, size, below, small in (("d", 86400, "h", 3600), ("h", 3600, "min", 60)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // small} {below}"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"
