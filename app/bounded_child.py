"""The other end of :mod:`hookstream.app.bounded`: does one piece of work after the other.

It imports nothing of ours but what the work itself needs, and is gone with its parent.
"""

import ctypes
import importlib
import os
import pickle
import resource
import signal
import struct
import sys
from typing import IO, Any

__all__ = ["by_name", "main"]

#: Length of what follows. A task: seconds of CPU and its own length before it. An answer: its kind.
TASK = struct.Struct("!dQ")
ANSWER = struct.Struct("!cQ")
#: Kinds of answer. ``BEGUN`` comes first: all is imported, and the time of the work begins.
BEGUN, VALUE, RAISED, OUT_OF_MEMORY = b"B", b"V", b"R", b"M"
_PR_SET_PDEATHSIG = 1


def by_name(name: str, *arguments: object) -> Any:
    """Call ``module:function``; the module is imported where the work is done, and only there."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)(*arguments)


def main(memory_bytes: int, parent: int, nice: int) -> None:
    """Serve until the pipe from ``parent`` ends; address space is limited to ``memory_bytes``."""
    _leash(memory_bytes, parent)
    os.nice(nice)
    tasks, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the work prints is no answer
    while head := tasks.read(TASK.size):
        seconds, length = TASK.unpack(head)
        _do(tasks.read(length), seconds, answers)


def _leash(memory_bytes: int, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.getppid() != parent:
        sys.exit()  # it died before it could take us along


def _do(task: bytes, seconds: float, answers: IO[bytes]) -> None:
    kind, value = VALUE, b""
    try:
        function, arguments = pickle.loads(task)  # noqa: S301 the parent's own
        _limit_cpu(seconds)
        _answer(answers, BEGUN, b"")
        value = pickle.dumps(function(*arguments), pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        kind = OUT_OF_MEMORY
    except BaseException as error:  # noqa: BLE001 the parent raises it again
        kind, value = RAISED, _pickled(error)
    _answer(answers, kind, value)


def _limit_cpu(seconds: float) -> None:
    """Let the kernel end work that goes on although the parent cannot: its loop stands still."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _pickled(error: BaseException) -> bytes:
    try:
        found = pickle.dumps(error)
        pickle.loads(found)  # noqa: S301 it was made a line above
    except Exception:  # noqa: BLE001 errors of libraries, which cannot be made from their arguments
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"[:1000]))
    return found


def _answer(answers: IO[Any], kind: bytes, value: bytes) -> None:
    answers.write(ANSWER.pack(kind, len(value)))
    answers.write(value)
    answers.flush()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
