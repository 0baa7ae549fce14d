"""The ``hookstream`` command: Faust's command line with ours added."""

import importlib
import sys

from hookstream.app.errors import HookstreamError

__all__ = ["main"]

COMMANDS = (
    "worker", "receive", "send", "up", "dead", "partitions", "replay", "schema", "plan", "bench",
    "doctor",
)  # fmt: skip


def main() -> None:
    """Run a command; a wrong setting is a message and status 78, not a traceback."""
    try:
        if sys.argv[1:] == ["up"]:
            raise SystemExit(_up())
        _use_uvloop()
        # first, so that our `send` and `worker` take the place of its own
        importlib.import_module("faust.cli.faust")
        app = importlib.import_module("hookstream.app.main").app
        # known before stages are imported: a receiver does without those that cannot be
        app.producer_only = "receive" in sys.argv[1:]
        for name in COMMANDS:
            importlib.import_module(f"hookstream.app.commands.{name}")
        sys.argv[0] = "hookstream"
        app.main()
    except HookstreamError as error:
        print(f"hookstream: {error}", file=sys.stderr)
        raise SystemExit(error.exit_status) from error


def _up() -> int:
    """``hookstream up`` without Faust, which only its children need."""
    settings = importlib.import_module("hookstream.app.settings").load_settings()
    everything = importlib.import_module("hookstream.app.commands.everything")
    try:
        status: int = everything.run_everything(settings, _say)
    except OSError as error:
        print(f"hookstream: {error}", file=sys.stderr)
        return 2
    return status


def _say(text: str) -> None:
    print(text, flush=True)


def _use_uvloop() -> None:
    """uvloop when it is there."""
    try:
        importlib.import_module("mode.loop.uvloop")
    except ImportError:
        return


if __name__ == "__main__":
    main()
