"""Connections to Redis (one server, Sentinel, a cluster), its errors, and the Lua scripts."""

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from hiredis import pack_command
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import DataError, NoScriptError, ResponseError

from hookstream.app import tasks
from hookstream.app.errors import SettingsError
from hookstream.app.redis.errors import (
    REDIS_ERRORS,
    GuardedCluster,
    GuardedRedis,
    as_ours,
    is_redis_down,
    redis_kind,
)
from hookstream.app.redis.sources import script_sources

__all__ = [
    "REDIS_ERRORS",
    "Scripts",
    "as_ours",
    "by_node",
    "connect",
    "engine_line",
    "info_by_node",
    "is_cluster",
    "is_redis_down",
]

#: More than are ever wanted at once: clients' feeds are read a few at a time.
MAX_CONNECTIONS = 10_000

_SCHEMES = ("redis", "rediss", "unix", "sentinel", "cluster")
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs")


def connect(url: str, *, timeout_seconds: float) -> Any:
    """A client that never retries by itself: an append repeated after a lost reply is a double.

    Whatever goes wrong with a call is a ``RedisError`` (``redis/errors``), nothing else.

    ``redis://``, ``rediss://`` and ``unix://`` are redis-py's own URLs;
    ``sentinel://[user:password@]h1:26379,h2:26379/mymaster`` asks the sentinels for the master at
    each new connection; ``cluster://[user:password@]h1:6379,h2:6379`` follows a cluster's slots.
    Both take ``?tls=true`` with redis-py's ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile``,
    ``ssl_cert_reqs``; sentinel also ``db``, ``sentinel_username`` and ``sentinel_password``.

    Raises:
        SettingsError: the URL cannot be used; the message says why.
    """
    scheme = url.partition("://")[0]
    common = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        # redis-py refuses the hundred and first otherwise, as if the server were away
        "max_connections": MAX_CONNECTIONS,
        "protocol": 2,
    }
    if scheme not in _SCHEMES:
        raise SettingsError(
            "HOOKSTREAM_REDIS_URL has no scheme that is handled: use one of "
            + ", ".join(f"{name}://" for name in _SCHEMES)
        )
    try:
        if scheme == "sentinel":
            return _sentinel(url, common)
        if scheme == "cluster":
            return _cluster(url, common)
        client = _packed(GuardedRedis.from_url(url, **common))
        # an option that redis-py does not know shows only when it makes a connection
        client.connection_pool.make_connection()
        return client
    except (TypeError, ValueError) as error:
        raise SettingsError(f"HOOKSTREAM_REDIS_URL cannot be read: {error}") from error


def _sentinel(url: str, common: dict[str, Any]) -> Any:
    nodes, path, query, credentials = _split(url, 26379)
    if not path:
        raise SettingsError(
            "HOOKSTREAM_REDIS_URL: name the master, as in sentinel://h1:26379,h2:26379/mymaster"
        )
    own = {name[len("sentinel_") :]: query.pop(name) for name in _SENTINEL_OPTIONS & set(query)}
    database = int(query.pop("db", "0"))
    tls = _tls(query)
    sentinel = Sentinel(
        nodes, sentinel_kwargs={**common, **tls, **own}, **common, **tls, **credentials, db=database
    )
    return _packed(sentinel.master_for(path, redis_class=GuardedRedis))


def _packed(client: Any) -> Any:
    """Let hiredis pack the commands: redis-py does it for blocking connections only.

    A commit has some hundred arguments, each of them packed in Python otherwise.
    """
    pool = client.connection_pool
    kind = pool.connection_class
    pool.connection_class = type(kind.__name__, (_Packed, kind), {})
    return client


class _Packed:
    def pack_command(self, *args: Any) -> list[bytes]:
        """A command in Redis's protocol, as redis-py's method of this name gives it."""
        # a command of two words, such as CONFIG GET, is two arguments
        words = args[0].split() if isinstance(args[0], str) else args[:1]
        try:
            return [pack_command((*words, *args[1:]))]
        except (TypeError, ValueError) as error:
            raise DataError(f"{words[0]!r} cannot be sent: {error}") from error


def _cluster(url: str, common: dict[str, Any]) -> Any:
    nodes, path, query, credentials = _split(url, 6379)
    if path:
        raise SettingsError("HOOKSTREAM_REDIS_URL: a cluster has no databases, leave out the path")
    return GuardedCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in nodes],
        **common,
        **_tls(query),
        **credentials,
        # at each fifth slot that has moved redis-py closes all connections otherwise, whatever is
        # on its way on them
        reinitialize_steps=0,
    )


_SENTINEL_OPTIONS = {"sentinel_username", "sentinel_password"}


def _split(
    url: str, default_port: int
) -> tuple[list[tuple[str, int]], str, dict[str, str], dict[str, str]]:
    """Nodes, path, query and credentials of a URL with several hosts."""
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    nodes = []
    for item in hosts.split(","):
        # the brackets of an IPv6 address hold colons of their own
        host, colon, port = item.rpartition(":") if not item.endswith("]") else (item, "", "")
        nodes.append(((host if colon else item).strip("[]"), int(port) if colon else default_port))
    if not all(host for host, _ in nodes):
        raise SettingsError("HOOKSTREAM_REDIS_URL: a host is empty")
    credentials = {}
    if at:
        user, _, password = login.partition(":")
        credentials = {"username": unquote(user) or None, "password": unquote(password) or None}
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    known = {"tls", "db", *_TLS_OPTIONS, *_SENTINEL_OPTIONS}
    if unknown := set(query) - known:
        raise SettingsError(
            f"HOOKSTREAM_REDIS_URL: unknown option {sorted(unknown)[0]!r}, "
            f"known are {', '.join(sorted(known))}"
        )
    given = {name: value for name, value in credentials.items() if value is not None}
    return nodes, parts.path.strip("/"), query, given


def _tls(query: Mapping[str, str]) -> dict[str, Any]:
    if query.get("tls", "false").lower() not in ("true", "1", "yes"):
        return {}
    return {"ssl": True, **{name: query[name] for name in _TLS_OPTIONS if name in query}}


def is_cluster(redis: Any) -> bool:
    """Whether the keys of different partitions may be on different servers."""
    return isinstance(redis, GuardedCluster)


async def info_by_node(redis: Any, section: str, nodes: str = "all") -> dict[str, dict[str, Any]]:
    """A section of INFO by node, of a cluster's ``nodes``; of one server under the name "".

    Raises:
        redis.exceptions.RedisError: one of them does not answer.
    """
    if is_cluster(redis):
        # INFO alone goes to some node of a cluster
        found = await redis.execute_command("INFO", section, target_nodes=nodes)
    else:
        found = await redis.info(section)
    return by_node(found, nested=dict)


def by_node(reply: Any, *, nested: Any) -> dict[str, Any]:
    """A reply by node, be it of one server or of several."""
    if isinstance(reply, dict) and reply and all(isinstance(v, nested) for v in reply.values()):
        return {str(node): value for node, value in reply.items()}
    return {"": reply}


#: What a script's first line may begin with: flags for the server, where it knows any.
FLAGS = "-- flags: "


def engine_line(text: str) -> str:
    """The line that tells the server in which language a script is, and its flags."""
    first = text.partition("\n")[0]
    flags = f" flags={first[len(FLAGS) :].strip()}" if first.startswith(FLAGS) else ""
    return f"#!lua{flags}\n"


#: A script's name, its keys, its arguments.
Call = tuple[str, Sequence[str], Sequence[Any]]
#: A refusal is told for so long after it, where the script is not called again.
REFUSED_SECONDS = 5.0


class Scripts:
    """The scripts of :mod:`hookstream.app.redis.sources`, called by name; loaded again after a
    failover."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis
        self._sources: dict[str, str] = {}
        self._shas: dict[str, str] = {}
        self._waiting: list[tuple[Sequence[tuple[Any, ...]], asyncio.Future[list[Any]]]] = []
        #: Script → kind of what the server said when it was last called, and when (monotonic).
        self._refusals: dict[str, tuple[str, float]] = {}

    async def load(self) -> None:
        """Read the files and hand them to the server.

        From Redis 7 on they carry ``#!lua``: over maxmemory such a script is refused whole,
        where one without it could acknowledge and then fail to append; but for those that free
        more than they take, which say ``-- flags: allow-oom``.
        """
        info = await self._redis.info("server")
        if is_cluster(self._redis):
            # one answer a node; while a cluster is upgraded the oldest one counts
            nodes = info.values() if "redis_version" not in info else [info]
            major = min(int(str(node["redis_version"]).split(".")[0]) for node in nodes)
        else:
            major = int(str(info["redis_version"]).split(".")[0])
        self._sources = {
            name: engine_line(text) + text if major >= 7 else text
            for name, text in script_sources().items()
        }
        for source in self._sources.values():
            await self._redis.script_load(source)
        self._shas = {
            name: hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
            for name, source in self._sources.items()
        }

    async def source(self, name: str) -> str:
        """The text of a script, as this server takes it."""
        if not self._sources:
            await self.load()
        return self._sources[name]

    async def sha(self, name: str) -> str:
        """The SHA of a script, for a pipeline."""
        if not self._shas:
            await self.load()
        return self._shas[name]

    async def call(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a script by its SHA, by its text where the server has forgotten it.

        Raises:
            FencedError: the lease is another's; nothing was written.
            OutdatedError: the caller's snapshot is not what Redis has; nothing was written.
        """
        [reply] = await self.call_all([(name, keys, args)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def call_all(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts as :meth:`call` does, in one round trip; replies in order, errors among them.

        One that fails says nothing of the others, which may have been carried out.
        """
        if not calls:
            return []
        if not self._shas:
            await self.load()
        replies = await self._run_all(
            [("EVALSHA", self._shas[name], len(keys), *keys, *args) for name, keys, args in calls]
        )
        unknown = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            again = [
                ("EVAL", self._sources[name], len(keys), *keys, *args)
                for name, keys, args in (calls[at] for at in unknown)
            ]
            found = await self._run_all(again)
            for at, reply in zip(unknown, found, strict=True):
                replies[at] = reply
        for at, reply in enumerate(replies):
            name = calls[at][0]
            if isinstance(reply, ResponseError):
                if is_redis_down(reply):
                    self._refusals[name] = (redis_kind(reply), time.monotonic())
                replies[at] = ours = as_ours(reply)
                if ours is not reply:
                    ours.__cause__ = reply
            elif self._refusals and not isinstance(reply, Exception):
                self._refusals.pop(name, None)
        return replies

    def refused_lately(self) -> dict[str, str]:
        """Scripts that the server refused when they were last called, and the kind of its reply."""
        since = time.monotonic() - REFUSED_SECONDS
        return {name: kind for name, (kind, at) in self._refusals.items() if at > since}

    async def _run_all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run commands together with all that are wanted at the same moment; errors are replies.

        Several in one pipeline cost redis-py a third of what each would cost alone, and the kernel
        less still. In a cluster each goes to its own server.
        """
        if is_cluster(self._redis):
            run = (self._redis.execute_command(*command) for command in commands)
            replies = await asyncio.gather(*run, return_exceptions=True)
            for reply in replies:
                if isinstance(reply, BaseException) and not isinstance(reply, Exception):
                    raise reply
            return replies
        done: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append((commands, done))
        if len(self._waiting) == 1:
            tasks.spawn("Scripts._send", self._send())
        return await done

    async def _send(self) -> None:
        """Send what has come together since this was asked for, and hand out the replies."""
        waiting, self._waiting = self._waiting, []
        wanted = [command for commands, _ in waiting for command in commands]
        try:
            if len(wanted) == 1:
                replies = [await self._redis.execute_command(*wanted[0])]
            else:
                pipe = self._redis.pipeline(transaction=False)
                for command in wanted:
                    pipe.execute_command(*command)
                replies = await pipe.execute(raise_on_error=False)
        except asyncio.CancelledError:
            for _, done in waiting:
                done.cancel()
            raise
        except Exception as error:  # noqa: BLE001 every caller must hear of it
            replies = [error] * len(wanted)
        at = 0
        for commands, done in waiting:
            if not done.done():
                done.set_result(list(replies[at : at + len(commands)]))
            at += len(commands)
