"""What our own commands share: a person gets a sentence, not a traceback."""

import os
import sys
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Final

import aiohttp
from faust.cli import base

from hookstream.app.errors import HookstreamError
from hookstream.app.settings import Settings, load_settings

__all__ = ["INTERRUPTED", "Command", "columns", "sentence"]

#: Exit statuses by a signal, as a shell has them: Ctrl-C, and nobody reads what is written.
INTERRUPTED: Final = 130
UNREAD: Final = 141


class Command(base.Command):
    """A command that runs without the application, and ends with the status it returns."""

    abstract = True
    settings: Settings

    @abstractmethod
    def perform(self, **options: Any) -> int:
        """Do the work; returns the exit status."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run; an error that a person can act on is one line on standard error."""
        try:
            self.settings = load_settings()
            if self.json and "as_json" in self.kwargs:
                # before the command's name it is an option of Faust's, and says the same
                self.kwargs["as_json"] = True
            status = self.perform(**self.kwargs)
        except KeyboardInterrupt:
            # behind the ^C that the terminal shows
            print("\nhookstream: stopped", file=sys.stderr)
            status = INTERRUPTED
        except BrokenPipeError:
            # as of `| head`; what is left cannot be written at the end either
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = UNREAD
        except (HookstreamError, OSError, aiohttp.ClientError) as error:
            print(f"hookstream: {sentence(error)}", file=sys.stderr)
            status = getattr(error, "exit_status", 2)
        sys.exit(status)


def sentence(error: BaseException) -> str:
    """What an error says to a person.

    >>> sentence(FileNotFoundError(2, "No such file or directory", "x.jsonl"))
    'x.jsonl: No such file or directory'
    >>> sentence(TimeoutError())
    'TimeoutError'
    """
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines, the cells of each column below one another."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in rows
    ]
