"""``hookstream receive``: the receiver alone, in any number of processes on one port."""

from typing import Any

from faust.cli.base import option

from hookstream.app.commands.worker import worker

__all__ = ["receive"]


class receive(worker):  # noqa: N801 Faust names a command by its class
    """Receive webhooks, without the pipeline. Several processes share one port."""

    kind = "receiver"

    options = [
        option("--with-api/--without-api", default=False, help="Serve the API and WebSocket too."),
        *worker.options,
    ]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run in this process, or supervise ``--processes`` of them."""
        self.app.producer_only = True
        self.app.receiver_only = not self.kwargs.pop("with_api")
        return super().__call__(*args, **kwargs)

    def _told(self, processes: int) -> dict[str, str]:
        return {"HOOKSTREAM_RECEIVER_PROCESSES": str(processes)}
