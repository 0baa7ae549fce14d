"""Connections to Redis, and the Lua scripts."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from hookstream.app.errors import FencedError, MovedError, SettingsError

__all__ = ["REDIS_DOWN", "Scripts", "connect"]

#: What redis-py raises when the server cannot be reached or does not answer in time.
REDIS_DOWN = (RedisConnectionError, RedisTimeoutError, OSError)

_SCHEMES = ("redis://", "rediss://", "unix://")


def connect(url: str, *, timeout_seconds: float) -> Redis:
    """A client that never retries by itself: an append repeated after a lost reply is a double.

    Raises:
        SettingsError: for a URL of a scheme that is not handled.
    """
    if not url.startswith(_SCHEMES):
        raise SettingsError(
            f"HOOKSTREAM_REDIS_URL has no scheme that is handled: use one of {', '.join(_SCHEMES)}"
        )
    return Redis.from_url(
        url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        protocol=2,
    )


class Scripts:
    """The ``.lua`` files beside this module, called by name; loaded again after a failover."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._sources: dict[str, str] = {}
        self._shas: dict[str, str] = {}

    async def load(self) -> None:
        """Read the files and hand them to the server.

        From Redis 7 on they carry ``#!lua``: over maxmemory such a script is refused whole,
        where one without it could acknowledge and then fail to append.
        """
        info = await self._redis.info("server")
        major = int(str(info["redis_version"]).split(".")[0])
        prefix = "#!lua\n" if major >= 7 else ""
        for path in files("hookstream.app").joinpath("lua").iterdir():
            if path.name.endswith(".lua"):
                self._sources[path.name[:-4]] = prefix + path.read_text()
        for name, source in self._sources.items():
            self._shas[name] = str(await self._redis.script_load(source))

    async def call(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a script by its SHA, by its text where the server has forgotten it.

        Raises:
            FencedError: the lease is another's; nothing was written.
            MovedError: the caller's picture of a feed is out of date; nothing was written.
        """
        try:
            try:
                return await self._redis.evalsha(self._shas[name], len(keys), *keys, *args)
            except NoScriptError:
                return await self._redis.eval(self._sources[name], len(keys), *keys, *args)
        except ResponseError as error:
            text = str(error)
            if text.startswith("FENCED"):
                raise FencedError(text) from error
            if text.startswith("OUTDATED "):
                raise MovedError(text) from error
            raise


def is_redis_down(error: BaseException) -> bool:
    """Whether ``error`` says that the server is away, rather than that the command was wrong."""
    return isinstance(error, REDIS_DOWN) or (
        isinstance(error, RedisError) and not isinstance(error, ResponseError)
    )
