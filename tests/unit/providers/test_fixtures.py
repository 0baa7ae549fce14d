"""Real payloads of every provider: what each becomes, as somebody has read and approved it.

``fixtures/NAME/``: payloads, and ``expected.toml`` with a table for each:

    ["push.json"]
    source = "https://…"         # whence it is; or "made after https://…"
    licence = "MIT"              # of the repository; "our own" of what was made after a page
    headers = {"X-GitHub-Event" = "push"}    # of those that are read
    tool = "uptime"                          # where the tool's name is told: generic and the like
    options = {"type_field" = "event"}       # where the tool has to say what is where
    type = "push"
    delivery_id = ""
    keys = ["github:o/r@…"]
    summary = "…"

Of a batch ``events`` is a list of such tables, one for each event.

``python -m tests.unit.providers.test_fixtures NAME`` prints what the payloads of a provider become,
in that form: to be read by eye, and corrected in the row or its templates, before it is kept.
"""

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hookstream.app.commands.provider import KINDS, what_each_becomes
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.codecs.readable import read_payload
from tests.support.summary_rules import MAX_TOKENS, broken

FOLDER = Path(__file__).parent / "fixtures"
#: Where a payload is a repository's its licence is that of it.
REPOSITORY = re.compile(r"(?<![\w.])github\.com/([^/]+/[^/\s),]+)")
OUR_OWN = "our own"
#: What stands before what comes out, in its order.
GIVEN = ("source", "licence", "headers", "tool", "options")
COMES_OUT = ("type", "delivery_id", "keys", "summary")


@cache
def expected(name: str) -> dict[str, dict[str, Any]]:
    """The table of a provider; empty where it has none."""
    file = FOLDER / name / "expected.toml"
    return tomllib.loads(file.read_text()) if file.exists() else {}


def each_of(name: str, file: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    """All that is said of what a payload becomes, an event each."""
    path = FOLDER / name / file
    return what_each_becomes(
        name,
        path.read_bytes(),
        KINDS[path.suffix],
        row.get("headers", {}),
        tool=row.get("tool", ""),
        options=SignatureOptions(**row.get("options", {})),
    )


def became(name: str, file: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    """What a payload becomes, an event each."""
    return [
        {key: found[key] for key in (*COMES_OUT, "tokens")} for found in each_of(name, file, row)
    ]


def events_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The events that are expected of a payload."""
    found: list[dict[str, Any]] = row.get("events", [{key: row.get(key) for key in COMES_OUT}])
    return found


def payload_of(name: str, file: str) -> Any:
    """A payload as templates see it."""
    path = FOLDER / name / file
    return read_payload(path.read_bytes(), KINDS[path.suffix])


def cases() -> Iterator[tuple[str, str]]:
    for folder in sorted(path for path in FOLDER.glob("*") if path.is_dir()):
        for file in sorted(path.name for path in folder.iterdir() if path.suffix in KINDS):
            yield folder.name, file


@pytest.mark.parametrize(("name", "file"), list(cases()))
def test_payload_becomes_what_somebody_has_approved(name: str, file: str) -> None:
    wanted = expected(name)[file]
    assert wanted["source"]
    assert wanted["licence"]
    each = became(name, file, wanted)
    tokens = [found.pop("tokens") for found in each]
    assert each == events_of(wanted)
    assert max(tokens) <= MAX_TOKENS
    payload = payload_of(name, file)
    for found in each:
        # what one of several says is not of all of it
        assert broken(found["summary"], payload, found["type"]) == [] or len(each) > 1


def licences() -> Iterator[tuple[str, str]]:
    for name in sorted({name for name, _ in cases()}):
        for row in expected(name).values():
            yield row["source"], row["licence"]


def test_licences_are_those_of_the_repositories_and_ours_of_what_we_made() -> None:
    of_repositories: dict[str, set[str]] = {}
    for source, licence in licences():
        repository = REPOSITORY.search(source)
        if repository:
            of_repositories.setdefault(repository[1], set()).add(licence)
        assert (licence == OUR_OWN) == (repository is None and source.startswith("made after ")), (
            source
        )
    assert {name: found for name, found in of_repositories.items() if len(found) > 1} == {}


def test_every_expectation_has_its_payload() -> None:
    there = set(cases())
    for name in {name for name, _ in there}:
        assert {(name, file) for file in expected(name)} <= there


def table(file: str, row: dict[str, Any], each: list[dict[str, Any]]) -> str:
    """A payload's table in ``expected.toml``."""
    lines = [f"[{json.dumps(file)}]"]
    for key in (key for key in GIVEN if key in row or key in ("source", "licence", "headers")):
        value = row.get(key, {} if key == "headers" else "")
        if isinstance(value, dict):
            pairs = (f"{json.dumps(name)} = {json.dumps(v)}" for name, v in value.items())
            lines.append(f"{key} = {{{', '.join(pairs)}}}")
        else:
            lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    for found in each:
        if len(each) > 1:
            lines += ("", f"[[{json.dumps(file)}.events]]")
        lines += (f"{key} = {json.dumps(found[key], ensure_ascii=False)}" for key in COMES_OUT)
    return "\n".join(lines)


def main(name: str, *more: str) -> None:
    """Print what the payloads of a provider become, as the table has it; with --write keep it."""
    known = expected(name)
    tables = []
    for _, file in (case for case in cases() if case[0] == name):
        row = known.get(file, {})
        each = became(name, file, row)
        tables.append(table(file, row, each))
        for found in each:
            for what in broken(found["summary"], payload_of(name, file), found["type"]):
                print(f"{file}: {what}", file=sys.stderr)
        costs = ", ".join(str(found["tokens"]) for found in each)
        print(f"{tables[-1]}\n# {costs} tokens\n")
    if more == ("--write",):
        (FOLDER / name / "expected.toml").write_text("\n\n".join(tables) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
