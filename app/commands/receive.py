"""``hookstream receive``: the receiver alone, in any number of processes on one port."""

import os
import sys
from typing import Any

from faust.cli.base import option

from hookstream.app.commands.worker import worker
from hookstream.app.embedded.supervisor import Child, Supervisor
from hookstream.app.errors import BadRequestError, HookstreamError

__all__ = ["receive"]


class receive(worker):  # noqa: N801 Faust names a command by its class
    """Receive webhooks, without the pipeline. Several processes share one port."""

    options = [
        option("--processes", default=1, type=int, help="How many processes share the port."),
        option("--with-api/--without-api", default=False, help="Serve the API and WebSocket too."),
        *worker.options,
    ]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run in this process, or supervise ``--processes`` of them."""
        processes = self.kwargs.pop("processes")
        with_api = self.kwargs.pop("with_api")
        settings = self.app.settings
        try:
            if processes < 1:
                raise BadRequestError("--processes: at least 1")
            admin_ports = settings.admin_ports(processes) or [0] * processes
        except HookstreamError as error:
            sys.stderr.write(f"hookstream: {error}\n")
            sys.exit(error.exit_status)
        self.app.producer_only = True
        self.app.receiver_only = not with_api
        if processes == 1:
            return super().__call__(*args, **kwargs)
        if not settings.admin_port:
            sys.stderr.write(
                f"hookstream: {processes} processes share one port: /metrics and /health are those "
                "of whichever happens to answer. Set HOOKSTREAM_ADMIN_PORT: then each has a port\n"
            )
        again = [*sys.argv[1:], "--processes", "1"]
        children = [
            Child(
                name=f"receiver-{number}",
                argv=[sys.executable, "-m", "hookstream.app.cli", *again],
                env={
                    **os.environ,
                    "HOOKSTREAM_RECEIVER_PROCESSES": str(processes),
                    "HOOKSTREAM_ADMIN_PORT": str(admin_port),
                },
                stop_seconds=settings.stop_seconds,
            )
            for number, admin_port in enumerate(admin_ports)
        ]
        return sys.exit(Supervisor(children, announce=self.say).run())
