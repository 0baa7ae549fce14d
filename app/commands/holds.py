"""``hookstream holds``: what is deleted by nothing, until somebody says so."""

from typing import Any

from faust.cli.base import argument, option

from hookstream.app.commands.api_command import API_OPTIONS, ApiCommand
from hookstream.app.commands.client import ApiClient, quoted
from hookstream.app.commands.command import columns
from hookstream.app.errors import BadRequestError

__all__ = ["holds"]

RANGE = ("tool", "context", "first_event", "last_event", "since", "until")
PAGE = 1000


class holds(ApiCommand):  # noqa: N801 Faust names a command by its class
    """Legal holds: `list`, `place` one of a tool, context, range or all, `release ID`."""

    actions = ("list", "place", "release")
    options = [
        argument("action", metavar="ACTION"),
        argument("hold_id", metavar="[HOLD_ID]", required=False, default=""),
        option("--reason", default="", help="Why it is placed, or released."),
        option("--tool", default="", help="place: only events of this tool."),
        option("--context", default="", help="place: only the feed of this context."),
        option("--first-event", default="", help="place: events from this id on."),
        option("--last-event", default="", help="place: events up to this id."),
        option("--since", default="", help="place: events received at or after this time."),
        option("--until", default="", help="place: events received before this time."),
        *API_OPTIONS,
    ]

    def check(self, *, action: str, hold_id: str, reason: str, **options: Any) -> None:
        """An id is for a release, and what changes something says why."""
        if (action == "release") != bool(hold_id):
            raise BadRequestError("release, and nothing else, takes the id of a hold")
        if action != "list" and not reason:
            raise BadRequestError(f"{action}: say why with --reason; it stands in the audit trail")

    async def ask(
        self, api: ApiClient, *, action: str, hold_id: str = "", reason: str = "", **given: str
    ) -> None:
        """List, place or release."""
        if action == "list":
            found = await api.everything("/holds", "holds", PAGE)
            self.tell({"holds": found, "cursor": None}, table(found))
            return
        if action == "place":
            wanted = {name: given[name] for name in RANGE if given[name]}
            shown = await api.call("POST", "/holds", body={**wanted, "reason": reason})
        else:
            path = f"/holds/{quoted(hold_id)}/release"
            shown = await api.call("POST", path, body={"reason": reason})
        self.tell(shown, table([shown]))


def table(found: list[dict[str, Any]]) -> str:
    """Holds for people, a line each."""
    rows = [("hold", "of", "events", "placed", "released", "reason")]
    for one in found:
        of = ", ".join(f"{name} {one[name]}" for name in ("tool", "context") if one[name])
        ends = [one["first_event"], one["last_event"]]
        rows.append(
            (
                one["hold_id"],
                of or "everything",
                "all" if not any(ends) else " to ".join(end or "…" for end in ends),
                one["placed_at"][:19],
                (one["released_at"] or "")[:19],
                one["reason"],
            )
        )
    return "\n".join(columns(rows))
