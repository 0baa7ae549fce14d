"""Delivery: from routed events to numbered updates in the feeds of one partition.

A batch of ``updates[q]`` is looked through in order: what has been seen is passed over (source
positions),
what may wait is deferred under pressure, the rest is rendered where that was not done before,
numbered and committed. What is most urgent takes along what it would have to wait for. Batches of
deferred updates go the same way, without source positions: they never left their partition.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from hookstream.app.errors import UnavailableError
from hookstream.app.failures.blocking import judge
from hookstream.app.failures.failed_events import write_failures
from hookstream.app.feeds.deferral import DeferredPart, Sorted, sort_by_urgency, write_deferred
from hookstream.app.feeds.inheritance import (
    MakeReadable,
    read_along,
    still_wait,
    taken_of,
    write_along,
)
from hookstream.app.feeds.plan import FeedPlan, Ready
from hookstream.app.feeds.planner import Planner
from hookstream.app.feeds.priority_queues import Sorter
from hookstream.app.feeds.seals import FeedSeals
from hookstream.app.feeds.state import FeedState
from hookstream.app.feeds.update import addressed
from hookstream.app.feeds.waiting import Waiting
from hookstream.app.keyring.error_texts import CLEAR, ErrorTexts
from hookstream.app.priority import most_urgent, rank
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.routing.catalog import Catalog
from hookstream.app.settings import Settings
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.commit import Commit, Writes, commit, commit_all
from hookstream.app.streams.outcome import Accepted
from hookstream.app.streams.partition import Partition
from hookstream.app.streams.scheduler import Scheduler, TimeSlot
from hookstream.app.streams.source_positions import SourcePosition, admit, write_source_positions
from hookstream.codecs.envelope import Event
from hookstream.codecs.errors import ErasedError
from hookstream.codecs.routed import Finished, Target

__all__ = ["DIGESTS", "Delivered", "Delivery"]

#: The channel of commits that coalesce what was throttled, or announce a day's summary.
DIGESTS = "folds"
#: More less urgent updates than this in one batch are pressure: they let the others go first.
PRESSED_UPDATES = 8
#: How often it is looked anew for what goes along, where it was delivered meanwhile.
TRIES_ALONG = 2


class Renders(Protocol):
    """Gives the JSON of updates; ``slow`` when preparing them takes longer than a moment."""

    slow: bool

    async def prepare(self, events: Iterable[Event]) -> None:
        """Look at the events of a batch before they are described."""

    def render(self, event: Event, target: Target) -> bytes:
        """The update that an event is to the context of a target."""
        ...


@dataclass(slots=True)
class Delivered:
    """What one commit did: the plan that was written, and when its events were received."""

    plan: FeedPlan
    received_ms: list[int] = field(default_factory=list)
    deferred: int = 0
    taken_along: int = 0


@dataclass(slots=True)
class Delivering:
    """A batch on its way into feeds: what goes now, what waits, and what came of it."""

    batch: Batch
    source: str | None
    marks: dict[int, SourcePosition]
    now: list[tuple[Entry, list[Target]]]
    later: list[DeferredPart]
    #: What waits and goes before it, and its entries once they are read.
    along: dict[str, list[Waiting]] = field(default_factory=dict)
    taken: list[Entry] = field(default_factory=list)
    ready: list[tuple[Entry, list[Ready]]] = field(default_factory=list)
    plan: FeedPlan | None = None

    def delivered(self) -> Delivered:
        """What its commit did."""
        assert self.plan is not None
        received_ms = [entry.value.event.received_at_ms for entry, _ in self.ready]
        return Delivered(self.plan, received_ms, len(self.later), len(self.taken))


class Delivery:
    """Delivers into the feeds of partitions that this worker owns."""

    def __init__(
        self,
        redis: Any,
        scripts: Scripts,
        settings: Settings,
        scheduler: Scheduler,
        *,
        catalog: Callable[[], Catalog],
        now_ms: Callable[[], int],
        renderer: Renders,
        reload: Callable[[], Awaitable[Catalog]] | None = None,
        seals: FeedSeals | None = None,
        errors: ErrorTexts = CLEAR,
        make_readable: MakeReadable | None = None,
    ) -> None:
        """``reload`` gives the catalog of now, for contexts that are not in that of before.

        ``make_readable`` is for what is taken along, which no reader has read; None: nothing is.
        """
        self._redis = redis
        self._make_readable = make_readable
        self._errors = errors
        self._seals = seals or FeedSeals()
        self._reload = reload
        self._scripts = scripts
        self._settings = settings
        self._catalog = catalog
        self._now_ms = now_ms
        self._renderer = renderer
        self._scheduler = scheduler
        folder = settings.state_path / "tables"
        mirrors = bool(settings.kafka_updates_topic)
        self._planner = Planner(redis, scripts, folder, catalog, self._seals, mirrors=mirrors)

    async def deliver(self, batch: Batch, source: str | None = None) -> Delivered:
        """Commit a batch of ``updates[q]``, or of what was deferred with priority ``source``.

        Raises:
            FencedError, OutdatedError: this worker has lost the partition; nothing was written.
        """
        for _ in range(TRIES_ALONG):
            work = self._sort(batch, source)
            if await self._read_along(work) and await self._delivered(work):
                return work.delivered()
        # as if nothing could be taken along: it waits, as everything else does
        work = self._sort(batch, source, inherits=False)
        await self._delivered(work)
        return work.delivered()

    async def _delivered(self, work: "Delivering") -> bool:
        """Deliver a batch; False where what it takes along cannot be, and nothing is written."""
        work.now = await self._without_deleted(work.now)
        await self._prepare(work.now)
        async with self._slot([work]) as slot:
            await self._render(work, slot)
            if any(entry.failure for entry in work.taken):
                return False
            state = work.batch.partition[FeedState]
            async with state.lock:
                if not still_wait(state.deferred, work.along):
                    return False
                [error] = await self._commit([work])
        for entry in work.taken:
            if isinstance(entry.value.event, Event):
                entry.value.event.release()
        if error is not None:
            raise error
        return True

    async def _read_along(self, work: "Delivering") -> bool:
        """Put what is taken along before a batch's updates; False where that cannot be read."""
        if not work.along:
            return True
        assert self._make_readable is not None
        taken = await read_along(
            self._redis, work.batch.partition.number, work.along, self._make_readable
        )
        if taken is None:
            return False
        work.taken = taken
        work.now = [(entry, list(entry.value.targets)) for entry in taken] + work.now
        return True

    async def deliver_all(self, batches: Sequence[Batch]) -> list[Delivered | Exception | None]:
        """As :meth:`deliver` for batches of ``updates[q]`` of different partitions: what it gives
        or raises for each, None for those that have to wait for something else and are left.
        """
        found: dict[Batch, Delivered | Exception] = {}
        going: list[Delivering] = []
        for batch in batches:
            try:
                work = self._sort(batch, None)
            except Exception as error:  # noqa: BLE001 it is told
                found[batch] = error
                continue
            waits = self._renderer.slow or bool(work.along)
            if not waits and self._are_there(self._catalog(), work.now):
                going.append(work)
        if not going:
            return [found.get(batch) for batch in batches]
        ready: list[Delivering] = []
        async with self._slot(going) as slot:
            try:
                for work in going:
                    await self._render(work, slot)
                    lock = work.batch.partition[FeedState].lock
                    # where it is free it is not waited for
                    if lock.free:
                        await lock.acquire()
                        ready.append(work)
                errors = await self._commit(ready)
            finally:
                for work in ready:
                    work.batch.partition[FeedState].lock.release()
        found |= {
            work.batch: work.delivered() if failure is None else failure
            for work, failure in zip(ready, errors, strict=True)
        }
        return [found.get(batch) for batch in batches]

    def _sort(self, batch: Batch, source: str | None, *, inherits: bool = True) -> "Delivering":
        entries, marks = self._admitted(batch, source)
        found = self._sorted(batch, entries, source, inherits=inherits)
        return Delivering(batch, source, marks, found.now, found.later, found.along)

    def _slot(self, works: "Sequence[Delivering]") -> AbstractAsyncContextManager[TimeSlot]:
        priority = most_urgent(
            target.priority for work in works for _, targets in work.now for target in targets
        )
        # what is urgent may come behind it: moving the others aside is not for them to wait for
        deferred = any(work.source is not None for work in works)
        due_priority = priority if deferred else self._catalog().most_urgent
        return self._scheduler.slot_for([work.batch for work in works], priority, due_priority)

    async def _render(self, work: "Delivering", slot: TimeSlot) -> None:
        work.ready = await self._rendered(work.now, slot)
        work.later = [part for part in work.later if not part.entry.failure]

    async def _commit(self, works: "Sequence[Delivering]") -> list[Exception | None]:
        """Number and write, with the feeds' locks held; what went wrong with each batch."""
        failed: dict[Batch, Exception] = {}
        commits: list[tuple[Batch, Commit]] = []
        now_ms = self._now_ms()
        for work in works:
            try:
                commits.append((work.batch, await self._planned(work, now_ms)))
            except Exception as error:  # noqa: BLE001 it is told
                failed[work.batch] = error
        found = await commit_all(self._scripts, [made for _, made in commits])
        for (batch, _), failure in zip(commits, found, strict=True):
            if failure is not None:
                failed[batch] = failure
        return [failed.get(work.batch) for work in works]

    async def _planned(self, work: "Delivering", now_ms: int) -> Commit:
        """The commit of a batch whose updates are ready."""
        batch, source = work.batch, work.source
        partition, state = batch.partition, batch.partition[FeedState]
        if source is not None and (gone := taken_of(batch, source)):
            # while it was read and rendered something urgent has taken it along
            work.ready = [each for each in work.ready if each[0].entry_id not in gone]
            work.later = [part for part in work.later if part.entry.entry_id not in gone]
        plan = await self._planner.plan(partition, now_ms, *_names(work.ready))
        for entry, updates in work.ready:
            for update in updates:
                plan.add(entry.value.event.tenant, update)
        writes = Writes()
        for part in work.later:
            waiting = state.deferred[part.priority]
            write_deferred(writes, partition.number, waiting, part)
        self._planner.write(writes, partition, plan)
        write_source_positions(writes, partition.number, state.source_positions, work.marks)
        if work.along:
            write_along(writes, partition.number, state.deferred, work.along)
        if source is not None and batch.entries:
            last = batch.entries[-1].entry_id
            writes.then(lambda: state.deferred[source].delivered(last))
        decision = judge(batch, self._settings, now_ms)
        write_failures(writes, batch, decision, self._settings, now_ms, self._errors)
        work.plan = plan
        return Commit(partition, batch.channel, writes, batch.entries, trim=True)

    async def coalesce(self, partition: Partition, name: str) -> FeedPlan | None:
        """Let what is throttled of ``tenant/context_id`` go, if its rate allows or it is too much.

        Returns None when there was nothing to do.
        """
        async with partition[FeedState].lock:
            now_ms = self._now_ms()
            if not partition[FeedState].throttled.get(name):
                return None
            tenant, _, context_id = name.partition("/")
            plan = await self._planner.plan(partition, now_ms, {name}, {name})
            if not plan.is_due(tenant, context_id):
                return None
            plan.coalesce(tenant, context_id)
            writes = Writes()
            self._planner.write(writes, partition, plan)
            await commit(self._scripts, partition, DIGESTS, writes)
        return plan

    async def announce(
        self, partition: Partition, name: str, make: Callable[[FeedPlan], Writes]
    ) -> FeedPlan:
        """Commit what ``make`` adds to a plan for ``tenant/context_id``, and its other writes."""
        async with partition[FeedState].lock:
            plan = await self._planner.plan(partition, self._now_ms(), {name}, set())
            more = make(plan)
            writes = Writes()
            self._planner.write(writes, partition, plan)
            writes.merge(more)
            await commit(self._scripts, partition, DIGESTS, writes)
        return plan

    def _admitted(
        self, batch: Batch, source: str | None
    ) -> tuple[list[Entry], dict[int, SourcePosition]]:
        """Entries that have not been delivered yet, and what says so of the others."""
        if source is None:
            return admit(batch.entries, batch.partition[FeedState].source_positions)
        gone = taken_of(batch, source)
        return [
            entry
            for entry in batch.entries
            if isinstance(entry.outcome, Accepted) and entry.entry_id not in gone
        ], {}

    def _sorted(
        self, batch: Batch, entries: Sequence[Entry], source: str | None, *, inherits: bool
    ) -> Sorted:
        """What goes now, and what waits: for more urgent updates, or behind what waits already."""
        catalog, deferred = self._catalog(), batch.partition[FeedState].deferred
        most_urgent = rank(catalog.most_urgent)
        patient = batch.behind + sum(
            rank(target.priority) > most_urgent
            for entry in entries
            for target in entry.value.targets
        )
        limit = 0 if self._renderer.slow else PRESSED_UPDATES
        pressed = source is None and patient > limit
        if not pressed and all(waiting.empty for waiting in deferred.values()):
            return Sorted([(entry, list(entry.value.targets)) for entry in entries])
        inherits = inherits and source is None and not self._renderer.slow
        sorter = Sorter(
            deferred,
            source,
            most_urgent=most_urgent if pressed else None,
            inherits=most_urgent if inherits and self._make_readable is not None else None,
        )
        return sort_by_urgency(entries, sorter, catalog)

    async def _without_deleted(
        self, now: list[tuple[Entry, list[Target]]]
    ) -> list[tuple[Entry, list[Target]]]:
        """Without the targets whose context was deleted after its events had been routed."""

        catalog = self._catalog()
        if self._are_there(catalog, now):
            return now
        assert self._reload is not None
        try:
            # what routed them may have known a newer one
            catalog = await self._reload()
        except UnavailableError:
            return now
        return [
            (entry, [target for target in targets if _is_there(catalog, entry, target)])
            for entry, targets in now
        ]

    def _are_there(self, catalog: Catalog, now: Sequence[tuple[Entry, list[Target]]]) -> bool:
        """Whether the contexts of all targets are in a catalog, or nobody can say."""
        return self._reload is None or all(
            _is_there(catalog, entry, target) for entry, targets in now for target in targets
        )

    async def _prepare(self, now: Sequence[tuple[Entry, list[Target]]]) -> None:
        """Let a slow describer look at what is not critical."""
        if self._renderer.slow:
            await self._renderer.prepare(
                entry.value.event
                for entry, targets in now
                if isinstance(entry.value.event, Event)
                and all(target.priority != "critical" for target in targets)
            )

    async def _rendered(
        self, now: Sequence[tuple[Entry, list[Target]]], slot: TimeSlot
    ) -> list[tuple[Entry, list[Ready]]]:
        ready: list[tuple[Entry, list[Ready]]] = []
        for entry, targets in now:
            try:
                ready.append((entry, [self._ready(entry.value.event, t) for t in targets]))
            except Exception as error:  # noqa: BLE001 one event's trouble is not its neighbours'
                entry.fail("deliver", error, final=isinstance(error, ErasedError))
            await slot.pause()
        return ready

    def _ready(self, event: Event | Finished, target: Target) -> Ready:
        if isinstance(event, Finished):
            update = event.updates[target.update]
            body = addressed(
                self._seals.open_finished(event.tenant, event.event_id, update), target
            )
        else:
            body = self._renderer.render(event, target)
        body = self._seals.seal(event.tenant, target.context_id, body, event.event_id)
        return Ready(target.context_id, target.priority, event.event_id, event.replay_id, body)


def _is_there(catalog: Catalog, entry: Entry, target: Target) -> bool:
    return (entry.value.event.tenant, target.context_id) in catalog.contexts


def _names(ready: Sequence[tuple[Entry, list[Ready]]]) -> tuple[set[str], set[str]]:
    """The contexts that updates are for, and those of them that get a critical one."""
    names, urgent = set(), set()
    for entry, updates in ready:
        for update in updates:
            name = keys.feed_field(entry.value.event.tenant, update.context_id)
            names.add(name)
            if update.priority == "critical":
                urgent.add(name)
    return names, urgent
