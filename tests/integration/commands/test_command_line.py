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
