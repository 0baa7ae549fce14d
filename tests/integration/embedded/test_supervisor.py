"""The supervisor: children are restarted, stopped together, and never outlive it.

Run as a script, this file is the supervisor that the tests signal.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from hookstream.app.embedded import EmbeddedServer, start_valkey
from hookstream.app.embedded import supervisor as module
from hookstream.app.embedded.supervisor import Child, Supervisor, restart_wait_seconds
from hookstream.app.errors import EmbeddedServerError

SLEEP = ["/bin/sleep", "60"]
STUBBORN = ["/bin/sh", "-c", "trap '' TERM; echo stubborn; while :; do sleep 1; done"]


def until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Wait until the condition holds; False when it has not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def is_gone(process: psutil.Process) -> bool:
    """Say whether the process has ended: what nobody reaps has, too."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Supervised:
    """A supervisor in a process of its own."""

    def __init__(self, mode: str, state_dir: Path) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, __file__, mode, str(state_dir)],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def line(self) -> str:
        """The next line that it or a child writes."""
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().strip()

    def family(self, at_least: int = 0) -> list[psutil.Process]:
        """All processes under it, once there are enough."""
        supervisor = psutil.Process(self.popen.pid)
        assert until(lambda: len(supervisor.children(recursive=True)) >= at_least)
        return supervisor.children(recursive=True)

    def sleepers(self) -> set[int]:
        """Process ids of the children themselves, without their guards."""
        return {process.pid for process in self.family() if process.name() == "sleep"}


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[[str], Supervised]]:
    """Starts supervisors, and kills them at the end."""
    running: list[Supervised] = []

    def start(mode: str) -> Supervised:
        running.append(Supervised(mode, tmp_path))
        return running[-1]

    yield start
    for supervised in running:
        family = supervised.family() if supervised.popen.poll() is None else []
        supervised.popen.kill()
        supervised.popen.wait()
        assert until(lambda family=family: all(is_gone(process) for process in family))


Start = Callable[[str], Supervised]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_all_children_cleanly(supervise: Start, number: signal.Signals) -> None:
    supervised = supervise("sleepers")
    assert supervised.line() == "ready"
    family = supervised.family(4)
    assert len(family) == 4
    supervised.popen.send_signal(number)
    assert supervised.popen.wait(10) == 0
    assert all(is_gone(process) for process in family)


def test_children_are_beyond_the_reach_of_the_terminals_ctrl_c(supervise: Start) -> None:
    supervised = supervise("sleepers")
    assert supervised.line() == "ready"
    group = os.getpgid(supervised.popen.pid)
    assert all(os.getpgid(process.pid) != group for process in supervised.family(4))
    session = os.getsid(supervised.popen.pid)
    assert all(os.getsid(process.pid) != session for process in supervised.family())


def test_dead_child_is_started_again(supervise: Start) -> None:
    supervised = supervise("sleepers")
    assert supervised.line() == "ready"
    assert until(lambda: len(supervised.sleepers()) == 2)
    before = supervised.sleepers()
    os.kill(max(before), signal.SIGKILL)
    assert "ended with SIGKILL; starting it again in 0.2 s" in supervised.line()
    assert until(lambda: len(supervised.sleepers()) == 2 and supervised.sleepers() != before)


def test_child_that_keeps_failing_is_started_ever_more_slowly(supervise: Start) -> None:
    supervised = supervise("failing")
    lines = [supervised.line() for _ in range(3)]
    assert lines == [
        f"failing ended with status 3; starting it again in {wait} s" for wait in (0.2, 0.4, 0.8)
    ]


def test_backoff_doubles_up_to_its_limit() -> None:
    assert [restart_wait_seconds(n) for n in (1, 2, 3, 5, 6, 99, 10**6)] == [
        0.2, 0.4, 0.8, 3.2, 5.0, 5.0, 5.0,
    ]  # fmt: skip


def test_child_that_does_not_stop_in_time_is_killed(supervise: Start) -> None:
    supervised = supervise("stubborn")
    assert supervised.line() == "stubborn"
    family = supervised.family()
    begun = time.monotonic()
    supervised.popen.send_signal(signal.SIGTERM)
    assert supervised.popen.wait(10) == 1
    assert time.monotonic() - begun >= 1.0
    assert supervised.line().startswith("stopping")
    assert supervised.line() == "killed, since it did not stop in time: stubborn"
    assert all(is_gone(process) for process in family)


def test_second_ctrl_c_kills_at_once(supervise: Start) -> None:
    supervised = supervise("very-stubborn")
    assert supervised.line() == "stubborn"
    family = supervised.family()
    supervised.popen.send_signal(signal.SIGINT)
    assert supervised.line().startswith("stopping")
    supervised.popen.send_signal(signal.SIGINT)
    assert supervised.popen.wait(10) == 1
    assert until(lambda: all(is_gone(process) for process in family))


@pytest.mark.parametrize("mode", ["sleepers", "very-stubborn"])
def test_killed_supervisor_takes_its_children_along(supervise: Start, mode: str) -> None:
    supervised = supervise(mode)
    assert supervised.line() in ("ready", "stubborn")
    family = supervised.family(4 if mode == "sleepers" else 2)
    supervised.popen.kill()
    supervised.popen.wait()
    assert until(lambda: all(is_gone(process) for process in family))


def test_killed_valkey_is_started_again_beside_the_children(
    supervise: Start, tmp_path: Path
) -> None:
    supervised = supervise("valkey")
    assert supervised.line() == "ready"
    server = start_valkey(tmp_path)
    url, pid = server.url, server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert supervised.line() == "valkey had died; it is starting again"
    assert until(server.alive)
    assert server.url == url
    assert server.pid != pid
    family = supervised.family(4)
    supervised.popen.send_signal(signal.SIGINT)
    assert supervised.popen.wait(10) == 0
    assert all(is_gone(process) for process in family)


@pytest.mark.parametrize("error", [EmbeddedServerError, OSError, subprocess.SubprocessError])
def test_service_that_cannot_start_is_reported_and_tried_again(error: type[Exception]) -> None:
    lines: list[str] = []

    class Broken:
        name = "broken"
        tries = 0

        def ensure(self) -> bool:
            self.tries += 1
            if self.tries == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            raise error("the disk is full")

    service = Broken()
    assert Supervisor([], announce=lines.append, services=[service]).run() == 0
    assert service.tries >= 3
    assert lines[0] == "broken: the disk is full\nTrying again in 0.2 s"


def test_ready_is_said_once_and_only_when_all_children_are() -> None:
    said: list[str] = []
    answers = iter([False, False, True])

    def is_ready() -> bool:
        said.append("asked")
        return next(answers)

    def on_ready() -> None:
        said.append("ready")
        os.kill(os.getpid(), signal.SIGTERM)

    children = [Child("first", SLEEP), Child("second", SLEEP, is_ready=is_ready)]
    assert Supervisor(children, announce=said.append, on_ready=on_ready).run() == 0
    assert said[:-1] == ["asked", "asked", "asked", "ready"]


def test_wrong_settings_end_all_of_it() -> None:
    said: list[str] = []
    wrong = Child("wrong", ["/bin/sh", "-c", "exit 78"])
    assert Supervisor([Child("right", SLEEP), wrong], announce=said.append).run() == 78
    assert said[0] == "wrong cannot run with these settings (see above)"
    assert said[1].startswith("stopping")


def test_what_is_not_vital_and_cannot_run_is_tried_again_beside_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A stage that cannot be imported does not stop what takes webhooks."""
    monkeypatch.setattr(module, "MISCONFIGURED_SECONDS", 0.1)
    said: list[str] = []
    mended = tmp_path / "mended"
    script = f"test -e {mended} && exec sleep 60; exit 78"

    def announce(text: str) -> None:
        said.append(text)
        if len(said) == 2:
            mended.touch()

    def ready() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    worker = Child("worker", ["/bin/sh", "-c", script], vital=False, is_ready=mended.exists)
    receiver = Child("receiver", SLEEP)
    assert Supervisor([receiver, worker], announce=announce, on_ready=ready).run() == 0
    assert said[0].startswith("worker cannot run as it is set up (see above): it is tried again")
    assert said[0] == said[1]
    assert said[2].startswith("stopping")


def test_handlers_of_signals_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    supervisor = Supervisor(
        [], announce=print, on_ready=lambda: os.kill(os.getpid(), signal.SIGINT)
    )
    assert supervisor.run() == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


CHILDREN = {
    "sleepers": [Child("first", SLEEP), Child("second", SLEEP)],
    "failing": [Child("failing", ["/bin/sh", "-c", "exit 3"])],
    "stubborn": [Child("stubborn", STUBBORN, stop_seconds=1.0)],
    "very-stubborn": [Child("stubborn", STUBBORN, stop_seconds=60.0)],
    "valkey": [Child("first", SLEEP)],
}


def main(mode: str, state_dir: Path) -> int:
    """Run the supervisor of a mode."""

    def announce(text: str) -> None:
        print(text, flush=True)

    services: list[EmbeddedServer] = [start_valkey(state_dir)] if mode == "valkey" else []
    on_ready = (lambda: announce("ready")) if mode in ("sleepers", "valkey") else None
    try:
        return Supervisor(
            CHILDREN[mode], announce=announce, services=services, on_ready=on_ready
        ).run()
    finally:
        for service in services:
            service.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
