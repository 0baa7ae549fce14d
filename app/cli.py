"""The ``hookstream`` command: Faust's command line with ours added."""

import gc
import importlib
import io
import logging
import os
import sys
from itertools import zip_longest
from typing import Any

from hookstream.app.errors import HookstreamError

__all__ = ["main"]

COMMANDS = (
    "worker", "receive", "send", "up", "dead", "partitions", "provider", "replay", "schema",
    "lifecycle", "audit", "erase", "holds", "retention", "keys", "api_keys", "tenants", "migrate",
    "import_", "export", "plan", "bench", "doctor",
)  # fmt: skip


def _spelt(module: str) -> str:
    """How the command of a module is spelt."""
    return module.rstrip("_").replace("_", "-")


#: Faust's commands that are offered; its `worker` is what ours is made of.
OFFERED = ("agents", "tables", "worker")
#: Faust's commands that would do nothing sensible here, and what does.
REFUSED = {
    "clean-versions": "tables have no versions: they are below STATE_DIR/tables",
    "completion": "shell completion is not supported",
    "livecheck": "LiveCheck is not supported: `hookstream send` and /health say whether it works",
    "model": "events are no Faust models: docs/stages.md has their fields",
    "models": "events are no Faust models: docs/stages.md has their fields",
    "reset": "a table is rebuilt from its changelog: stop the worker, delete STATE_DIR/tables",
}
#: Faust's options that would do nothing here, and what does.
REFUSED_OPTIONS = {
    "-A": "there is one application: modules with stages of your own are HOOKSTREAM_AGENTS",
    "--app": "there is one application: modules with stages of your own are HOOKSTREAM_AGENTS",
    "-D": "everything is kept in HOOKSTREAM_STATE_DIR",
    "--datadir": "everything is kept in HOOKSTREAM_STATE_DIR",
    "-f": "the log goes to standard error: redirect it",
    "--logfile": "the log goes to standard error: redirect it",
    "-L": "uvloop is used where it is there",
    "--loop": "uvloop is used where it is there",
}
#: What asks a running system, or nobody: it is of use where a stage cannot be imported, too.
WITHOUT_STAGES = frozenset(_spelt(name) for name in COMMANDS) - {"worker", "receive"}
#: Options before a command that have a value behind them.
WITH_VALUE = ("-l", "--loglevel", "-W", "--workdir")
#: Commands that come from Faust's own: what is said of its options holds behind them, too.
OF_FAUST = {"worker", "receive"}
#: In the help of Faust's group, and about its own debugger.
HIDDEN_OPTIONS = {"console_port", "blocking_timeout", "debug", "app", "datadir", "logfile", "loop"}
USAGE = 2
#: Ended by Ctrl-C, as a shell says it.
INTERRUPTED = 130
#: Of a kind, under `hookstream up`: :data:`hookstream.app.commands.processes.MOST`.
MOST_PROCESSES = 64


def main() -> None:
    """Run a command; a wrong setting is a message and status 78, not a traceback."""
    arguments = sys.argv[1:]
    try:
        if (counts := _counts_of_up(arguments)) is not None:
            raise SystemExit(_up(counts))
        if arguments == ["--version"]:
            raise SystemExit(_version())
        _refuse(arguments)
        _take_log_level(arguments)
        if (command := _command_of(arguments)) in WITHOUT_STAGES:
            _run_alone(command)
        _use_uvloop()
        _load_structlog()
        # a fifth of a start is looking for cycles among what modules are made of, which stays
        gc.disable()
        # first, so that our `send` and `worker` take the place of its own
        for name in OFFERED:
            importlib.import_module(f"faust.cli.{name}")
        app = importlib.import_module("hookstream.app.main").app
        # known before stages are imported: a receiver does without those that cannot be
        app.producer_only = "receive" in arguments
        for name in COMMANDS:
            importlib.import_module(f"hookstream.app.commands.{name}")
        gc.freeze()
        gc.enable()
        # what a stage prints is there at once, also in a file
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)
        sys.argv[0] = "hookstream"
        _run(app)
    except HookstreamError as error:
        print(f"hookstream: {error}", file=sys.stderr)
        raise SystemExit(error.exit_status) from error
    except KeyboardInterrupt as error:
        # while modules are loaded; what a command says is its own
        raise SystemExit(INTERRUPTED) from error


def _run_alone(command: str) -> None:
    """Run a command that needs no application, which takes a second to make."""
    gc.disable()
    module = next(name for name in COMMANDS if _spelt(name) == command)
    importlib.import_module(f"hookstream.app.commands.{module}")
    gc.freeze()
    gc.enable()
    sys.argv[0] = "hookstream"
    logging.basicConfig(level=logging.WARNING, format="hookstream: %(message)s")
    _group()(prog_name="hookstream")


def _run(app: Any) -> None:
    """Run whatever else there is among the commands, also of stages."""
    group = _group()
    # what App.main does, which knows no name for the program
    app.finalize()
    app.worker_init()
    if _command_of(sys.argv[1:]) not in OF_FAUST:
        # those set up the log themselves; without, a warning about a module would be seen by nobody
        logging.basicConfig(level=logging.WARNING, format="hookstream: %(message)s")
    app.discover()
    app.worker_init_post_autodiscover()
    group(prog_name="hookstream", app=app)


def _group() -> Any:
    """Faust's group of commands, without what is not for here."""
    group = importlib.import_module("faust.cli.base").cli
    for option in group.params:
        if option.name in HIDDEN_OPTIONS:
            option.hidden = True
        if option.name == "loglevel":
            option.help = "Level of the log, in place of HOOKSTREAM_LOG_LEVEL."
            option.show_default = False
    group.help = "Webhooks into AI agents' contexts. Settings are environment variables: README.md."
    return group


def _command_of(arguments: list[str]) -> str:
    """The command among the arguments; "" where there is none."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if not argument.startswith("-") and before not in WITH_VALUE:
            return argument
    return ""


def _refuse(arguments: list[str]) -> None:
    """Say what to do instead of a command or option of Faust's that is not for here."""
    for argument in arguments:
        name = argument.partition("=")[0]
        if name in REFUSED_OPTIONS:
            print(f"hookstream {name}: not supported: {REFUSED_OPTIONS[name]}", file=sys.stderr)
            raise SystemExit(USAGE)
        if not argument.startswith("-") and argument not in OF_FAUST:
            # options of Faust's stand before the command; what follows is the command's own
            if argument in REFUSED:
                print(f"hookstream {argument}: {REFUSED[argument]}", file=sys.stderr)
                raise SystemExit(USAGE)
            return


def _take_log_level(arguments: list[str]) -> None:
    """``-l LEVEL`` is the setting for this run, before ``worker`` or ``receive`` or behind it."""
    for at, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in ("-l", "--loglevel"):
            given = (value if equals else "".join(arguments[at + 1 : at + 2])).lower()
            if given in ("debug", "info", "warn", "error", "crit"):
                known = {"warn": "warning", "crit": "error"}
                os.environ["HOOKSTREAM_LOG_LEVEL"] = known.get(given, given)
        elif not (
            argument.startswith("-")
            or arguments[at - 1] in ("-l", "--loglevel")
            or OF_FAUST.intersection(arguments[: at + 1])
        ):
            return


def _version() -> int:
    version = importlib.import_module("hookstream").__version__
    faust = importlib.import_module("importlib.metadata").version("faust-streaming")
    _say(f"hookstream {version} (Faust {faust}, Python {sys.version.split()[0]})")
    return 0


def _counts_of_up(arguments: list[str]) -> dict[str, int] | None:
    """The options of a plain ``hookstream up``; None for all else, which click looks at."""
    if arguments[:1] != ["up"]:
        return None
    counts = {}
    words = [part for argument in arguments[1:] for part in argument.split("=", 1)]
    for option, value in zip_longest(words[::2], words[1::2], fillvalue=""):
        if option not in ("--receivers", "--workers") or not value.isdecimal():
            return None
        counts[option.lstrip("-")] = int(value)
    # what is out of bounds is said where there are words for it
    return counts if all(0 < count <= MOST_PROCESSES for count in counts.values()) else None


def _up(counts: dict[str, int]) -> int:
    """``hookstream up`` without Faust, which only its children need."""
    settings = importlib.import_module("hookstream.app.settings").load_settings()
    everything = importlib.import_module("hookstream.app.commands.everything")
    try:
        status: int = everything.run_everything(settings, _say, **counts)
    except OSError as error:
        print(f"hookstream: {error}", file=sys.stderr)
        return USAGE
    return status


def _say(text: str) -> None:
    print(text, flush=True)


def _use_uvloop() -> None:
    """uvloop when it is there."""
    try:
        importlib.import_module("mode.loop.uvloop")
    except ImportError:
        return


def _load_structlog() -> None:
    """structlog without rich, which it would take along: 40 ms, for nothing that is used here."""
    if "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("structlog")
    finally:
        del sys.modules["rich"]


if __name__ == "__main__":
    main()
