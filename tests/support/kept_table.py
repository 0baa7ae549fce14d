"""A table that a page of docs keeps between markers, and that is made anew."""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT

__all__ = ["KeptTable"]


@dataclass(frozen=True, slots=True)
class KeptTable:
    """The table between ``<!-- mark -->`` and ``<!-- /mark -->``; ``lines`` makes it."""

    page: Path
    mark: str
    lines: Callable[[], Iterable[str]]

    def renewed(self, page: str) -> str:
        """``page`` with the table made anew."""
        begin, end = f"<!-- {self.mark} -->\n", f"<!-- /{self.mark} -->"
        before, begun, rest = page.partition(begin)
        _, ended, after = rest.partition(end)
        if not begun or not ended:
            sys.exit(f"{self.name}: the markers of the table {self.mark} are missing")
        return f"{before}{begin}\n" + "\n".join(self.lines()) + f"\n\n{end}{after}"

    @property
    def name(self) -> str:
        """The page, as people name it."""
        return str(self.page.relative_to(ROOT))

    def write(self) -> None:
        """Keep it in the page."""
        self.page.write_text(self.renewed(self.page.read_text()))

    def check(self) -> None:
        """End this process with a sentence where the page has another one."""
        now = self.page.read_text()
        if self.renewed(now) != now:
            sys.exit(f"{self.name}: the table {self.mark} is stale. Run: make docs")
