"""Work in a thread that may be left alone: whatever it waits for keeps nobody from ending."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

__all__ = ["in_thread"]

T = TypeVar("T")


async def in_thread(call: Callable[[], T]) -> T:
    """What ``call`` gives or raises, in a thread of its own.

    Who is cancelled leaves it alone; a process ends without it. Those of asyncio's own pool are
    waited for at the end, and one that reads a pipe, or a disk that is away, may never come back.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def done(value: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        value, raised = None, None
        try:
            value = call()
        except BaseException as error:  # noqa: BLE001 whoever waits for it is told
            raised = error
        # nobody waits where the loop is closed
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(done, value, raised)

    threading.Thread(target=run, daemon=True, name="hookstream reads").start()
    return await future
