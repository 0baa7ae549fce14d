"""The application: ``app.stage``, ``app.dedup``, and Faust's ``app.timer`` and the like.

``from hookstream import app`` gives this package. What is asked of it that the application has is
asked of that, which is made when it is first needed: see :mod:`hookstream.app.main`.
"""

from collections.abc import Awaitable, Callable
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from hookstream.codecs.envelope import Event

__all__ = ["dedup", "stage"]

Stage = TypeVar("Stage", bound="Callable[[Event], Awaitable[Event | None]]")
Dedup = TypeVar("Dedup", bound="Callable[[Event], str | None]")

#: Faust's decorators, and ours over batches: what the application has under these names. Those of
#: Faust's that it has not say what to use instead.
_OF_THE_APPLICATION = frozenset(
    (
        "GlobalTable",
        "LiveCheck",
        "SetGlobalTable",
        "SetTable",
        "Table",
        "agent",
        "batch_channel",
        "batches",
        "command",
        "crontab",
        "lifespan",
        "on_partitions_assigned",
        "on_partitions_revoked",
        "on_rebalance_complete",
        "page",
        "send",
        "stream_channel",
        "table_route",
        "task",
        "timer",
        "topic",
        "topic_route",
    )
)


def stage(
    *, after: str, concurrency: int = 1, timeout: float | None = None
) -> Callable[[Stage], Stage]:
    """Make ``async def f(event) -> event | None`` a stage behind the one named ``after``.

    Return the event, a changed one, or None to drop it. When it raises, or takes longer than
    ``timeout`` seconds, that event alone is tried again later. Up to ``concurrency`` events of a
    batch are in it at a time; what comes out keeps its order.

    Raises:
        SettingsError: the name is taken, or it cannot be called so.
    """
    decorate: Callable[[Stage], Stage] = _application().stage(
        after=after, concurrency=concurrency, timeout=timeout
    )
    return decorate


def dedup(name: str) -> Callable[[Dedup], Dedup]:
    """Make ``def f(event) -> str | None`` the dedup function ``name``, which tools may ask for.

    Events for which it returns the same text are the same; None or "" is never a duplicate.

    Raises:
        SettingsError: another function has this name.
    """
    decorate: Callable[[Dedup], Dedup] = _application().dedup(name)
    return decorate


def _application() -> Any:
    return import_module("hookstream.app.main").app


if not TYPE_CHECKING:
    # hidden from mypy: else any name that nobody has would be one of ours to it

    def __getattr__(name: str) -> Any:
        if name in _OF_THE_APPLICATION:
            return getattr(_application(), name)
        if name.startswith("_"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        near = get_close_matches(name, (*__all__, *_OF_THE_APPLICATION), 1)
        hint = f"did you mean app.{near[0]}? " if near else ""
        raise AttributeError(
            f"there is no app.{name}: {hint}docs/stages.md says what there is of Faust's"
        )
