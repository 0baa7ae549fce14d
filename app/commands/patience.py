"""Asks a server again that cannot answer now, and tells who waits."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from hookstream.app.backoff import backoff_seconds
from hookstream.app.errors import LimitError, UnavailableError

__all__ = ["TRIES", "until_answered"]

T = TypeVar("T")

#: About half an hour.
TRIES: Final = 400
#: Which of them are told of: the first, and then one now and then.
TOLD_EVERY: Final = 20
MOST_SECONDS: Final = 60.0


async def until_answered(
    ask: Callable[[], Awaitable[T]],
    tell: Callable[[str], None],
    *,
    wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    tries: int | None = None,
) -> T:
    """What ``ask`` gives, once it does not raise LimitError or UnavailableError.

    ``tell`` gets a line for a person; ``wait`` waits for so many seconds, and may raise.

    Raises:
        LimitError, UnavailableError: after so many ``tries``; None: never.
    """
    failures = 0
    while True:
        try:
            return await ask()
        except (UnavailableError, LimitError) as error:
            failures += 1
            if failures == tries:
                raise
            seconds = backoff_seconds(failures)
            if isinstance(error, LimitError):
                seconds = max(seconds, min(error.retry_after_seconds or 1.0, MOST_SECONDS))
            if failures % TOLD_EVERY == 1:
                tell(f"waiting: {error}")
            await wait(seconds)
