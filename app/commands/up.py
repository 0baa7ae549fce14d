"""``hookstream up``: everything on one machine, in the foreground."""

import os
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from faust.cli.base import AppCommand

from hookstream.app import embedded
from hookstream.app.settings import EMBEDDED, Settings
from hookstream.app.supervise import Child, Supervisor

__all__ = ["up"]

WELCOME = """\

  Hookstream is up. Ctrl-C stops all of it.

  console    {url}/
  admin key  {key_file}
  state      {state_dir}
  worker     http://{host}:{worker_port}/health

  Say hello (a tool, a context, and what reaches it):

    KEY=$({key_command})
    curl -sS -X PUT {url}/api/v1/tools/hello -H "Authorization: Bearer $KEY" \
-d '{{"provider": "none"}}'
    curl -sS -X POST {url}/hooks/hello -d '{{"text": "hello"}}'
"""


class up(AppCommand):  # noqa: N801 Faust names a command by its class
    """Start Redis, PostgreSQL, receiver and worker here, and restart what dies."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run until Ctrl-C."""
        settings: Settings = self.app.settings
        state_dir = settings.ensure_state_dir()
        settings.api_key()
        services: list[embedded.EmbeddedServer] = []
        if settings.redis_url == EMBEDDED:
            self.say("starting Redis (embedded)")
            services.append(embedded.start_valkey(state_dir))
        if settings.postgres_url == EMBEDDED:
            self.say("starting PostgreSQL (embedded)")
            services.append(embedded.start_postgres(state_dir))
        url = f"http://{settings.web_host}:{settings.web_port}"
        threading.Thread(target=announce_ready, args=(settings, url, self.say), daemon=True).start()
        try:
            code = Supervisor(
                children(settings),
                announce=self.say,
                services=services,
            ).run()
        finally:
            for service in reversed(services):
                service.stop()
        return sys.exit(code)


def children(settings: Settings) -> list[Child]:
    """The processes of the application: receivers with the API, and a worker."""
    command = [sys.executable, "-m", "hookstream.app.cli", "--quiet"]
    environment = dict(os.environ)
    return [
        Child(
            "receiver",
            [
                *command,
                "receive",
                "--with-api",
                "-l",
                settings.log_level,
                "--processes",
                str(settings.receiver_processes),
            ],
            environment,
        ),
        Child(
            "worker",
            [
                *command,
                "worker",
                "-l",
                settings.log_level,
                "--web-port",
                str(settings.worker_web_port),
            ],
            environment,
        ),
    ]


def welcome(settings: Settings, url: str) -> str:
    """What a newcomer needs to know, with lines that work as pasted."""
    key_file = settings.state_path / "admin.key"
    own = bool(settings.admin_key)
    return WELCOME.format(
        url=url,
        host=settings.web_host,
        worker_port=settings.worker_web_port,
        key_file="HOOKSTREAM_ADMIN_KEY" if own else key_file,
        key_command='echo "$HOOKSTREAM_ADMIN_KEY"' if own else f"cat {key_file}",
        state_dir=settings.state_path,
    )


def announce_ready(settings: Settings, url: str, say: Callable[[str], None]) -> None:
    """Wait until receiver and worker answer, then greet."""
    worker = f"http://{settings.web_host}:{settings.worker_web_port}"
    for address in (url, worker):
        while not is_ready(address):
            time.sleep(0.1)
    say(welcome(settings, url))


def is_ready(address: str) -> bool:
    """Whether the server at ``address`` says that it can do its work."""
    try:
        with urllib.request.urlopen(f"{address}/health/ready", timeout=2) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
