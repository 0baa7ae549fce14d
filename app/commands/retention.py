"""``hookstream retention``: policies that delete before a tool's time, and what they did."""

import asyncio
import json
from typing import Any

from faust.cli.base import argument, option

from hookstream.app.commands.client import ApiClient, quoted
from hookstream.app.commands.command import Command, columns
from hookstream.app.errors import BadRequestError

__all__ = ["retention"]

ACTIONS = ("list", "set", "delete", "proof")
LISTED = "1000"


class retention(Command):  # noqa: N801 Faust names a command by its class
    """Retention policies: `list`, `set ID`, `delete ID`, and `proof ID` of what one has deleted."""

    options = [
        argument("action", metavar="ACTION"),
        argument("policy_id", metavar="[POLICY_ID]", required=False, default=""),
        option("--delete-after", default="", help="set: when events go, such as 30d."),
        option("--tool", default="", help="set: only events of this tool."),
        option("--types", default="", help="set: only of these types; * stands for anything."),
        option("--data-class", default="", help="set: only with data of this class."),
        option("--reason", default="", help="set: why."),
        option("--json", "as_json", is_flag=True, help="Print JSON."),
        option("--url", default="", help="Where to; http://HOST:PORT of the settings by default."),
    ]

    def perform(self, **options: Any) -> int:
        """Do what was asked for."""
        action = options["action"]
        if action not in ACTIONS:
            raise BadRequestError(f"{action}: one of {', '.join(ACTIONS)}")
        if (action != "list") != bool(options["policy_id"]):
            raise BadRequestError(f"{action}: {'which policy?' if action != 'list' else 'no id'}")
        if action == "set" and not options["delete_after"]:
            raise BadRequestError("set: say when events go with --delete-after, such as 30d")
        return asyncio.run(self._run(**options))

    async def _run(
        self, *, action: str, policy_id: str, as_json: bool, url: str, **given: str
    ) -> int:
        path = f"/retention-policies/{quoted(policy_id)}"
        async with ApiClient(self.app.settings, url) as api:
            match action:
                case "list":
                    shown = await api.call("GET", "/retention-policies")
                    text = table(shown["policies"])
                case "set":
                    body = {name: value for name, value in given.items() if value}
                    shown = await api.call("PUT", path, body=body)
                    text = table([shown])
                case "delete":
                    await api.call("DELETE", path)
                    shown, text = {"deleted": policy_id}, f"{policy_id} is deleted"
                case _:
                    shown = await api.call("GET", f"{path}/proof", limit=LISTED)
                    text = proof(shown["runs"])
        self.stdout.write((json.dumps(shown, indent=2) if as_json else text) + "\n")
        return 0


def table(policies: list[dict[str, Any]]) -> str:
    """Policies for people, a line each."""
    rows = [("policy", "deletes after", "tool", "types", "data class", "reason")]
    rows += [
        (
            one["policy_id"],
            one["delete_after"],
            one["tool"] or "any",
            one["types"] or "any",
            one["data_class"] or "any",
            one["reason"],
        )
        for one in policies
    ]
    return "\n".join(columns(rows))


def proof(runs: list[dict[str, Any]]) -> str:
    """What was deleted, for people, a line a run."""
    if not runs:
        return "nothing has been deleted by it"
    rows = [("run", "at", "tier", "tool", "events", "from", "to")]
    rows += [
        (
            str(one["run_id"]),
            one["at"][:19],
            one["tier"],
            one["tool"],
            str(one["deleted"]),
            one["first_event"],
            one["last_event"],
        )
        for one in runs
    ]
    return "\n".join(columns(rows))
