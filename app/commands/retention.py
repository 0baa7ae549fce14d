"""``hookstream retention``: policies that delete before a tool's time, and what they did."""

from typing import Any

from faust.cli.base import argument, option

from hookstream.app.commands.api_command import API_OPTIONS, ApiCommand
from hookstream.app.commands.client import ApiClient, quoted
from hookstream.app.commands.command import columns
from hookstream.app.errors import BadRequestError

__all__ = ["retention"]

PAGE = 1000


class retention(ApiCommand):  # noqa: N801 Faust names a command by its class
    """Retention policies: `list`, `set ID`, `delete ID`, and `proof ID` of what one has deleted."""

    actions = ("list", "set", "delete", "proof")
    options = [
        argument("action", metavar="ACTION"),
        argument("policy_id", metavar="[POLICY_ID]", required=False, default=""),
        option("--delete-after", default="", help="set: when events go, such as 30d."),
        option("--tool", default="", help="set: only events of this tool."),
        option("--types", default="", help="set: only of these types; * stands for anything."),
        option("--data-class", default="", help="set: only with data of this class."),
        option("--reason", default="", help="set: why."),
        *API_OPTIONS,
    ]

    def check(self, *, action: str, policy_id: str, delete_after: str, **options: Any) -> None:
        """All but a list are of one policy, and one that is set says when events go."""
        if (action != "list") != bool(policy_id):
            raise BadRequestError(f"{action}: {'which policy?' if action != 'list' else 'no id'}")
        if action == "set" and not delete_after:
            raise BadRequestError("set: say when events go with --delete-after, such as 30d")

    async def ask(self, api: ApiClient, *, action: str, policy_id: str = "", **given: str) -> None:
        """List, set or delete, or show the proof of what was deleted."""
        path = f"/retention-policies/{quoted(policy_id)}"
        match action:
            case "list":
                shown = await api.call("GET", "/retention-policies")
                self.tell(shown, table(shown["policies"]))
            case "set":
                body = {name: value for name, value in given.items() if value}
                shown = await api.call("PUT", path, body=body)
                self.tell(shown, table([shown]))
            case "delete":
                await api.call("DELETE", path)
                self.tell({"deleted": policy_id}, f"{policy_id} is deleted")
            case _:
                runs = await api.everything(f"{path}/proof", "runs", PAGE)
                self.tell({"runs": runs, "cursor": None}, proof(runs))


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
