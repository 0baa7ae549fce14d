"""What old workers did, out of a file: told to the API, and a wrong line by its number."""

import re
from collections.abc import Sequence
from typing import Any, Final

import orjson

from hookstream.app.commands.client import ApiClient
from hookstream.app.commands.patience import TRIES, until_answered
from hookstream.app.commands.progress_line import ProgressLine
from hookstream.app.errors import BadRequestError
from hookstream.app.history.line_files import LineFiles
from hookstream.app.history.places import files_at
from hookstream.app.history.source import Line
from hookstream.app.history.threads import in_thread

__all__ = ["BATCH_BYTES", "BATCH_RESULTS", "ResultFile"]

#: Of one request: what the API takes.
BATCH_RESULTS: Final = 500
BATCH_BYTES: Final = 500_000
#: What is wrong with which of the results that were sent, as the API says it: one after the other.
_PROBLEMS: Final = re.compile(r"(?:^|; )results\.([0-9]{1,3})[.:] ?")


class ResultFile:
    """Tells of the results in a file, object, or standard input; packed or not, as imports read it.

    ``taken`` of them are new to the API, ``known`` ones it had.
    """

    def __init__(self, api: ApiClient, path: str, name: str, stderr: Any) -> None:
        """``path``: where the API takes them. ``name``: of the file, "-" for standard input."""
        self._api = api
        self._path = path
        self._name = name
        self._stderr = stderr
        self._progress = ProgressLine(stderr, noun="results")
        self._tries = 1
        self.taken = self.known = 0

    async def tell(self) -> None:
        """Tell of all of them.

        Raises:
            BadRequestError: there is no such file, or a line is no result. Those before it are
                told, and the message says so.
            HookstreamError: the API refuses, or does not answer.
        """
        source = LineFiles(self._name, await in_thread(lambda: files_at([self._name])))
        try:
            await source.open({})
            more = True
            while more:
                page = await source.page(BATCH_RESULTS, BATCH_BYTES)
                more = page.more
                await self._page(page.lines)
                said = f"{self.known:,} known" if self.known else ""
                done = self.taken + self.known
                self._progress.say(done, source.share(), said, now=not more)
        finally:
            self._progress.end()
            await source.close()
            # also where it is broken off: it may be that nothing has to be done again
            self._say(f"{self.taken:,} results taken, {self.known:,} were known")

    async def _page(self, lines: Sequence[Line]) -> None:
        good: list[bytes] = []
        for line in lines:
            if wrong := line.trouble or _wrong(line.text):
                await self._send(good, lines)
                raise self._refused(line, wrong)
            good.append(line.text)
        await self._send(good, lines)

    async def _send(self, results: Sequence[bytes], lines: Sequence[Line]) -> None:
        """Send the results of the first of these lines."""
        if not results:
            return
        data = b'{"results":[' + b",".join(results) + b"]}"
        try:
            said = await until_answered(
                lambda: self._api.send(self._path, data, "application/json"),
                self._say,
                tries=self._tries,
            )
        except BadRequestError as error:
            # nothing, and then which and what of each
            _, *found = _PROBLEMS.split(str(error))
            if not found or int(found[0]) >= len(results):
                raise
            at = int(found[0])
            # of a request with a wrong one none is taken
            await self._send(results[:at], lines)
            pairs = zip(found[::2], found[1::2], strict=True)
            wrong = "; ".join(said for which, said in pairs if which == found[0])
            raise self._refused(lines[at], wrong) from error
        # who names another server, say, is not kept waiting
        self._tries = TRIES
        self.taken += said["taken"]
        self.known += said["known"]

    def _refused(self, line: Line, wrong: str) -> BadRequestError:
        end = "" if wrong.endswith("?") else "."
        return BadRequestError(
            f"{self._name}, line {line.number:,}: {wrong}{end} Lines before it were taken: mend "
            "it, and start the same command again; what is said twice changes nothing"
        )

    def _say(self, text: str) -> None:
        self._progress.end()
        self._stderr.write(text + "\n")


def _wrong(text: bytes) -> str:
    """What is wrong with a line that is no JSON object; "" for one."""
    try:
        one = orjson.loads(text)
    except ValueError as error:
        # what orjson says of where it is counts from the beginning of the line
        return f"is no JSON: {error}"
    return "" if isinstance(one, dict) else "is no JSON object"
