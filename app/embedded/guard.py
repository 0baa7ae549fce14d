"""Runs one command that must not outlive the process that asked for it.

    python -I -S guard.py report=FD stop_signal=N stop_seconds=S [private=DIR] [remove=DIR] -- ...

Standard input is a pipe that only the starter can write to. However the starter dies, kill -9
included, the kernel closes its end, and the guard stops the command. It stands alone in a session
of its own (Ctrl-C in a terminal does not reach it) and uses the standard library only, so that it
is up within some milliseconds. The command's exit status becomes its own.

The starter may write ``STOP`` (stop within ``stop_seconds``, then kill) or ``KILL``.
"""

import ctypes  # not later: where nobody may run, it may be out of reach
import os
import pwd
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

__all__ = ["CANNOT_DROP_ROOT", "CANNOT_RUN", "KILL", "STOP"]

STOP = b"s"
KILL = b"k"
#: Exit status: the command could not be executed.
CANNOT_RUN = 126
#: Exit status: the command must not run as root, and there is no way here to be somebody else.
CANNOT_DROP_ROOT = 79
#: Longest that a command may take to stop once its starter is dead, so that the next can start.
ORPHAN_SECONDS = 5.0

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
#: Everybody's nobody: initdb wants a user that is in the password database.
NOBODY = 65534
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(arguments: list[str]) -> int:
    """Run the command until it exits or has to; return its exit status as a shell would."""
    split = arguments.index("--")
    options = dict(argument.split("=", 1) for argument in arguments[:split])
    command = arguments[split + 1 :]
    report = int(options["report"])
    stop_signal = int(options["stop_signal"])

    try:
        become = find_identity(options, command[0]) if "private" in options else None
    except OSError as error:
        complain(f"cannot drop root: {error}")
        return CANNOT_DROP_ROOT
    wake = wake_on_signals()
    guard_pid = os.getpid()
    # a stop signal between fork and exec waits until the command, not our handler, gets it
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    pid = os.fork()
    if pid == 0:
        try:
            os.close(report)
            turn_into(command, guard_pid, stop_signal, become)
        except Exception as error:  # noqa: BLE001 - said in the log; the fork must not go on
            complain(f"cannot run {command[0]}: {error!r}")
        finally:
            os._exit(CANNOT_RUN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    with suppress(OSError):  # either side of the fork may be first
        os.setpgid(pid, pid)
    with suppress(BrokenPipeError):  # the starter is dead already: standard input says so next
        os.write(report, b"%d\n" % pid)
    os.close(report)
    try:
        return watch(pid, wake, stop_signal, float(options["stop_seconds"]))
    finally:
        if "remove" in options:
            remove(options["remove"])


def complain(text: str) -> None:
    """Write a line to standard error, which is the server's log."""
    os.write(2, f"guard: {text}\n".encode())


def wake_on_signals() -> int:
    """Return a descriptor from which the numbers of arrived signals can be read."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *STOP_SIGNALS):
        signal.signal(number, lambda *_: None)
    return read


def watch(pid: int, wake: int, stop_signal: int, stop_seconds: float) -> int:
    """Wait for the command to end, and see to it that it does when it is time."""
    sources = [0, wake]
    deadline: float | None = None

    def stop_within(seconds: float) -> None:
        nonlocal deadline
        if deadline is None:
            with suppress(ProcessLookupError):
                os.kill(pid, stop_signal)
        limit = time.monotonic() + seconds
        deadline = limit if deadline is None else min(deadline, limit)

    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            kill_group(pid)  # what the command leaves behind must not live on either
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            kill_group(pid)
            left = 1.0
        ready, _, _ = select.select(sources, [], [], left)
        if wake in ready and set(os.read(wake, 256)) & set(STOP_SIGNALS):
            stop_within(stop_seconds)
        if 0 in ready:
            words = os.read(0, 256)
            if not words:
                sources.remove(0)
                stop_within(min(stop_seconds, ORPHAN_SECONDS))
            elif KILL in words:
                kill_group(pid)
            else:
                stop_within(stop_seconds)


def kill_group(pid: int) -> None:
    """Kill the command and what it started in its process group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def turn_into(
    command: list[str], guard_pid: int, stop_signal: int, become: Callable[[], None] | None
) -> None:
    """Become the command. Descriptors the starter passed on (its lock) stay open in it."""
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGPIPE, *STOP_SIGNALS):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    if become is not None:
        become()
    # after the change of credentials, which would clear it
    die_with_parent(guard_pid, stop_signal)
    os.execvp(command[0], command)  # noqa: S606 - from our own starter


def die_with_parent(parent: int, stop_signal: int) -> None:
    """On Linux, have the kernel send ``stop_signal`` when the guard itself is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, stop_signal, 0, 0, 0)
        if os.getppid() != parent:
            raise ProcessLookupError("the guard is gone")


def find_identity(options: dict[str, str], program: str) -> Callable[[], None] | None:
    """Find whom to be instead of root; give that identity the folders it must own.

    In a user namespace of its own, root outside is nobody inside: files stay root's, nothing is
    changed. Where namespaces are refused (containers), the real user nobody. None: not root.
    """
    if os.geteuid() != 0:
        return None
    home = options["private"]
    folders = [home, options["remove"]] if "remove" in options else [home]
    if works(enter_user_namespace):
        own(folders, os.geteuid(), os.getegid())
        return enter_user_namespace

    nobody = pwd.getpwnam("nobody")

    def be_nobody() -> None:
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)

    def reach() -> None:
        be_nobody()
        for path in (program, os.path.dirname(home)):
            if not os.access(path, os.X_OK):
                raise PermissionError(path)

    if not works(reach):
        raise PermissionError(
            "user namespaces are refused here, and the user nobody cannot reach "
            f"{os.path.dirname(home)} and {program}"
        )
    own(folders, nobody.pw_uid, nobody.pw_gid)
    return be_nobody


def works(action: Callable[[], None]) -> bool:
    """Say whether the action succeeds, tried in a process of its own."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
            os._exit(0)
        except OSError:
            os._exit(1)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def enter_user_namespace() -> None:
    """Be nobody in a new user namespace, mapped to who we are outside."""
    if sys.platform != "linux":
        raise OSError("user namespaces are Linux's")
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{NOBODY} {uid} 1"),
        ("gid_map", f"{NOBODY} {gid} 1"),
    ):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
        os.write(descriptor, text.encode())
        os.close(descriptor)


def own(folders: list[str], uid: int, gid: int) -> None:
    """Give folders and all in them to the user, themselves last: a broken walk is then redone."""
    data = os.path.join(folders[0], "data")
    paths = [path for path in (*folders, data) if os.path.lexists(path)]
    if all(os.lstat(path).st_uid == uid for path in paths):
        return
    for top in folders:
        for folder, inner, files in os.walk(top, topdown=False):
            for entry in (*inner, *files):
                os.lchown(os.path.join(folder, entry), uid, gid)
        os.lchown(top, uid, gid)


def remove(folder: str) -> None:
    """Remove a socket's temporary folder."""
    with suppress(OSError):
        for entry in os.listdir(folder):
            os.unlink(os.path.join(folder, entry))
        os.rmdir(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
