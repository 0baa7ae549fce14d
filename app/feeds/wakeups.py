"""Wake-ups: one pub/sub connection tells everybody in this process who follows a feed to look.

A wake-up is a hint only. What is lost, with a connection or otherwise, is made good within
:data:`POLL_SECONDS`: :mod:`hookstream.app.feeds.followers` asks where all feeds end. Whoever
watches is roused as often, to see whether it is still wanted.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from mode import Service
from mode.utils.logging import get_logger
from redis.exceptions import TimeoutError as RedisTimeoutError

from hookstream.app import tasks
from hookstream.app.backoff import backoff_seconds
from hookstream.app.redis.errors import redis_kind

__all__ = ["POLL_SECONDS", "Moved", "Wakeups"]

logger = get_logger(__name__)

#: A lost wake-up is made good within this time.
POLL_SECONDS = 1.0
#: A connection on which nothing came for so long is asked whether it is one, and given up when
#: nothing comes for as long again: a server that hangs, or is cut off, closes nothing.
QUIET_SECONDS = 10.0
#: A connection that was lost again is a line in the log every so many times.
SAID_EVERY = 20


class Moved(asyncio.Event):
    """Set when its feed may have moved, and once a second when only time has passed."""

    def __init__(self) -> None:
        super().__init__()
        self._heard = True

    def tell(self) -> None:
        """The feed may have moved: it has to be read."""
        self._heard = True
        self.set()

    def take(self) -> bool:
        """Clear it; whether the feed has to be read. It has the first time."""
        heard, self._heard = self._heard, False
        self.clear()
        return heard


class Wakeups(Service):
    """Says to whom watches a channel that something was published on it."""

    mundane_level = "debug"

    def __init__(self, redis: Any, *, quiet_seconds: float = QUIET_SECONDS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._redis = redis
        self._quiet_seconds = quiet_seconds
        self._watchers: dict[str, set[Moved]] = {}
        self._changed = asyncio.Event()
        #: Connections lost since something was last heard on one, and the kind of the last error.
        self.failures = 0
        self._kind = ""

    @property
    def trouble(self) -> str:
        """Why nothing is heard at the moment; "" while all is well, or nobody listens."""
        return self._kind if self.failures else ""

    @contextmanager
    def watch(self, channel: str) -> Iterator[Moved]:
        """An event that is set whenever there may be something new, and once a second."""
        moved = Moved()
        watchers = self._watchers.setdefault(channel, set())
        watchers.add(moved)
        self._changed.set()
        try:
            yield moved
        finally:
            watchers.discard(moved)
            if not watchers and self._watchers.get(channel) is watchers:
                del self._watchers[channel]
                self._changed.set()

    @tasks.loop
    async def _follow(self) -> None:
        """Listen on a connection, and on a new one after whatever has happened to it.

        A new one asks Sentinel or the cluster where to go; redis-py's own would go on to ask for
        the server that it once found, and its cluster's raises errors of all kinds meanwhile.
        """
        while not self.should_stop:
            pubsub = self._redis.pubsub(ignore_subscribe_messages=True)
            subscribed = asyncio.Event()
            both = (
                tasks.awaited("Wakeups.subscribe", self._subscribe(pubsub, subscribed)),
                tasks.awaited("Wakeups.listen", self._listen(pubsub, subscribed)),
            )
            try:
                ended, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                ended.pop().result()
            except Exception as error:  # noqa: BLE001 feeds are polled, whatever it is
                self._lost(error)
            finally:
                await tasks.stop(*both)
                with suppress(Exception):  # of a connection that is given up anyhow
                    await pubsub.aclose()
            self._wakeup_all()
            await self.sleep(backoff_seconds(self.failures))

    async def _subscribe(self, pubsub: Any, subscribed: asyncio.Event) -> None:
        """Keep subscribed to what is watched; what has come together is one command."""
        known: set[str] = set()
        while True:
            self._changed.clear()
            watched = set(self._watchers)
            if new := watched - known:
                await pubsub.subscribe(*new)
                subscribed.set()
            if gone := known - watched:
                await pubsub.unsubscribe(*gone)
            known = watched
            await self._changed.wait()

    async def _listen(self, pubsub: Any, subscribed: asyncio.Event) -> None:
        await subscribed.wait()
        # what it answers says that all is well again
        await pubsub.ping()
        now = asyncio.get_running_loop().time
        #: Since when nothing is heard, and whether the server has been asked since.
        since, asked = now(), False
        while True:
            message = await pubsub.get_message(timeout=min(POLL_SECONDS, self._quiet_seconds))
            if message is not None:
                since, asked, self.failures = now(), False, 0
                if message["type"] == "message":
                    self._wakeup(message["channel"].decode())
            elif now() - since > self._quiet_seconds:
                if asked:
                    raise RedisTimeoutError("nothing is heard from the server")
                since, asked = now(), True
                await pubsub.ping()

    def _lost(self, error: BaseException) -> None:
        self.failures += 1
        self._kind = redis_kind(error)
        if self.failures == 1 or self.failures % SAID_EVERY == 0:
            logger.warning(
                "wake-ups are lost (%s: %s); feeds are polled meanwhile",
                type(error).__name__,
                error,
            )

    @tasks.loop
    async def _poll(self) -> None:
        while not self.should_stop:
            await self.sleep(POLL_SECONDS)
            for watchers in self._watchers.values():
                for moved in watchers:
                    moved.set()

    def _wakeup(self, channel: str) -> None:
        for moved in self._watchers.get(channel, ()):
            moved.tell()

    def _wakeup_all(self) -> None:
        for channel in self._watchers:
            self._wakeup(channel)
