"""Route: decides which contexts each event concerns, by the owner's subscriptions alone.

In: batches with duplicates marked. Out: the same, with targets. An event that no context wants
becomes ``unrouted``. Nothing in a payload can name a context: it only meets conditions. What goes
wrong with one subscription concerns it alone: it does not hold for that event.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from hookstream.app import channels
from hookstream.app.main import app
from hookstream.app.priority import rank
from hookstream.app.routing.catalog import Catalog, Subscription
from hookstream.app.routing.condition_judge import ConditionJudge, Name
from hookstream.app.routing.matching import Matcher
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.group import Group
from hookstream.app.streams.outcome import Dropped
from hookstream.app.streams.scheduler import TimeSlot
from hookstream.codecs.envelope import Event
from hookstream.codecs.routed import Target


async def route_together(group: Group) -> None:
    """The same for several batches; those are left with a condition that a child has to judge."""
    cache, judge = app.services.catalog, app.services.conditions
    for batch in group:
        if not cache.caught_up(*batch.registry_version):
            group.leave(batch)
    catalog, going = cache.current, list(group)
    async with _slot(catalog, going) as slot:
        for batch in going:
            with group.alone(batch):
                if await _match(batch, catalog, judge, slot):
                    group.leave(batch)


@app.batches(channels.masked, out=channels.routed, together=route_together)
async def route(batch: Batch) -> None:
    """Finds the contexts that each event concerns."""
    catalog = await app.services.catalog.catch_up(*batch.registry_version)
    async with _slot(catalog, [batch]) as slot:
        unsettled = await _match(batch, catalog, app.services.conditions, slot)
    # others have the slot while children judge
    for entry, wanted in unsettled:
        try:
            entry.targets = await wanted.settled()
        except Exception as error:  # noqa: BLE001 one event's trouble is not its neighbours'
            entry.fail("route", error)
            continue
        if not entry.targets:
            entry.outcome = Dropped()


def _slot(catalog: Catalog, batches: Sequence[Batch]) -> AbstractAsyncContextManager[TimeSlot]:
    """A slot for the events of batches."""
    tools = {entry.value.tool_id for batch in batches for entry in batch.live()}
    priority = "normal" if tools.isdisjoint(catalog.urgent_tools) else "critical"
    return app.worker.scheduler.slot_for(batches, priority)


async def _match(
    batch: Batch, catalog: Catalog, judge: ConditionJudge, slot: TimeSlot
) -> "list[tuple[Entry, Wanted]]":
    """Give each event its targets; those come back that have conditions still to be judged."""
    unsettled = []
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
    return unsettled


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
