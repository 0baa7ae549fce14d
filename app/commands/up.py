"""``hookstream up``: everything on one machine, in the foreground."""

from typing import Any

from hookstream.app.commands.command import Command
from hookstream.app.commands.everything import run_everything

__all__ = ["up"]


class up(Command):  # noqa: N801 Faust names a command by its class
    """Start Redis, PostgreSQL, receiver and worker here, and restart what dies."""

    def perform(self, **options: Any) -> int:
        """Run until Ctrl-C."""
        return run_everything(self.app.settings, self.say)
