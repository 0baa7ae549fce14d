"""``hookstream import``: a history from elsewhere, brought in beside what comes now."""

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from faust.cli.base import argument, option

from hookstream.app.commands.client import ApiClient
from hookstream.app.commands.command import INTERRUPTED, Command, columns
from hookstream.app.commands.import_lines import FORMATS, Reading, check_writable, names_in
from hookstream.app.commands.import_work import COUNTS, Work
from hookstream.app.commands.progress_line import lasts
from hookstream.app.errors import BadRequestError
from hookstream.app.history.line_files import STDIN, LineFiles
from hookstream.app.history.places import files_at
from hookstream.app.history.source import Source
from hookstream.app.history.table import Table, parse_columns, query_of, source_name
from hookstream.app.history.threads import in_thread

__all__ = ["ImportCommand"]

MOST_NAME: Final = 512
#: Of an import that goes on, without a page: it is called quiet.
QUIET_SECONDS: Final = 60.0
#: What to do about lines that were passed over.
AGAIN: Final = (
    "lines that were rejected are passed over next time; once they are mended, --restart reads all "
    "from the beginning, and nothing comes twice by that\n"
)


class ImportCommand(Command):
    """What `hookstream import` is; a class cannot be called so itself."""

    abstract = True

    options = [
        argument("sources", metavar="[SOURCE]...", nargs=-1),
        option("--tool", default="", help="The tool whose events they are; it has to be there."),
        option(
            "--format",
            "form",
            default="hookstream",
            help="Of lines: hookstream (by default), or predecessor.",
        ),
        option("--table", default="", help="Of postgresql://…: the table, as webhook_events."),
        option(
            "--columns",
            "naming",
            default="",
            metavar="NAME=COLUMN,…",
            help="Of --table: which columns are id, received_at, event_type, delivery_id, payload.",
        ),
        option("--query", default="", help="In place of --table: a SELECT with these names."),
        option(
            "--ignore",
            "ignored",
            default="",
            metavar="NAME,…",
            help="Members of lines, or columns, that are no such members: they are left out.",
        ),
        option("--rate", default=500.0, help="Events a second at most; 500 by default, 0: any."),
        option("--name", default="", help="What the source is called, where its address changes."),
        option("--restart", is_flag=True, help="From its beginning; nothing comes twice by that."),
        option("--deliver", is_flag=True, help="At the end, replay to agents what came in."),
        option("--rejects", default="", metavar="FILE", help="Where lines go that are no events."),
        option("--list", "listing", is_flag=True, help="List imports."),
        option("--json", "as_json", is_flag=True, help="Print JSON."),
        option("--url", default="", help="Where to; http://HOST:PORT of the settings by default."),
    ]

    def perform(self, **options: Any) -> int:
        """Bring it in; 1 where lines were rejected, 130 where it was stopped before its end."""
        if options["listing"] and (options["sources"] or options["tool"]):
            raise BadRequestError("--list lists all imports: it takes neither SOURCE nor --tool")
        return asyncio.run(self._run(**options))

    async def _run(self, *, listing: bool, as_json: bool, url: str, **wanted: Any) -> int:
        async with ApiClient(self.settings, url) as api:
            if listing:
                found = await api.everything("/imports", "imports", 100)
                self.stdout.write(json.dumps(found, indent=2) if as_json else table(found))
                self.stdout.write("\n")
                return 0
            source = await in_thread(lambda: source_of(wanted))
            tool, rate = wanted["tool"], wanted["rate"]
            if not tool:
                raise BadRequestError("say whose events they are: --tool TOOL")
            if not (math.isfinite(rate) and rate >= 0):
                raise BadRequestError("--rate: events a second; 0 for as fast as it goes")
            called = f"import-{tool.replace('/', '_')}.rejects.jsonl"
            rejects = Path(wanted["rejects"] or called)
            check_writable(rejects)
            reading = Reading(wanted["form"], wanted["ignored"])
            work = Work(api, source, self.stderr, reading, rejects, rate)
            try:
                shown = await work.run(tool, restart=wanted["restart"], deliver=wanted["deliver"])
            finally:
                await source.close()
            if work.stopped:
                self.stderr.write("stopped: the same command goes on from here\n")
            elif shown and wanted["deliver"]:
                await self._deliver(api, shown, rate)
            if shown:
                shown["no_zone"] = work.no_zone
                said = json.dumps(shown, indent=2) if as_json else line(shown)
                self.stdout.write(said + "\n")
            if work.stopped:
                return INTERRUPTED
            if work.rejected and STDIN not in wanted["sources"]:
                self.stderr.write(AGAIN)
            return 1 if work.rejected else 0

    async def _deliver(self, api: ApiClient, shown: dict[str, Any], rate: float) -> None:
        body = {"imported": shown["import_id"], "rate": rate or 10_000}
        replay = await api.call("POST", "/replays", body=body)
        self.stderr.write(
            f"replay {replay['replay_id']} delivers {replay['matched']} events to where "
            "subscriptions say: `hookstream replay --list` shows how far it is\n"
        )


#: Faust names a command by its class.
globals()["import"] = type(
    "import",
    (ImportCommand,),
    {
        "__module__": __name__,
        "__doc__": "Bring in events of before from SOURCEs: files of lines (.jsonl, .gz, .zst, -), "
        "s3://bucket/prefix, postgresql://…. They are not delivered.",
    },
)


def source_of(wanted: dict[str, Any]) -> Source:
    """What is to be read. Raises BadRequestError: it is not said, or by what does not fit."""
    given, form = wanted["sources"], wanted["form"]
    if form not in FORMATS:
        raise BadRequestError(f"--format: one of {', '.join(FORMATS)}")
    if not given:
        raise BadRequestError("say from where: files, s3://bucket/prefix, or postgresql://…")
    if not given[0].startswith(("postgresql://", "postgres://")):
        if wanted["table"] or wanted["query"] or wanted["naming"]:
            raise BadRequestError("--table, --columns and --query are for postgresql://…")
        files = files_at(given)
        if not files:
            raise BadRequestError(f"there is nothing at {' '.join(given)}")
        return LineFiles((wanted["name"] or " ".join(map(_said, given)))[:MOST_NAME], files)
    if len(given) > 1:
        raise BadRequestError("one postgresql://… at a time")
    if bool(wanted["table"]) == bool(wanted["query"]):
        raise BadRequestError("say which rows: --table NAME, or --query SELECT…")
    if wanted["query"] and wanted["naming"]:
        raise BadRequestError("--columns is for --table: a query names its columns by AS")
    query = wanted["query"].strip().rstrip(";")
    if wanted["table"]:
        query = query_of(wanted["table"], parse_columns(wanted["naming"]))
    name = source_name(given[0], wanted["table"] or query)
    ignored = names_in(wanted["ignored"])
    return Table(wanted["name"][:MOST_NAME] or name, given[0], query, ignored)


def _said(source: str) -> str:
    """A path as it is from everywhere; what is no file, such as a pipe, as it was named."""
    path = Path(source)
    return str(path.resolve()) if path.is_file() and "://" not in source else source.rstrip("/")


def line(shown: dict[str, Any]) -> str:
    """An import in one line."""
    more = ", ".join(f"{shown[name]:,} {name}" for name in COUNTS if shown[name])
    said = f"{shown['import_id']}  {shown['status']}: {shown['imported']:,} events imported in all"
    said += f"; {more}" if more else ""
    if shown["no_zone"]:
        said += f"; times without a zone, taken as UTC: {shown['no_zone']:,} of this run"
    return said


def table(found: Sequence[dict[str, Any]], now: datetime | None = None) -> str:
    """Imports, for people; what is wrong with some stands below."""
    now = now or datetime.now(UTC)
    head = ("import", "tool", "status", "imported", *COUNTS, "last", "source")
    rows = [
        (
            one["import_id"],
            one["tool_id"],
            _status(one, now),
            *(str(one[name]) for name in ("imported", *COUNTS)),
            one["updated_at"][:19],
            " ".join(one["source"].split()),
        )
        for one in found
    ]
    failed = [f"{one['import_id']} failed: {one['reason']}" for one in found if one["reason"]]
    return "\n".join([*columns([head, *rows]), *([""] if failed else []), *failed])


def _status(one: Mapping[str, Any], now: datetime) -> str:
    """The status; of one that goes on, since when nothing came."""
    since = (now - datetime.fromisoformat(one["updated_at"])).total_seconds()
    if one["status"] != "running" or since < QUIET_SECONDS:
        return str(one["status"])
    return f"running, quiet for {lasts(since)}"
