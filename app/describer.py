"""Describing: an event's update for a context, as its template and budget say."""

from collections.abc import Callable

from hookstream.app.registry import Registry
from hookstream.app.summaries.summariser import Summariser
from hookstream.app.update import event_update
from hookstream.codecs.envelope import Event
from hookstream.codecs.routed import Target

__all__ = ["Describer"]


class Describer:
    """Makes the JSON of updates; summaries are remembered over contexts."""

    def __init__(self, registry: Callable[[], Registry]) -> None:
        self._registry = registry
        self._summaries = Summariser()

    def describe(self, event: Event, target: Target) -> bytes:
        """The update that ``event`` is to the context of ``target``."""
        registry = self._registry()
        context = registry.contexts.get((event.tenant, target.context_id))
        budget = context.token_budget if context else None
        summary = self._summaries.summarise(event, budget, registry.books.get(event.tenant))
        return event_update(event, target, summary)
