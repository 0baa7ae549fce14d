"""What ``hookstream up`` does: everything on one machine, in the foreground."""

import secrets
import socket
from collections.abc import Callable, Iterable, Mapping

from hookstream.app.commands.processes import Group, embedded_servers, make_children, private_folder
from hookstream.app.embedded.cores import default_processes, usable_cores
from hookstream.app.embedded.supervisor import Supervisor
from hookstream.app.settings import Settings, cannot_listen, http_address, listen_hosts

__all__ = ["process_counts", "run_everything"]

WELCOME = """\

  Hookstream is up. Ctrl-C stops all of it.

  console    {url}/
  admin key  {key_file}
  state      {state_dir}
  worker     {worker}/health
{processes}
  This line works as pasted: a tool with a token of its own, and a webhook that has it.

    curl -sS -X PUT {url}/api/v1/tools/hello -H "Authorization: Bearer $({key_command})" \
-d '{{"provider": "bearer", "secrets": ["{token}"]}}' && curl -sS {hooks}/hooks/hello \
-H "Authorization: Bearer {token}" -d '{{"text": "hello"}}'
"""


def run_everything(
    settings: Settings, say: Callable[[str], None], *, receivers: int = 0, workers: int = 0
) -> int:
    """Run embedded servers, receivers and workers until Ctrl-C; returns the exit status.

    ``receivers`` and ``workers``: how many processes; 0: as the settings say.

    Imports neither Faust nor the application: its children do, and who waits for them should not
    wait for that twice.

    Raises:
        SettingsError: a port is taken, the state folder cannot be used, a server does not start.
    """
    settings.ensure_state_dir()
    settings.api_key()
    refuse_busy_ports(listened_on(settings))
    counts = process_counts(settings, receivers, workers, usable_cores())
    with embedded_servers(settings, say) as (services, urls), private_folder() as folder:
        return Supervisor(
            make_children(settings, groups(settings, counts, urls), folder),
            announce=say,
            services=services,
            on_ready=lambda: say(welcome(settings, counts)),
        ).run()


def process_counts(settings: Settings, receivers: int, workers: int, cores: int) -> tuple[int, int]:
    """How many receivers and workers: as was asked for, else the settings', else by cores."""
    by_cores = default_processes(cores)
    return (
        receivers or settings.receiver_processes or by_cores[0],
        workers or settings.worker_processes or min(by_cores[1], settings.partitions),
    )


def refuse_busy_ports(ports: Iterable[tuple[str, int, str]]) -> None:
    """Say at once which port is taken, and by which setting to choose another.

    Processes that share a port with each other would share it with whoever does so, too.

    Raises:
        SettingsError: something listens there already, or there are not so many ports.
    """
    for host, port, setting in ports:
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
    """Host, port, and the setting that says so, of everything that listens for HTTP."""
    return [
        *ports_of(settings, settings.web_host, settings.web_port),
        *_each(worker_host(settings), settings.worker_web_port, "HOOKSTREAM_WORKER_WEB_PORT"),
    ]


def ports_of(settings: Settings, hosts: str, port: int) -> list[tuple[str, int, str]]:
    """The same of one command, which was told to listen on these ``hosts`` and ``port``."""
    return [
        *_each(hosts, port, "HOOKSTREAM_WEB_PORT"),
        *_each(settings.admin_host, settings.admin_port, "HOOKSTREAM_ADMIN_PORT"),
    ]


def _each(hosts: str, port: int, setting: str) -> list[tuple[str, int, str]]:
    return [(host, port, setting) for host in listen_hosts(hosts)] if port else []


def worker_host(settings: Settings) -> str:
    """The worker's port is for operators anyhow: where they have an address it is there."""
    return settings.admin_host if settings.admin_port else settings.web_host


def worker_address(settings: Settings) -> str:
    """Where the worker answers, as somebody on this machine calls it."""
    return http_address(worker_host(settings), settings.worker_web_port)


def groups(settings: Settings, counts: tuple[int, int], urls: Mapping[str, str]) -> list[Group]:
    """The processes of the application: receivers with the API, and workers.

    ``urls``: settings that say where the embedded servers are.
    """
    receivers, workers = counts
    on_one_port = {"HOOKSTREAM_ADMIN_PORT": "0", "HOOKSTREAM_WEB_HOST": worker_host(settings)}
    return [
        Group(
            "receiver",
            receivers,
            ("--quiet", "receive", "--with-api"),
            {**urls, "HOOKSTREAM_RECEIVER_PROCESSES": str(receivers)},
        ),
        # webhooks are taken whatever stages are like: what comes waits for a worker
        Group(
            "worker",
            workers,
            ("--quiet", "worker", "--web-port", str(settings.worker_web_port)),
            {**urls, **on_one_port},
            vital=False,
        ),
    ]


def welcome(settings: Settings, counts: tuple[int, int] = (1, 1)) -> str:
    """What a newcomer needs to know, with lines that work as pasted."""
    key_file = settings.state_path / "admin.key"
    own = bool(settings.admin_key)
    receivers, workers = counts
    several = f"  processes  {receivers} of the receiver, {workers} of the worker\n"
    return WELCOME.format(
        url=settings.api_address,
        hooks=settings.address,
        worker=worker_address(settings),
        processes=several if receivers + workers > 2 else "",
        key_file="HOOKSTREAM_ADMIN_KEY" if own else key_file,
        key_command='echo "$HOOKSTREAM_ADMIN_KEY"' if own else f"cat {key_file}",
        state_dir=settings.state_path,
        # who can post without one is every page that this machine's browser shows
        token=secrets.token_hex(16),
    )
