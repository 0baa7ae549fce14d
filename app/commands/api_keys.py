"""``hookstream api-keys``: keys of programs and agents from a shell."""

import asyncio
import json
from typing import Any

from faust.cli.base import argument, option

from hookstream.app.commands.client import ApiClient, quoted
from hookstream.app.commands.command import Command, columns
from hookstream.app.durations import duration_seconds
from hookstream.app.errors import BadRequestError
from hookstream.app.roles import KEY_ROLES, Role

__all__ = ["api_keys"]

ACTIONS = ("list", "make", "rotate", "revoke")
PAGE = "100"


class api_keys(Command):  # noqa: N801 Faust names a command by its class
    """API keys: `list` them, `make` one with a role, `rotate` (renew) or `revoke` by id."""

    options = [
        argument("action", metavar="ACTION"),
        argument("ids", metavar="[ID]...", nargs=-1),
        option("--role", default="", help=f"make: one of {', '.join(KEY_ROLES)}."),
        option("--name", default="", help="make: what it is for."),
        option("--context", "contexts", multiple=True, help="make, agent: one that it may read."),
        option("--expires", default="", help="make: until when it counts (RFC 3339)."),
        option("--grace", default="24h", help="rotate: how long the old one counts; 0: no longer."),
        option("--json", "as_json", is_flag=True, help="Print JSON."),
        option("--url", default="", help="Where to; http://HOST:PORT of the settings by default."),
    ]

    def perform(self, **options: Any) -> int:
        """Do what was asked for."""
        action, ids = options["action"], options["ids"]
        if action not in ACTIONS:
            raise BadRequestError(f"{action}: one of {', '.join(ACTIONS)}")
        if bool(ids) != (action in ("rotate", "revoke")):
            raise BadRequestError(
                f"{action} which? `hookstream api-keys list` has the ids"
                if not ids
                else f"{action} takes no ids"
            )
        return asyncio.run(self._run(**options))

    async def _run(
        self, *, action: str, ids: tuple[str, ...], url: str, as_json: bool, **rest: Any
    ) -> int:
        async with ApiClient(self.app.settings, url) as api:
            if action == "list":
                self._show(await _all(api), as_json)
            elif action == "make":
                self._show_made(await api.call("POST", "/api-keys", body=_wanted(rest)), as_json)
            for key_id in ids:
                path = f"/api-keys/{quoted(key_id)}"
                if action == "revoke":
                    await api.call("DELETE", path)
                    self._print(f"revoked: {key_id}")
                else:
                    body = {"grace_seconds": _grace(rest["grace"])}
                    self._show_made(await api.call("POST", f"{path}/rotate", body=body), as_json)
        return 0

    def _show(self, keys: list[dict[str, Any]], as_json: bool) -> None:
        if as_json:
            self._print(json.dumps(keys, indent=2))
            return
        if not keys:
            self._print("no keys")
            return
        rows = [
            (
                key["key_id"],
                key["role"],
                f"{key['prefix']}…" if key["prefix"] else "",
                f"used {_minute(key['last_used_at'])}" if key["last_used_at"] else "never used",
                f"until {_minute(key['expires_at'])}" if key["expires_at"] else "",
                key["name"] or ", ".join(key["contexts"]),
            )
            for key in keys
        ]
        for line in columns(rows):
            self._print(line)

    def _show_made(self, made: dict[str, Any], as_json: bool) -> None:
        if as_json:
            self._print(json.dumps(made, indent=2))
            return
        until = made["previous_until"]
        also = f"; the one before counts until {_minute(until)}" if until else ""
        self._print(f"{made['key_id']}  {made['role']}{also}. The key is not shown again:")
        self._print(made["key"])

    def _print(self, text: str) -> None:
        self.stdout.write(text + "\n")


async def _all(api: ApiClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = await api.call("GET", "/api-keys", limit=PAGE, cursor=cursor)
        found += page["keys"]
        cursor = page["cursor"] or ""
        if not cursor:
            return found


def _wanted(given: dict[str, Any]) -> dict[str, Any]:
    if not given["role"]:
        raise BadRequestError(f"--role: one of {', '.join(KEY_ROLES)}")
    if (given["role"] == Role.AGENT) != bool(given["contexts"]):
        raise BadRequestError("--context goes with --role agent, which names what it may read")
    wanted = {"role": given["role"], "name": given["name"], "contexts": list(given["contexts"])}
    return {**wanted, "expires_at": given["expires"]} if given["expires"] else wanted


def _grace(text: str) -> int:
    try:
        return 0 if text == "0" else duration_seconds(text)
    except ValueError as error:
        raise BadRequestError(f"--grace: {error}, or 0") from error


def _minute(time: str) -> str:
    return time[:16]
