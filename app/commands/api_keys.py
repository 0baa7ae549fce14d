"""``hookstream api-keys``: keys of programs and agents from a shell."""

from typing import Any

from faust.cli.base import argument, option

from hookstream.app.commands.api_command import API_OPTIONS, ApiCommand
from hookstream.app.commands.client import ApiClient, quoted
from hookstream.app.commands.command import columns
from hookstream.app.durations import duration_seconds
from hookstream.app.errors import BadRequestError
from hookstream.app.roles import KEY_ROLES, Role

__all__ = ["api_keys"]

PAGE = 100


class api_keys(ApiCommand):  # noqa: N801 Faust names a command by its class
    """API keys: `list` them, `make` one with a role, `rotate` (renew) or `revoke` by id."""

    actions = ("list", "make", "rotate", "revoke")
    options = [
        argument("action", metavar="ACTION"),
        argument("ids", metavar="[ID]...", nargs=-1),
        option("--role", default="", help=f"make: one of {', '.join(KEY_ROLES)}."),
        option("--name", default="", help="make: what it is for."),
        option("--context", "contexts", multiple=True, help="make, agent: one that it may read."),
        option("--expires", default="", help="make: until when it counts (RFC 3339)."),
        option("--grace", default="24h", help="rotate: how long the old one counts; 0: no longer."),
        *API_OPTIONS,
    ]

    def check(self, *, action: str, ids: tuple[str, ...], **options: Any) -> None:
        """Ids are for what is done to keys that there are."""
        if bool(ids) != (action in ("rotate", "revoke")):
            raise BadRequestError(
                f"{action} which? `hookstream api-keys list` has the ids"
                if not ids
                else f"{action} takes no ids"
            )

    async def ask(
        self, api: ApiClient, *, action: str, ids: tuple[str, ...] = (), **rest: Any
    ) -> None:
        """List or make keys, or do something to each of some."""
        if action == "list":
            found = await api.everything("/api-keys", "keys", PAGE)
            self.tell(found, table(found))
        elif action == "make":
            made = await api.call("POST", "/api-keys", body=_wanted(rest))
            self.tell(made, _told(made))
        for key_id in ids:
            path = f"/api-keys/{quoted(key_id)}"
            if action == "revoke":
                await api.call("DELETE", path)
                self.stdout.write(f"revoked: {key_id}\n")
            else:
                # at once: the key is shown this time only, whatever becomes of the next one
                body = {"grace_seconds": _grace(rest["grace"])}
                made = await api.call("POST", f"{path}/rotate", body=body)
                self.tell(made, _told(made))


def table(keys: list[dict[str, Any]]) -> str:
    """Keys for people, a line each."""
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
    return "\n".join(columns(rows)) if rows else "no keys"


def _told(made: dict[str, Any]) -> str:
    until = made["previous_until"]
    also = f"; the one before counts until {_minute(until)}" if until else ""
    said = f"{made['key_id']}  {made['role']}{also}. The key is not shown again:"
    return f"{said}\n{made['key']}"


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
