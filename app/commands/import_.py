"""``hookstream import``: a history from elsewhere, brought in beside what comes now."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from faust.cli.base import argument, option

from hookstream.app.backoff import backoff_seconds
from hookstream.app.commands.client import ApiClient
from hookstream.app.commands.command import Command, columns
from hookstream.app.commands.progress_line import ProgressLine
from hookstream.app.errors import BadRequestError, HookstreamError, LimitError, UnavailableError
from hookstream.app.history.line_files import LineFiles
from hookstream.app.history.places import files_at
from hookstream.app.history.records import from_predecessor
from hookstream.app.history.source import Line, ReadPage, Source
from hookstream.app.history.table import Table, parse_columns, query_of, source_name

__all__ = ["ImportCommand"]

FORMATS: Final = ("hookstream", "predecessor")
#: Of a page: so many seconds' worth of the rate, since objects of the archive are a page's.
PAGE_SECONDS: Final = 5.0
#: Rejected lines that are shown; all are in the file.
SHOWN: Final = 10
COUNTS: Final = ("duplicates", "known", "expired", "erased", "rejected")


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
        return asyncio.run(self._run(**options))

    async def _run(self, *, listing: bool, as_json: bool, url: str, **wanted: Any) -> int:
        async with ApiClient(self.settings, url) as api:
            if listing:
                found = await api.everything("/imports", "imports", 100)
                self.stdout.write(json.dumps(found, indent=2) if as_json else table(found))
                self.stdout.write("\n")
                return 0
            source = source_of(wanted)
            if not wanted["tool"]:
                raise BadRequestError("say whose events they are: --tool TOOL")
            if wanted["rate"] < 0:
                raise BadRequestError("--rate: events a second; 0 for as fast as it goes")
            rejects = Path(wanted["rejects"] or f"import-{wanted['tool']}.rejects.jsonl")
            work = Work(api, source, self.stderr, wanted["form"], wanted["rate"], rejects)
            try:
                shown = await work.run(wanted["tool"], restart=wanted["restart"])
            finally:
                await source.close()
            if work.stopped:
                self.stderr.write("stopped: the same command goes on from here\n")
            elif wanted["deliver"]:
                await self._deliver(api, shown, wanted["rate"])
            self.stdout.write((json.dumps(shown, indent=2) if as_json else line(shown)) + "\n")
            if work.stopped:
                return 130
            return 1 if shown["rejected"] else 0

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


class Work:
    """One import, from its place to the end of its source, or until somebody stops it."""

    def __init__(
        self, api: ApiClient, source: Source, stderr: Any, form: str, rate: float, rejects: Path
    ) -> None:
        self._api = api
        self._source = source
        self._stderr = stderr
        self._form = form
        self._rate = rate
        self._rejects = rejects
        self._progress = ProgressLine(stderr)
        self._counts = dict.fromkeys(("imported", *COUNTS), 0)
        self._shown = 0
        self.stopped = False

    async def run(self, tool: str, *, restart: bool) -> dict[str, Any]:
        """Do it; the import as it is then. Raises what the server, or the source, says."""
        asked = {"tool": tool, "source": self._source.name, "restart": restart}
        begun = await self._api.call("POST", "/imports", body=asked)
        path = f"/imports/{begun['import_id']}"
        if begun["place"]:
            self._stderr.write(f"going on behind {json.dumps(begun['place'])}\n")
        with self._until_stopped() as stop:
            await self._source.open(begun["place"])
            most = begun["page_lines"]
            if self._rate:
                most = max(1, min(most, int(self._rate * PAGE_SECONDS)))
            more = True
            while more and not stop.is_set():
                since = time.monotonic()
                page = await self._source.page(most, begun["page_bytes"])
                more = page.more
                await self._send(path, page, stop)
                self._progress.say(self._done(), self._source.share(), self._said())
                if self._rate:
                    rest = len(page.lines) / self._rate - (time.monotonic() - since)
                    await _wait(stop, rest)
            self.stopped = more
            self._progress.say(self._done(), self._source.share(), self._said(), now=True)
            self._progress.end()
        method, where = ("GET", path) if self.stopped else ("POST", f"{path}/finish")
        shown: dict[str, Any] = await self._api.call(method, where)
        return shown

    def _done(self) -> int:
        """Lines that are through: duplicates are among what was imported."""
        return sum(count for name, count in self._counts.items() if name != "duplicates")

    def _said(self) -> str:
        return ", ".join(f"{self._counts[name]:,} {name}" for name in COUNTS if self._counts[name])

    async def _send(self, path: str, page: ReadPage, stop: asyncio.Event) -> None:
        """Send a page; while the server cannot take it, again and again."""
        lines, troubles = self._lines(page)
        head = {"place": page.place, "rejected": len(troubles)}
        data = b"\n".join([json.dumps(head).encode(), *(line.text for line in lines)])
        failures = 0
        while True:
            try:
                found = await self._api.send(f"{path}/page", data)
                break
            except (UnavailableError, LimitError) as error:
                failures += 1
                wait = backoff_seconds(failures)
                if isinstance(error, LimitError):
                    wait = max(wait, min(error.retry_after_seconds or 1.0, 60.0))
                if failures == 1 or failures % 20 == 0:
                    self._progress.end()
                    self._stderr.write(f"waiting: {error}\n")
                await _wait(stop, wait)
                if stop.is_set():
                    raise HookstreamError(
                        f"stopped while the server took nothing ({error}): the same command goes "
                        "on from there"
                    ) from error
        rejected = [(lines[one["line"]], one["reason"]) for one in found["rejected"]]
        self._reject([*troubles, *rejected])
        for name in self._counts:
            self._counts[name] += len(rejected) if name == "rejected" else found[name]
        # duplicates are among what was imported
        self._counts["rejected"] += len(troubles)

    def _lines(self, page: ReadPage) -> tuple[list[Line], list[tuple[Line, str]]]:
        """Lines to be sent, and those of which nothing can be made here."""
        lines: list[Line] = []
        troubles: list[tuple[Line, str]] = []
        for one in page.lines:
            if one.trouble:
                troubles.append((one, one.trouble))
                continue
            try:
                text = from_predecessor(one.text) if self._form == "predecessor" else one.text
            except BadRequestError as error:
                troubles.append((one, str(error)))
                continue
            lines.append(Line(one.where, text))
        return lines, troubles

    def _reject(self, rejected: Sequence[tuple[Line, str]]) -> None:
        """Tell of lines that are no events, and keep them."""
        if not rejected:
            return
        # whose data it has is not for everybody
        number = os.open(self._rejects, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with open(number, "a", encoding="utf-8") as file:
            for one, reason in rejected:
                kept = {
                    "where": one.where,
                    "reason": reason,
                    "line": one.text.decode(errors="replace"),
                }
                file.write(json.dumps(kept) + "\n")
        for one, reason in rejected[: max(0, SHOWN - self._shown)]:
            self._progress.end()
            self._stderr.write(f"{one.where}: {reason}\n")
        if self._shown < SHOWN <= self._shown + len(rejected):
            self._stderr.write(f"all lines that are no events are in {self._rejects}\n")
        self._shown += len(rejected)

    @contextlib.contextmanager
    def _until_stopped(self) -> Any:
        """An event that Ctrl-C sets: the page under way ends first. A second one ends at once."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def stopped() -> None:
            stop.set()
            loop.remove_signal_handler(signal.SIGINT)
            self._progress.end()
            self._stderr.write("stopping behind this page\n")

        loop.add_signal_handler(signal.SIGINT, stopped)
        loop.add_signal_handler(signal.SIGTERM, stopped)
        try:
            yield stop
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            loop.remove_signal_handler(signal.SIGTERM)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    """Wait for so long, or until it is stopped."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), max(0.0, seconds))


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
        return LineFiles((wanted["name"] or " ".join(_said(one) for one in given))[:512], files)
    if len(given) > 1:
        raise BadRequestError("one postgresql://… at a time")
    if bool(wanted["table"]) == bool(wanted["query"]):
        raise BadRequestError("say which rows: --table NAME, or --query SELECT…")
    if wanted["query"] and wanted["naming"]:
        raise BadRequestError("--columns is for --table: a query names its columns by AS")
    query = wanted["query"].strip().rstrip(";")
    if wanted["table"]:
        query = query_of(wanted["table"], parse_columns(wanted["naming"]))
    name = wanted["name"] or source_name(given[0], wanted["table"] or query)
    return Table(name, given[0], query)


def _said(source: str) -> str:
    """A path as it is from everywhere."""
    return source if "://" in source or source == "-" else str(Path(source).resolve())


def line(shown: dict[str, Any]) -> str:
    """An import in one line."""
    more = ", ".join(f"{shown[name]:,} {name}" for name in COUNTS if shown[name])
    said = f"{shown['import_id']}  {shown['status']}: {shown['imported']:,} events imported"
    return said + (f"; {more}" if more else "")


def table(found: Sequence[dict[str, Any]]) -> str:
    """Imports, for people."""
    head = ("import", "tool", "status", "imported", *COUNTS, "last", "source")
    rows = [
        (
            one["import_id"],
            one["tool_id"],
            one["status"],
            *(str(one[name]) for name in ("imported", *COUNTS)),
            one["updated_at"][:19],
            one["source"],
        )
        for one in found
    ]
    return "\n".join(columns([head, *rows]))
