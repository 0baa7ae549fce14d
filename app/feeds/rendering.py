"""Rendering: an event's updates for its contexts, as their templates and budgets say."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from hookstream.app.feeds.update import addressed, event_update
from hookstream.app.routing.catalog import Catalog
from hookstream.app.summaries.model import ModelSummariser
from hookstream.app.summaries.summariser import Summariser, Summary
from hookstream.codecs.envelope import Event
from hookstream.codecs.routed import Finished, Target

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
        return addressed(event_update(event, self._summary(event, target)), target)

    def finish(
        self, event: Event, targets: Sequence[Target]
    ) -> tuple[Finished, tuple[Target, ...]]:
        """All updates of an event, and its targets (one at least), each with its own named."""
        summaries: list[Summary] = []
        named = []
        for target in targets:
            summary = self._summary(event, target)
            # contexts whose budgets it fits into have one and the same
            at = next((at for at, made in enumerate(summaries) if made is summary), -1)
            if at < 0:
                at = len(summaries)
                summaries.append(summary)
            named.append(replace(target, update=at))
        finished = Finished(
            event.event_id,
            event.tenant,
            event.tool_id,
            event.type,
            event.replay_id,
            event.received_at_ms,
            summaries[0].keys,
            tuple(event_update(event, summary) for summary in summaries),
        )
        return finished, tuple(named)

    def _summary(self, event: Event, target: Target) -> Summary:
        catalog = self._catalog()
        context = catalog.contexts.get((event.tenant, target.context_id))
        budget = context.token_budget if context else None
        return self._summaries.summarise(event, budget, catalog.books.get(event.tenant))
