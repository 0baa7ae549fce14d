"""Files and objects with a line of JSON for each event, packed or not, one after the other."""

import asyncio
import gzip
import hashlib
import io
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import zstandard

from hookstream.app.errors import BadRequestError, HookstreamError
from hookstream.app.history.source import Line, ReadPage

__all__ = ["STDIN", "LineFile", "LineFiles"]

#: Standard input, as a file is called.
STDIN: Final = "-"
#: The longest line that is read; of a longer one the beginning is a line that is rejected.
MAX_LINE_BYTES: Final = 64 * 1024 * 1024
#: Of what is rejected so much is kept.
SHOWN_BYTES: Final = 1000
#: What a file is recognised by when it is gone on with.
HEAD_BYTES: Final = 4096
READ_BYTES: Final = 1024 * 1024
#: Of what is packed at a time: a thousand times as much may come out of it.
PACKED_BYTES: Final = 64 * 1024
#: Memory that a zstd file may ask for: `zstd --long=27`.
ZSTD_WINDOW: Final = 1 << 27
PACKED: Final = (".gz", ".zst")
_BROKEN: Final = (OSError, EOFError, zlib.error, zstandard.ZstdError)


@dataclass(frozen=True, slots=True)
class LineFile:
    """A file or object. ``size`` in bytes as it lies there; 0: not known."""

    name: str
    size: int
    open: Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class _Read:
    """A line as it stands in its file: its number from 1 on, and where the next begins."""

    text: bytes
    number: int
    end: int
    whole: bool


class LineFiles:
    """A :class:`~hookstream.app.history.source.Source` of files in their order."""

    def __init__(self, name: str, files: Sequence[LineFile]) -> None:
        self.name = name
        self._files = files
        self._size = sum(file.size for file in files)
        #: Which file is read, or next; how far it was read, in lines and in bytes of them.
        self._at = 0
        self._number = 0
        self._end = 0
        self._head = ""
        self._raw: BinaryIO | None = None
        self._lines: BinaryIO | None = None
        #: Was read and did not fit the page.
        self._left: _Read | None = None

    async def open(self, place: dict[str, Any]) -> None:
        """Go on behind the line that was read last."""
        await asyncio.to_thread(self._go_to, place)

    async def page(self, lines: int, size: int) -> ReadPage:
        """The next lines; a page ends with its file."""
        return await asyncio.to_thread(self._page, lines, size)

    def share(self) -> float | None:
        """By bytes as they lie there."""
        if not self._size:
            return None
        before = sum(file.size for file in self._files[: self._at])
        here = self._raw.tell() if self._raw is not None else 0
        return min(1.0, (before + here) / self._size)

    async def close(self) -> None:
        """Close the file that is open."""
        self._close()

    def _close(self) -> None:
        for file in (self._lines, self._raw):
            if file is not None and file is not sys.stdin.buffer:
                file.close()
        self._lines = self._raw = None

    def _go_to(self, place: dict[str, Any]) -> None:
        name, wanted = place.get("file"), int(place.get("line", 0))
        if name is None or name == STDIN:
            # what came in there comes anew, and is known
            return
        names = [file.name for file in self._files]
        if name not in names:
            raise BadRequestError(
                f"this import was at line {wanted} of {name}, which is not among what is to be "
                "read: name it, too, or begin anew with --restart"
            )
        self._at = names.index(name)
        if place.get("done"):
            self._at += 1
            return
        self._begin()
        if self._head != place.get("head"):
            raise BadRequestError(
                f"{name} begins otherwise than when it was read to line {wanted}: it is another "
                "file. Begin anew with --restart; nothing comes twice by that"
            )
        if not name.endswith(PACKED):
            assert self._lines is not None
            self._lines.seek(int(place["offset"]))
            self._number, self._end = wanted, int(place["offset"])
            return
        while self._number < wanted:
            if self._read() is None:
                raise BadRequestError(
                    f"{name} has {self._number} lines, and was read to line {wanted}: it is "
                    "another file. Begin anew with --restart; nothing comes twice by that"
                )

    def _begin(self) -> None:
        """Open the file that is next."""
        file = self._files[self._at]
        try:
            self._head = ""
            if file.name != STDIN:
                with file.open() as raw:
                    self._head = hashlib.sha256(raw.read(HEAD_BYTES)).hexdigest()[:16]
            self._raw = file.open()
            self._lines = _unpacked(file.name, self._raw)
        except _BROKEN as error:
            raise HookstreamError(f"{file.name} cannot be read: {error}") from error
        self._number = self._end = 0

    def _read(self) -> _Read | None:
        """The next line; None at the end of the file."""
        if self._left is not None:
            read, self._left = self._left, None
            return read
        assert self._lines is not None
        try:
            text = part = self._lines.readline(MAX_LINE_BYTES)
            self._end += len(text)
            while len(part) == MAX_LINE_BYTES and not part.endswith(b"\n"):
                part = self._lines.readline(MAX_LINE_BYTES)
                self._end += len(part)
        except _BROKEN as error:
            raise HookstreamError(
                f"{self._files[self._at].name} breaks off behind line {self._number} ({error}): "
                "put the whole file there, and start the same command again"
            ) from error
        if not text:
            return None
        self._number += 1
        whole = text.endswith(b"\n") or len(text) < MAX_LINE_BYTES
        return _Read(text.rstrip(b"\r\n"), self._number, self._end, whole)

    def _page(self, most: int, size: int) -> ReadPage:
        if self._at >= len(self._files):
            last = self._files[-1].name if self._files else ""
            return ReadPage(place={"file": last, "done": True} if last else {}, more=False)
        if self._lines is None:
            self._begin()
        name, page, held = self._files[self._at].name, ReadPage(), 0
        while len(page.lines) < most:
            read = self._read()
            if read is None:
                self._close()
                self._at += 1
                page.place = {"file": name, "line": self._number, "done": True}
                page.more = self._at < len(self._files)
                return page
            if page.lines and held + len(read.text) > size:
                self._left = read
                break
            if read.text.strip():
                held += len(read.text)
                page.lines.append(_line(name, read, size))
            page.place = {
                "file": name,
                "line": read.number,
                "offset": read.end,
                "head": self._head,
            }
        return page


def _line(name: str, read: _Read, size: int) -> Line:
    where = f"{name}:{read.number}"
    if not read.whole or len(read.text) > size:
        return Line(where, read.text[:SHOWN_BYTES], f"is longer than {size} bytes")
    return Line(where, read.text)


class _Zstd(io.RawIOBase):
    """Frames of zstd as one file. The library's own reader takes a frame that is cut off for whole.

    A frame that asks for more memory than it may is refused by the library.
    """

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__()
        self._raw = raw
        self._unpacker = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
        self._frame: Any = None
        self._rest = b""
        self._out = memoryview(b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As files do. Raises EOFError, ZstdError: it is cut off, or no zstd."""
        while not self._out:
            data = self._rest or self._raw.read(PACKED_BYTES)
            if not data:
                if self._frame is not None:
                    raise EOFError("its last zstd frame is cut off")
                return 0
            if self._frame is None:
                self._frame = self._unpacker.decompressobj()
            self._out = memoryview(self._frame.decompress(data))
            self._rest = b""
            if self._frame.eof:
                self._rest, self._frame = self._frame.unused_data, None
        size = min(len(buffer), len(self._out))
        buffer[:size] = self._out[:size]
        self._out = self._out[size:]
        return size


def _unpacked(name: str, raw: BinaryIO) -> BinaryIO:
    """Its lines; several members, or frames, one after the other are one file."""
    opened: Any = raw
    if name.endswith(".gz"):
        opened = gzip.GzipFile(fileobj=raw, mode="rb")
    elif name.endswith(".zst"):
        opened = io.BufferedReader(_Zstd(raw), READ_BYTES)
    found: BinaryIO = opened
    return found
