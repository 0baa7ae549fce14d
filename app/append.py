"""Grouped appends: requests that arrive while one flush is under way share the next."""

import asyncio

from mode import Service
from mode.utils.locks import Event
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from hookstream.app import metrics
from hookstream.app.errors import UnavailableError
from hookstream.app.redis_client import is_redis_down

__all__ = ["Appender"]

MAX_FLUSH = 512
Pending = tuple[str, bytes, "asyncio.Future[str]"]


class Appender(Service):
    """Appends to streams in one pipeline a flush; each caller waits for its own append only.

    A flush starts as soon as the last one has ended, so a lone request waits for nobody, and a
    crowd pays for one round trip together.
    """

    mundane_level = "debug"

    def __init__(self, redis: Redis, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self._redis = redis
        self._pending: list[Pending] = []
        self._work = Event()

    async def append(self, key: str, data: bytes) -> str:
        """Append one entry with the field ``d``; returns its id once Redis has confirmed it.

        Raises:
            UnavailableError: Redis cannot be reached, or refuses to write. After a lost reply the
                entry may be there all the same: the sender tries again, and dedup recognises it.
        """
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._pending.append((key, data, done))
        self._work.set()
        return await done

    @Service.task
    async def _flush_forever(self) -> None:
        while not self.should_stop:
            await self.wait_first(self._work)
            self._work.clear()
            while self._pending:
                batch, self._pending = self._pending[:MAX_FLUSH], self._pending[MAX_FLUSH:]
                await self._flush(batch)

    async def _flush(self, batch: list[Pending]) -> None:
        metrics.APPEND_BATCH_REQUESTS.observe(len(batch))
        try:
            pipe = self._redis.pipeline(transaction=False)
            for key, data, _ in batch:
                pipe.xadd(key, {"d": data})
            replies = await pipe.execute(raise_on_error=False)
        except Exception as error:  # noqa: BLE001 every waiting request must hear of it
            replies = [error] * len(batch)
        for (_, _, done), reply in zip(batch, replies, strict=True):
            if done.done():
                continue
            if isinstance(reply, Exception):
                done.set_exception(_as_unavailable(reply))
            else:
                done.set_result(reply.decode())


def _as_unavailable(error: Exception) -> Exception:
    if is_redis_down(error) or isinstance(error, ResponseError):
        unavailable = UnavailableError("the event could not be kept: Redis does not take it now")
        unavailable.__cause__ = error
        return unavailable
    return error
