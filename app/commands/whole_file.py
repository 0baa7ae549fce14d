"""A file that is there once all of it is, and not before."""

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

from hookstream.app.errors import BadRequestError, HookstreamError

__all__ = ["WholeFile"]

#: What a disk says that takes no more.
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
#: As all files are made, unless the umask takes some of it away.
WITH_UMASK: Final = 0o666


class WholeFile:
    """Written as ``FILE.part`` beside it, in a ``with`` block; :meth:`keep` gives it its name.

    Without, as where something is raised, nothing is left. A process that is killed leaves the
    ``.part``, which the next one writes over. What is no file, such as a pipe, is written into.
    """

    def __init__(self, path: str, *, new: bool = False, mode: int = WITH_UMASK) -> None:
        """``new``: there is to be none of that name. ``mode``: who may read it."""
        self._path = Path(path)
        self._new = new
        self._mode = mode
        self._part: Path | None = None
        self._file: BinaryIO | None = None

    @property
    def file(self) -> BinaryIO:
        """What is written to."""
        assert self._file is not None, "within a with block"
        return self._file

    def __enter__(self) -> "WholeFile":
        """Open it. Raises BadRequestError: it cannot be written, or is there already."""
        try:
            if self._path.exists() and not (self._path.is_file() or self._path.is_dir()):
                self._file = self._path.open("wb")
            else:
                # a link stays one, to what is written then
                self._path = self._path.resolve()
                self._file = self._opened()
        except OSError as error:
            raise BadRequestError(f"{self._path} cannot be written: {error.strerror}") from error
        return self

    def _opened(self) -> BinaryIO:
        if self._path.is_dir():
            raise BadRequestError(f"{self._path} is a folder: name a file")
        self._check_new()
        self._part = self._path.with_name(self._path.name + ".part")
        number = os.open(self._part, os.O_WRONLY | os.O_CREAT, self._mode)
        try:
            # whoever else writes it would write into this one
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(number)
            self._part = None
            raise BadRequestError(f"{self._path} is being written by another command") from error
        except OSError:
            # some disks of other machines know no locks
            pass
        if not os.path.samestat(os.fstat(number), self._part.stat()):
            # the other command has given it its name just now
            os.close(number)
            self._part = None
            raise BadRequestError(f"{self._path} was written by another command just now")
        if self._mode != WITH_UMASK:
            os.fchmod(number, self._mode)
        os.ftruncate(number, 0)
        return os.fdopen(number, "wb")

    def _check_new(self) -> None:
        if self._new and self._path.exists():
            raise BadRequestError(f"{self._path} is there already: name a new file")

    def keep(self) -> None:
        """All has been written. Raises BadRequestError: meanwhile there is one of its name."""
        self.file.flush()
        if self._part is not None:
            os.fsync(self.file.fileno())
            self._check_new()
            self._part.replace(self._path)
            self._part = None
        self.file.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                # what is left in memory may find the disk full, too
                self._file.close()
        if self._part is not None:
            self._part.unlink(missing_ok=True)
            self._part = None
        if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
            raise HookstreamError(f"{self._path} cannot be written: {error.strerror}") from error
