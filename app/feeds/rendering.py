"""Describing: an event's update for a context, as its template and budget say."""

from collections.abc import Callable, Iterable

from hookstream.app.feeds.update import event_update
from hookstream.app.routing.catalog import Registry
from hookstream.app.summaries.model import ModelSummariser
from hookstream.app.summaries.summariser import Summariser
from hookstream.codecs.envelope import Event
from hookstream.codecs.routed import Target

__all__ = ["Describer"]


class Describer:
    """Makes the JSON of updates; summaries are remembered over contexts.

    ``slow``: whether a model is asked, so that urgent updates should not wait for others.
    """

    def __init__(
        self, registry: Callable[[], Registry], model: ModelSummariser | None = None
    ) -> None:
        self.slow = model is not None
        self._registry = registry
        self._summaries = Summariser(model=model)

    async def prepare(self, events: Iterable[Event]) -> None:
        """Let the model say what it can of a batch's events, within its time limit."""
        await self._summaries.prepare(events, self._registry().books)

    def describe(self, event: Event, target: Target) -> bytes:
        """The update that ``event`` is to the context of ``target``."""
        registry = self._registry()
        context = registry.contexts.get((event.tenant, target.context_id))
        budget = context.token_budget if context else None
        summary = self._summaries.summarise(event, budget, registry.books.get(event.tenant))
        return event_update(event, target, summary)
