"""``hookstream erase``: events, a tool's, a context's or all data, or whatever names a person."""

import asyncio
import json
import math
import sys
from typing import Any

import click
from faust.cli.base import argument, option

from hookstream.app.commands.client import ApiClient, quoted
from hookstream.app.commands.command import Command, columns
from hookstream.app.errors import BadRequestError

__all__ = ["erase"]

KINDS = ("event", "tool", "context", "tenant", "subject")
ACTIONS = (*KINDS, "list", "show")
LOOK_SECONDS = 0.5
#: For how long it is waited while something cannot be erased and no step gets done.
PATIENCE_SECONDS = 30.0
#: How many there are in a list.
LISTED = "50"


class erase(Command):  # noqa: N801 Faust names a command by its class
    """Erase: `event ID…`, `tool ID`, `context ID`, `tenant`, or `subject VALUE…` of one person.

    `list` and `show ID` tell how far erasures have come. `subject -` reads values from standard
    input, a line each: they are in no shell's history then.
    """

    options = [
        argument("what", metavar="WHAT"),
        argument("values", metavar="[VALUE]...", nargs=-1),
        option("--dry-run", is_flag=True, help="Count what there is; take nothing out."),
        option("--yes", is_flag=True, help="Do not ask."),
        option("--reason", default="", help="Why, for the audit trail; never whose data it is."),
        option("--no-wait", is_flag=True, help="Do not wait for its end."),
        option("--json", "as_json", is_flag=True, help="Print JSON."),
        option("--url", default="", help="Where to; http://HOST:PORT of the settings by default."),
    ]

    def perform(self, **options: Any) -> int:
        """Do what was asked for; 1 where an erasure is not done, and nobody waits any more."""
        what, values = options["what"], list(options["values"])
        if what not in ACTIONS:
            raise BadRequestError(f"{what}: one of {', '.join(ACTIONS)}")
        if what == "subject" and values == ["-"]:
            values = [line.strip() for line in sys.stdin if line.strip()]
        options["values"] = values
        _check(what, values)
        if what in KINDS and not (options["yes"] or options["dry_run"]):
            self._ask(what, values)
        return asyncio.run(self._run(**options))

    def _ask(self, what: str, values: list[str]) -> None:
        named = f"{len(values)} values" if what == "subject" else " ".join(values[:5])
        click.confirm(
            f"What is erased cannot be brought back. Erase {what} {named}?".replace("  ", " "),
            abort=True,
            err=True,
        )

    async def _run(
        self,
        *,
        what: str,
        values: list[str],
        dry_run: bool,
        yes: bool,
        reason: str,
        no_wait: bool,
        as_json: bool,
        url: str,
    ) -> int:
        async with ApiClient(self.settings, url) as api:
            if what == "list":
                found = await api.call("GET", "/erasures", limit=LISTED)
                text = json.dumps(found, indent=2) if as_json else table(found["erasures"])
                self.stdout.write(text + "\n")
                return 0
            if what == "show":
                shown = await api.call("GET", f"/erasures/{quoted(values[0])}")
            else:
                body = {**_body(what, values), "reason": reason, "dry_run": dry_run}
                shown = await api.call("POST", "/erasures", body=body)
                if not no_wait:
                    shown = await self._watch(api, shown)
        self.stdout.write((json.dumps(shown, indent=2) if as_json else told(shown)) + "\n")
        return 0 if shown["status"] == "done" or no_wait or what == "show" else 1

    async def _watch(self, api: ApiClient, shown: dict[str, Any]) -> dict[str, Any]:
        """Wait for its end; where something keeps it, for no longer than a while."""
        path = f"/erasures/{shown['erasure_id']}"
        patience, steps = PATIENCE_SECONDS, shown["steps_done"]
        while shown["status"] in ("running", "open") and patience > 0:
            if self.stderr.isatty():
                line = how_far(shown)
                self.stderr.write(f"\r{line[:100]:<100}\r")
                self.stderr.flush()
            await asyncio.sleep(LOOK_SECONDS)
            shown = dict(await api.call("GET", path))
            if shown["status"] == "open":
                patience -= LOOK_SECONDS
            if shown["steps_done"] > steps:
                patience, steps = PATIENCE_SECONDS, shown["steps_done"]
        return shown


def _check(what: str, values: list[str]) -> None:
    wanted = {"tool": 1, "context": 1, "show": 1, "tenant": 0, "list": 0}
    if what in wanted and len(values) != wanted[what]:
        raise BadRequestError(f"erase {what}: {wanted[what] or 'no'} value behind it")
    if what in ("event", "subject") and not values:
        raise BadRequestError(f"erase {what}: which? Give at least one value")


def _body(what: str, values: list[str]) -> dict[str, Any]:
    if what == "event":
        return {"events": values}
    if what == "subject":
        return {"subject": values}
    return {"tenant": True} if what == "tenant" else {what: values[0]}


def how_far(shown: dict[str, Any]) -> str:
    """How far an erasure is that goes on, as one line."""
    parts = [f"{shown['steps_done']} of {shown['steps']} steps"]
    if shown["to_look_at"]:
        parts.append(f"{shown['looked_at']:,} of {shown['to_look_at']:,} looked through")
    if shown["seconds_left"] is not None:
        parts.append(f"about {duration(shown['seconds_left'])} left")
    return ", ".join(parts) + (f"; {shown['detail']}" if shown["detail"] else "")


def duration(seconds: float) -> str:
    """Some seconds, as roughly as anybody needs to know.

    >>> duration(7.2), duration(150), duration(9000)
    ('8 s', '3 min', '2.5 h')
    """
    if seconds < 120:
        return f"{math.ceil(seconds)} s"
    return f"{math.ceil(seconds / 60)} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def table(erasures: list[dict[str, Any]]) -> str:
    """Erasures for people, a line each."""
    rows = [("erasure", "kind", "status", "found", "left", "how far, what keeps it")]
    rows += [
        (
            one["erasure_id"],
            one["kind"] + (" (dry run)" if one["dry_run"] else ""),
            one["status"],
            str(sum(place["found"] for place in one["places"])),
            str(sum(place["left"] for place in one["places"])),
            "" if one["status"] == "done" else how_far(one)[:100],
        )
        for one in erasures
    ]
    return "\n".join(columns(rows))


def told(shown: dict[str, Any]) -> str:
    """An erasure and its receipt, for people."""
    rows = [("place", "found", "erased", "left")]
    rows += [
        (place["place"], str(place["found"]), str(place["erased"]), str(place["left"]))
        for place in shown["places"]
    ]
    lines = [
        f"{shown['erasure_id']}  {shown['kind']}, {shown['status']}"
        + (" (dry run: nothing was taken out)" if shown["dry_run"] else ""),
        *(columns(rows) if len(rows) > 1 else ["nothing was found"]),
        *(f"{one['place']}: {one['detail']}" for one in shown["places"] if one["detail"]),
    ]
    if shown["detail"]:
        lines.append(f"not done: {shown['detail']}; it is tried again")
    return "\n".join(lines)
