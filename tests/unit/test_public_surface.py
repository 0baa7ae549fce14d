"""What a stream developer types."""

import importlib
import pkgutil

import hookstream
import hookstream.app
import hookstream.testing
from hookstream import Event, app, dedup, stage
from hookstream.codecs.envelope import Event as RealEvent

NAMES = ("stage", "dedup", "batches", "agent", "timer", "crontab", "task", "command", "Table")


def test_names_of_the_application_are_no_modules() -> None:
    """A module that is imported takes the place of its package's attribute of that name."""
    for found in pkgutil.iter_modules(hookstream.app.__path__):
        if found.name != "main":
            importlib.import_module(f"hookstream.app.{found.name}")
    for name in (*NAMES, "stream_channel", "batch_channel"):
        assert callable(getattr(app, name)), name
    assert app.stage is stage
    assert app.dedup is dedup
    assert Event is RealEvent
    assert not hasattr(app, "nothing_of_ours")
    assert not hasattr(hookstream, "nothing_of_ours")
    helpers = {"find_duplicates", "make_event", "run_batch", "run_stage", "stage_results"}
    assert set(hookstream.testing.__all__) == helpers | {"tables"}
