"""What ``hookstream up`` does: everything on one machine, in the foreground."""

import os
import socket
import sys
from collections.abc import Callable, Mapping

from hookstream.app import embedded
from hookstream.app.embedded.supervisor import Child, Supervisor, answers
from hookstream.app.settings import EMBEDDED, Settings, cannot_listen, http_address

__all__ = ["run_everything"]

WELCOME = """\

  Hookstream is up. Ctrl-C stops all of it.

  console    {url}/
  admin key  {key_file}
  state      {state_dir}
  worker     {worker}/health

  This line works as pasted: a tool, and a webhook for it.

    curl -sS -X PUT {url}/api/v1/tools/hello -H "Authorization: Bearer $({key_command})" \
-d '{{"provider": "none"}}' && curl -sS {url}/hooks/hello -d '{{"text": "hello"}}'
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
        services.append(embedded.start_valkey(state_dir))
        urls["HOOKSTREAM_REDIS_URL"] = services[-1].url
    if settings.postgres_url == EMBEDDED:
        say("starting PostgreSQL (embedded)")
        services.append(embedded.start_postgres(state_dir))
        urls["HOOKSTREAM_POSTGRES_URL"] = services[-1].url
    url = settings.address
    try:
        return Supervisor(
            children(settings, urls),
            announce=say,
            services=services,
            on_ready=lambda: say(welcome(settings, url)),
        ).run()
    finally:
        for service in reversed(services):
            service.stop()


def refuse_busy_ports(settings: Settings) -> None:
    """Say at once which port is taken, and by which setting to choose another.

    Raises:
        SettingsError: something listens there already.
    """
    for name in ("web_port", "worker_web_port"):
        port = getattr(settings, name)
        try:
            # of whichever family the address is
            family = socket.getaddrinfo(settings.web_host, port, type=socket.SOCK_STREAM)[0][0]
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((settings.web_host, port))
        except OSError as error:
            raise cannot_listen(settings.web_host, port, error, f"HOOKSTREAM_{name.upper()}") from (
                error
            )


def children(settings: Settings, urls: Mapping[str, str]) -> list[Child]:
    """The processes of the application: receivers with the API, and a worker.

    ``urls``: settings that say where the embedded servers are.
    """
    environment = {**os.environ, **urls}

    def child(name: str, address: str, *arguments: object) -> Child:
        command = [sys.executable, "-m", "hookstream.app.cli", "--quiet"]
        return Child(
            name,
            [*command, *map(str, arguments)],
            environment,
            stop_seconds=settings.stop_seconds,
            is_ready=lambda: answers(f"{address}/health/ready"),
        )

    port, processes = settings.worker_web_port, settings.receiver_processes
    worker = http_address(settings.web_host, port)
    return [
        child("receiver", settings.address, "receive", "--with-api", "--processes", processes),
        child("worker", worker, "worker", "--web-port", port),
    ]


def welcome(settings: Settings, url: str) -> str:
    """What a newcomer needs to know, with lines that work as pasted."""
    key_file = settings.state_path / "admin.key"
    own = bool(settings.admin_key)
    return WELCOME.format(
        url=url,
        worker=http_address(settings.web_host, settings.worker_web_port),
        key_file="HOOKSTREAM_ADMIN_KEY" if own else key_file,
        key_command='echo "$HOOKSTREAM_ADMIN_KEY"' if own else f"cat {key_file}",
        state_dir=settings.state_path,
    )
