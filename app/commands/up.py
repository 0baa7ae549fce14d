"""``hookstream up``: everything on one machine, in the foreground."""

from typing import Any

from faust.cli.base import option

from hookstream.app.commands.command import Command
from hookstream.app.commands.everything import run_everything
from hookstream.app.commands.processes import wanted_processes

__all__ = ["up"]


class up(Command):  # noqa: N801 Faust names a command by its class
    """Start Redis, PostgreSQL, receivers and workers here, and restart what dies."""

    options = [
        option("--receivers", type=int, help="How many processes receive; by cores if not given."),
        option("--workers", type=int, help="How many processes work; by cores if not given."),
    ]

    def perform(self, **options: Any) -> int:
        """Run until Ctrl-C."""
        counts = {
            name: wanted_processes(count, f"--{name}")
            for name, count in options.items()
            if count is not None
        }
        return run_everything(self.settings, self.say, **counts)
