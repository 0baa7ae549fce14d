"""The database's schema as numbered SQL files, and which code runs on which of them.

There are two kinds. ``pre`` migrations only add: the newest code runs them when it starts, and
the release before goes on beside it. ``post`` migrations take away what that release still needed:
they wait until somebody says that none of it runs any more (``hookstream schema finish``). The
first line of a file says which it is, and the oldest level of code that runs once it is applied. A
level is the number of the newest migration that a release knows.

Everything here is pure; :mod:`hookstream.app.postgres.migrations.run` does it.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final, Literal, Protocol

from hookstream.app.errors import SettingsError

__all__ = ["LEVEL", "MIGRATIONS", "Kind", "Migration", "Schema", "load_migrations"]

Kind = Literal["pre", "post"]

_NAME: Final = re.compile(r"(\d{4})_(\w+)\.sql")
_HEAD: Final = re.compile(r"-- migration: (pre|post), for code from level (\d+)\n")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. ``code_from``: the oldest level of code that runs where this has been applied."""

    number: int
    name: str
    kind: Kind
    code_from: int
    sql: str

    def __str__(self) -> str:
        return f"{self.number:04d}_{self.name}"


@dataclass(frozen=True, slots=True)
class Schema:
    """What a database has, as this code sees it.

    ``applied``: numbers of its migrations; ``code_from``: the oldest level of code that runs on it.
    """

    migrations: Sequence[Migration]
    applied: frozenset[int] = frozenset()
    code_from: int = 0

    @property
    def code_level(self) -> int:
        """The newest migration that this code knows."""
        return level_of(self.migrations)

    @property
    def level(self) -> int:
        """The newest migration that the database has had; 0 for an empty one."""
        return max(self.applied, default=0)

    def has(self, name: str) -> bool:
        """Whether the database has had the migration of this name."""
        return any(m.name == name and m.number in self.applied for m in self.migrations)

    def pending(self, kind: Kind) -> list[Migration]:
        """What this code knows and the database has not had, in order."""
        return [m for m in self.migrations if m.kind == kind and m.number not in self.applied]

    def check(self) -> None:
        """Whether this code may run on it.

        Raises:
            SettingsError: it may not; the message says what to do.
        """
        if self.code_from > self.code_level:
            raise SettingsError(
                f"the database is at level {self.level} and takes releases from level "
                f"{self.code_from} on; this one is of level {self.code_level}. Start a release of "
                f"level {self.code_from} or later. There is no way back but a backup from before "
                "`hookstream schema finish`: docs/upgrading.md"
            )


class _File(Protocol):
    @property
    def name(self) -> str: ...
    def read_text(self) -> str: ...


def load_migrations(found: Iterable[_File]) -> tuple[Migration, ...]:
    """The migrations in some files, in order.

    Raises:
        SettingsError: a name or a first line is not what it has to be, or a number is missing.
    """
    loaded = []
    for file in found:
        text = file.read_text() if file.name.endswith(".sql") else ""
        name, head = _NAME.fullmatch(file.name), _HEAD.match(text)
        if not text:
            continue
        if name is None or head is None:
            raise SettingsError(
                f"{file.name}: a migration is called NNNN_name.sql and begins with "
                "`-- migration: pre, for code from level N` (or post)"
            )
        kind: Kind = "pre" if head[1] == "pre" else "post"
        loaded.append(Migration(int(name[1]), name[2], kind, int(head[2]), text))
    loaded.sort(key=lambda migration: migration.number)
    if [migration.number for migration in loaded] != list(range(1, len(loaded) + 1)):
        raise SettingsError("migrations are numbered from 0001 on, each number once")
    return tuple(loaded)


def level_of(migrations: Sequence[Migration]) -> int:
    """The level of code that knows these."""
    return max((migration.number for migration in migrations), default=0)


MIGRATIONS: Final = load_migrations(
    files("hookstream.app.postgres.migrations").joinpath("versions").iterdir()
)
LEVEL: Final = level_of(MIGRATIONS)
