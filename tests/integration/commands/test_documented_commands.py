"""Commands in the papers on privacy and on moving in are there, with the options that they have."""

import importlib
import keyword
import re
import shlex

import pytest

from tests.support import ROOT

PAGES = ("privacy.md", "erasure.md", "retention.md", "migration.md")
_IN_TEXT = re.compile(r"`(hookstream [^`]+)`")
_IN_BLOCK = re.compile(r"(?:^|\| )(hookstream [a-z]+ .*)$", re.MULTILINE)


def documented() -> list[str]:
    found: set[str] = set()
    for page in PAGES:
        text = (ROOT / "docs" / page).read_text()
        found.update(_IN_TEXT.findall(text))
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
            found.update(_IN_BLOCK.findall(block))
    return sorted(found)


@pytest.mark.parametrize("line", documented())
def test_a_command_in_the_docs_is_one(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    name = words[0]
    # no module can be called as a word of the language is
    file = f"{name}_" if keyword.iskeyword(name) else name
    module = importlib.import_module(f"hookstream.app.commands.{file}")
    known: dict[str, bool] = {}
    for option in getattr(module, name).options:
        for called in option.args:
            known[called] = bool(option.kwargs.get("is_flag"))
    rest = words[1:]
    positional = []
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            assert word in known, (line, word)
            if not known[word]:
                assert rest, line
                rest.pop(0)
        else:
            positional.append(word)
    actions = getattr(module, "ACTIONS", None)
    if actions and positional:
        assert positional[0] in actions, line


def test_there_are_commands_in_the_docs() -> None:
    assert len(documented()) > 20
