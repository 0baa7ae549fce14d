"""The processes that one command runs on this machine, as each of them knows the others.

Who starts several gives each a name (``worker-2``), and all of them a private folder. There each
listens on a socket of its name, beside the ports that it shares with others: so one can be asked
that is meant, and any of them can tell of all.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Siblings", "kind_of", "named", "siblings_here"]

#: Not one of the settings: it is for processes that we start ourselves.
VARIABLE = "_HOOKSTREAM_SIBLINGS"


@dataclass(frozen=True, slots=True)
class Siblings:
    """This process's name, those of all (its own among them), and where they listen."""

    name: str
    names: tuple[str, ...]
    folder: Path

    @property
    def several(self) -> bool:
        """Whether there are several of any kind: then no port is one process's."""
        return any(kind_of(name) != name for name in self.names)

    @property
    def shares_ports(self) -> bool:
        """Whether others listen on the ports of this one."""
        return kind_of(self.name) != self.name

    @property
    def others(self) -> tuple[str, ...]:
        """The names of all but this one."""
        return tuple(name for name in self.names if name != self.name)

    def socket(self, name: str = "") -> Path:
        """Where a process listens for the others; this one without a name."""
        return self.folder / (name or self.name)

    def environment(self) -> dict[str, str]:
        """What tells a process that is started of all this."""
        told = {"name": self.name, "names": self.names, "folder": str(self.folder)}
        return {VARIABLE: json.dumps(told)}


def siblings_here(environ: Mapping[str, str] = os.environ) -> Siblings | None:
    """What this process was told when it was started; None where it was started by itself."""
    told = environ.get(VARIABLE)
    if not told:
        return None
    found = json.loads(told)
    return Siblings(found["name"], tuple(found["names"]), Path(found["folder"]))


def named(kind: str, count: int) -> Sequence[str]:
    """The names of so many processes of a kind; one alone is called like it."""
    return [kind] if count == 1 else [f"{kind}-{number}" for number in range(1, count + 1)]


def kind_of(name: str) -> str:
    """``worker`` of ``worker-2``."""
    return name.partition("-")[0]
