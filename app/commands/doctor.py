"""``hookstream doctor``: looks for what is wrong, and changes nothing."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from faust.cli.base import option

from hookstream.app.commands.client import ApiClient
from hookstream.app.commands.command import Command

__all__ = ["Losses", "doctor"]

PAGE = "1000"
#: Ids that a line names.
NAMED = 5


@dataclass(slots=True)
class Losses:
    """What was lost of one kind; from when to when (RFC 3339), and which events."""

    count: int = 0
    first: str = ""
    last: str = ""
    event_ids: list[str] = field(default_factory=list)

    def add(self, event_id: str, at: str | None) -> None:
        """One more, received at that time."""
        self.count += 1
        self.event_ids.append(event_id)
        if at:
            self.first = min(self.first or at, at)
            self.last = max(self.last, at)

    def line(self) -> str:
        """For a person."""
        named = ", ".join(self.event_ids[:NAMED])
        more = f" and {self.count - NAMED} more" if self.count > NAMED else ""
        return f"{self.count}, received {self.first[:19]} to {self.last[:19]}: {named}{more}"


def by_tool(rows: Iterable[Mapping[str, Any]]) -> dict[str, Losses]:
    """Rows as losses of each tool; an event counts once."""
    found: dict[str, Losses] = {}
    for row in rows:
        losses = found.setdefault(row["tool_id"] or "(unknown)", Losses())
        losses.add(row["event_id"], row["received_at"])
    return found


class doctor(Command):  # noqa: N801 Faust names a command by its class
    """Look for what is wrong: by what /health says. `--loss`: what the event log knows and Redis
    has lost.

    Ends with 1 where anything is wrong, or was lost.
    """

    options = [
        option("--loss", is_flag=True, help="What the event log knows and Redis has lost."),
        option("--json", "as_json", is_flag=True, help="Print JSON, with the ids of all."),
        option("--url", default="", help="Where to; http://HOST:PORT of the settings by default."),
    ]

    def perform(self, **options: Any) -> int:
        """Look, and print."""
        loss = options.pop("loss")
        return asyncio.run(self._run(**options) if loss else self._look(**options))

    async def _look(self, *, as_json: bool, url: str) -> int:
        async with ApiClient(self.settings, url) as api:
            health = await api.health()
        wrong = {name: part for name, part in health["parts"].items() if part["status"] != "ok"}
        if as_json:
            self._print(json.dumps(health, indent=2))
        else:
            self._print(redis_line(health["parts"]["redis"]))
            for name, part in wrong.items():
                said = {key: value for key, value in part.items() if key != "status"}
                self._print(f"{name}: {part['status']}: {json.dumps(said)}")
            if held := health["parts"].get("postgres", {}).get("row_security_trouble"):
                self._print(f"row-level security does not hold tenants: {held}")
            for key_id, why in health["parts"].get("sealing", {}).get("missing_keys", {}).items():
                self._print(f"data key {key_id} is missing, what needs it waits: {why}")
            count = len(health["parts"])
            found = f"{len(wrong)} of {count} parts are not" if wrong else f"{count} parts are"
            self._print(f"{health['status']}: {found} well")
        return 1 if wrong else 0

    async def _run(self, *, as_json: bool, url: str) -> int:
        contexts: dict[str, dict[str, Losses]] = {}
        async with ApiClient(self.settings, url) as api:
            named, _ = await _pages(api, "/contexts", "contexts")
            for context in named:
                name = context["context_id"]
                rows, _ = await _pages(api, "/losses/deliveries", "deliveries", context=name)
                if rows:
                    contexts[name] = by_tool(rows)
            rows, complete = await _pages(api, "/losses/events", "events")
            spooled = await api.spooled()
        events = by_tool(rows)
        if as_json:
            shown = {
                "contexts": {name: _out(tools) for name, tools in contexts.items()},
                "events": _out(events),
                "complete": complete,
                "spooled": spooled,
            }
            self._print(json.dumps(shown, indent=2))
        else:
            self._show(contexts, events, complete, spooled)
        return 1 if contexts or events else 0

    def _show(
        self,
        contexts: Mapping[str, Mapping[str, Losses]],
        events: Mapping[str, Losses],
        complete: bool,
        spooled: int | None,
    ) -> None:
        for name, tools in contexts.items():
            for tool, losses in tools.items():
                self._print(f"context {name}, tool {tool}: updates gone from the feed: ")
                self._print(f"  {losses.line()}")
        for tool, losses in events.items():
            self._print(f"tool {tool}: events that were accepted and are nowhere: ")
            self._print(f"  {losses.line()}")
        if not complete:
            self._print("more is on its way than was looked through: some of these may be there")
        if spooled:
            self._print(f"{spooled} events are in the spool there: they come by themselves")
        if not contexts and not events:
            self._print("nothing that the event log knows is missing in Redis")

    def _print(self, text: str) -> None:
        self.stdout.write(text + "\n")


def redis_line(part: Mapping[str, Any]) -> str:
    """How full Redis is, and what it does when it is."""
    most = f"of {part['max_bytes']}" if part["max_bytes"] else "and no maxmemory"
    kept = f"{part['policy']}, {part['persistence']}"
    return f"redis: {part['used_bytes']} bytes used {most}, {part['memory']}, {kept}"


def _out(tools: Mapping[str, Losses]) -> dict[str, Any]:
    return {
        tool: {
            "count": losses.count,
            "first_received_at": losses.first,
            "last_received_at": losses.last,
            "event_ids": losses.event_ids,
        }
        for tool, losses in tools.items()
    }


async def _pages(
    api: ApiClient, path: str, name: str, **query: str
) -> tuple[list[dict[str, Any]], bool]:
    """All rows of a list, and whether each page was complete."""
    rows: list[dict[str, Any]] = []
    cursor, complete = "", True
    while True:
        page = await api.call("GET", path, limit=PAGE, cursor=cursor, **query)
        rows += page[name]
        complete = complete and page.get("complete", True)
        cursor = page["cursor"] or ""
        if not cursor:
            return rows, complete
