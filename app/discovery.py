"""Finding stages: ours, and those of projects that depend on Hookstream."""

import importlib
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points

from hookstream.app.errors import SettingsError

__all__ = ["GROUP", "agent_modules", "discover"]

#: Entry points of this group name modules or packages with stages.
GROUP = "hookstream.agents"
OURS = "hookstream.agents"


def agent_modules(wanted: str) -> list[str]:
    """Modules and packages with stages; ``wanted`` is what ``HOOKSTREAM_AGENTS`` says.

    Each once, in the order in which they are imported.
    """
    named = [name.strip() for name in wanted.split(",")]
    installed = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    modules = [OURS, *named, *(point.value.partition(":")[0] for point in installed)]
    return list(dict.fromkeys(name for name in modules if name))


def discover(
    modules: Iterable[str], *, failed: Callable[[str, SettingsError], None] | None = None
) -> None:
    """Import modules, and every module of those that are packages, by their names' order.

    A module in the current folder is found as well, also by the installed command.

    ``failed`` hears of what cannot be imported, and the others are; without it that is an error.

    Raises:
        SettingsError: one cannot be imported; the message says which, and who asked for it.
    """
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    for name in modules:
        package = _tried(name, failed, why="" if name == OURS else _asked_for(name))
        for found in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{name}."):
            _tried(found.name, failed)


def _tried(name: str, failed: Callable[[str, SettingsError], None] | None, why: str = "") -> object:
    try:
        return _import(name, why)
    except SettingsError as error:
        if failed is None:
            raise
        failed(name, error)
        return None


def _import(name: str, why: str = "") -> object:
    try:
        return importlib.import_module(name)
    except SettingsError:
        raise
    except Exception as error:
        raise SettingsError(f"the stage in {name} cannot be imported: {error!r}{why}") from error


def _asked_for(name: str) -> str:
    return f" (it is named by HOOKSTREAM_AGENTS, or by an entry point {GROUP!r}: {name})"
