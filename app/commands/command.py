"""What our own commands share: a person gets a sentence, not a traceback."""

import sys
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import aiohttp
from faust.cli import base

from hookstream.app.errors import HookstreamError
from hookstream.app.settings import Settings, load_settings

__all__ = ["Command", "columns"]


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
            status = self.perform(**self.kwargs)
        except (HookstreamError, OSError, aiohttp.ClientError) as error:
            print(f"hookstream: {error}", file=sys.stderr)
            status = getattr(error, "exit_status", 2)
        sys.exit(status)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines, the cells of each column below one another."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in rows
    ]
