"""``hookstream holds``: what is deleted by nothing, until somebody says so."""

import asyncio
import json
from typing import Any

from faust.cli.base import argument, option

from hookstream.app.commands.client import ApiClient, quoted
from hookstream.app.commands.command import Command, columns
from hookstream.app.errors import BadRequestError

__all__ = ["holds"]

ACTIONS = ("list", "place", "release")
RANGE = ("tool", "context", "first_event", "last_event", "since", "until")
LISTED = "1000"


class holds(Command):  # noqa: N801 Faust names a command by its class
    """Legal holds: `list`, `place` one of a tool, context, range or all, `release ID`."""

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
        option("--json", "as_json", is_flag=True, help="Print JSON."),
        option("--url", default="", help="Where to; http://HOST:PORT of the settings by default."),
    ]

    def perform(self, **options: Any) -> int:
        """Do what was asked for."""
        action = options["action"]
        if action not in ACTIONS:
            raise BadRequestError(f"{action}: one of {', '.join(ACTIONS)}")
        if (action == "release") != bool(options["hold_id"]):
            raise BadRequestError("release, and nothing else, takes the id of a hold")
        if action != "list" and not options["reason"]:
            raise BadRequestError(f"{action}: say why with --reason; it stands in the audit trail")
        return asyncio.run(self._run(**options))

    async def _run(
        self, *, action: str, hold_id: str, reason: str, as_json: bool, url: str, **given: str
    ) -> int:
        async with ApiClient(self.app.settings, url) as api:
            if action == "list":
                shown = await api.call("GET", "/holds", limit=LISTED)
                found = shown["holds"]
            elif action == "place":
                wanted = {name: given[name] for name in RANGE if given[name]}
                shown = await api.call("POST", "/holds", body={**wanted, "reason": reason})
                found = [shown]
            else:
                path = f"/holds/{quoted(hold_id)}/release"
                shown = await api.call("POST", path, body={"reason": reason})
                found = [shown]
        self.stdout.write((json.dumps(shown, indent=2) if as_json else table(found)) + "\n")
        return 0


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
