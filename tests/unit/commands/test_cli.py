"""What the command line takes from its arguments before anything is imported."""

import os

import pytest

from hookstream.app import cli


@pytest.mark.parametrize(
    ("words", "level"),
    [
        ("-l debug worker", "debug"),
        ("worker -l debug", "debug"),
        ("--quiet receive --with-api --loglevel=WARN", "warning"),
        ("worker -p 6068 -l crit", "error"),
        ("-l error worker -l info", "info"),
        ("worker -l loud", None),
        ("dead list -l debug", None),
        ("send github -l debug", None),
    ],
)
def test_a_level_of_the_log_counts_before_a_worker_and_behind_it(
    monkeypatch: pytest.MonkeyPatch, words: str, level: str | None
) -> None:
    monkeypatch.delenv("HOOKSTREAM_LOG_LEVEL", raising=False)
    # so that what is set by the test goes away with it
    monkeypatch.setattr(os, "environ", dict(os.environ))
    cli._take_log_level(words.split())
    assert os.environ.get("HOOKSTREAM_LOG_LEVEL") == level


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("dead list", "dead"),
        ("-l debug --quiet worker -p 6068", "worker"),
        ("--loglevel=info doctor", "doctor"),
        ("--help", ""),
        ("", ""),
    ],
)
def test_the_command_is_found_behind_options(words: str, command: str) -> None:
    assert cli._command_of(words.split()) == command
