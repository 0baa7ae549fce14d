"""Route: decides which contexts each event concerns, by the owner's subscriptions alone.

In: batches with duplicates marked. Out: the same, with targets. An event that no context wants
becomes ``unrouted``. Nothing in a payload can name a context: it only meets conditions. What goes
wrong with one subscription concerns it alone: it does not hold for that event.
"""

import time

from hookstream.app import channels
from hookstream.app.main import app
from hookstream.app.priority import rank
from hookstream.app.routing.catalog import Catalog, Subscription
from hookstream.app.routing.condition_judge import ConditionJudge, Name
from hookstream.app.routing.matching import Matcher
from hookstream.app.streams.batch import Batch
from hookstream.app.streams.outcome import Dropped
from hookstream.app.streams.scheduler import begins, due
from hookstream.codecs.envelope import Event
from hookstream.codecs.routed import Target


@app.batches(channels.checked, out=channels.routed)
async def route(batch: Batch) -> None:
    """Finds the contexts that each event concerns."""
    catalog = await app.services.catalog.catch_up(*batch.registry_version)
    judge = app.services.conditions
    urgent = any(entry.value.tool_id in catalog.urgent_tools for entry in batch.live())
    priority = "critical" if urgent else "normal"
    due_at, at_once = due(time.monotonic(), len(batch), priority), begins(len(batch), priority)
    unsettled = []
    async with app.worker.scheduler.slot(due_at, len(batch), at_once=at_once) as slot:
        for entry in list(batch.live()):
            try:
                wanted = Wanted(entry.value, catalog, judge)
                entry.targets = wanted.targets()
            except Exception as error:  # noqa: BLE001 one event's trouble is not its neighbours'
                entry.fail("route", error)
                continue
            if wanted.expensive:
                unsettled.append((entry, wanted))
            elif not entry.targets:
                entry.outcome = Dropped()
            await slot.pause()
    # others have the slot while children judge
    for entry, wanted in unsettled:
        try:
            entry.targets = await wanted.settled()
        except Exception as error:  # noqa: BLE001 see above
            entry.fail("route", error)
            continue
        if not entry.targets:
            entry.outcome = Dropped()


class Wanted:
    """The contexts that want one event."""

    def __init__(self, event: Event, catalog: Catalog, judge: ConditionJudge) -> None:
        self._event = event
        self._catalog = catalog
        self._judge = judge
        self._matcher = Matcher(event)
        #: Subscriptions whose conditions have to be judged in a child process first.
        self.expensive: dict[Name, Subscription] = {}
        #: What is known of conditions already; whatever is kept here is not asked again.
        self._known: dict[Name, bool] = {}

    def targets(self) -> tuple[Target, ...]:
        """The contexts of the event, each once, in the order of their ids.

        Where several subscriptions of a context match, the one of the highest priority counts.
        A replay that names a context goes to it alone, whatever it subscribes to, within the
        tenant.
        """
        event, catalog = self._event, self._catalog
        if event.replay_context_id:
            context = catalog.contexts.get((event.tenant, event.replay_context_id))
            return (Target(context.context_id, context.priority, ""),) if context else ()
        found: dict[str, Target] = {}
        for subscription in catalog.by_tool.get(event.tool_id, ()):
            known = found.get(subscription.context_id)
            if known is not None and rank(known.priority) <= rank(subscription.priority):
                continue
            if self._matches(subscription):
                found[subscription.context_id] = Target(
                    subscription.context_id, subscription.priority, subscription.name
                )
        return tuple(found.values())

    async def settled(self) -> tuple[Target, ...]:
        """The same, once child processes have judged the expensive conditions."""
        targets: tuple[Target, ...] = ()
        while self.expensive:
            while self.expensive:
                name, subscription = self.expensive.popitem()
                assert subscription.condition is not None
                self._known[name] = await self._judge.in_child(
                    name, subscription.condition, self._matcher.facts
                )
            targets = self.targets()
        return targets

    def _matches(self, subscription: Subscription) -> bool:
        if not self._matcher.concerns(subscription.types, subscription.follow):
            return False
        condition = subscription.condition
        if condition is None:
            return True
        name = (subscription.tenant, subscription.context_id, subscription.name)
        if name in self._known:
            return self._known[name]
        holds = self._judge.at_once(name, condition, self._matcher.facts)
        if holds is None:
            self.expensive[name] = subscription
            return False
        self._known[name] = holds
        return holds
