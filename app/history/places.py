"""Files, folders and buckets: what is to be read there, and how something is written there."""

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from hookstream.app.archive.objects import open_store, reason
from hookstream.app.archive_address import ArchiveAddress, parse_archive_url
from hookstream.app.errors import BadRequestError, HookstreamError
from hookstream.app.history.line_files import STDIN, LineFile

__all__ = ["Bucket", "files_at", "is_bucket"]

#: What is asked of a bucket at a time.
CHUNK_BYTES: Final = 4 * 1024 * 1024
LISTED: Final = 1000
_SCHEMES: Final = ("file://", "s3://", "gs://", "az://")


def is_bucket(text: str) -> bool:
    """Whether it is an address of a folder or bucket, not a path."""
    return text.startswith(_SCHEMES)


def files_at(given: Sequence[str]) -> list[LineFile]:
    """The files at paths and addresses, in that order; what is below an address by name.

    Raises:
        BadRequestError, HookstreamError: there is none, or it cannot be looked at.
    """
    found: list[LineFile] = []
    for one in given:
        if one == STDIN:
            found.append(LineFile(STDIN, 0, lambda: sys.stdin.buffer))
        elif is_bucket(one):
            found += Bucket(one).files()
        else:
            found.append(_file(Path(one)))
    names = [file.name for file in found]
    if len(set(names)) < len(names):
        raise BadRequestError("the same file is named twice")
    return found


def _file(path: Path) -> LineFile:
    if path.is_dir():
        raise BadRequestError(f"{path} is a folder: name its files, or file://{path.resolve()}/")
    if not path.exists():
        raise BadRequestError(f"there is no file {path}")
    whole = path.resolve()
    return LineFile(str(whole), whole.stat().st_size, lambda: whole.open("rb"))


class Bucket:
    """A folder or bucket with objects. Every method raises HookstreamError where it is away."""

    def __init__(self, url: str) -> None:
        """Raises BadRequestError: ``url`` is no such address."""
        self._url = url.rstrip("/")
        try:
            address: ArchiveAddress = parse_archive_url(url)
        except ValueError as error:
            raise BadRequestError(f"{url} {error}") from error
        if address.kind == "file" and not Path(address.path).is_dir():
            try:
                Path(address.path).mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise BadRequestError(f"{url}: {error.strerror}") from error
        self._store = open_store(address)

    def names(self) -> list[str]:
        """The names of all objects, in their order; what begins with a dot is left out."""
        return [file.name.removeprefix(self._url + "/") for file in self.files()]

    def files(self) -> list[LineFile]:
        """All objects, by name; what begins with a dot is left out."""
        import obstore

        try:
            listed = [
                (one["path"], one["size"])
                for chunk in obstore.list(self._store, chunk_size=LISTED)
                for one in chunk
            ]
        except Exception as error:
            raise self._trouble("cannot be listed", error) from error
        return [
            LineFile(f"{self._url}/{name}", size, _Opening(self._store, name, size))
            for name, size in sorted(listed)
            if size and not name.rpartition("/")[2].startswith(".")
        ]

    def put(self, name: str, data: bytes) -> None:
        """Write an object, in place of one of its name."""
        import obstore

        try:
            obstore.put(self._store, name, data)
        except Exception as error:
            raise self._trouble(f"does not take {name}", error) from error

    def _trouble(self, what: str, error: Exception) -> HookstreamError:
        kind, said = reason(error)
        return HookstreamError(f"{self._url} {what}: {kind}: {said}")


class _Opening:
    """Opens an object to be read from its beginning, or from anywhere."""

    def __init__(self, store: Any, name: str, size: int) -> None:
        self._of = (store, name, size)

    def __call__(self) -> BinaryIO:
        found: Any = io.BufferedReader(_Object(*self._of), CHUNK_BYTES)
        opened: BinaryIO = found
        return opened


class _Object(io.RawIOBase):
    """An object as a file, read in ranges."""

    def __init__(self, store: Any, name: str, size: int) -> None:
        super().__init__()
        self._store, self._name, self._size = store, name, size
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go somewhere; nothing is asked yet."""
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = begin + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """As files do. Raises OSError: the bucket does not give it."""
        import obstore

        end = min(self._size, self._at + len(buffer))
        if self._at >= end:
            return 0
        try:
            data = obstore.get_range(self._store, self._name, start=self._at, end=end)
        except Exception as error:
            raise OSError(": ".join(reason(error))) from error
        buffer[: len(data)] = memoryview(data)
        self._at += len(data)
        return len(data)
