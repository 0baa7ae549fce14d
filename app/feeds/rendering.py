"""Rendering: an event's updates for its contexts, as their templates and budgets say."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace

from hookstream.app.feeds.seals import FeedSeals
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
        self,
        catalog: Callable[[], Catalog],
        model: ModelSummariser | None = None,
        for_model: Callable[[Event], Awaitable[Event]] | None = None,
        seals: FeedSeals | None = None,
    ) -> None:
        """``for_model``: an event as the model may be told of it; without it as it is."""
        self._seals = seals or FeedSeals()
        self.slow = model is not None
        self._catalog = catalog
        self._summaries = Summariser(model=model, for_model=for_model)

    async def prepare(self, events: Iterable[Event]) -> None:
        """Let the model say what it can of a batch's events, within its time limit."""
        await self._summaries.prepare(events, self._catalog().books)

    def render(self, event: Event, target: Target) -> bytes:
        """The update that ``event`` is to the context of ``target``."""
        summary = self._summary(event, self._budget(event, target))
        return addressed(event_update(event, summary), target)

    def finish(
        self, event: Event, targets: Sequence[Target]
    ) -> tuple[Finished, tuple[Target, ...]]:
        """All updates of an event, and its targets (one at least), each with its own named.

        Updates are sealed, where they are kept so. Raises SealingKeyError.
        """
        summaries: list[Summary] = []
        by_budget: dict[int | None, int] = {}
        named = []
        for target in targets:
            budget = self._budget(event, target)
            at = by_budget.get(budget)
            if at is None:
                at = by_budget[budget] = _place(self._summary(event, budget), summaries)
            named.append(replace(target, update=at))
        finished = Finished(
            event.event_id,
            event.tenant,
            event.tool_id,
            event.type,
            event.replay_id,
            event.received_at_ms,
            summaries[0].keys,
            tuple(
                self._seals.finished(event.tenant, event.event_id, event_update(event, summary))
                for summary in summaries
            ),
        )
        return finished, tuple(named)

    def _budget(self, event: Event, target: Target) -> int | None:
        context = self._catalog().contexts.get((event.tenant, target.context_id))
        return context.token_budget if context else None

    def _summary(self, event: Event, budget: int | None) -> Summary:
        own = self._catalog().books.get(event.tenant)
        return self._summaries.summarise(event, budget, own)


def _place(summary: Summary, summaries: list[Summary]) -> int:
    """Where a summary is among others, behind them where it was not."""
    # budgets that all of it fits into have one and the same
    for at, made in enumerate(summaries):
        if made is summary:
            return at
    summaries.append(summary)
    return len(summaries) - 1
