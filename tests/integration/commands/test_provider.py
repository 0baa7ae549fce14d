"""``hookstream provider``: what a payload becomes, without a server."""

import json
import subprocess
import sys
from pathlib import Path

from hookstream.app.providers import PROVIDERS
from tests.support import ROOT


def run(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "hookstream.app.cli", "provider", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_payload_is_shown_as_what_it_becomes(tmp_path: Path) -> None:
    file = ROOT / "examples" / "payloads" / "github-pull-request.json"
    done = run("test", "github", str(file), "--header", "X-GitHub-Event=pull_request", "--json",
               cwd=tmp_path)  # fmt: skip
    found = json.loads(done.stdout)
    assert found["type"].startswith("pull_request.")
    assert found["template"].startswith("github/")
    assert found["keys"]
    assert not found["unparsed"]
    assert done.returncode == 0
    broken = tmp_path / "broken.json"
    broken.write_text("not JSON")
    assert "nothing could be read" in run("test", "github", str(broken), cwd=tmp_path).stdout


def test_each_event_of_a_batch_is_shown(tmp_path: Path) -> None:
    file = ROOT / "examples" / "payloads" / "sendgrid-events.json"
    found = json.loads(run("test", "sendgrid", str(file), "--json", cwd=tmp_path).stdout)
    assert [one["delivery_id"] for one in found] == ["c2dfZXZlbnRfMQ", "c2dfZXZlbnRfMg"]
    said = run("test", "sendgrid", str(file), cwd=tmp_path).stdout
    assert said.startswith("a batch of 2 events\n")
    assert "ada@example.com" in said
    assert "bob@example.com" in said
    empty = tmp_path / "empty.json"
    empty.write_text("[]")
    assert run("test", "sendgrid", str(empty), cwd=tmp_path).stdout == "a batch of 0 events\n"


def test_a_tools_options_count_and_a_type_that_is_missing_is_said_to_be(tmp_path: Path) -> None:
    file = tmp_path / "two.json"
    file.write_text('{"of": [{"is": "a", "title": "One"}, {"is": "b"}]}')
    options = ("--option", "batch_field=of", "--option", "type_field=of.0.is")
    said = run("test", "generic", str(file), *options, cwd=tmp_path).stdout
    assert said.startswith("a batch of 2 events\n\n1.\ntype:         a\n")
    assert "no type was found" not in said
    payload = ROOT / "examples" / "payloads" / "github-pull-request.json"
    said = run("test", "github", str(payload), cwd=tmp_path).stdout
    assert "no type was found; it is taken from `X-GitHub-Event`" in said
    assert '\ndata:         {"' in said


def test_what_it_cannot_do_is_a_sentence(tmp_path: Path) -> None:
    for arguments, said in (
        (("tst",), "say `provider list`"),
        (("test", "githup", "x.json"), "did you mean github"),
        (("test", "github", "x.json"), "x.json: No such file"),
        (("test", "github", __file__, "--header", "X"), "NAME=VALUE"),
        (("test", "github", __file__, "--option", "type_field=a"), "GitHub reads no such option"),
        (
            ("test", "generic", __file__, "--option", "tpye_field=a"),
            "options.tpye_field: there is",
        ),
        (("list", "github"), "say `provider list`"),
    ):
        done = run(*arguments, cwd=tmp_path)
        assert done.returncode == 2, done.stdout
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    assert set(json.loads(run("list", "--json", cwd=tmp_path).stdout)) == set(PROVIDERS)
