"""A command that runs under a guard: it stops when it is told to, and when we die."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from hookstream.app.embedded import guard

__all__ = ["GuardedProcess", "keep_from_forks", "release"]

GUARD = Path(guard.__file__)

#: Descriptors that say "I live" by being open: a fork of this process must not say it for us.
_signs_of_life: set[int] = set()


def keep_from_forks(descriptor: int) -> int:
    """Have forks of this process close the descriptor (exec closes it anyway)."""
    _signs_of_life.add(descriptor)
    return descriptor


def release(descriptor: int) -> None:
    """Close a descriptor given to :func:`keep_from_forks`."""
    _signs_of_life.discard(descriptor)
    os.close(descriptor)


def _close_in_fork() -> None:
    for descriptor in _signs_of_life:
        with suppress(OSError):
            os.close(descriptor)
    _signs_of_life.clear()


os.register_at_fork(after_in_child=_close_in_fork)


class GuardedProcess:
    """A running command and its guard.

    It lives until it exits, :meth:`stop` or :meth:`kill`, or the death of this process, not until
    this object is collected.

    Args:
        command: Program and arguments.
        env: Its whole environment; ours when None.
        cwd: Its working folder; ours when None.
        output: Descriptor for its standard output and error; ours when None.
        stop_signal: What asks it to stop.
        stop_seconds: How long it may take to stop before it is killed.
        keep_fds: Descriptors to stay open in the guard and in the command.
        private: Folder that it needs to own, for a command that must not run as root.
        remove: Folder to remove after it has ended.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        output: int | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_seconds: float = 10.0,
        keep_fds: Sequence[int] = (),
        private: Path | None = None,
        remove: Path | None = None,
    ) -> None:
        self._stop_seconds = stop_seconds
        self._pid: int | None = None
        stdin, lifeline = os.pipe()
        self._report, report = os.pipe()
        options = [f"report={report}", f"stop_signal={stop_signal:d}"]
        options.append(f"stop_seconds={stop_seconds}")
        options += [f"private={private}"] if private else []
        options += [f"remove={remove}"] if remove else []
        self._lifeline = keep_from_forks(lifeline)
        try:
            self._guard = subprocess.Popen(  # noqa: S603 - our own guard, no shell
                # isolated and without site: some milliseconds instead of some dozens
                [sys.executable, "-I", "-S", str(GUARD), *options, "--", *command],
                stdin=stdin,
                stdout=output,
                stderr=output,
                env=env,
                cwd=cwd,
                pass_fds=(report, *keep_fds),
                start_new_session=True,
            )
        except BaseException:
            release(self._lifeline)
            os.close(self._report)
            raise
        finally:
            os.close(stdin)
            os.close(report)

    @property
    def pid(self) -> int | None:
        """The command's process id, waiting for the guard to start it; None if it could not."""
        if self._pid is None and self._report >= 0:
            word = os.read(self._report, 32)
            os.close(self._report)
            self._report = -1
            self._pid = int(word) if word else None
        return self._pid

    @property
    def guard_pid(self) -> int:
        """The guard's process id."""
        return self._guard.pid

    def poll(self) -> int | None:
        """Exit status as a shell gives it (128 + N for signal N), None while it runs."""
        status = self._guard.poll()
        if status is not None:
            self._close()
            if status < 0:  # the guard itself was killed
                status = 128 - status
        return status

    def wait(self, timeout_seconds: float | None = None) -> int:
        """Wait for the end and return the exit status; raises subprocess.TimeoutExpired."""
        self._guard.wait(timeout_seconds)
        status = self.poll()
        assert status is not None
        return status

    def ask_to_stop(self) -> None:
        """Begin to stop it, without waiting: it ends within ``stop_seconds``."""
        self._tell(guard.STOP)

    def kill(self) -> None:
        """Kill it at once, without waiting."""
        self._tell(guard.KILL)

    def stop(self) -> int:
        """Stop it, wait for the end and return the exit status."""
        self.ask_to_stop()
        try:
            return self.wait(self._stop_seconds + 5.0)
        except subprocess.TimeoutExpired:  # the guard hangs: the kernel takes both along
            self._guard.kill()
            if self._pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)
            return self.wait()

    def _tell(self, word: bytes) -> None:
        if self._lifeline >= 0:
            with suppress(BrokenPipeError):
                os.write(self._lifeline, word)

    def _close(self) -> None:
        if self._lifeline >= 0:
            release(self._lifeline)
            self._lifeline = -1
        _ = self.pid  # read it while it can be
