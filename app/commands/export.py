"""``hookstream export``: a tool's events as lines of JSON, from whichever tier they are in."""

import asyncio
import gzip
import re
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final, Protocol

import zstandard
from faust.cli.base import option

from hookstream.app.commands.client import ApiClient, quoted
from hookstream.app.commands.command import Command
from hookstream.app.commands.patience import TRIES, until_answered
from hookstream.app.commands.progress_line import ProgressLine
from hookstream.app.commands.whole_file import WholeFile
from hookstream.app.errors import BadRequestError, HookstreamError
from hookstream.app.history.places import Bucket, is_bucket

__all__ = ["export"]

FORMATS: Final = ("hookstream", "predecessor")
PAGE: Final = 500
#: An object of a bucket has so many bytes of lines, about.
PART_BYTES: Final = 64 * 1024 * 1024
#: Objects are called by the event before those in them, and the last of these: the next run goes on
#: behind that.
_PART: Final = re.compile(r"(?:.*/)?([0-9a-f-]{36})_([0-9a-f-]{36})\.jsonl\.zst")


class export(Command):  # noqa: N801 Faust names a command by its class
    """Write a tool's events as lines of JSON, which `hookstream import` reads; payloads as sent."""

    options = [
        option("--tool", default="", help="Whose events."),
        option("--since", default="", help="Only those received at or after this time."),
        option("--until", default="", help="Only those received before this time."),
        option(
            "--out",
            default="-",
            metavar="WHERE",
            help="A new file (.jsonl, .gz, .zst), s3://bucket/prefix or file:///folder, which are "
            "gone on with; standard output by default.",
        ),
        option(
            "--format",
            "form",
            default="hookstream",
            help="hookstream (by default), or predecessor: as its messages were.",
        ),
        option("--url", default="", help="Where to; http://HOST:PORT of the settings by default."),
    ]

    def perform(self, **options: Any) -> int:
        """Write them all; 1 where payloads of some are not to be had any more."""
        if not options["tool"]:
            raise BadRequestError("say whose events: --tool TOOL")
        if options["form"] not in FORMATS:
            raise BadRequestError(f"--format: one of {', '.join(FORMATS)}")
        return asyncio.run(self._run(**options))

    async def _run(
        self, *, tool: str, since: str, until: str, out: str, form: str, url: str
    ) -> int:
        written = missing = 0
        progress = ProgressLine(self.stderr)

        def tell(text: str) -> None:
            progress.end()
            self.stderr.write(text + "\n")

        with ExitStack() as stack:
            sink: Sink = Parts(out) if is_bucket(out) else stack.enter_context(File(out))
            stack.push(lambda kind, *_: tell(sink.left) if kind and written and sink.left else None)
            stack.callback(progress.end)
            after = await asyncio.to_thread(sink.begin)
            if after:
                tell(f"going on behind the event {after}")
            async with ApiClient(self.settings, url) as api:
                path = f"/tools/{quoted(tool)}/export"
                query = {"since": since, "until": until, "form": form, "limit": str(PAGE)}
                tries = 1
                while True:
                    page = await _page(api, path, {**query, "cursor": after}, tell, tries)
                    # who names another server, say, is not kept waiting; nothing is lost yet
                    tries = TRIES
                    data, last, more, gone = page
                    written += data.count(b"\n")
                    missing += gone
                    if data:
                        await asyncio.to_thread(sink.write, data, after, last)
                    said = f"{missing:,} without a payload" if missing else ""
                    progress.say(written, None, said, now=not more)
                    after = last
                    if not more:
                        break
            await asyncio.to_thread(sink.end)
        return 1 if missing else 0


async def _page(
    api: ApiClient, path: str, query: dict[str, str], tell: Callable[[str], None], tries: int
) -> tuple[bytes, str, bool, int]:
    """A page: lines, its last event, whether there are more, how many have no payload any more.

    Raises:
        HookstreamError: the server refused, or does not answer in so many tries.
    """
    data, headers = await until_answered(lambda: api.lines(path, **query), tell, tries=tries)
    try:
        last, missing = headers["Hookstream-Last"], int(headers["Hookstream-Missing"])
        return data, last, headers["Hookstream-More"] == "yes", missing
    except (KeyError, ValueError) as error:
        raise HookstreamError(f"{api.url} gave no export: is this Hookstream's address?") from error


class Sink(Protocol):
    """Where lines are written. ``left``: what is there where it is broken off, for people."""

    left: str

    def begin(self) -> str:
        """Make ready; the event behind which it goes on, "" for the beginning."""

    def write(self, data: bytes, after: str, last: str) -> None:
        """Write a page of whole lines: of events behind ``after``, up to ``last``."""

    def end(self) -> None:
        """That was all."""


class File:
    """A file that is new, and there once all of it is; or standard output."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._whole: WholeFile | None = None
        self._file: Any = None
        self.left = "" if path == "-" else f"nothing is left at {path}: the next run begins anew"

    def __enter__(self) -> "File":
        return self

    def __exit__(self, *error: Any) -> None:
        if self._whole is not None:
            self._whole.__exit__(*error)

    def begin(self) -> str:
        """Nothing goes on in a file: who reads one cannot know where it was broken off."""
        if self._path == "-":
            self._file = sys.stdout.buffer
            return ""
        # whose data it has is not for everybody
        whole = WholeFile(self._path, new=True, mode=0o600)
        try:
            self._whole = whole.__enter__()
        except BadRequestError as error:
            raise BadRequestError(
                f"{error}. A folder (file:///…/) or a bucket is gone on with"
            ) from error
        if self._path.endswith(".gz"):
            self._file = gzip.GzipFile(fileobj=whole.file, mode="wb")
        elif self._path.endswith(".zst"):
            self._file = zstandard.ZstdCompressor().stream_writer(whole.file, closefd=False)
        else:
            self._file = whole.file
        return ""

    def write(self, data: bytes, after: str, last: str) -> None:
        """Behind what is there."""
        self._file.write(data)

    def end(self) -> None:
        """Have it whole on the disk."""
        if self._whole is None:
            self._file.flush()
            return
        if self._file is not self._whole.file:
            # what a packer still has
            self._file.close()
        self._whole.keep()


class Parts:
    """Objects of a bucket, or files of a folder, each named by the events in it."""

    def __init__(self, url: str) -> None:
        self._bucket = Bucket(url, make=True)
        self.left = "the same command goes on behind the last object there"
        self._held: list[bytes] = []
        self._size = 0
        self._first = ""
        self._last = ""

    def begin(self) -> str:
        """The last event that an object there has."""
        names = filter(None, (_PART.fullmatch(name) for name in self._bucket.names()))
        return max((name[2] for name in names), default="")

    def write(self, data: bytes, after: str, last: str) -> None:
        """Write an object once there is enough for one."""
        self._held.append(data)
        self._size += len(data)
        self._first = self._first or after or "0" * 8 + "-0000" * 3 + "-" + "0" * 12
        self._last = last
        if self._size >= PART_BYTES:
            self._put()

    def end(self) -> None:
        """Write what is left."""
        if self._held:
            self._put()

    def _put(self) -> None:
        data = b"".join(self._held)
        packed = zstandard.ZstdCompressor().compress(data)
        self._bucket.put(f"{self._first}_{self._last}.jsonl.zst", packed)
        self._held, self._size, self._first = [], 0, ""
