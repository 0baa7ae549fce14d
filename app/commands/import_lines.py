"""Lines of an import: what they are to whoever calls it, and where those go that are no events."""

import json
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from hookstream.app.errors import BadRequestError, HookstreamError
from hookstream.app.history.records import (
    OtherFormatError,
    from_predecessor,
    read_record,
    without,
)
from hookstream.app.history.source import Line, ReadPage

__all__ = ["FORMATS", "Reading", "Rejects", "check_writable", "names_in"]

FORMATS: Final = ("hookstream", "predecessor")
#: Rejected lines that are shown; all are in the file.
SHOWN: Final = 10


def names_in(text: str) -> frozenset[str]:
    """Names with commas between them."""
    return frozenset(filter(None, (name.strip() for name in text.split(","))))


class Reading:
    """What lines are, as whoever calls it says: of which format, and which members are ignored."""

    def __init__(self, form: str, ignored: str) -> None:
        self._form = form
        self._ignored = names_in(ignored)

    def line(self, text: bytes) -> bytes:
        """A line as the API takes it. Raises BadRequestError: it is none of the format."""
        if self._ignored:
            text = without(text, self._ignored)
        return from_predecessor(text) if self._form == "predecessor" else text

    def lines(self, page: ReadPage) -> tuple[list[Line], list[tuple[Line, str]]]:
        """Lines to be sent, and those of which nothing can be made here."""
        lines: list[Line] = []
        troubles: list[tuple[Line, str]] = []
        for one in page.lines:
            try:
                if one.trouble:
                    raise BadRequestError(one.trouble)
                lines.append(replace(one, text=self.line(one.text)))
            except BadRequestError as error:
                troubles.append((one, str(error)))
        return lines, troubles

    def check(self, lines: Sequence[Line]) -> None:
        """Look at the first lines, before any is sent.

        Raises:
            BadRequestError: all of them are of the other format. They would be passed over.
        """
        said = ""
        for one in lines:
            try:
                read_record(self.line(one.text))
            except OtherFormatError as error:
                said = said or f"{one.where}: {error}"
            except BadRequestError:
                continue
            else:
                return
        if said:
            raise BadRequestError(f"{said}. Nothing was imported")


class Rejects:
    """The file of lines that are no events, and the first of them for people."""

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        self._path = path
        self._tell = tell
        #: How many there are.
        self._count = 0

    def keep(self, rejected: Sequence[tuple[Line, str]]) -> None:
        """Keep lines, each with why it is no event.

        Raises:
            HookstreamError: they cannot be written; the message says which they are.
        """
        if not rejected:
            return
        try:
            # whose data it has is not for everybody
            number = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with open(number, "a", encoding="utf-8") as file:
                for one, reason in rejected:
                    kept = {
                        "where": one.where,
                        "reason": reason,
                        "line": one.text.decode(errors="replace"),
                    }
                    file.write(json.dumps(kept) + "\n")
        except OSError as error:
            where = ", ".join(one.where for one, _ in rejected[:SHOWN])
            more = f" and {len(rejected) - SHOWN:,} more" if len(rejected) > SHOWN else ""
            raise HookstreamError(
                f"{self._path} cannot be written ({error.strerror}): lines of this page that are "
                f"no events are not all in it, and are passed over from now on: {where}{more}"
            ) from error
        for one, reason in rejected[: max(0, SHOWN - self._count)]:
            self._tell(f"{one.where}: {reason}")
        self._count += len(rejected)

    def end(self) -> None:
        """Say how many were not shown, and how to see those."""
        if self._count > SHOWN:
            self._tell(
                f"and {self._count - SHOWN:,} more lines are no events: "
                f"jq -r '.where + \": \" + .reason' {shlex.quote(str(self._path))}"
            )


def check_writable(path: Path) -> None:
    """Raises BadRequestError: lines that are no events could not be kept in this file."""
    folder = path.parent
    wrong = ""
    if path.is_dir():
        wrong = "is a folder"
    elif not folder.is_dir():
        wrong = f"cannot be written: there is no folder {folder}"
    elif not os.access(path if path.exists() else folder, os.W_OK):
        wrong = "cannot be written: this user may not"
    if wrong:
        raise BadRequestError(f"{path} {wrong}. --rejects FILE names another one")
