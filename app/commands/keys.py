"""``hookstream keys``: the keys by which secrets and payloads are sealed."""

import asyncio
from typing import Any

from faust.cli.base import argument, option

from hookstream.app.commands.client import ApiClient, quoted
from hookstream.app.commands.command import Command
from hookstream.app.errors import BadRequestError, SettingsError
from hookstream.app.keyring.wrapping import KeyFile

__all__ = ["keys"]

ACTIONS = ("list", "status", "rotate", "rewrap", "shred")


class keys(Command):  # noqa: N801 Faust names a command by its class
    """Keys that seal. `list`: names of wrapping keys; `rotate`: a new one before those in the key
    file; `status`: data keys, a tenant and month each; `rewrap`: wrap them by the first key now;
    `shred`: destroy a month's, and so all that it has sealed.
    """

    options = [
        argument("action", metavar="ACTION"),
        option("--tenant", default="", help="Whose data keys; the admin key's by default."),
        option("--month", default="", help="With shred: 2026-11, say; it has to be over (UTC)."),
        option("--yes", is_flag=True, help="With shred: do not ask."),
        option("--url", default="", help="Where to; http://HOST:PORT of the settings by default."),
    ]

    def perform(self, **options: Any) -> int:
        """Do what was asked for."""
        action = options["action"]
        if action not in ACTIONS:
            raise BadRequestError(f"{action}: one of {', '.join(ACTIONS)}")
        if action in ("list", "rotate"):
            return self._of_file(action)
        if action == "shred" and not options["month"]:
            raise BadRequestError("--month: which one's key is to be destroyed; 2026-11, say")
        return asyncio.run(self._of_data(**options))

    def _of_file(self, action: str) -> int:
        sources = self.settings.key_sources()
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

    async def _of_data(self, *, action: str, tenant: str, month: str, yes: bool, url: str) -> int:
        async with ApiClient(self.settings, url) as api:
            found = await api.call("GET", "/data-keys", tenant=tenant)
            if action == "status":
                return self._show(found)
            if action == "rewrap":
                done = await api.call("POST", "/data-keys/rewrap")
                self._print(f"{done['rewrapped']} data keys are wrapped by {done['wraps']} now")
                return 0
            whose = f"{found['tenant']}/{month}"
            if not yes:
                self._print(
                    "Payloads, updates, dictionaries and all else that was sealed for "
                    f"{whose} become unreadable for good, wherever they are, in backups too."
                )
                if self._asked(f"Type {whose} to destroy its key: ") != whose:
                    self._print("nothing was destroyed")
                    return 1
            await api.call("DELETE", f"/data-keys/{quoted(month)}", tenant=tenant, confirm=whose)
        self._print(f"the data key of {whose} is destroyed; every process forgets it in seconds")
        self._print(
            "A backup of PostgreSQL from before has it still, wrapped: rotate the wrapping key, "
            "rewrap, and destroy the old one (docs/sealing.md)"
        )
        return 0

    def _show(self, found: dict[str, Any]) -> int:
        by = found["wraps"] or "no key"
        self._print(f"new payloads of {found['tenant']}: {found['payloads']}; {by} wraps")
        for key in found["data_keys"]:
            state = f"wrapped by {key['wrapped_by']}"
            if key["shredded_at"]:
                state = f"destroyed {key['shredded_at'][:19]}"
            elif key["missing"]:
                state = f"MISSING: {key['missing']}"
            self._print(f"{key['month']}  {key['key_id']}  {state}")
        return 1 if any(key["missing"] for key in found["data_keys"]) else 0

    @staticmethod
    def _asked(text: str) -> str:
        try:
            return input(text).strip()
        except EOFError:
            return ""

    def _print(self, text: str) -> None:
        self.stdout.write(f"{text}\n")
