"""An import under way: pages of a source go to the API, at a rate, and others see how it ends."""

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp

from hookstream.app.commands.client import ApiClient
from hookstream.app.commands.command import sentence
from hookstream.app.commands.import_lines import Reading, Rejects
from hookstream.app.commands.patience import until_answered
from hookstream.app.commands.progress_line import ProgressLine
from hookstream.app.errors import BadRequestError, HookstreamError
from hookstream.app.history.line_files import STDIN
from hookstream.app.history.source import ReadPage, Source

__all__ = ["COUNTS", "Work"]

T = TypeVar("T")

#: What becomes of lines, beside events.
COUNTS: Final = ("duplicates", "known", "expired", "erased", "rejected")
#: Of a page: so many seconds' worth of the rate, since objects of the archive are a page's.
PAGE_SECONDS: Final = 5.0
#: How long who wants to end waits until others are told that it has ended, and why: so many
#: characters of that.
NOTE_SECONDS: Final = 5.0
MOST_REASON: Final = 500
ENDS: Final = (asyncio.CancelledError, KeyboardInterrupt)


class StoppedError(Exception):
    """Somebody has pressed Ctrl-C."""


class Work:
    """One import, from its place to the end of its source, or until somebody stops it."""

    def __init__(
        self, api: ApiClient, source: Source, stderr: Any, reading: Reading, rejects: Path,
        rate: float,
    ) -> None:  # fmt: skip
        """``rate``: events a second at most; 0 for any."""
        self._api = api
        self._source = source
        self._stderr = stderr
        self._reading = reading
        self._rate = rate
        self._progress = ProgressLine(stderr)
        self._rejects = Rejects(rejects, self._tell)
        self._counts = dict.fromkeys(("imported", *COUNTS), 0)
        #: Lines whose times say no zone, of this run.
        self.no_zone = 0
        self._stop = asyncio.Event()
        #: It was through before, and nothing has come of this run: it stays that.
        self._through = False
        #: What Ctrl-C does not wait for.
        self._leaves: asyncio.Task[Any] | None = None

    @property
    def stopped(self) -> bool:
        """Whether somebody has ended it before its end."""
        return self._stop.is_set()

    @property
    def rejected(self) -> int:
        """Lines that are no events, of this run."""
        return self._counts["rejected"]

    async def run(self, tool: str, *, restart: bool, deliver: bool) -> dict[str, Any] | None:
        """Do it; the import as it is then, None where nobody can be asked any more.

        ``deliver``: all of it is to be delivered then.
        Raises what the server, or the source, says.
        """
        with self._until_stopped():
            try:
                # what cannot be read at all is no import that others would see
                await self._unless_stopped(self._source.look())
                asked = {"tool": tool, "source": self._source.name, "restart": restart}
                begun = await self._unless_stopped(self._api.call("POST", "/imports", body=asked))
            except StoppedError:
                return None
            path = f"/imports/{begun['import_id']}"
            self._through = begun["status_before"] == "done"
            try:
                if deliver and self._through and begun["imported"]:
                    raise BadRequestError(
                        f"--deliver: {begun['imported']:,} events of this import came in before, "
                        "and would be delivered again with what is new. Give what is new a --name "
                        "of its own; or deliver all of it, by `hookstream replay --imported "
                        f"{begun['import_id']}`"
                    )
                await self._all(path, begun)
                shown: dict[str, Any] = await until_answered(
                    lambda: self._api.call("POST", f"{path}/finish"), self._tell, wait=self._wait
                )
                self._stop.clear()
                return shown
            except StoppedError:
                return await self._note(path)
            except BaseException as error:
                # also a second Ctrl-C
                await self._note(path, "" if isinstance(error, ENDS) else sentence(error))
                raise
            finally:
                self._progress.end()
                self._rejects.end()

    async def _all(self, path: str, begun: Mapping[str, Any]) -> None:
        if behind := _behind(begun["place"]):
            self._stderr.write(f"going on behind {behind}\n")
        await self._unless_stopped(self._source.open(begun["place"]))
        most = begun["page_lines"]
        if self._rate:
            most = max(1, min(most, int(self._rate * PAGE_SECONDS)))
        more = first = True
        while more:
            since = time.monotonic()
            page = await self._unless_stopped(self._source.page(most, begun["page_bytes"]))
            more = page.more
            if first:
                self._reading.check(page.lines)
            first = first and not page.lines
            await self._send(path, page)
            # the last word, whatever was said a moment ago
            self._progress.say(self._done(), self._source.share(), self._said(), now=not more)
            if more and self.stopped:
                raise StoppedError
            if more and self._rate:
                await self._wait(len(page.lines) / self._rate - (time.monotonic() - since))

    async def _note(self, path: str, reason: str = "") -> dict[str, Any] | None:
        """Have others see that it has ended, and why; None where the server cannot be told."""
        try:
            async with asyncio.timeout(NOTE_SECONDS):
                shown: dict[str, Any]
                if self._through:
                    # what was refused now says nothing of what came in then
                    shown = await self._api.call("POST", f"{path}/finish")
                else:
                    body = {"reason": reason[:MOST_REASON]}
                    shown = await self._api.call("POST", f"{path}/stop", body=body)
                return shown
        except (HookstreamError, OSError, aiohttp.ClientError):
            return None

    def _done(self) -> int:
        """Lines that are through: duplicates are among what was imported."""
        return sum(count for name, count in self._counts.items() if name != "duplicates")

    def _said(self) -> str:
        return ", ".join(f"{self._counts[name]:,} {name}" for name in COUNTS if self._counts[name])

    async def _send(self, path: str, page: ReadPage) -> None:
        """Send a page; while the server cannot take it, again and again.

        Raises:
            StoppedError: somebody has stopped it meanwhile.
        """
        lines, troubles = self._reading.lines(page)
        head = {"place": page.place, "rejected": len(troubles)}
        data = b"\n".join([json.dumps(head).encode(), *(line.text for line in lines)])
        found = await until_answered(
            lambda: self._api.send(f"{path}/page", data), self._tell, wait=self._wait
        )
        self._through = False
        rejected = [(lines[one["line"]], one["reason"]) for one in found["rejected"]]
        self._rejects.keep([*troubles, *rejected])
        for name in self._counts:
            self._counts[name] += len(rejected) if name == "rejected" else found[name]
        # duplicates are among what was imported
        self._counts["rejected"] += len(troubles)
        # a server of the release before does not count them
        self.no_zone += found.get("no_zone", 0)

    def _tell(self, text: str) -> None:
        self._progress.end()
        self._stderr.write(text + "\n")

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        """What ``work`` gives. Raises StoppedError: somebody has stopped it before that."""
        if self.stopped:
            work.close()
            raise StoppedError
        task = self._leaves = asyncio.current_task()
        try:
            return await work
        except asyncio.CancelledError:
            if not self.stopped or task is None or task.uncancel():
                # not, or not only, by Ctrl-C
                raise
            raise StoppedError from None
        finally:
            self._leaves = None

    async def _wait(self, seconds: float) -> None:
        """Wait for so long. Raises StoppedError."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), max(0.0, seconds))
            raise StoppedError

    @contextlib.contextmanager
    def _until_stopped(self) -> Any:
        """Ctrl-C stops it: a page that was sent ends first. A second one ends at once."""
        loop = asyncio.get_running_loop()

        def stopped() -> None:
            if self._leaves is not None and not self.stopped:
                self._leaves.cancel()
            self._stop.set()
            loop.remove_signal_handler(signal.SIGINT)
            self._tell("stopping behind this page; Ctrl-C again ends at once")

        loop.add_signal_handler(signal.SIGINT, stopped)
        loop.add_signal_handler(signal.SIGTERM, stopped)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            loop.remove_signal_handler(signal.SIGTERM)


def _behind(place: Mapping[str, Any]) -> str:
    """A place for people; "" for the beginning, where standard input is, too."""
    if "file" in place:
        line = f"line {place.get('line', 0):,} of {place['file']}"
        return "" if place["file"] == STDIN else line
    if "received_at" in place:
        more = f" and id {place['id']}" if "id" in place else ""
        return f"received_at {place['received_at']}{more}"
    return json.dumps(place) if place else ""
