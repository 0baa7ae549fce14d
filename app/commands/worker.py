"""``hookstream worker``: Faust's worker command, with a banner that speaks of our servers."""

import os
import sys
from typing import Any, ClassVar, NoReturn

import click
from faust.cli import params
from faust.cli.base import option
from faust.cli.worker import worker as faust_worker

from hookstream import __version__
from hookstream.app.commands.everything import ports_of, refuse_busy_ports
from hookstream.app.commands.processes import (
    Group,
    embedded_servers,
    make_children,
    private_folder,
    wanted_processes,
)
from hookstream.app.embedded.supervisor import Supervisor
from hookstream.app.errors import HookstreamError
from hookstream.app.settings import http_address

__all__ = ["shown", "worker"]

#: Of the log, as Faust's command line has them.
LEVELS = ("crit", "error", "warn", "info", "debug")


class worker(faust_worker):  # noqa: N801 Faust names a command by its class
    """Start a worker: the pipeline, and the HTTP server unless --without-web."""

    #: What a stage prints would be a warning for each part of it: this counts before the setting.
    redirect_stdouts = False

    kind: ClassVar[str] = "worker"

    #: Ours in place of Faust's, whose defaults are not true here, and of which some do nothing.
    options = [
        option("--processes", default=1, type=int, help="How many processes share the work."),
        option("--with-web/--without-web", default=True, help="Whether to serve HTTP at all."),
        option(
            "--web-port",
            "-p",
            type=params.TCPPort(),
            metavar="PORT",
            help="Port to listen on, in place of HOOKSTREAM_WEB_PORT.",
        ),
        option(
            "--web-bind",
            "-b",
            metavar="HOST",
            help="Address to listen on, in place of HOOKSTREAM_WEB_HOST.",
        ),
        option(
            "--loglevel",
            "-l",
            # it is taken before modules are imported: app/cli.py
            expose_value=False,
            type=click.Choice(LEVELS, case_sensitive=False),
            help="Level of the log, in place of HOOKSTREAM_LOG_LEVEL.",
        ),
    ]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run in this process, or supervise ``--processes`` of them."""
        # Faust's worker asks for what is no option here
        self.kwargs.update(web_host=None, web_transport=None)
        try:
            processes = wanted_processes(self.kwargs.pop("processes"), "--processes")
            if processes > 1:
                self._supervise(processes)
        except HookstreamError as error:
            sys.stderr.write(f"hookstream: {error}\n")
            sys.exit(error.exit_status)
        return super().__call__(*args, **kwargs)

    def _supervise(self, processes: int) -> NoReturn:
        settings = self.app.settings
        if self.kwargs["with_web"]:
            hosts = self.kwargs["web_bind"] or settings.web_host
            port = self.kwargs["web_port"] or settings.web_port
            refuse_busy_ports(ports_of(settings, hosts, port))
        again = (*sys.argv[1:], "--processes", "1")
        with embedded_servers(settings, self.say) as (services, urls), private_folder() as folder:
            told = {**urls, **self._told(processes)}
            group = Group(self.kind, processes, again, told, serves_http=self.kwargs["with_web"])
            children = make_children(settings, [group], folder)
            sys.exit(Supervisor(children, announce=self.say, services=services).run())

    def _told(self, processes: int) -> dict[str, str]:
        """What each of so many is told by its environment."""
        return {}

    def _banner_title(self) -> str:
        return f"Hookstream v{__version__} on {self.faust_ident()}"

    def _banner_data(self, worker: Any) -> list[tuple[str, str]]:
        settings = self.app.settings
        rows = [
            ("redis", shown(settings.redis_url)),
            ("postgres", shown(settings.postgres_url)),
            ("partitions", str(settings.partitions)),
            ("state", str(settings.state_path)),
            ("pid", str(os.getpid())),
            ("loop", type(worker.loop).__module__),
        ]
        if self.app.conf.web_enabled:
            conf = self.app.conf
            rows.insert(0, ("web", http_address(conf.web_bind, conf.web_port)))
            if settings.admin_port:
                rows.insert(1, ("admin", settings.api_address))
        return rows


def shown(url: str) -> str:
    """A server's URL without its password."""
    scheme, mark, rest = url.partition("://")
    # a password may have an @ itself: all up to the last one is the login
    login, at, place = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    return f"{scheme}{mark}{user}{':***' if colon else ''}{at}{place}"
