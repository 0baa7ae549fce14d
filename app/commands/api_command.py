"""What commands share that ask the HTTP API to do one of some things."""

import asyncio
import json
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from faust.cli.base import option

from hookstream.app.commands.client import ApiClient
from hookstream.app.commands.command import Command
from hookstream.app.errors import BadRequestError

__all__ = ["API_OPTIONS", "ApiCommand"]

API_OPTIONS: Final = (
    option("--json", "as_json", is_flag=True, help="Print JSON."),
    option("--url", default="", help="Where to; http://HOST:PORT of the settings by default."),
)


class ApiCommand(Command):
    """A command whose first argument is ``action``, one of ``actions``."""

    abstract = True
    actions: ClassVar[Sequence[str]] = ()
    _as_json = False

    def perform(self, **options: Any) -> int:
        """Do what was asked for."""
        if options["action"] not in self.actions:
            raise BadRequestError(f"{options['action']}: one of {', '.join(self.actions)}")
        self.check(**options)
        return asyncio.run(self._ask(**options))

    @abstractmethod
    def check(self, *args: Any, **kwargs: Any) -> None:
        """Raise BadRequestError where options do not go together: nobody is asked then.

        It gets all of them by their names.
        """

    @abstractmethod
    async def ask(self, *args: Any, **kwargs: Any) -> None:
        """Ask, and :meth:`tell` what came of it.

        It gets an :class:`ApiClient`, and all options but those that are of every such command.
        """

    async def _ask(self, *, url: str, as_json: bool, **options: Any) -> int:
        self._as_json = as_json
        async with ApiClient(self.settings, url) as api:
            await self.ask(api, **options)
        return 0

    def tell(self, shown: Any, text: str) -> None:
        """Print an answer: as JSON where that is wanted, else the text for people."""
        self.stdout.write((json.dumps(shown, indent=2) if self._as_json else text) + "\n")
