"""``hookstream migrate``: a tool's way from old workers to here, a step at a time, and back."""

import asyncio
import contextlib
import json
from datetime import UTC, datetime
from typing import Any

from faust.cli.base import argument, option

from hookstream.app.commands.client import TIMEOUT_SECONDS, ApiClient, quoted
from hookstream.app.commands.command import Command, columns
from hookstream.app.commands.comparison_report import merged, report
from hookstream.app.commands.old_results import ResultFile
from hookstream.app.commands.whole_file import WholeFile
from hookstream.app.errors import BadRequestError

__all__ = ["migrate"]

ACTIONS = ("status", "shift", "rollback", "confirm", "compare", "end")
#: Options of ``compare`` that go into its query as they are.
COMPARED = ("since", "until", "limit", "request_price", "cpu_price")
#: How long an answer may take: one hour of a busy tool has a million events.
COMPARED_SECONDS = 600.0


class migrate(Command):  # noqa: N801 Faust names a command by its class
    """Moving from old workers, of a TOOL: status, shift, rollback, confirm, compare, end."""

    options = [
        argument("action", metavar="ACTION"),
        argument("tool", metavar="TOOL"),
        option("--to", default="", help="shift: sqs, shadow, split, redis or only."),
        option("--percent", type=int, default=None, help="shift --to split: of ordering keys."),
        option("--mark", "marks", multiple=True, help="confirm: a hand-over that is through."),
        option("--all", "every", is_flag=True, help="confirm: all that are in the old queue."),
        option("--since", default="", help="compare: 24 hours ago by default."),
        option("--until", default="", help="compare: now by default."),
        option("--limit", default="", help="compare: events named of each cause; 10 by default."),
        option("--request-price", default="", help="compare: USD for a million SQS requests."),
        option("--cpu-price", default="", help="compare: USD for a core, an hour."),
        option("--results", default="", help="compare: what old workers did, as JSON lines."),
        option("--markdown", default="", help="compare: a file for the report; - prints it."),
        option("--json", "as_json", is_flag=True, help="Print JSON."),
        option("--url", default="", help="Where to; http://HOST:PORT of the settings by default."),
    ]

    def perform(self, **options: Any) -> int:
        """Do what was asked for."""
        action = options["action"]
        if action not in ACTIONS:
            raise BadRequestError(f"{action}: one of {', '.join(ACTIONS)}")
        if (action == "shift") != bool(options["to"]):
            raise BadRequestError("shift, and nothing else, takes --to MODE")
        if options["percent"] is not None and action != "shift":
            raise BadRequestError("--percent: of shift --to split, and nothing else")
        if (action == "confirm") != bool(options["marks"] or options["every"]):
            raise BadRequestError("confirm, and nothing else, takes --mark MARK or --all")
        if options["marks"] and options["every"]:
            raise BadRequestError("confirm takes --mark MARK, or --all, and not both")
        given = [name for name in (*COMPARED, "results", "markdown") if options[name]]
        if given and action != "compare":
            raise BadRequestError(f"--{given[0].replace('_', '-')}: of compare, and nothing else")
        return asyncio.run(self._run(**options))

    async def _run(
        self,
        *,
        action: str,
        tool: str,
        to: str,
        percent: int | None,
        marks: tuple[str, ...],
        every: bool,
        as_json: bool,
        url: str,
        **compared: str,
    ) -> int:
        path = f"/tools/{quoted(tool)}/migration"
        seconds = COMPARED_SECONDS if action == "compare" else TIMEOUT_SECONDS
        async with ApiClient(self.settings, url, seconds=seconds) as api:
            if action == "compare":
                return await self._compare(api, path, as_json=as_json, **compared)
            if action == "confirm":
                body = {"all": True} if every else {"marks": list(marks)}
                found = await api.call("POST", f"{path}/confirm", body=body)
                self._say(found, confirmed(found), as_json=as_json)
                return 1 if found["unknown"] else 0
            if action == "end":
                await api.call("DELETE", path)
                self._say({}, f"{tool} has moved: nothing is copied any more", as_json=as_json)
                return 0
            if action == "status":
                shown = await api.call("GET", path)
            else:
                body = {"rollback": True} if action == "rollback" else shift(to, percent)
                shown = await api.call("PUT", path, body=body)
        self._say(shown, table(shown), as_json=as_json)
        return 0

    async def _compare(
        self,
        api: ApiClient,
        path: str,
        *,
        as_json: bool,
        results: str,
        markdown: str,
        **query: str,
    ) -> int:
        """Tell of old workers' results, if there is a file of them; then print both paths."""
        into_file = markdown not in ("", "-")
        # where the report cannot be written nobody waits for it
        with WholeFile(markdown) if into_file else contextlib.nullcontext() as page:
            if results:
                await ResultFile(api, f"{path}/results", results, self.stderr).tell()
            found = await self._compared(api, path, query)
            text = report(found)
            if page is not None:
                page.file.write(f"{text}\n".encode())
                await asyncio.to_thread(page.keep)
                text = f"{markdown}: {sum(one['count'] for one in found['causes'])} differences"
        self._say(found, text, as_json=as_json)
        return 0

    async def _compared(self, api: ApiClient, path: str, query: dict[str, str]) -> dict[str, Any]:
        pages: list[dict[str, Any]] = []
        cursor = ""
        # later answers must not end later than the first one
        query["until"] = query["until"] or datetime.now(UTC).isoformat()
        while not pages or cursor:
            answer = await api.call("GET", f"{path}/comparison", cursor=cursor, **query)
            pages.append(answer)
            cursor = answer["cursor"]
        return merged(pages)

    def _say(self, found: dict[str, Any], text: str, *, as_json: bool) -> None:
        self.stdout.write((json.dumps(found, indent=2) if as_json else text) + "\n")


def shift(mode: str, percent: int | None) -> dict[str, Any]:
    """What is asked for; the API says what is wrong with it."""
    return {"mode": mode} if percent is None else {"mode": mode, "percent": percent}


def confirmed(found: dict[str, Any]) -> str:
    """What a confirmation came to, for people."""
    lines = [f"{found['confirmed']} hand-overs confirmed"]
    if left := found["not_sent"]:
        lines.append(f"{left} are not: their marks are not in the old workers' queue yet")
    lines += [f"{mark}: no hand-over that is under way" for mark in found["unknown"]]
    return "\n".join(lines)


def table(shown: dict[str, Any]) -> str:
    """How far a tool has moved, for people."""
    lines = [
        f"{shown['tool_id']}: {named(shown) if shown['mode'] else 'does not move'}",
        f"{shown['waiting_copies']} events are still to be copied into the old workers' queue",
        f"{shown['waiting_keys']}{' or more' if shown['waiting_keys_more'] else ''} ordering keys "
        "wait for old workers to be through with them",
    ]
    behind = shown["workers_behind"]
    if behind and len({one["mode"] for one in shown["history"]}) == 1:
        lines.append(
            f"{behind} of the workers {'has' if behind == 1 else 'have'} not heard of this first "
            "mode yet: until then both paths work on what it has"
        )
    if shown["hand_overs"]:
        rows = [("mark", "key (hashed)", "since", "in the queue")]
        rows += [
            (one["mark"], one["key"], one["since"][:19], "yes" if one["sent"] else "not yet")
            for one in shown["hand_overs"]
        ]
        lines += ["", *columns(rows)]
    if shown["history"]:
        had = [
            (one["at"][:19], named(one), "rollback" if one["rollback"] else "")
            for one in shown["history"]
        ]
        lines += ["", *columns([("from", "mode", ""), *had])]
    return "\n".join(lines)


def named(one: dict[str, Any]) -> str:
    """A mode, with its percentage."""
    return f"split {one['percent']} %" if one["mode"] == "split" else str(one["mode"])
