"""``hookstream dead``: dead letters from a shell."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

from faust.cli.base import argument, option

from hookstream.app.commands.client import ApiClient, quoted
from hookstream.app.commands.command import Command
from hookstream.app.errors import BadRequestError

__all__ = ["dead"]

ACTIONS = ("list", "show", "retry", "discard")
PAGE = 500


class dead(Command):  # noqa: N801 Faust names a command by its class
    """Dead letters: `list` them, `show`, `retry` or `discard` by id; or many, by filter."""

    options = [
        argument("action", metavar="ACTION"),
        argument("ids", metavar="[ID]...", nargs=-1),
        option("--tool", default="", help="Only of this tool."),
        option("--stage", default="", help="Only those that failed in this stage."),
        option("--since", default="", help="Only those that failed at or after this time."),
        option("--until", default="", help="Only those that failed before this time."),
        option("--all", "everything", is_flag=True, help="All of them (retry, discard)."),
        option("--limit", default=50, type=int, help="Most letters to list."),
        option("--json", "as_json", is_flag=True, help="Print JSON."),
        option("--url", default="", help="Where to; http://HOST:PORT of the settings by default."),
    ]

    def perform(self, **options: Any) -> int:
        """Do what was asked for."""
        if options["action"] not in ACTIONS:
            raise BadRequestError(f"{options['action']}: one of {', '.join(ACTIONS)}")
        return asyncio.run(self._run(**options))

    async def _run(
        self, *, action: str, ids: tuple[str, ...], url: str, as_json: bool, **rest: Any
    ) -> int:
        wanted = {name: rest[name] for name in ("tool", "stage", "since", "until") if rest[name]}
        if ids and action == "list":
            raise BadRequestError("list takes no ids: `hookstream dead show ID` shows one")
        if ids and (wanted or rest["everything"]):
            raise BadRequestError("ids, or a filter, or --all: one of them")
        if rest["limit"] < 1:
            raise BadRequestError("--limit: at least 1")
        async with ApiClient(self.settings, url) as api:
            if action == "list":
                return await self._list(api, wanted, rest["limit"], as_json)
            if action == "show":
                if not ids:
                    raise BadRequestError("show which? `hookstream dead list` has the ids")
                for letter_id in ids:
                    letter = await api.call("GET", f"/dead-letters/{quoted(letter_id)}")
                    if letter.get("traceback") and not as_json:
                        # a line a frame, for people: as one text it would be one long line
                        letter["traceback"] = letter["traceback"].splitlines()
                    self._print(json.dumps(letter, indent=2))
                return 0
            if ids:
                return await self._each(api, action, ids)
            if rest["everything"]:
                wanted.setdefault("until", datetime.now(UTC).isoformat())
            if not wanted:
                raise BadRequestError(f"{action} which? Give ids, a filter, or --all")
            return await self._many(api, action, wanted)

    async def _list(self, api: ApiClient, wanted: dict[str, str], limit: int, as_json: bool) -> int:
        letters: list[dict[str, Any]] = []
        cursor = ""
        while len(letters) < limit:
            size = str(min(PAGE, limit - len(letters)))
            page = await api.call("GET", "/dead-letters", limit=size, cursor=cursor, **wanted)
            letters += page["letters"]
            cursor = page["cursor"] or ""
            if not cursor:
                break
        if as_json:
            self._print(json.dumps(letters, indent=2))
            return 0
        for letter in letters:
            self._print(
                f"{letter['letter_id']}  {letter['last_failed_at'][:19]}  {letter['tool_id']}  "
                f"{letter['type']}  {letter['stage']}, {letter['attempts']} attempts: "
                f"{letter['error']}"
            )
        if not letters:
            self._print("no dead letters")
        elif cursor:
            self._print("there are more: --limit N")
        return 0

    async def _each(self, api: ApiClient, action: str, ids: tuple[str, ...]) -> int:
        for letter_id in ids:
            path = f"/dead-letters/{quoted(letter_id)}"
            if action == "retry":
                await api.call("POST", f"{path}/retry")
            else:
                await api.call("DELETE", path)
            self._print(f"{action}: {letter_id}")
        return 0

    async def _many(self, api: ApiClient, action: str, wanted: dict[str, str]) -> int:
        total = 0
        cursor: dict[str, str] = {}
        while True:
            counts = await api.call("POST", f"/dead-letters/{action}", body={**wanted, **cursor})
            total += counts["changed"]
            self._print(f"{action}: {total} dead letters")
            if not counts["more"]:
                return 0
            # a server of the release before gives none
            cursor = {"cursor": counts["cursor"]} if counts.get("cursor") else {}

    def _print(self, text: str) -> None:
        self.stdout.write(text + "\n")
