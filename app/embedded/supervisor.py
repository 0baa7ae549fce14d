"""Keeps the processes of ``hookstream up`` running, and stops all of them together."""

import http.client
import os
import select
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hookstream.app.embedded.process import GuardedProcess
from hookstream.app.errors import EmbeddedServerError, SettingsError

__all__ = ["Child", "Service", "Supervisor", "answers", "answers_on", "restart_wait_seconds"]

FIRST_BACKOFF_SECONDS = 0.2
MAX_BACKOFF_SECONDS = 5.0
#: What has run this long is well: its next failure counts as its first.
WELL_AFTER_SECONDS = 30.0
#: How long what cannot run as it is set up, and is not vital, is left alone.
MISCONFIGURED_SECONDS = 30.0
TICK_SECONDS = 0.2
#: Beyond a child's own limit, until its guard has killed it.
KILL_MARGIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Child:
    """A process to keep running; ``env`` is added to ours. SIGTERM is what stops it."""

    name: str
    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    stop_seconds: float = 20.0
    #: Says whether it takes work; asked every 0.2 s from its start until it does. None: at once.
    is_ready: Callable[[], bool] | None = None
    #: Whether nothing else is of use when this one cannot run as it is set up.
    vital: bool = True


class Service(Protocol):
    """Something that starts itself again, such as an embedded server."""

    @property
    def name(self) -> str:
        """What people call it."""

    def ensure(self) -> bool:
        """Start it again if it has died, without waiting; True when it was started."""


def restart_wait_seconds(failures: int) -> float:
    """Seconds to wait before start number ``failures + 1``: doubling, from 0.2 s up to 5 s."""
    return min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 16))


def answers(url: str, *, timeout_seconds: float = 1.0) -> bool:
    """Say whether a GET of an http url succeeds: an ``is_ready`` for children that serve HTTP."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds):  # noqa: S310 - ours
            return True
    except (OSError, http.client.HTTPException):
        return False


def answers_on(path: Path, url: str, *, timeout_seconds: float = 1.0) -> bool:
    """Say whether a GET of ``url`` succeeds on a unix socket: of processes that share a port."""
    connection = _OnSocket("localhost", timeout=timeout_seconds)
    connection.path = path
    try:
        connection.request("GET", url)
        return 200 <= connection.getresponse().status < 300
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class _OnSocket(http.client.HTTPConnection):
    path: Path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


@dataclass(slots=True)
class _Record:
    """How it has gone with one child or service: when it was started, when it may be again."""

    started_at: float = 0.0
    failures: int = 0
    due_at: float = 0.0

    def fail(self, now: float) -> float:
        """Count a failure; return the seconds until the next start."""
        self.failures = 1 if now - self.started_at > WELL_AFTER_SECONDS else self.failures + 1
        wait = restart_wait_seconds(self.failures)
        self.due_at = now + wait
        return wait


class Supervisor:
    """Runs children in the foreground until a signal comes.

    Each child has a guard and a session of its own: Ctrl-C reaches the supervisor alone, and the
    children end however the supervisor does.

    Args:
        children: Started in this order, stopped in the opposite one.
        announce: Told in a line what people should know.
        on_ready: Called once, when every child has been found ready.
        services: Looked after between the children, such as embedded servers. Who started them
            stops them, after :meth:`run` has returned.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        announce: Callable[[str], None],
        services: Sequence[Service] = (),
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self._children = list(children)
        self._services = list(services)
        self._announce = announce
        self._on_ready = on_ready
        self._not_ready = list(children)
        self._processes: dict[str, GuardedProcess] = {}
        names = [child.name for child in children] + [service.name for service in services]
        self._records = {name: _Record() for name in names}
        self._interrupts = 0
        self._misconfigured = False

    def pid(self, name: str) -> int | None:
        """Process id of a child that runs, else None."""
        process = self._processes.get(name)
        return process.pid if process is not None and process.poll() is None else None

    def run(self) -> int:
        """Run until SIGINT or SIGTERM; return 0 if all children stopped by themselves, else 1.

        A child that ends with status 78 (EX_CONFIG of sysexits.h) says that it cannot run as it is
        set up: it is not tried again, all of them are stopped, and 78 is returned. One that is not
        vital is tried again a while later, for somebody may mend it meanwhile, and the others run.
        From the main thread, since it handles signals. A second signal kills what is left.
        """
        with self._signals() as wake:
            try:
                while not self._interrupts:
                    self._tend(time.monotonic())
                    _sleep(wake, TICK_SECONDS)
                status = self._stop(wake)
                return SettingsError.exit_status if self._misconfigured else status
            finally:
                for process in self._processes.values():
                    process.kill()

    def _tend(self, now: float) -> None:
        for child in self._children:
            self._tend_child(child, now)
            if self._interrupts:
                return
        self._tend_services(now)
        self._ask_whether_ready()

    def _ask_whether_ready(self) -> None:
        if self._on_ready is None:
            return
        while self._not_ready:
            child = self._not_ready[0]
            if child.name not in self._processes or (child.is_ready and not child.is_ready()):
                return
            del self._not_ready[0]
        on_ready, self._on_ready = self._on_ready, None
        on_ready()

    def _tend_child(self, child: Child, now: float) -> None:
        record = self._records[child.name]
        process = self._processes.get(child.name)
        if process is not None:
            status = process.poll()
            if status is None:
                return
            del self._processes[child.name]
            if status == SettingsError.exit_status and not child.vital:
                record.due_at = now + MISCONFIGURED_SECONDS
                self._announce(
                    f"{child.name} cannot run as it is set up (see above): it is tried again every "
                    f"{MISCONFIGURED_SECONDS:.0f} s, and the others go on"
                )
                return
            if status == SettingsError.exit_status:
                self._announce(f"{child.name} cannot run with these settings (see above)")
                self._misconfigured = True
                self._interrupts += 1
                return
            wait = record.fail(now)
            self._announce(
                f"{child.name} ended with {_describe(status)}; starting it again in {wait:.1f} s"
            )
        if now >= record.due_at:
            record.started_at = now
            self._processes[child.name] = GuardedProcess(
                child.argv, env={**os.environ, **child.env}, stop_seconds=child.stop_seconds
            )

    def _tend_services(self, now: float) -> None:
        for service in self._services:
            record = self._records[service.name]
            if now < record.due_at:
                continue
            try:
                if service.ensure():
                    record.fail(now)
                    record.started_at = now
                    self._announce(f"{service.name} had died; it is starting again")
            except (EmbeddedServerError, OSError, subprocess.SubprocessError) as error:
                # a full disk, say: what runs goes on, and receivers keep what they get
                wait = record.fail(now)
                self._announce(f"{service.name}: {error}\nTrying again in {wait:.1f} s")

    def _stop(self, wake: int) -> int:
        running = [
            (child, self._processes[child.name])
            for child in reversed(self._children)
            if child.name in self._processes
        ]
        self._announce("stopping; once more kills what is left")
        for _, process in running:
            process.ask_to_stop()
        begun = time.monotonic()
        late = max((child.stop_seconds for child, _ in running), default=0.0)
        while any(process.poll() is None for _, process in running):
            now = time.monotonic()
            if self._interrupts > 1 or now > begun + late + KILL_MARGIN_SECONDS:
                for _, process in running:
                    process.kill()
            self._tend_services(now)  # what drains still needs them
            _sleep(wake, TICK_SECONDS)
        killed = [child.name for child, process in running if process.poll() == 128 + 9]
        if killed:
            self._announce(f"killed, since it did not stop in time: {', '.join(killed)}")
        return 1 if killed else 0

    @contextmanager
    def _signals(self) -> Iterator[int]:
        """Count SIGINT and SIGTERM; what is yielded is readable when any signal has come."""
        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)

        def interrupt(*_: object) -> None:
            self._interrupts += 1

        before = {
            signal.SIGINT: signal.signal(signal.SIGINT, interrupt),
            signal.SIGTERM: signal.signal(signal.SIGTERM, interrupt),
            signal.SIGCHLD: signal.signal(signal.SIGCHLD, lambda *_: None),
        }
        wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        try:
            yield read
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(read)
            os.close(write)


def _sleep(wake: int, seconds: float) -> None:
    """Sleep, but not past a signal."""
    if select.select([wake], [], [], seconds)[0]:
        os.read(wake, 256)


def _describe(status: int) -> str:
    """Say an exit status in words: ``status 2``, ``SIGKILL``."""
    if status > 128:
        try:
            return signal.Signals(status - 128).name
        except ValueError:
            pass
    return f"status {status}"
