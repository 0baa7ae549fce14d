"""Describing: an event's update for a context, as its template and budget say."""

from collections.abc import Callable, Iterable

from hookstream.app.feeds.update import event_update
from hookstream.app.routing.catalog import Catalog
from hookstream.app.summaries.model import ModelSummariser
from hookstream.app.summaries.summariser import Summariser
from hookstream.codecs.envelope import Event
from hookstream.codecs.routed import Target

__all__ = ["Renderer"]


class Renderer:
    """Makes the JSON of updates; summaries are remembered over contexts.

    ``slow``: whether a model is asked, so that urgent updates should not wait for others.
    """

    def __init__(
        self, catalog: Callable[[], Catalog], model: ModelSummariser | None = None
    ) -> None:
        self.slow = model is not None
        self._catalog = catalog
        self._summaries = Summariser(model=model)

    async def prepare(self, events: Iterable[Event]) -> None:
        """Let the model say what it can of a batch's events, within its time limit."""
        await self._summaries.prepare(events, self._catalog().books)

    def render(self, event: Event, target: Target) -> bytes:
        """The update that ``event`` is to the context of ``target``."""
        catalog = self._catalog()
        context = catalog.contexts.get((event.tenant, target.context_id))
        budget = context.token_budget if context else None
        summary = self._summaries.summarise(event, budget, catalog.books.get(event.tenant))
        return event_update(event, target, summary)
