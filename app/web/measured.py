"""Answers that are dear to make: made at most once a second, however many ask for them."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from aiohttp import web

from hookstream.app import tasks

__all__ = ["MEASURED_AT", "Measured", "Page", "measured_page"]

T = TypeVar("T")

#: For so long what was measured is given again; each answer says since when it holds.
SECONDS = 1.0
#: When an answer was begun to be made: seconds since 1970.
MEASURED_AT = "X-Measured-At"


class Measured(Generic[T]):
    """Calls ``measure`` at most once in :data:`SECONDS`; who asks meanwhile gets what it gave.

    Who asks while it is called waits for that call. What it raises goes to those who waited, and
    the next one calls it again.
    """

    def __init__(self, measure: Callable[[], Awaitable[T]]) -> None:
        self._measure = measure
        self._name = f"Measured[{getattr(measure, '__qualname__', measure)}]"
        self._begun = 0.0
        self._last: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """What was measured within the last second, or is now."""
        last = self._last
        old = time.monotonic() - self._begun >= SECONDS
        if last is None or (last.done() and (old or last.cancelled() or last.exception())):
            self._begun = time.monotonic()
            last = self._last = tasks.awaited(self._name, self._run())
            # it may be that nobody waits for its error any more
            last.add_done_callback(_heard)
        # who asked first may go away, and others wait
        return await asyncio.shield(last)

    async def _run(self) -> T:
        return await self._measure()


def _heard(task: asyncio.Task[T]) -> None:
    if not task.cancelled():
        task.exception()


@dataclass(frozen=True, slots=True)
class Page:
    """An answer that can be given more than once."""

    body: bytes
    content_type: str
    status: int = 200
    #: When the oldest of what it is made of was begun to be measured; 0: when it was made itself.
    measured_at: float = 0.0


def measured_page(make: Callable[[], Awaitable[Page]]) -> Callable[[], Awaitable[web.Response]]:
    """``make`` as what answers a request, at most once a second made anew."""
    return partial(_answer, Measured(partial(_dated, make)))


async def _dated(make: Callable[[], Awaitable[Page]]) -> tuple[float, Page]:
    return time.time(), await make()


async def _answer(measured: Measured[tuple[float, Page]]) -> web.Response:
    at, page = await measured.get()
    headers = {"Content-Type": page.content_type, MEASURED_AT: f"{page.measured_at or at:.3f}"}
    return web.Response(body=page.body, status=page.status, headers=headers)
