"""What embedded servers have in common: one owner a state folder, everybody else attaches.

Two locks in ``state_dir/NAME/`` say who lives. ``owner.lock`` is held by the process in charge.
``server.lock`` is held by the guard, the server and the server's own children, so that it is free
only when nothing of an earlier server can touch the data any more. A starter that gets the first
waits for the second. The kernel frees both, whatever killed their holders.
"""

import fcntl
import logging
import os
import re
import shutil
import signal
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from hookstream.app.embedded import guard
from hookstream.app.embedded.process import GuardedProcess, keep_from_forks, release
from hookstream.app.errors import EmbeddedServerError

__all__ = ["EmbeddedServer", "Readiness"]

logger = logging.getLogger(__name__)

#: sun_path holds 108 bytes on Linux and 104 on macOS, with its final zero.
MAX_SOCKET_PATH_BYTES = 100
#: Paths that clients take as they are; a comma, for one, means a list of hosts to them.
PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+=~-]+")
MAX_LOG_BYTES = 10 * 1024 * 1024
LOG_LINES_IN_ERRORS = 15
POLL_SECONDS = 0.01
PROGRESS_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Readiness:
    """What a server answers: ``ready``; or, not yet, the ``progress`` of what it is at."""

    ready: bool
    progress: str = ""


DOWN = Readiness(ready=False)


class EmbeddedServer(ABC):
    """A server process of our own, or the one that another process runs on the same state folder.

    Use it by ``start_valkey`` and ``start_postgres``. ``url`` is how clients reach it and stays
    the same for as long as this object lives; ``owned`` says whether it ends with this process.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    socket_name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_seconds: ClassVar[float] = 10.0

    def __init__(self, state_dir: Path, *, timeout_seconds: float = 60.0) -> None:
        self.home = state_dir.resolve() / self.name
        self.url = ""
        self.owned = False
        self._timeout_seconds = timeout_seconds
        self._process: GuardedProcess | None = None
        self._owner_lock: int | None = None
        self._log_start = 0

    # What a kind of server fills in.

    @abstractmethod
    def _prepare(self, sockets: Path, server_lock: int) -> None:
        """Make ``home`` fit to be served: nothing else touches it now. Sets ``url``."""

    @abstractmethod
    def _command(self, sockets: Path) -> list[str]:
        """The server's command line."""

    @abstractmethod
    def _readiness(self) -> Readiness:
        """Ask the server at ``url``, whoever runs it, whether it takes work."""

    def _environment(self) -> dict[str, str]:
        return dict(os.environ)

    def _complete(self) -> None:  # noqa: B027 - most servers need nothing
        """Finish what needs a running server, such as creating the database."""

    # Starting, watching, stopping.

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.home / "server.log"

    @property
    def pid(self) -> int | None:
        """Process id of the server, None when it is not known."""
        if self._process is not None:
            return self._process.pid
        with suppress(OSError, ValueError):
            return int((self.home / "pid").read_text())
        return None

    @property
    def guard_pid(self) -> int | None:
        """Process id of the server's guard when it is ours."""
        return self._process.guard_pid if self._process is not None else None

    def start(self) -> Self:
        """Start the server, or attach to the running one, and return once it takes work."""
        self.home.mkdir(parents=True, exist_ok=True)
        # who may enter may use the server: there is no other authentication
        self.home.chmod(0o700)
        deadline = time.monotonic() + self._timeout_seconds
        while not self._take_ownership():
            self.url = self._read_url()
            readiness = self._readiness() if self.url else DOWN
            if readiness.ready:
                self._complete()
                return self
            if readiness.progress:
                deadline = time.monotonic() + self._timeout_seconds
            if time.monotonic() > deadline:
                raise self._error(
                    f"Another process runs {self.title} on {self.home}, "
                    f"but it does not answer within {self._timeout_seconds:g} s"
                )
            time.sleep(POLL_SECONDS)
        try:
            while not self._spawn():
                if time.monotonic() > deadline:
                    raise self._error(
                        f"An earlier {self.title} on {self.home} has not ended within "
                        f"{self._timeout_seconds:g} s"
                    )
                time.sleep(POLL_SECONDS)
            self._await_ready(deadline)
            self._complete()
        except BaseException:
            self.stop()
            raise
        return self

    def alive(self) -> bool:
        """Say whether the server runs (ours) or answers (somebody else's)."""
        if self._process is not None:
            return self._process.poll() is None
        return not self.owned and bool(self.url) and self._readiness() != DOWN

    def ensure(self) -> bool:
        """Start the server again if it has died; at the same url, and without waiting for it.

        Returns True when it was started. Raises EmbeddedServerError when it cannot be.
        """
        if self.alive() or not (self.owned or self._take_ownership()):
            return False
        return self._spawn()

    def failure(self) -> str:
        """The last lines of the server's log since it was last started, for people."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(self._log_start, file.seek(0, os.SEEK_END) - 64 * 1024))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-LOG_LINES_IN_ERRORS:])

    def stop(self) -> None:
        """Stop the server if it is ours; its data stays. Safe to call twice."""
        if self.owned:
            (self.home / "url").unlink(missing_ok=True)
        if self._process is not None:
            self._process.stop()
            self._process = None
        if self._owner_lock is not None:
            release(self._owner_lock)
            self._owner_lock = None
        self.owned = False
        self.url = ""

    @classmethod
    def find(cls, state_dir: Path) -> str | None:
        """Return the url of the state folder's running server, None when there is none."""
        server = cls(state_dir)
        server.url = server._read_url()
        if not server.url or not _is_locked(server.home / "owner.lock"):
            return None  # a server without an owner is on its way down
        return server.url if server._readiness().ready else None

    # How.

    def _take_ownership(self) -> bool:
        lock = _lock(self.home / "owner.lock")
        if lock is None:
            return False
        self._owner_lock = keep_from_forks(lock)
        self.owned = True
        (self.home / "url").unlink(missing_ok=True)  # of an owner that died
        return True

    def _spawn(self) -> bool:
        """Start the server as its owner; False while something of an earlier one still lives."""
        server_lock = _lock(self.home / "server.lock")
        if server_lock is None:
            return False
        try:
            sockets = self._sockets()
            try:
                self._prepare(sockets, server_lock)
                self._process = self._run(self._command(sockets), server_lock, sockets)
            except BaseException:
                if sockets != self.home:  # no guard has come to remove it
                    shutil.rmtree(sockets, ignore_errors=True)
                raise
        finally:
            os.close(server_lock)
        _write(self.home / "pid", str(self._process.pid or ""))
        _write(self.home / "url", self.url)
        return True

    def _run(
        self, command: list[str], server_lock: int, sockets: Path | None = None
    ) -> GuardedProcess:
        """Run a command on the data: logged, and holding the server's lock."""
        output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(output).st_size > MAX_LOG_BYTES:
                os.replace(self.log, self.log.with_suffix(".log.1"))
                return self._run(command, server_lock, sockets)
            self._log_start = os.fstat(output).st_size
            return GuardedProcess(
                command,
                env=self._environment(),
                cwd=self.home,
                output=output,
                stop_signal=self.stop_signal,
                stop_seconds=self.stop_seconds,
                keep_fds=(server_lock,),
                private=self.home if self._must_not_be_root() else None,
                remove=sockets if sockets not in (None, self.home) else None,
            )
        finally:
            os.close(output)

    def _must_not_be_root(self) -> bool:
        return False

    def _await_ready(self, deadline: float) -> None:
        assert self._process is not None
        next_progress = time.monotonic() + PROGRESS_SECONDS
        while True:
            status = self._process.poll()
            if status is not None:
                raise self._exit_error(status)
            readiness = self._readiness()
            if readiness.ready:
                return
            now = time.monotonic()
            if readiness.progress:  # reading a large log of writes may take as long as it takes
                deadline = now + self._timeout_seconds
                if now >= next_progress:
                    logger.info("%s: %s", self.title, readiness.progress)
                    next_progress = now + PROGRESS_SECONDS
            if now > deadline:
                raise self._error(
                    f"{self.title} does not answer within {self._timeout_seconds:g} s"
                )
            time.sleep(POLL_SECONDS)

    def _exit_error(self, status: int) -> EmbeddedServerError:
        if status == guard.CANNOT_DROP_ROOT:
            return self._error(
                f"{self.title} refuses to run as root, and no other identity works here. Run as a "
                f"normal user, or set HOOKSTREAM_{self.name.upper()}_URL to a real server"
            )
        return self._error(f"{self.title} exited with status {status} instead of starting")

    def _error(self, problem: str) -> EmbeddedServerError:
        lines = self.failure()
        if not lines:
            return EmbeddedServerError(f"{problem}. Its log, {self.log}, says nothing.")
        return EmbeddedServerError(f"{problem}. Its log, {self.log}, ends with:\n{lines}")

    def _read_url(self) -> str:
        try:
            return (self.home / "url").read_text()
        except FileNotFoundError:
            return ""

    def _sockets(self) -> Path:
        """the digest flusher of the server's socket: ``home``, or else a private one with a plain
        name.

        That one's name is kept, so that a restart listens at the same place.
        """
        path = str(self.home / self.socket_name)
        if len(path) <= MAX_SOCKET_PATH_BYTES and PLAIN_PATH.fullmatch(path):
            return self.home
        note = self.home / "socket_dir"
        with suppress(FileNotFoundError):
            folder = Path(note.read_text())
            with suppress(OSError):
                folder.mkdir(mode=0o700)
            if _is_private(folder):
                return folder
        folder = Path(tempfile.mkdtemp(prefix=f"hookstream-{self.name}-"))
        _write(note, str(folder))
        return folder


def _lock(path: Path) -> int | None:
    """Take the exclusive lock of a file; None when somebody holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _is_private(folder: Path) -> bool:
    """Say whether it is a folder of ours that nobody else may enter: /tmp is everybody's."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return status.st_uid == os.geteuid() and status.st_mode & 0o177777 == 0o040700


def _write(path: Path, text: str) -> None:
    """Write a file that readers see whole or not at all, readable by us only."""
    draft = path.with_name(f"{path.name}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)
