"""Files, folders and buckets: what is to be read there, and how something is written there."""

import io
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from hookstream.app.archive.objects import VARIABLES, is_panic, open_store, reason
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
            found.append(LineFile(STDIN, 0, _stdin, once=True))
        elif is_bucket(one):
            found += _below(one)
        else:
            found.append(_file(one))
    names = [file.name for file in found]
    if len(set(names)) < len(names):
        raise BadRequestError("the same file is named twice")
    return found


def _stdin() -> BinaryIO:
    """A file of its own: who is left reading it does not keep the process from ending."""
    return open(0, "rb", closefd=False)


def _below(url: str) -> list[LineFile]:
    """What is at an address: the objects below it, or the one that is called so."""
    address = _address(url)
    if address.kind == "file" and Path(address.path).is_file():
        return [_file(address.path)]
    bucket = Bucket(url)
    return bucket.files() or bucket.itself()


def _file(given: str) -> LineFile:
    path = Path(given)
    try:
        # not where it leads: a pipe, as of `<(command)`, is no other name's
        found = path.stat()
        if not stat.S_ISDIR(found.st_mode) and not os.access(path, os.R_OK):
            raise PermissionError(0, "this user may not read it")
    except FileNotFoundError as error:
        raise BadRequestError(f"there is no file {path}") from error
    except (OSError, ValueError) as error:
        # ValueError: characters that no path has
        said = getattr(error, "strerror", None) or error
        raise BadRequestError(f"{path} cannot be read: {said}") from error
    if stat.S_ISDIR(found.st_mode):
        raise BadRequestError(f"{path} is a folder: name its files, or file://{path.resolve()}/")
    if not stat.S_ISREG(found.st_mode):
        return LineFile(given, 0, lambda: path.open("rb"), once=True)
    whole = path.resolve()
    return LineFile(str(whole), found.st_size, lambda: whole.open("rb"))


def _address(url: str) -> ArchiveAddress:
    try:
        return parse_archive_url(url)
    except ValueError as error:
        raise BadRequestError(f"{url} {error}") from error


class Bucket:
    """A folder or bucket with objects. Every method raises HookstreamError where it is away."""

    def __init__(self, url: str, *, make: bool = False) -> None:
        """``make``: a folder that is not there is made.

        Raises:
            BadRequestError: ``url`` is no such address, or there is no such folder.
            HookstreamError: what the environment says of a cloud is wrong, or not enough.
        """
        self._url = url.rstrip("/")
        self._address = _address(url)
        if self._address.kind == "file":
            _look_for_folder(url, Path(self._address.path), make=make)
        self._store = self._open(self._address)

    def names(self) -> list[str]:
        """The names of all objects, in their order; what begins with a dot is left out."""
        return [file.name.removeprefix(self._url + "/") for file in self.files()]

    def files(self) -> list[LineFile]:
        """All objects, by name; what begins with a dot is left out."""
        import obstore

        with self._trouble("cannot be listed"):
            listed = [
                (one["path"], one["size"])
                for chunk in obstore.list(self._store, chunk_size=LISTED)
                for one in chunk
            ]
        return [
            LineFile(f"{self._url}/{name}", size, _Opening(self._store, name, size))
            for name, size in sorted(listed)
            if size and not name.rpartition("/")[2].startswith(".")
        ]

    def itself(self) -> list[LineFile]:
        """The object that is called as the whole address, if there is one."""
        import obstore

        above, _, name = self._address.path.rpartition("/")
        if not name or self._address.kind == "file":
            return []
        store = self._open(replace(self._address, path=above))
        with self._trouble("cannot be looked at"):
            try:
                size = obstore.head(store, name)["size"]
            except FileNotFoundError:
                return []
        return [LineFile(self._url, size, _Opening(store, name, size))] if size else []

    def put(self, name: str, data: bytes) -> None:
        """Write an object, in place of one of its name."""
        import obstore

        with self._trouble(f"does not take {name}"):
            obstore.put(self._store, name, data)

    def _open(self, address: ArchiveAddress) -> Any:
        with self._trouble("cannot be opened"):
            return open_store(address)

    @contextmanager
    def _trouble(self, what: str) -> Iterator[None]:
        """The one place where what a library says becomes HookstreamError."""
        try:
            yield
        except BaseException as error:
            if not (isinstance(error, Exception) or is_panic(error)):
                raise
            raise HookstreamError(self._said(what, error)) from error

    def _said(self, what: str, error: BaseException) -> str:
        kind, said = reason(error)
        text = f"{self._url} {what}: " + (said if kind == "Value" else f"{kind}: {said}")
        if names := VARIABLES.get(self._address.kind):
            given = [name for name in names if os.environ.get(name)]
            text += (
                f". What counts is in {', '.join(names)} (set: {', '.join(given) or 'none'}), or "
                "what this machine's role gives"
            )
        return text


def _look_for_folder(url: str, folder: Path, *, make: bool) -> None:
    try:
        if make:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif not folder.exists():
            raise BadRequestError(f"there is nothing at {url}: no such folder")
        elif not folder.is_dir():
            raise BadRequestError(f"{url}: no folder")
        elif not os.access(folder, os.R_OK | os.X_OK):
            raise BadRequestError(f"{url}: this user may not read it")
    except OSError as error:
        raise BadRequestError(f"{url}: {error.strerror}") from error


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
        except BaseException as error:
            if not (isinstance(error, Exception) or is_panic(error)):
                raise
            raise OSError(": ".join(reason(error))) from error
        buffer[: len(data)] = memoryview(data)
        self._at += len(data)
        return len(data)
