"""Migrations: what their files say, and which code runs on which database."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstream.app.errors import SettingsError
from hookstream.app.postgres.migrations import LEVEL, MIGRATIONS, Migration, Schema, load_migrations


def test_every_migration_says_what_it_is_and_none_shuts_out_the_code_that_brings_it() -> None:
    assert [migration.number for migration in MIGRATIONS] == list(range(1, LEVEL + 1))
    for migration in MIGRATIONS:
        assert 1 <= migration.code_from <= migration.number
        if migration.kind == "pre" and migration.number > 10:
            # what only adds leaves the release before running
            assert migration.code_from < migration.number


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("0001_first.sql", "CREATE TABLE t ();"),
        ("0001_first.sql", "-- migration: perhaps, for code from level 1\n"),
        ("first.sql", "-- migration: pre, for code from level 1\n"),
        ("0002_second.sql", "-- migration: pre, for code from level 1\n"),
    ],
)
def test_a_file_that_does_not_say_so_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "README.md").write_text("no migration")
    with pytest.raises(SettingsError):
        load_migrations(tmp_path.iterdir())


def made(number: int, kind: str = "pre", code_from: int = 1) -> Migration:
    return Migration(number, f"m{number}", kind, code_from, "")  # type: ignore[arg-type]


def test_what_takes_away_waits_and_what_adds_does_not_wait_for_it() -> None:
    known = [made(1), made(2, "post", 2), made(3), made(4, "post", 4)]
    schema = Schema(known, frozenset({1}), 1)
    assert [m.number for m in schema.pending("pre")] == [3]
    assert [m.number for m in schema.pending("post")] == [2, 4]
    assert (schema.code_level, schema.level) == (4, 1)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20))
def test_code_runs_on_any_database_that_still_takes_its_level(
    code: int, database: int, code_from: int
) -> None:
    schema = Schema(
        [made(n) for n in range(1, code + 1)], frozenset(range(1, database + 1)), code_from
    )
    if code_from <= code:
        schema.check()
    else:
        with pytest.raises(SettingsError, match="backup") as refused:
            schema.check()
        assert f"level {code_from}" in str(refused.value)
        assert refused.value.exit_status == 78
