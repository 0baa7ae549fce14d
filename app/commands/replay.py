"""``hookstream replay``: send events through the pipeline again, and watch how far it has come."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click
from faust.cli.base import argument, option

from hookstream.app.commands.client import ApiClient, quoted
from hookstream.app.commands.command import Command
from hookstream.app.errors import BadRequestError

__all__ = ["replay"]

FILTERS = ("tool", "type", "status", "context", "since", "until", "imported")
LOOK_SECONDS = 0.2


class replay(Command):  # noqa: N801 Faust names a command by its class
    """Send events again: by id, or what a filter matches. Marked as replays, never new events."""

    options = [
        argument("ids", metavar="[EVENT_ID]...", nargs=-1),
        option("--tool", default="", help="Only events of this tool."),
        option("--type", default="", help="Only of this type; * stands for anything."),
        option("--status", default="", help="Only with this status (accepted, unrouted, …)."),
        option("--context", default="", help="Only those that reached this context; to it alone."),
        option("--since", default="", help="Only those received at or after this time."),
        option("--until", default="", help="Only those received before this time."),
        option(
            "--imported", default="", metavar="IMPORT_ID", help="Only what came by this import."
        ),
        option("--all", "everything", is_flag=True, help="All recorded events."),
        option("--to", default="", help="Send them to this context, whatever it subscribes to."),
        option("--rate", default=100.0, help="Events a second; 100 by default."),
        option("--list", "listing", is_flag=True, help="List the newest replays."),
        option("--cancel", default="", metavar="REPLAY_ID", help="Send no more of this replay."),
        option("--no-wait", is_flag=True, help="Do not wait for its end."),
        option("--url", default="", help="Where to; http://HOST:PORT of the settings by default."),
    ]

    def perform(self, **options: Any) -> int:
        """Do what was asked for; 1 when some of it ended as dead letters."""
        return asyncio.run(self._run(**options))

    async def _run(self, *, ids: tuple[str, ...], url: str, **rest: Any) -> int:
        async with ApiClient(self.settings, url) as api:
            if rest["listing"]:
                for shown in (await api.call("GET", "/replays"))["replays"]:
                    self._print(line(shown))
                return 0
            if rest["cancel"]:
                shown = await api.call("POST", f"/replays/{quoted(rest['cancel'])}/cancel")
                self._print(line(shown))
                return 0
            wanted = {name: rest[name] for name in FILTERS if rest[name]}
            if rest["everything"]:
                wanted.setdefault("until", datetime.now(UTC).isoformat())
            if bool(ids) == bool(wanted):
                raise BadRequestError("replay which? Give event ids, or a filter, or --all")
            target = {"context_id": rest["to"]} if rest["to"] else {}
            bodies = [{"event_id": event_id} for event_id in ids] or [
                {**wanted, "rate": rest["rate"]}
            ]
            status = 0
            for body in bodies:
                shown = await api.call("POST", "/replays", body={**body, **target})
                if not rest["no_wait"]:
                    shown = await self._watch(api, shown)
                self._print(line(shown))
                status |= shown["status"] == "failed"
            return int(status)

    async def _watch(self, api: ApiClient, shown: dict[str, Any]) -> dict[str, Any]:
        """Show a bar until the replay has ended; Ctrl-C ends the watching only."""
        path = f"/replays/{shown['replay_id']}"
        with contextlib.ExitStack() as stack:
            stack.callback(self._explain, shown["replay_id"], lambda: shown["status"])
            bar = stack.enter_context(
                click.progressbar(
                    length=max(1, shown["matched"]), label="replayed", file=self.stderr
                )
            )
            while shown["status"] == "running":
                await asyncio.sleep(LOOK_SECONDS)
                shown = await api.call("GET", path)
                through = shown["sent" if shown.get("counts_more") else "processed"]
                bar.update(through + shown["missing"] - bar.pos)
            bar.finish()
        return shown

    def _explain(self, replay_id: str, status: Callable[[], str]) -> None:
        if status() == "running":
            self.stderr.write(
                f"\nThe replay goes on. `hookstream replay --cancel {replay_id}` ends it.\n"
            )

    def _print(self, text: str) -> None:
        self.stdout.write(text + "\n")


def line(shown: dict[str, Any]) -> str:
    """A replay in one line."""
    what = shown["event_id"] or json.dumps(shown["filter"])
    return (
        f"{shown['replay_id']}  {shown['status']}: {shown['processed']} of {shown['matched']} "
        f"processed, {shown['deliveries']} deliveries, {shown['dead']} dead, "
        f"{shown['missing']} without payload; {what}"
    )
