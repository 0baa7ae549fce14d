"""A connection of its own for commands that travel together: no pool, no class a command.

redis-py takes a connection from its pool for each pipeline, wraps each command, asks each reply
what it is and records what it has done: with a command or two a trip that is most of what an append
costs. Here commands are packed by hiredis and written at once, and replies are read as they come.

redis-py still makes the connection: addresses, Sentinel, TLS, passwords and databases are its
business, and so are the classes of errors. A cluster has several servers, and a confirmation (WAIT)
would hold up whoever shares the line: neither is for this.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from hiredis import Reader, pack_command
from redis.exceptions import (
    ConnectionError,
    DataError,
    InvalidResponse,
    ReadOnlyError,
    RedisError,
    TimeoutError,
)

from hookstream.app.redis.errors import GuardedRedis, as_redis_error

__all__ = ["Line"]

_GONE = "Connection closed by server."
#: What the reader gives where a reply has not come whole.
_MORE: Final = object()


class Line:
    """Runs commands on one connection, made when it is first needed and anew when it is lost."""

    def __init__(self, redis: GuardedRedis) -> None:
        """``redis``: whose server it is, and how long it may take without any progress."""
        self._pool = redis.connection_pool
        self._timeout_seconds: float = self._pool.connection_kwargs["socket_timeout"]
        self._wire: _Wire | None = None

    @classmethod
    def of(cls, redis: Any) -> "Line | None":
        """A line to the server of a client; None to a cluster."""
        return cls(redis) if isinstance(redis, GuardedRedis) else None

    async def run(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Replies in order, errors that the server says among them.

        Who gives up waiting takes nothing back: what was sent is carried out.

        Raises:
            RedisError: the server cannot be reached, or does not answer. What was sent may have
                been carried out.
        """
        try:
            packed = b"".join([pack_command(tuple(command)) for command in commands])
        except (TypeError, ValueError) as error:
            raise DataError(f"a command that cannot be sent: {error}") from error
        wire = self._wire
        if wire is None or wire.gone is not None:
            wire = self._wire = await self._connected()
        return await wire.ask(packed, len(commands))

    async def _connected(self) -> "_Wire":
        connection = self._pool.make_connection()
        try:
            await connection.connect()
            return _Wire(connection, self._timeout_seconds)
        except RedisError:
            raise
        except Exception as error:
            raise as_redis_error(error) from error

    def close(self) -> None:
        """End the connection; who waits for replies hears of it."""
        if self._wire is not None:
            self._wire.end(ConnectionError("closed here"))


class _Wire(asyncio.Protocol):
    """One connection, taken over from redis-py once that has logged in."""

    def __init__(self, connection: Any, timeout_seconds: float) -> None:
        self.gone: Exception | None = None
        self._loop = asyncio.get_running_loop()
        self._timeout_seconds = timeout_seconds
        self._reader = Reader(
            protocolError=InvalidResponse,
            replyError=connection._parser.parse_error,
            notEnoughData=_MORE,
        )
        #: Who waits: how many replies for, and those that have come.
        self._asked: deque[tuple[int, list[Any], asyncio.Future[list[Any]]]] = deque()
        #: Looks whether somebody waits in vain; since when nothing has come that is waited for, and
        #: what was not sent by the last look.
        self._look: asyncio.TimerHandle | None = None
        self._since = 0.0
        self._unsent = 0
        # which holds what else has to live as long as the socket
        self._connection = connection
        self._transport = connection._writer.transport
        self._transport.set_protocol(self)

    async def ask(self, packed: bytes, replies: int) -> list[Any]:
        """Send commands, and return the replies to them."""
        done: asyncio.Future[list[Any]] = self._loop.create_future()
        if not self._asked:
            self._since = self._loop.time()
        self._asked.append((replies, [], done))
        self._transport.write(packed)
        if self._look is None:
            self._unsent = self._transport.get_write_buffer_size()
            self._look = self._loop.call_later(self._timeout_seconds, self._look_on)
        return await done

    def data_received(self, data: bytes) -> None:
        """Replies, or parts of them."""
        self._since = self._loop.time()
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _MORE:
                self._heard(reply)
        except Exception as error:  # noqa: BLE001 who waits hears it
            self.end(as_redis_error(error))

    def _heard(self, reply: Any) -> None:
        if not self._asked:
            raise InvalidResponse("a reply that nobody has asked for")
        wanted, replies, done = self._asked[0]
        replies.append(reply)
        if len(replies) == wanted:
            self._asked.popleft()
            if not done.done():
                done.set_result(replies)
        if isinstance(reply, (ReadOnlyError, ConnectionError)):
            # the master of before: who connects anew is told by Sentinel, or a name, who is it now
            self.end(reply)

    def _look_on(self) -> None:
        self._look = None
        if not self._asked:
            return
        left = self._since + self._timeout_seconds - self._loop.time()
        unsent = self._transport.get_write_buffer_size()
        if left <= 0 and unsent >= self._unsent:
            self.end(TimeoutError("Timeout reading from the server"))
            return
        self._unsent = unsent
        pause = left if left > 0 else self._timeout_seconds
        self._look = self._loop.call_later(pause, self._look_on)

    def end(self, error: Exception) -> None:
        """Nothing comes any more: tell who waits."""
        if self.gone is None:
            self.gone = error
            self._transport.abort()
        if self._look is not None:
            self._look.cancel()
            self._look = None
        while self._asked:
            _, _, done = self._asked.popleft()
            if not done.done():
                done.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, for whichever reason."""
        self.end(ConnectionError(str(exc) if exc else _GONE))
        # redis-py would close it once more, with a warning
        self._connection._writer = self._connection._reader = None
