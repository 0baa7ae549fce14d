"""``hookstream send``: what it cannot do it says in a sentence, before anything is sent."""

import subprocess
import sys
from pathlib import Path

import pytest

from hookstream.app.commands.send import read_secret
from hookstream.app.errors import BadRequestError
from tests.support import ROOT

PAYLOAD = str(ROOT / "examples" / "payloads" / "github-pull-request.json")
SECRET = ("--secret", "7f3c9a51d2")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("githup", PAYLOAD, *SECRET), "did you mean github"),
        (("github", "x.json", *SECRET), "x.json: No such file"),
        (("github", PAYLOAD), "GitHub signs its webhooks"),
        (("github", PAYLOAD, "--secret-file", "x.secret"), "x.secret: No such file"),
        (("github", PAYLOAD, *SECRET, "--option", "a"), "NAME=VALUE"),
        (("github", PAYLOAD, *SECRET, "--option", "a=b"), "options.a: there is no such option"),
        (("github", PAYLOAD, *SECRET, "--option", "prefix=b"), "GitHub reads no such option"),
        (("github", PAYLOAD, *SECRET, "--url", "localhost"), "--url localhost: an address"),
    ],
)
def test_what_it_cannot_do_is_a_sentence(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hookstream.app.cli", "send", *arguments, "--tool", "t"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stdout
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_secret_is_one_line_of_its_file_or_a_key_as_pem(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    for text in ("7f3c9a51d2", "-----BEGIN PRIVATE KEY-----\nMIG=\n-----END PRIVATE KEY-----"):
        file.write_text(f"{text}\n")
        assert read_secret(str(file)) == text
    for text in ("", "one\ntwo\n"):
        file.write_text(text)
        with pytest.raises(BadRequestError, match="has not the secret alone"):
            read_secret(str(file))
