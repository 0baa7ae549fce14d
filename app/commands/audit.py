"""``hookstream audit``: the audit trail from a shell."""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from faust.cli.base import argument, option

from hookstream.app.commands.client import ApiClient
from hookstream.app.commands.command import Command, columns
from hookstream.app.commands.whole_file import WholeFile
from hookstream.app.errors import BadRequestError
from hookstream.app.stores.audit_chain import ChainRow, Link, Problem, check_rows, exported_row

__all__ = ["audit"]

ACTIONS = ("list", "export", "verify")
#: Problems that are printed; how many there are is.
PRINTED = 200
#: Rows of a file that are verified at a time.
BATCH = 2000


class audit(Command):  # noqa: N801 Faust names a command by its class
    """The audit trail: `list` rows, `export` all to a file, `verify` that none is changed."""

    options = [
        argument("action", metavar="ACTION"),
        argument("file", metavar="[FILE]", required=False, default=""),
        option("--actor", default="", help="list: only what this key (its id, or admin) did."),
        option("--action", "what", default="", help="list: only this, such as tool.changed, key.*"),
        option("--kind", default="", help="list: only what was done to objects of this kind."),
        option("--object", default="", help="list: only what was done to this object."),
        option("--event", default="", help="list: only what was done with this event."),
        option("--since", default="", help="list: only at or after this time."),
        option("--until", default="", help="list: only before this time."),
        option("--limit", default=50, type=int, help="list: at most so many rows."),
        option("--expect", default="", help="verify: a row that there was, as NUMBER:HASH."),
        option("--json", "as_json", is_flag=True, help="Print JSON."),
        option("--url", default="", help="Where to; http://HOST:PORT of the settings by default."),
    ]

    def perform(self, **options: Any) -> int:
        """Do what was asked for; 1 from `verify` where something is wrong."""
        action, file = options["action"], options["file"]
        if action not in ACTIONS:
            raise BadRequestError(f"{action}: one of {', '.join(ACTIONS)}")
        if action == "verify" and file:
            return self._verify_file(Path(file), _expected(options["expect"]), options["as_json"])
        if action == "export":
            return self._export(file, options["url"])
        return asyncio.run(self._run(**options))

    async def _run(self, *, action: str, file: str, url: str, as_json: bool, **rest: Any) -> int:
        async with ApiClient(self.settings, url) as api:
            if action == "verify":
                _expected(rest["expect"])
                return await self._verify(api, rest["expect"], as_json)
            return await self._list(api, as_json, **rest)

    async def _list(
        self, api: ApiClient, as_json: bool, *, what: str, limit: int, expect: str, **filters: str
    ) -> int:
        if not 1 <= limit <= 1000:
            raise BadRequestError("--limit: from 1 to 1000")
        found = await api.call("GET", "/audit", action=what, limit=str(limit), **filters)
        if as_json:
            self.stdout.write(json.dumps(found["rows"], indent=2) + "\n")
            return 0
        rows: list[tuple[str, ...]] = [("row", "when", "who", "from", "did", "to")]
        rows += [_line(row["record"]) for row in found["rows"]]
        self.stdout.write("\n".join(columns(rows)) + "\n")
        return 0

    def _export(self, file: str, url: str) -> int:
        """Into a file that is there once all of it is; to standard output without one."""
        if not file:
            asyncio.run(self._download(sys.stdout.buffer, url))
            return 0
        with WholeFile(file) as whole:
            asyncio.run(self._download(whole.file, url))
            whole.keep()
        return 0

    async def _download(self, sink: BinaryIO, url: str) -> None:
        async with ApiClient(self.settings, url) as api:
            await api.download("/audit/export", sink)

    async def _verify(self, api: ApiClient, expect: str, as_json: bool) -> int:
        looked, problems = 0, []
        cursor: str | None = ""
        found: dict[str, Any] = {}
        while cursor is not None:
            found = await api.call("GET", "/audit/verify", cursor=cursor, expect=expect)
            looked += found["looked_at"]
            problems += found["problems"]
            cursor, expect = found["next"], ""
            self._progress(f"{looked} rows of {found['head'].partition(':')[0]}")
        return self._report(looked, problems, found["start"], found["head"], as_json)

    def _verify_file(self, path: Path, expected: Link | None, as_json: bool) -> int:
        """An exported file alone: no server is asked, and none has to be trusted."""
        looked, problems = 0, list[Problem]()
        start = last = Link(0, bytes(32))
        for rows in _batches(path):
            if not looked and rows[0].seq > 1:
                start = last = Link(rows[0].seq - 1, rows[0].previous)
            for row in rows:
                if expected and row.seq == expected.seq and row.hash != expected.hash:
                    problems.append(
                        Problem(row.seq, "changed", f"row {row.seq} had another hash once")
                    )
            wrong, last = check_rows(rows, last)
            problems += wrong
            looked += len(rows)
            self._progress(f"{looked} rows")
        if expected and last.seq < expected.seq:
            problems.append(Problem(expected.seq, "missing", f"row {expected.seq} was there once"))
        told = [problem.out() for problem in problems]
        return self._report(looked, told, str(start), str(last), as_json)

    def _report(
        self, looked: int, problems: list[dict[str, Any]], start: str, head: str, as_json: bool
    ) -> int:
        if as_json:
            report = {"looked_at": looked, "problems": problems, "start": start, "head": head}
            self.stdout.write(json.dumps(report, indent=2) + "\n")
            return 1 if problems else 0
        for problem in problems[:PRINTED]:
            self.stdout.write(f"{problem['problem']}: {problem['detail']}\n")
        first = int(start.partition(":")[0])
        gone = f" (those up to {first} are kept no longer)" if first else ""
        self.stdout.write(f"{looked} rows{gone}: {len(problems)} problems; the chain ends {head}\n")
        return 1 if problems else 0

    def _progress(self, text: str) -> None:
        if self.stderr.isatty():
            self.stderr.write(f"\r{text:<72}\r")
            self.stderr.flush()


def _expected(text: str) -> Link | None:
    try:
        return Link.parse(text) if text else None
    except ValueError as error:
        raise BadRequestError(f"--expect: {error}") from error


def _batches(path: Path) -> Iterator[list[ChainRow]]:
    """The rows of an exported file. Raises BadRequestError for a line that is none."""
    rows: list[ChainRow] = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                rows.append(exported_row(line))
            except ValueError as error:
                raise BadRequestError(f"{path}, line {number}: {error}") from error
            if len(rows) == BATCH:
                yield rows
                rows = []
    if rows:
        yield rows


def _line(record: dict[str, Any]) -> tuple[str, ...]:
    """A row for people."""
    actor, thing = record.get("actor", {}), record.get("object", {})
    who = actor.get("id") or actor.get("kind", "")
    named = f" ({actor['name']})" if actor.get("name") else ""
    return (
        str(record["seq"]),
        record["at"][:19] + "Z",
        f"{who}{named}",
        record.get("address", ""),
        record["action"],
        f"{thing.get('kind', '')} {thing.get('id', '')}".strip(),
    )
