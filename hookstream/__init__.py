"""Webhooks into AI agents' contexts. What a stream developer needs is here, and in ``testing``.

The import name: links to the folders beside it, so that ``codecs`` is not Python's own.

>>> from hookstream import Event, app
>>> @app.stage(after="dedupe")                       # doctest: +SKIP
... async def label(event: Event) -> Event | None:
...     return event
"""

from typing import TYPE_CHECKING, Any

from hookstream import app
from hookstream.app import dedup, stage

if TYPE_CHECKING:
    from hookstream.codecs.envelope import Event

__all__ = ["Event", "app", "dedup", "stage"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # what only asks for the version need not wait for Faust
    if name == "Event":
        from hookstream.codecs.envelope import Event

        return Event
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
