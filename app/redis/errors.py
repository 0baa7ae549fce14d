"""What a Redis server, or the library that talks to it, can answer with: whose trouble it is.

Whatever a server says is the server's trouble (wait, try again, spool, say so in ``/health``)
unless it is known to be the caller's. The clients here raise nothing but ``RedisError``: redis-py
itself raises RuntimeError, AttributeError, KeyError and errors of the operating system while its
cluster client learns anew who is where.
"""

import functools
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.client import Pipeline, PubSub
from redis.asyncio.cluster import PRIMARY, ClusterNode, ClusterPipeline, ClusterPubSub
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    ClusterError,
    DataError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from hookstream.app.errors import FencedError, OutdatedError, UnavailableError

__all__ = [
    "REDIS_ERRORS",
    "GuardedCluster",
    "GuardedRedis",
    "RedisLibraryError",
    "as_ours",
    "as_redis_error",
    "as_unavailable",
    "is_missing",
    "is_of_one_key",
    "is_redis_away",
    "is_redis_down",
    "redis_kind",
]

P = ParamSpec("P")
T = TypeVar("T")

#: Whatever a call to Redis can raise.
REDIS_ERRORS = (RedisError,)

#: Replies that blame the caller: a refusal of our own scripts, or a command that is none. redis-py
#: leaves out a reply's first word where it knows it (ERR among them).
_CALLERS = ("FENCED", "OUTDATED", "wrong number of arguments", "syntax error", "Protocol error")
#: Replies that say that a stream, or its group, is not there (yet, or any more).
_MISSING = ("no such key", "NOGROUP")
#: First words that redis-py makes a class of.
_KINDS = {
    AskError: "ASK",
    BusyLoadingError: "LOADING",
    ClusterDownError: "CLUSTERDOWN",
    MasterDownError: "MASTERDOWN",
    MovedError: "MOVED",
    NoPermissionError: "NOPERM",
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
    TryAgainError: "TRYAGAIN",
}


class RedisLibraryError(RedisError):
    """Something else than an error of Redis's came out of redis-py: the client is not well now."""


def is_redis_down(error: BaseException) -> bool:
    """Whether ``error`` is the server's trouble, which passes, rather than the caller's fault."""
    if isinstance(error, ResponseError):
        return not str(error).startswith(_CALLERS)
    return isinstance(error, RedisError) and not isinstance(error, DataError)


def is_redis_away(error: BaseException) -> bool:
    """Whether the server did not answer at all: what is asked of it next fails as well."""
    return isinstance(error, RedisError) and not isinstance(error, (ResponseError, DataError))


def is_missing(error: BaseException) -> bool:
    """Whether a reply says that what was asked about is not there."""
    return isinstance(error, ResponseError) and str(error).startswith(_MISSING)


#: What is said of a stream that takes nothing any more: its last id is the greatest there is.
_EXHAUSTED = ("exhausted the last possible ID", "equal or smaller than the target stream top item")
#: Kinds of replies that are about one key, and say nothing about others.
OF_ONE_KEY = ("WRONGTYPE", "WRONGKIND")


def is_of_one_key(error: BaseException) -> bool:
    """Whether a reply is about one key, which asking again does not mend, and not about others."""
    return redis_kind(error) in (*OF_ONE_KEY, "EXHAUSTED")


def redis_kind(error: BaseException) -> str:
    """The kind of trouble in one word that quotes nothing: ``NOPERM``, ``OOM``, ``TimeoutError``.

    >>> redis_kind(ResponseError("WRONGTYPE Operation against a key"))
    'WRONGTYPE'
    """
    word = str(error).partition(" ")[0]
    plain = type(error) is ResponseError
    if plain and any(text in str(error) for text in _EXHAUSTED):
        return "EXHAUSTED"
    if plain and word.isascii() and word.isupper():
        # what our scripts say of it is the same trouble
        return "WRONGTYPE" if word == "WRONGKIND" else word
    return _KINDS.get(type(error), type(error).__name__)


def as_unavailable(error: RedisError) -> UnavailableError:
    """What a client of ours is told of a server's trouble."""
    return UnavailableError(f"Redis cannot do it now ({redis_kind(error)}): try again shortly")


def as_ours(error: Exception) -> Exception:
    """A script's refusal as the error it stands for; any other one as it is."""
    text = str(error)
    if text.startswith("FENCED"):
        return FencedError(text)
    if text.startswith("OUTDATED "):
        return OutdatedError(text)
    return error


def as_redis_error(error: Exception) -> RedisError:
    """What went wrong as a RedisError, whatever it was."""
    if isinstance(error, RedisError):
        return error
    if isinstance(error, UnicodeError):
        return DataError(f"a text that cannot be sent: {error}")
    return RedisLibraryError(f"{type(error).__name__}: {error}")


def _guarded(call: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """``call``, which raises nothing but RedisError, nor has anything else among its replies."""

    @functools.wraps(call)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            replies = await call(*args, **kwargs)
        except RedisError:
            raise
        except Exception as error:
            raise as_redis_error(error) from error
        if isinstance(replies, list):
            for at, reply in enumerate(replies):
                if isinstance(reply, Exception):
                    replies[at] = as_redis_error(reply)
        return replies

    return guarded


class _GuardedPipeline(Pipeline):
    execute = _guarded(Pipeline.execute)


class _GuardedPubSub(PubSub):
    get_message = _guarded(PubSub.get_message)
    subscribe = _guarded(PubSub.subscribe)
    unsubscribe = _guarded(PubSub.unsubscribe)


class GuardedRedis(Redis):
    """A client of one server, or of the master that sentinels name."""

    execute_command = _guarded(Redis.execute_command)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """A pipeline whose ``execute`` is guarded."""
        pool, callbacks = self.connection_pool, self.response_callbacks
        return _GuardedPipeline(pool, callbacks, transaction, shard_hint)

    def pubsub(self, **kwargs: Any) -> PubSub:
        """Publish and subscribe, guarded."""
        return _GuardedPubSub(self.connection_pool, **kwargs)


class _GuardedClusterPipeline(ClusterPipeline):
    execute = _guarded(ClusterPipeline.execute)


class _GuardedClusterPubSub(ClusterPubSub):
    get_message = _guarded(ClusterPubSub.get_message)
    subscribe = _guarded(ClusterPubSub.subscribe)
    unsubscribe = _guarded(ClusterPubSub.unsubscribe)


class _LastFirst(deque[Any]):
    """Free connections of a node, of which the one that came back last is taken first."""

    append = deque.appendleft


class GuardedCluster(RedisCluster):
    """A client of a cluster."""

    _execute_guarded = _guarded(RedisCluster.execute_command)

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command where its key is, wherever its slot moves meanwhile.

        Raises:
            TryAgainError: its slot is on the move, and all that was heard of it was where to go
                instead: nothing was carried out.
            RedisError: see ``redis/errors``.
        """
        try:
            return await self._execute_guarded(*args, **kwargs)
        except ClusterError as error:
            if not str(error).startswith("TTL exhausted"):
                raise
            raise TryAgainError("the slot is on the move") from error

    async def initialize(self, *args: Any, **kwargs: Any) -> "GuardedCluster":
        """Learn who has what, where that is not known.

        redis-py says ASKING on one connection and the command on the next one it finds free: only
        where that is the same one is the command taken.
        """
        await super().initialize(*args, **kwargs)
        for node in self.nodes_manager.nodes_cache.values():
            if not isinstance(node._free, _LastFirst):
                node._free = _LastFirst(node._free)
        return self

    def get_node(
        self, host: str | None = None, port: int | None = None, node_name: str | None = None
    ) -> ClusterNode | None:
        """A node by its address; one that was named by another node (ASK) may have joined since."""
        found = super().get_node(host, port, node_name)
        if found is None and node_name is not None:
            host, _, named = node_name.rpartition(":")
            manager = self.nodes_manager
            found = ClusterNode(host, int(named), PRIMARY, **manager.connection_kwargs)
            found._free = _LastFirst()
            manager.set_nodes(manager.nodes_cache, {found.name: found})
        return found

    def pipeline(
        self, transaction: Any | None = None, shard_hint: Any | None = None
    ) -> ClusterPipeline:
        """A pipeline whose ``execute`` is guarded."""
        return _GuardedClusterPipeline(self, transaction)

    def pubsub(self, *args: Any, **kwargs: Any) -> ClusterPubSub:
        """Publish and subscribe, guarded."""
        return _GuardedClusterPubSub(self, *args, **kwargs)

    async def node_of(self, key: str) -> Any:
        """The node that has ``key``, which is asked for anew if it may have moved.

        Methods of redis-py's that it calls itself are left as they are: it looks for its own
        errors. Raises RedisError while nobody has the key.
        """
        try:
            if self._initialize:
                await self.initialize()
            return self.get_node_from_key(key)
        except Exception as error:
            raise as_redis_error(error) from error

    async def has_moved(self, said: MovedError) -> None:
        """Take over where a slot is now."""
        try:
            await self.nodes_manager.move_slot(said)
        except Exception:  # noqa: BLE001 whatever it is: who is where is asked anew
            self.look_again()

    def look_again(self) -> None:
        """Ask who has what before the next command."""
        self._initialize = True
