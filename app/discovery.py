"""Finding stages: ours, and those of projects that depend on Hookstream."""

import importlib
import os
import pkgutil
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from faust.utils import venusian
from mode.utils.logging import get_logger

from hookstream.app.errors import SettingsError

__all__ = ["GROUP", "OURS", "agent_modules", "discover", "mark_nothing"]

logger = get_logger(__name__)

#: Entry points of this group name modules or packages with stages.
GROUP = "hookstream.agents"
#: The package of our own stages.
OURS = "hookstream.agents"
#: Frames that say nothing about a stream developer's module: ours, Python's, and libraries'.
NOT_THEIRS = (
    "<frozen",
    str(Path(__file__).parent),
    *map(sysconfig.get_path, ("stdlib", "purelib")),
)


#: A file and its line in a message.
PLACE = re.compile(r"\.py:\d+")
#: What Python says of a call that does not fit.
CALLED = re.compile(r"(?:\w+\.)*(\w+)\(\) (?:takes|missing|got an unexpected)")
#: How each of the application's decorators is written.
WRITTEN = {
    "Table": 'app.Table("name", default=int)',
    "agent": "@app.agent(channel)",
    "batches": "@app.batches(channel)",
    "command": "@app.command()",
    "crontab": '@app.crontab("30 18 * * *")',
    "dedup": '@app.dedup("name")',
    "lifespan": "@app.lifespan",
    "page": '@app.page("/name")',
    "stage": '@app.stage(after="dedupe"), with concurrency=N and timeout=SECONDS where wanted',
    "stream_channel": 'app.stream_channel("name", codec="json")',
    "task": "@app.task",
    "timer": "@app.timer(SECONDS)",
}


def agent_modules(wanted: str) -> list[str]:
    """Modules and packages with stages; ``wanted`` is what ``HOOKSTREAM_AGENTS`` says.

    Each once, in the order in which they are imported.
    """
    named = [name.strip() for name in wanted.split(",")]
    modules = [OURS, *named, *_installed()]
    return list(dict.fromkeys(name for name in modules if name))


@cache
def _installed() -> tuple[str, ...]:
    """Modules that entry points name. A look at every installed package: some 15 ms, once."""
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return tuple(point.value.partition(":")[0] for point in points)


def mark_nothing() -> None:
    """Keep Faust from marking what is declared for a search of its own, which nobody makes.

    A mark has the source line that it stands for, for which Python resolves the paths of all
    modules that are loaded: a tenth of a start.
    """
    setattr(venusian, "attach", lambda *_, **__: None)  # noqa: B010 mypy: it is a function


def discover(
    modules: Iterable[str],
    declared: Callable[[], int] | None = None,
    *,
    failed: Callable[[str, SettingsError], None] | None = None,
) -> None:
    """Import modules, and every module of those that are packages, by their names' order.

    A module in the current folder is found as well, also by the installed command.

    ``declared`` counts what they have declared: one that brings nothing is told. ``failed`` hears
    of what cannot be imported, and the others are; without it that is an error.

    Raises:
        SettingsError: one cannot be imported; the message says which, and who asked for it.
    """
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    for name in modules:
        before = declared() if declared and name not in sys.modules else -1
        package = _tried(name, failed, why="" if name == OURS else _asked_for(name))
        for found in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{name}."):
            _tried(found.name, failed)
        if declared and package is not None and declared() == before:
            logger.warning(
                "%s declares nothing: no stage, agent, table, page, timer or dedup function%s. Is "
                "a decorator of hookstream's `app` missing?",
                name,
                _asked_for(name),
            )


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
    except SettingsError as error:
        if PLACE.search(str(error)):
            raise
        raise SettingsError(f"{error}{_where(error)}") from error
    except (Exception, SystemExit) as error:
        # a script that ends itself when it is run ends here, too
        raise SettingsError(
            f"the stage in {name} cannot be imported: {error!r}{_where(error)}{_hint(error)}{why}"
        ) from error


def _hint(error: BaseException) -> str:
    """How a decorator is written that was called with something else; "" where it was none."""
    called = CALLED.match(str(error)) if isinstance(error, TypeError) else None
    lines = [str(frame.line) for frame in traceback.extract_tb(error.__traceback__)]
    # a function of their own may have the name of one of ours
    if called is None or called[1] not in WRITTEN or not any("app." in line for line in lines):
        return ""
    return f". It is written {WRITTEN[called[1]]}"


def _where(error: BaseException) -> str:
    """The line of a stream developer's own at which an import failed; "" where that is unknown."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(NOT_THEIRS)]
    return f" ({theirs[-1].filename}:{theirs[-1].lineno})" if theirs else ""


def _asked_for(name: str) -> str:
    if "/" in name or name.endswith(".py"):
        module = name.removesuffix(".py").strip("./").replace("/", ".")
        return f" (HOOKSTREAM_AGENTS names modules as Python imports them: {module}, not {name})"
    return f" (it is named by HOOKSTREAM_AGENTS, or by an entry point {GROUP!r}: {name})"
