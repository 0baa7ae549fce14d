"""Files and objects with a line of JSON for each event, packed or not, one after the other."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, TypeVar

import zstandard

from hookstream.app.errors import BadRequestError, HookstreamError
from hookstream.app.history.source import Line, ReadPage
from hookstream.app.history.threads import in_thread

__all__ = ["STDIN", "LineFile", "LineFiles"]

T = TypeVar("T")

#: Standard input, as a file is called.
STDIN: Final = "-"
#: The longest line that is read; of a longer one the beginning is a line that is rejected.
MAX_LINE_BYTES: Final = 64 * 1024 * 1024
#: Of what is rejected so much is kept.
SHOWN_BYTES: Final = 1000
#: What a file is recognised by when it is gone on with.
HEAD_BYTES: Final = 4096
READ_BYTES: Final = 1024 * 1024
#: Of what is packed by zstd at a time. 4 bytes may stand for 128 KiB: 32 MiB may come out of it.
PACKED_BYTES: Final = 1024
#: What is asked for at a time of what comes out.
UNPACKED_BYTES: Final = 64 * 1024
#: Memory that a zstd file may ask for: `zstd --long=27`.
ZSTD_WINDOW: Final = 1 << 27
_BROKEN: Final = (OSError, EOFError, zlib.error, zstandard.ZstdError)
#: What packed files begin with, whatever they are called, and what is no lines at all.
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
#: Of a frame that is passed over, behind its first byte: some packers begin with one.
_SKIPPED: Final = b"\x2a\x4d\x18"
_OTHERS: Final[Mapping[bytes, str]] = {
    b"BZh": "is packed by bzip2: unpack it first, as by `bzcat FILE | … -`",
    b"\xfd7zXZ\0": "is packed by xz: unpack it first, as by `xzcat FILE | … -`",
    b"\x04\x22\x4d\x18": "is packed by lz4: unpack it first, as by `lz4cat FILE | … -`",
    b"PK\x03\x04": "is a zip archive: unpack it first",
    b"PAR1": "is Parquet: lines of JSON are wanted",
    b"\xff\xfe": "is UTF-16: UTF-8 is wanted, as `iconv -f UTF-16 -t UTF-8` makes it",
    b"\xfe\xff": "is UTF-16: UTF-8 is wanted, as `iconv -f UTF-16 -t UTF-8` makes it",
}
_MAGIC_BYTES: Final = max(map(len, _OTHERS))
#: What some systems put at the beginning of UTF-8.
_MARK: Final = b"\xef\xbb\xbf"
#: Where an archive of tar says that it is one.
_TAR: Final = slice(257, 262)


@dataclass(frozen=True, slots=True)
class LineFile:
    """A file or object. ``size`` in bytes as it lies there; 0: not known.

    ``once``: what has been read is gone, as of a pipe: it is not gone on with.
    """

    name: str
    size: int
    open: Callable[[], BinaryIO]
    once: bool = False

    def __str__(self) -> str:
        return "standard input" if self.name == STDIN else self.name


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
        #: Where the last line begins that has no end: a whole one may stand there next time.
        self._open_end: int | None = None
        #: Behind what was given last.
        self._place: dict[str, Any] = {}
        self._head = b""
        self._packed = False
        self._raw: BinaryIO | None = None
        self._lines: BinaryIO | None = None
        #: A thread reads: nobody else may touch the file.
        self._busy = False
        #: Was read and did not fit the page.
        self._left: _Read | None = None

    async def look(self) -> None:
        """See whether the first file can be read, without reading what cannot be read again."""
        if self._files and not self._files[0].once:
            await self._aside(self._look)

    async def open(self, place: dict[str, Any]) -> None:
        """Go on behind the line that was read last."""
        await self._aside(lambda: self._go_to(place))

    async def page(self, lines: int, size: int) -> ReadPage:
        """The next lines; a page ends with its file."""
        return await self._aside(lambda: self._page(lines, size))

    def share(self) -> float | None:
        """By bytes as they lie there."""
        if not self._size or any(file.once for file in self._files):
            return None
        before = sum(file.size for file in self._files[: self._at])
        here = self._raw.tell() if self._raw is not None else 0
        return min(1.0, (before + here) / self._size)

    async def close(self) -> None:
        """Close the file that is open; one that a thread still waits for is left to it."""
        if not self._busy:
            self._close()

    async def _aside(self, call: Callable[[], T]) -> T:
        def work() -> T:
            try:
                return call()
            finally:
                self._busy = False

        self._busy = True
        return await in_thread(work)

    def _close(self) -> None:
        for file in (self._lines, self._raw):
            if file is not None:
                file.close()
        self._lines = self._raw = None

    def _look(self) -> None:
        self._begin()
        self._close()

    def _go_to(self, place: dict[str, Any]) -> None:
        self._place = place
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
        file = self._files[self._at]
        self._begin()
        # it may have had less than this when it was read, and has grown since
        head = self._head[: place.get("head_bytes", HEAD_BYTES)]
        # the release before did not note it of a file that was through
        known = place.get("head", _digest(head) if place.get("done") else "")
        if _digest(head) != known:
            raise _other(f"{name} begins otherwise than when it was read to line {wanted}")
        if place.get("done") and place.get("size", file.size) == file.size:
            self._close()
            self._at += 1
            return
        if not self._packed:
            offset = int(place["offset"])
            if file.size < offset:
                raise _other(
                    f"{name} has {file.size} bytes, and was read to the {offset}th, in line "
                    f"{wanted}"
                )
            assert self._lines is not None
            self._lines.seek(offset)
            self._number, self._end = wanted, offset
            return
        while self._number < wanted:
            if self._read() is None:
                raise _other(f"{name} has {self._number} lines, and was read to line {wanted}")

    def _begin(self) -> None:
        """Open the file that is next."""
        file = self._files[self._at]
        try:
            self._raw = raw = file.open()
            self._head = raw.read(_MAGIC_BYTES if file.once else HEAD_BYTES)
            if file.once:
                first: Any = _Joined(self._head, raw)
                raw = io.BufferedReader(first, READ_BYTES)
            else:
                raw.seek(0)
            for magic, said in _OTHERS.items():
                if self._head.startswith(magic):
                    raise BadRequestError(f"{file} {said}")
            self._lines = _unpacked(file.name, self._head, raw)
        except _BROKEN as error:
            raise HookstreamError(f"{file} cannot be read: {_why(error)}") from error
        self._packed = self._lines is not raw
        self._number = self._end = 0
        self._open_end = None

    def _read(self) -> _Read | None:
        """The next line; None at the end of the file."""
        if self._left is not None:
            read, self._left = self._left, None
            return read
        if self._open_end is not None:
            # who writes on meanwhile writes the rest of a line
            return None
        assert self._lines is not None
        begin = self._end
        try:
            text = part = self._lines.readline(MAX_LINE_BYTES)
            self._end += len(text)
            while len(part) == MAX_LINE_BYTES and not part.endswith(b"\n"):
                part = self._lines.readline(MAX_LINE_BYTES)
                self._end += len(part)
        except _BROKEN as error:
            raise HookstreamError(
                f"{self._files[self._at]} breaks off behind line {self._number:,} "
                f"({_why(error)}): put the whole file there, and start the same command again"
            ) from error
        if not text:
            return None
        self._number += 1
        ended = (part or text).endswith(b"\n")
        self._open_end = None if ended else begin
        whole = text.endswith(b"\n") or len(text) < MAX_LINE_BYTES
        if self._number == 1:
            text = self._first(text)
        return _Read(text.rstrip(b"\r\n"), self._number, self._end, whole)

    def _first(self, text: bytes) -> bytes:
        """The first line of a file. Raises BadRequestError: it is none of a file of lines."""
        name = str(self._files[self._at])
        if text[_TAR] == b"ustar":
            raise BadRequestError(f"{name} is a tar archive: unpack it first")
        text = text.removeprefix(_MARK)
        if text.lstrip().startswith(b"["):
            raise BadRequestError(
                f"{name} begins with [, as a list does: an object a line is wanted, as "
                "`jq -c '.[]'` makes of one"
            )
        return text

    def _page(self, most: int, size: int) -> ReadPage:
        if self._at >= len(self._files):
            return ReadPage(place=self._place, more=False)
        if self._lines is None:
            self._begin()
        file, page, held = self._files[self._at], ReadPage(), 0
        while len(page.lines) < most:
            read = self._read()
            if read is None:
                self._place = self._behind(file, self._number, self._end, done=True)
                self._close()
                self._at += 1
                page.more = self._at < len(self._files)
                break
            if page.lines and held + len(read.text) > size:
                self._left = read
                break
            if read.text.strip():
                held += len(read.text)
                page.lines.append(_line(str(file), read, size))
            self._place = self._behind(file, read.number, read.end)
        page.place = self._place
        return page

    def _behind(
        self, file: LineFile, number: int, end: int, *, done: bool = False
    ) -> dict[str, Any]:
        """The place behind a line."""
        if file.once:
            return {"file": STDIN, "line": number}
        place = {
            "file": file.name,
            "line": number,
            "offset": end,
            "head": _digest(self._head),
            "head_bytes": len(self._head),
        }
        if done:
            place |= {"done": True, "size": file.size}
            if self._open_end is not None:
                # where the file grows it is read once more, whole
                place |= {"line": number - 1, "offset": self._open_end}
        return place


def _digest(head: bytes) -> str:
    return hashlib.sha256(head).hexdigest()[:16]


def _other(what: str) -> BadRequestError:
    return BadRequestError(
        f"{what}: it is another file. Begin anew with --restart; nothing comes twice by that"
    )


def _why(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)


def _line(name: str, read: _Read, size: int) -> Line:
    where = f"{name}:{read.number}"
    if not read.whole or len(read.text) > size:
        trouble = f"is longer than {size:,} bytes"
        return Line(where, read.text[:SHOWN_BYTES], trouble, number=read.number)
    return Line(where, read.text, number=read.number)


class _Joined(io.RawIOBase):
    """What was read of a file already, and then the rest of it."""

    def __init__(self, first: bytes, rest: BinaryIO) -> None:
        super().__init__()
        self._first = first
        self._rest = rest

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As files do: what there is, without waiting for more."""
        if self._first:
            size = min(len(buffer), len(self._first))
            buffer[:size] = self._first[:size]
            self._first = self._first[size:]
            return size
        data: bytes = self._rest.read1(len(buffer))  # type: ignore[attr-defined]
        buffer[: len(data)] = data
        return len(data)


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
                self._frame = self._unpacker.decompressobj(write_size=UNPACKED_BYTES)
            self._out = memoryview(self._frame.decompress(data))
            self._rest = b""
            if self._frame.eof:
                self._rest, self._frame = self._frame.unused_data, None
        size = min(len(buffer), len(self._out))
        buffer[:size] = self._out[:size]
        self._out = self._out[size:]
        return size


def _unpacked(name: str, head: bytes, raw: BinaryIO) -> BinaryIO:
    """Its lines; several members, or frames, one after the other are one file.

    It is packed where it begins so, whatever it is called: who fetched it may have unpacked it.
    Raises BadRequestError: it is called packed, and is nothing of the kind, nor lines.
    """
    opened: Any = raw
    if head.startswith(_GZIP):
        opened = gzip.GzipFile(fileobj=raw, mode="rb")
    elif head.startswith(_ZSTD) or head[1:4] == _SKIPPED:
        opened = io.BufferedReader(_Zstd(raw), READ_BYTES)
    elif name.endswith((".gz", ".zst")) and not _is_of_lines(head):
        raise BadRequestError(f"{name} is neither packed, as it is called, nor lines of JSON")
    found: BinaryIO = opened
    return found


def _is_of_lines(head: bytes) -> bool:
    return not head or head.removeprefix(_MARK).lstrip().startswith(b"{")
