"""What ``hookstream up`` does: everything on one machine, in the foreground."""

import os
import secrets
import socket
import sys
from collections.abc import Callable, Mapping

from hookstream.app import embedded
from hookstream.app.embedded.supervisor import Child, Supervisor, answers
from hookstream.app.settings import EMBEDDED, Settings, cannot_listen, http_address, listen_hosts

__all__ = ["run_everything"]

WELCOME = """\

  Hookstream is up. Ctrl-C stops all of it.

  console    {url}/
  admin key  {key_file}
  state      {state_dir}
  worker     {worker}/health

  This line works as pasted: a tool with a token of its own, and a webhook that has it.

    curl -sS -X PUT {url}/api/v1/tools/hello -H "Authorization: Bearer $({key_command})" \
-d '{{"provider": "bearer", "secrets": ["{token}"]}}' && curl -sS {hooks}/hooks/hello \
-H "Authorization: Bearer {token}" -d '{{"text": "hello"}}'
"""


def run_everything(settings: Settings, say: Callable[[str], None]) -> int:
    """Run embedded servers, receiver and worker until Ctrl-C; returns the exit status.

    Imports neither Faust nor the application: its children do, and who waits for them should not
    wait for that twice.

    Raises:
        SettingsError: a port is taken, the state folder cannot be used, a server does not start.
    """
    state_dir = settings.ensure_state_dir()
    settings.api_key()
    refuse_busy_ports(settings)
    services: list[embedded.EmbeddedServer] = []
    # children are told where the servers are: one that is started again does not look after
    # them itself, which takes as long as they do, but listens
    urls: dict[str, str] = {}
    if settings.redis_url == EMBEDDED:
        say("starting Redis (embedded)")
        services.append(
            embedded.start_valkey(state_dir, max_bytes=settings.embedded_redis_max_bytes)
        )
        urls["HOOKSTREAM_REDIS_URL"] = services[-1].url
    if settings.postgres_url == EMBEDDED:
        say("starting PostgreSQL (embedded)")
        services.append(embedded.start_postgres(state_dir))
        urls["HOOKSTREAM_POSTGRES_URL"] = services[-1].url
    try:
        return Supervisor(
            children(settings, urls),
            announce=say,
            services=services,
            on_ready=lambda: say(welcome(settings)),
        ).run()
    finally:
        for service in reversed(services):
            service.stop()


def refuse_busy_ports(settings: Settings) -> None:
    """Say at once which port is taken, and by which setting to choose another.

    Raises:
        SettingsError: something listens there already, or there are not so many ports.
    """
    for host, port, setting in listened_on(settings):
        try:
            # of whichever family the address is
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            with socket.socket(family) as probe:
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise cannot_listen(host, port, error, setting) from error


def listened_on(settings: Settings) -> list[tuple[str, int, str]]:
    """Host, port, and the setting that says so, of everything that listens for HTTP.

    Raises:
        SettingsError: the receivers' operators' ports are more than there are.
    """
    admin = settings.admin_ports(settings.receiver_processes)
    ports = [
        (settings.web_host, settings.web_port, "HOOKSTREAM_WEB_PORT"),
        (worker_host(settings), settings.worker_web_port, "HOOKSTREAM_WORKER_WEB_PORT"),
        *((settings.admin_host, port, "HOOKSTREAM_ADMIN_PORT") for port in admin),
    ]
    return [(host, port, name) for hosts, port, name in ports for host in listen_hosts(hosts)]


def worker_host(settings: Settings) -> str:
    """The worker's port is for operators anyhow: where they have an address it is there."""
    return settings.admin_host if settings.admin_port else settings.web_host


def worker_address(settings: Settings) -> str:
    """Where the worker answers, as somebody on this machine calls it."""
    return http_address(worker_host(settings), settings.worker_web_port)


def children(settings: Settings, urls: Mapping[str, str]) -> list[Child]:
    """The processes of the application: receivers with the API, and a worker.

    ``urls``: settings that say where the embedded servers are.
    """
    environment = {**os.environ, **urls}
    on_one_port = {"HOOKSTREAM_ADMIN_PORT": "0", "HOOKSTREAM_WEB_HOST": worker_host(settings)}

    def child(name: str, address: str, *arguments: object, vital: bool = True, **own: str) -> Child:
        command = [sys.executable, "-m", "hookstream.app.cli", "--quiet"]
        return Child(
            name,
            [*command, *map(str, arguments)],
            {**environment, **own},
            stop_seconds=settings.stop_seconds,
            is_ready=lambda: answers(f"{address}/health/ready"),
            vital=vital,
        )

    port, processes = settings.worker_web_port, settings.receiver_processes
    receive = ("receive", "--with-api", "--processes", processes)
    return [
        child("receiver", settings.api_address, *receive),
        # webhooks are taken whatever stages are like: what comes waits for a worker
        child(
            "worker",
            worker_address(settings),
            *("worker", "--web-port", port),
            vital=False,
            **on_one_port,
        ),
    ]


def welcome(settings: Settings) -> str:
    """What a newcomer needs to know, with lines that work as pasted."""
    key_file = settings.state_path / "admin.key"
    own = bool(settings.admin_key)
    return WELCOME.format(
        url=settings.api_address,
        hooks=settings.address,
        worker=worker_address(settings),
        key_file="HOOKSTREAM_ADMIN_KEY" if own else key_file,
        key_command='echo "$HOOKSTREAM_ADMIN_KEY"' if own else f"cat {key_file}",
        state_dir=settings.state_path,
        # who can post without one is every page that this machine's browser shows
        token=secrets.token_hex(16),
    )
