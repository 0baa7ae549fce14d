"""``hookstream keys``: the keys by which secrets are sealed."""

from typing import Any

from faust.cli.base import argument

from hookstream.app.commands.command import Command
from hookstream.app.errors import BadRequestError, SettingsError
from hookstream.app.keyring.wrapping import KeyFile

__all__ = ["keys"]

ACTIONS = ("list", "rotate")


class keys(Command):  # noqa: N801 Faust names a command by its class
    """Keys that seal: `list` their names; `rotate`: a new one before those in the key file."""

    options = [argument("action", metavar="ACTION")]

    def perform(self, **options: Any) -> int:
        """Do what was asked for."""
        action = options["action"]
        if action not in ACTIONS:
            raise BadRequestError(f"{action}: one of {', '.join(ACTIONS)}")
        sources = self.app.settings.key_sources()
        if not sources:
            raise SettingsError("nothing is sealed here: set HOOKSTREAM_KEY_URL (docs/sealing.md)")
        if action == "rotate":
            first = sources[0]
            if not isinstance(first, KeyFile):
                raise SettingsError(
                    "only a key file is rotated here: put the new key's URL first in "
                    "HOOKSTREAM_KEY_URL, and keep the old one behind it (docs/sealing.md)"
                )
            first.rotate()
        names = [key.name for source in sources for key in source.wrapping_keys()]
        for number, name in enumerate(names):
            self.stdout.write(f"{name}  {'opens' if number else 'seals and opens'}\n")
        return 0
