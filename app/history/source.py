"""Where a history is read from: pages of lines, and the place behind each of them."""

from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["Line", "ReadPage", "Source"]


@dataclass(frozen=True, slots=True)
class Line:
    """A line, and where it stands, for people. ``trouble``: why its reader gives no more of it.

    ``number``: which line of its file, from 1 on; 0 where it is none of a file.
    """

    where: str
    text: bytes
    trouble: str = ""
    number: int = 0


@dataclass(slots=True)
class ReadPage:
    """Some lines, and the place behind them, as JSON. ``more``: whether there may be others."""

    lines: list[Line] = field(default_factory=list)
    place: dict[str, Any] = field(default_factory=dict)
    more: bool = True


class Source(Protocol):
    """A history that can be read from a place on."""

    #: What it is called: the same source is gone on with by this name.
    name: str

    async def look(self) -> None:
        """See whether it can be read at all, before anybody notes that it is. Raises as `open`."""

    async def open(self, place: dict[str, Any]) -> None:
        """Go to a place that a page gave, or with {} to the beginning.

        Raises:
            HookstreamError: it cannot be read, or is not what it was; the message says what to do.
        """

    async def page(self, lines: int, size: int) -> ReadPage:
        """The next lines, at most so many, and so many bytes where they are several. Raises too."""

    def share(self) -> float | None:
        """How much of it has been read, from 0 to 1; None where that is not known."""

    async def close(self) -> None:
        """Let go of it."""
