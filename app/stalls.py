"""The event loop's watchdog: says where the loop stands while it stands still.

Everything of a process goes through one event loop: what does not give it back keeps webhooks,
updates and leases waiting. A thread looks on, and logs the stack of the loop's thread meanwhile.
"""

import asyncio
import sys
import threading
import time
import traceback
from collections import deque
from dataclasses import dataclass
from types import FrameType

from mode.utils.logging import get_logger

from hookstream.app import metrics

__all__ = ["LoopWatch", "Stall"]

logger = get_logger(__name__)

#: How many stalls are remembered.
RECENT = 10
#: A stall is told in ``/health`` for so long.
TOLD_SECONDS = 60.0
#: Stacks that are logged within a minute; the rest is counted.
LOGGED_PER_MINUTE = 6
#: Of a stall that lasts, the stack is logged again each time that it has become so much longer.
AGAIN = 4.0
#: With less than this share of a CPU the process, not its code, stood still.
IDLE_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Stall:
    """The event loop did not turn: since when (seconds since 1970), for how long, and where."""

    at: float
    seconds: float
    where: str


class LoopWatch:
    """Watches the event loop that it is started in."""

    def __init__(self, stall_seconds: float) -> None:
        """``stall_seconds``: from when on it is a stall."""
        self._stall_seconds = stall_seconds
        self._interval = min(0.25, stall_seconds / 4)
        self._beat = time.monotonic()
        self._cpu = time.process_time()
        self._thread_id = 0
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._timer: asyncio.TimerHandle | None = None
        #: Where it was seen to stand in this stall, and how long that was when it was logged.
        self._seen = ""
        self._logged_at_seconds = 0.0
        self._logged: deque[float] = deque(maxlen=LOGGED_PER_MINUTE)
        self._recent: deque[Stall] = deque(maxlen=RECENT)
        self.count = 0
        self.longest_seconds = 0.0

    def start(self) -> None:
        """Begin, in the thread of the event loop."""
        self._thread_id = threading.get_ident()
        self._beat, self._cpu = time.monotonic(), time.process_time()
        self._turn(asyncio.get_running_loop())
        self._thread = threading.Thread(target=self._look_on, name="loop-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End: what blocks the loop from now on is meant to."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._thread is not None:
            self._thread.join(1.0)

    def late_seconds(self) -> float:
        """For how long the loop has not turned; to be asked from other threads."""
        return max(0.0, time.monotonic() - self._beat - self._interval)

    def lately(self) -> list[Stall]:
        """Stalls that ended within the last minute."""
        since = time.time() - TOLD_SECONDS
        return [stall for stall in self._recent if stall.at + stall.seconds > since]

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop turns: called by it."""
        if self._stopped.is_set():
            return
        late = self.late_seconds()
        if late >= self._stall_seconds:
            self._over(late)
        self._beat, self._cpu = time.monotonic(), time.process_time()
        self._seen, self._logged_at_seconds = "", 0.0
        self._timer = loop.call_later(self._interval, self._turn, loop)

    def _over(self, seconds: float) -> None:
        where = self._seen
        if time.process_time() - self._cpu < IDLE_SHARE * seconds and not where:
            where = "the whole process stood still: it was stopped, or had no CPU"
        where = where or "in code that lets no other thread run"
        self.count += 1
        self.longest_seconds = max(self.longest_seconds, seconds)
        metrics.LOOP_STALLS.inc()
        metrics.LOOP_STALLED_SECONDS.inc(seconds)
        metrics.LOOP_LONGEST_STALL_SECONDS.set(self.longest_seconds)
        self._recent.append(Stall(time.time() - seconds, seconds, where))
        logger.warning("the event loop stood still for %.1f s: %s", seconds, where)

    def _look_on(self) -> None:
        """The watching thread."""
        before = time.monotonic()
        while not self._stopped.wait(self._interval):
            now = time.monotonic()
            # who was stopped as a whole must not blame what happens to run now
            slept, before = now - before - self._interval, now
            late = self.late_seconds()
            if late >= max(self._stall_seconds, AGAIN * self._logged_at_seconds) > slept:
                self._tell(late)

    def _tell(self, late: float) -> None:
        frame = sys._current_frames().get(self._thread_id)
        beat = self._beat
        if frame is None or self.late_seconds() < self._stall_seconds:
            return
        self._seen, self._logged_at_seconds = _place(frame), late
        if len(self._logged) == LOGGED_PER_MINUTE and time.monotonic() - self._logged[0] < 60:
            return
        self._logged.append(time.monotonic())
        stack = "".join(traceback.format_stack(frame))
        if beat == self._beat:
            logger.error("the event loop has stood still for %.1f s, here:\n%s", late, stack)


def _place(frame: FrameType) -> str:
    """``file:line in function``."""
    code = frame.f_code
    return f"{code.co_filename}:{frame.f_lineno} in {code.co_qualname}"
