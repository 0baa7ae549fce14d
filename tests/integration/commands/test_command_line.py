"""The command line as a person meets it: sentences and exit statuses, never a traceback."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from hookstream import __version__
from hookstream.app import embedded
from tests.support import ROOT
from tests.support.stack import Stack, free_port


def run(folder: Path, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """A command in an empty folder, with no setting but these."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HOOKSTREAM_")}
    return subprocess.run(
        [sys.executable, "-m", "hookstream.app.cli", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        env={**kept, "PYTHONPATH": str(ROOT), **settings},
    )


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["reset"], 2, "delete STATE_DIR/tables"),
        (["completion"], 2, "not supported"),
        (["model", "x"], 2, "no Faust models"),
        (["livecheck"], 2, "not supported"),
        (["-A", "wrong", "agents"], 2, "HOOKSTREAM_AGENTS"),
        (["--datadir=/tmp", "agents"], 2, "HOOKSTREAM_STATE_DIR"),
        (["-f", "x.log", "worker"], 2, "standard error"),
        (["worker", "-f", "x.log"], 2, "standard error"),
        (["receive", "--logfile=x.log"], 2, "standard error"),
        (["worker", "-l", "loud"], 2, "not one of 'crit', 'error', 'warn', 'info', 'debug'"),
        (["nothere"], 2, "No such command 'nothere'"),
        (["dead", "list"], 78, "there is no admin key in"),
        (["replay", "--list"], 78, "there is no admin key in"),
    ],
)
def test_what_cannot_be_done_is_a_sentence_and_makes_nothing(
    tmp_path: Path, arguments: list[str], status: int, says: str
) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == status, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_and_version_speak_of_hookstream(tmp_path: Path) -> None:
    assert run(tmp_path, "--version").stdout.startswith(f"hookstream {__version__} (Faust ")
    shown = run(tmp_path, "--help").stdout
    assert "Usage: hookstream [OPTIONS] COMMAND" in shown
    for gone in ("livecheck", "completion", "--datadir", "--app", "--console-port"):
        assert gone not in shown
    for there in ("worker", "receive", "--loglevel"):
        assert there in shown


@pytest.mark.parametrize("command", ["worker", "receive"])
def test_the_help_of_a_command_shows_what_is_true(tmp_path: Path, command: str) -> None:
    shown = run(tmp_path, command, "--help").stdout
    for gone in ("--logfile", "--console-port", "--blocking-timeout", "--web-transport", "6066"):
        assert gone not in shown
    for there in ("HOOKSTREAM_WEB_PORT", "HOOKSTREAM_WEB_HOST", "HOOKSTREAM_LOG_LEVEL"):
        assert there in shown


@pytest.mark.parametrize("command", [["up"], ["worker"], ["receive"]])
def test_a_busy_port_names_the_setting(stack: Stack, tmp_path: Path, command: list[str]) -> None:
    servers = {
        "HOOKSTREAM_REDIS_URL": str(embedded.find_valkey(stack.state_dir / "state")),
        "HOOKSTREAM_POSTGRES_URL": str(embedded.find_postgres(stack.state_dir / "state")),
        "HOOKSTREAM_PARTITIONS": "8",
    }
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run(tmp_path, *command, HOOKSTREAM_WEB_PORT=port, **servers)
    assert done.returncode == 78, done.stderr
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use)" in done.stderr
    assert "HOOKSTREAM_WEB_PORT" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("hookstream: cannot listen on ")
    # what was begun by then may say that it was ended; the port itself is a sentence
    assert "create_server" not in done.stderr


@pytest.mark.parametrize("command", ["receive", "worker"])
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_port_is_not_shared_with_another_command(
    stack: Stack, tmp_path: Path, command: str, processes: str
) -> None:
    """A second installation would get half of the webhooks of the first, and answer 404."""
    servers = {
        "HOOKSTREAM_REDIS_URL": str(embedded.find_valkey(stack.state_dir / "state")),
        "HOOKSTREAM_POSTGRES_URL": str(embedded.find_postgres(stack.state_dir / "state")),
        "HOOKSTREAM_PARTITIONS": "8",
    }
    port = str(stack.port if command == "receive" else stack.worker_port)
    words = (command, "--processes", processes, "--web-port", port)
    done = run(tmp_path, *words, **servers)
    assert done.returncode == 78, done.stderr
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use)" in done.stderr


@pytest.mark.parametrize("command", [["up"], ["worker"], ["receive"]])
def test_a_state_folder_that_cannot_be_used_is_named(tmp_path: Path, command: list[str]) -> None:
    file = tmp_path / "file"
    file.touch()
    done = run(tmp_path, *command, HOOKSTREAM_STATE_DIR=str(file))
    assert done.returncode == 78, done.stderr
    assert f"{file} cannot be used (File exists)" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_key_that_can_be_guessed_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "up", HOOKSTREAM_ADMIN_KEY="x")
    assert done.returncode == 78
    assert "HOOKSTREAM_ADMIN_KEY can be guessed" in done.stderr


def test_a_command_finds_what_runs_by_its_state_folder(stack: Stack, tmp_path: Path) -> None:
    """Neither the port nor the key is named: the folder says both."""
    state = stack.state_dir / "state"
    assert (state / "address").read_text() == f"http://127.0.0.1:{stack.port}\n"
    settings = {"HOOKSTREAM_STATE_DIR": str(state), "HOOKSTREAM_ADMIN_KEY": stack.key}
    done = run(tmp_path, "dead", "list", **settings)
    assert done.returncode == 0, done.stderr


def test_an_ipv6_address_is_listened_on(stack: Stack, tmp_path: Path) -> None:
    port = free_port()
    process = stack.another(
        tmp_path / "v6",
        "receive",
        HOOKSTREAM_WEB_HOST="::1",
        HOOKSTREAM_WEB_PORT=str(port),
    )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                url = f"http://[::1]:{port}/health/live"
                with urllib.request.urlopen(url, timeout=5) as answer:
                    assert answer.status == 200
                    break
            assert process.poll() is None, (tmp_path / "v6" / "process.log").read_text()
            time.sleep(0.1)
        else:
            raise AssertionError("it does not listen")
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("list --limit 0", "--limit: at least 1"),
        ("list some-id", "list takes no ids"),
        ("retry some-id --tool x", "ids, or a filter, or --all"),
        ("discard some-id --all", "ids, or a filter, or --all"),
        ("list --url nonsense", "--url: http://HOST:PORT or https://…, not 'nonsense'"),
        ("list --url ftp://127.0.0.1", "--url: http://HOST:PORT"),
        ("list --url http://127.0.0.1:x", "--url: http://HOST:PORT"),
    ],
)
def test_what_dead_cannot_do_is_no_answer_of_none(stack: Stack, words: str, says: str) -> None:
    """`no dead letters` would be taken for true."""
    done = run(stack.state_dir, "dead", *words.split(), **of(stack))
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert done.stdout == ""


def test_who_does_not_answer_is_named_and_which_key_was_wrong(stack: Stack, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        for command in (("dead", "list"), ("doctor",), ("partitions",), ("replay", "--list")):
            done = run(tmp_path, *command, "--url", url, **of(stack))
            assert done.returncode == 2
            assert f"nobody answers at {url} (Connection refused)" in done.stderr, done.stderr
    another = {**of(stack), "HOOKSTREAM_ADMIN_KEY": "another-key-than-theirs"}
    done = run(tmp_path, "dead", "list", **another)
    assert done.returncode == 2
    assert f"({stack.url}; the key is that of HOOKSTREAM_ADMIN_KEY)" in done.stderr


def test_commands_for_operators_need_no_stages(stack: Stack, tmp_path: Path) -> None:
    """One that cannot be imported is when they are needed most."""
    settings = {**of(stack), "HOOKSTREAM_AGENTS": "not_there"}
    for command in (("dead", "list"), ("partitions",), ("replay", "--list"), ("provider", "list")):
        done = run(tmp_path, *command, **settings)
        assert done.returncode == 0, done.stderr
    done = run(tmp_path, "agents", **settings)
    assert done.returncode == 78
    assert "not_there cannot be imported" in done.stderr


def test_commands_for_operators_do_not_load_the_application(tmp_path: Path) -> None:
    """It takes a second, of each command."""
    loads = {"PYTHONPROFILEIMPORTTIME": "1"}
    done = run(tmp_path, "plan", "--rate", "1", "--size", "1", **loads)
    assert (done.returncode, "hookstream.app.application" in done.stderr) == (0, False)
    done = run(tmp_path, "tables", **loads)
    assert (done.returncode, "hookstream.app.application" in done.stderr) == (0, True)


def test_a_module_without_a_stage_is_told_where_stages_are_listed(tmp_path: Path) -> None:
    (tmp_path / "forgotten.py").write_text("async def mine(event):\n    return event\n")
    done = run(tmp_path, "agents", HOOKSTREAM_AGENTS="forgotten")
    assert done.returncode == 0, done.stderr
    assert "hookstream: forgotten declares nothing" in done.stderr


def of(stack: Stack) -> dict[str, str]:
    """Where a running system is, for a command."""
    state = str(stack.state_dir / "state")
    return {"HOOKSTREAM_STATE_DIR": state, "HOOKSTREAM_ADMIN_KEY": stack.key}
