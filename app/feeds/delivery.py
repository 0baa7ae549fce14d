"""Delivery: from routed events to numbered updates in the feeds of one partition.

A batch of ``updates[q]`` is looked through in order: what has been seen is passed over (origins),
what may wait is deferred under pressure, the rest is described, numbered and committed. Batches of
deferred updates go the same way, without origins: they never left their partition.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson

from hookstream.app.failures.failed_events import write_letters
from hookstream.app.feeds.plan import FeedPlan, Limits, Ready
from hookstream.app.feeds.priority_queues import Keys, Sorter
from hookstream.app.feeds.state import FeedState, learn_feeds
from hookstream.app.priority import most_urgent, rank
from hookstream.app.providers import correlation_keys
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.routing.catalog import Registry
from hookstream.app.settings import Settings
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.commit import Writes, commit
from hookstream.app.streams.partition import Partition
from hookstream.app.streams.recovery import open_restored
from hookstream.app.streams.scheduler import Turns, due
from hookstream.app.streams.source_positions import OriginMark
from hookstream.codecs.envelope import Event
from hookstream.codecs.errors import CodecError
from hookstream.codecs.routed import Change, Routed, Target, only_targets, routed_origin
from hookstream.tables.rates import RateTable

__all__ = ["FOLDS", "Delivered", "Delivery", "admit"]

#: The channel of commits that fold what was withheld, or announce a day's summary.
FOLDS = "folds"
#: More less urgent updates than this in one batch are pressure: they let the others go first.
PRESSED_UPDATES = 8


class Describes(Protocol):
    """Gives the JSON of updates; ``slow`` when preparing them takes longer than a moment."""

    slow: bool

    async def prepare(self, events: Iterable[Event]) -> None:
        """Look at the events of a batch before they are described."""

    def describe(self, event: Event, target: Target) -> bytes:
        """The update that an event is to the context of a target."""
        ...


@dataclass(slots=True)
class Delivered:
    """What one commit did: the plan that was written, and when its events were received."""

    plan: FeedPlan
    received_ms: list[int] = field(default_factory=list)
    deferred: int = 0


@dataclass(slots=True)
class _Waiting:
    """A part of an entry that is deferred."""

    entry: Entry
    priority: str
    targets: list[Target]
    names: dict[str, Keys]


def admit(
    entries: Sequence[Entry], origins: Mapping[int, OriginMark]
) -> tuple[list[Entry], dict[int, OriginMark]]:
    """Entries that have not been seen, and the marks that say so; ``origins`` stays as it is.

    One that comes again as a letter is taken without asking: its origin was seen when it failed.
    """
    marks: dict[int, OriginMark] = {}
    fresh = []
    for entry in entries:
        if entry.failure and not isinstance(entry.value, Routed):
            continue
        p, entry_id, floor, pins = routed_origin(entry.raw) if entry.waits else origin(entry.value)
        if not entry.letter_id:
            mark = marks.get(p)
            if mark is None:
                mark = marks[p] = origins[p].copy() if p in origins else OriginMark()
            if not mark.accept(entry_id, floor, pins):
                # a copy of what was delivered, is held, or is tried again by its letter
                entry.waits, entry.failure = "", None
                continue
        if not entry.waits and not entry.failure:
            fresh.append(entry)
    return fresh, marks


def origin(routed: Routed) -> tuple[int, str, str, tuple[str, ...]]:
    """Where a routed event came from."""
    return (
        routed.origin_partition,
        routed.origin_entry_id,
        routed.origin_floor,
        routed.origin_pins,
    )


class Delivery:
    """Delivers into the feeds of partitions that this worker owns."""

    def __init__(
        self,
        redis: Any,
        scripts: Scripts,
        settings: Settings,
        turns: Turns,
        *,
        registry: Callable[[], Registry],
        now_ms: Callable[[], int],
        describer: Describes,
    ) -> None:
        self._redis = redis
        self._scripts = scripts
        self._settings = settings
        self._registry = registry
        self._now_ms = now_ms
        self._describer = describer
        self._turns = turns

    async def deliver(self, batch: Batch, source: str | None = None) -> Delivered:
        """Commit a batch of ``updates[q]``, or of what was deferred with priority ``source``.

        Raises:
            FencedError, OutdatedError: this worker has lost the partition; nothing was written.
        """
        partition = batch.partition
        state = partition[FeedState]
        if source is None:
            entries, marks = admit(batch.entries, state.origins)
        else:
            entries = [entry for entry in batch.entries if not entry.failure and not entry.waits]
            marks = {}
        now, later = self._sort(batch, entries, source)
        if self._describer.slow:
            await self._describer.prepare(
                entry.value.event
                for entry, targets in now
                if all(target.priority != "critical" for target in targets)
            )
        priority = most_urgent(target.priority for _, targets in now for target in targets)
        due_at = due(time.monotonic(), len(batch), priority)
        async with self._turns.turn(due_at) as turn:
            ready: list[tuple[Entry, list[Ready]]] = []
            for entry, targets in now:
                try:
                    ready.append((entry, [self._ready(entry.value.event, t) for t in targets]))
                except Exception as error:  # noqa: BLE001 one event's trouble is not its neighbours'
                    entry.fail("deliver", error)
                await turn.pause()
            later = [wait for wait in later if not wait.entry.failure]
            async with state.lock:
                now_ms = self._now_ms()
                plan = await self._plan(partition, now_ms, *_names(ready))
                done = Delivered(plan, deferred=len(later))
                for entry, updates in ready:
                    for update in updates:
                        plan.add(entry.value.event.tenant, update)
                    done.received_ms.append(entry.value.event.received_at_ms)
                writes = Writes()
                for wait in later:
                    write_deferred(writes, partition, wait)
                self._finish(partition, plan, writes)
                for p, mark in marks.items():
                    writes.add("HSET", keys.origins(partition.number), p, mark.encode())
                writes.then(lambda: state.origins.update(marks))
                if source is not None and batch.entries:
                    last = batch.entries[-1].entry_id
                    writes.then(lambda: state.deferred[source].delivered(last))
                write_letters(writes, batch, self._settings, now_ms)
                await commit(
                    self._scripts, partition, batch.channel, writes, batch.entries, trim=True
                )
        return done

    async def fold(self, partition: Partition, name: str) -> FeedPlan | None:
        """Let what is withheld of ``tenant/context_id`` go, if its rate allows or it is too much.

        Returns None when there was nothing to do.
        """
        async with partition[FeedState].lock:
            now_ms = self._now_ms()
            if not partition[FeedState].withheld.get(name):
                return None
            tenant, _, context_id = name.partition("/")
            plan = await self._plan(partition, now_ms, {name}, {name})
            if not plan.is_due(tenant, context_id):
                return None
            plan.fold(tenant, context_id)
            writes = Writes()
            self._finish(partition, plan, writes)
            await commit(self._scripts, partition, FOLDS, writes)
        return plan

    async def announce(
        self, partition: Partition, name: str, make: Callable[[FeedPlan], Writes]
    ) -> FeedPlan:
        """Commit what ``make`` adds to a plan for ``tenant/context_id``, and its other writes."""
        async with partition[FeedState].lock:
            plan = await self._plan(partition, self._now_ms(), {name}, set())
            more = make(plan)
            writes = Writes()
            self._finish(partition, plan, writes)
            writes.merge(more)
            await commit(self._scripts, partition, FOLDS, writes)
        return plan

    def _finish(self, partition: Partition, plan: FeedPlan, writes: Writes) -> None:
        """Add a plan to a commit, with what follows from it for the partition's state here."""

        state = partition[FeedState]

        def apply_rates(changes: list[Change], entry_id: str) -> None:
            if state.rates is not None:
                state.rates.apply(changes, entry_id)

        plan.finish(apply_rates)
        writes.merge(plan.writes)
        writes.then(lambda: plan.apply(state.seqs, state.withheld, state.arrivals))

    async def _plan(
        self, partition: Partition, now_ms: int, names: set[str], urgent: set[str]
    ) -> FeedPlan:
        """An empty plan for these contexts. To be called with the partition's feed lock held."""
        await learn_feeds(self._scripts, partition, names)
        state = partition[FeedState]
        rates = {name: self._limits(*name.split("/", 1)).rate for name in names}
        limited = {name: rate for name, rate in rates.items() if rate}
        await self._learn_arrivals(partition, list(limited))
        for name, rate in limited.items():
            state.arrivals[name] = rate.bounded(state.arrivals[name], now_ms)
        folded = [name for name in sorted(urgent) if state.withheld.get(name)]
        pipe = self._redis.pipeline(transaction=False)
        for name in folded:
            pipe.lrange(keys.withheld_updates(partition.number, *name.split("/", 1)), 0, -1)
        waiting = await pipe.execute() if folded else []
        return FeedPlan(
            partition.number,
            now_ms,
            seqs=state.seqs,
            withheld=state.withheld,
            arrivals=state.arrivals,
            limits=self._limits,
            waiting=dict(zip(folded, waiting, strict=True)),
        )

    async def _learn_arrivals(self, partition: Partition, names: Sequence[str]) -> None:
        state = partition[FeedState]
        missing = [name for name in names if name not in state.arrivals]
        if not missing:
            return
        if state.rates is None:
            folder: Path = self._settings.state_path / "tables"
            table = await open_restored(self._redis, folder, partition.number, RateTable)
            if partition.closed:
                table.close()
                partition.check()
            state.rates = table
        known = state.rates.get(missing)
        state.arrivals.update({name: known.get(name, 0.0) for name in missing})

    def _limits(self, tenant: str, context_id: str) -> Limits:
        context = self._registry().contexts.get((tenant, context_id))
        return Limits(context.rate, context.token_budget) if context else Limits()

    def _ready(self, event: Event, target: Target) -> Ready:
        return Ready(
            target.context_id,
            target.priority,
            event.event_id,
            event.replay_id,
            self._describer.describe(event, target),
        )

    def _sort(
        self, batch: Batch, entries: Sequence[Entry], source: str | None
    ) -> tuple[list[tuple[Entry, list[Target]]], list[_Waiting]]:
        """What goes now, and what waits, each in the order of the stream."""
        registry = self._registry()
        deferred = batch.partition[FeedState].deferred
        most_urgent = rank(registry.most_urgent)
        patient = batch.behind + sum(
            rank(target.priority) > most_urgent
            for entry in entries
            for target in entry.value.targets
        )
        limit = 0 if self._describer.slow else PRESSED_UPDATES
        pressed = source is None and patient > limit
        sorter = Sorter(deferred, source, most_urgent=most_urgent if pressed else None)
        if not pressed and all(waiting.empty for waiting in deferred.values()):
            return [(entry, list(entry.value.targets)) for entry in entries], []
        now: list[tuple[Entry, list[Target]]] = []
        later: list[_Waiting] = []
        for entry in entries:
            event: Event = entry.value.event
            go: list[Target] = []
            waits: dict[str, _Waiting] = {}
            about: Keys = None
            mixed = {
                target.context_id
                for target in entry.value.targets
                if len(registry.priorities.get((event.tenant, target.context_id), ())) > 1
            }
            if mixed:
                try:
                    about = correlation_keys(event)
                except CodecError as error:
                    entry.fail("deliver", error)
                    continue
            for target in entry.value.targets:
                name = keys.feed_field(event.tenant, target.context_id)
                known = about if target.context_id in mixed else None
                stream = sorter.place(target.priority, name, known)
                if stream is None:
                    go.append(target)
                    continue
                wait = waits.setdefault(stream, _Waiting(entry, stream, [], {}))
                wait.targets.append(target)
                wait.names[name] = known
                sorter.put(stream, {name: known})
            if go:
                now.append((entry, go))
            later += waits.values()
        return now, later


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


def write_deferred(writes: Writes, partition: Partition, wait: _Waiting) -> None:
    """Append an entry, for some of its targets, to a stream of deferred updates.

    What it is about is written beside it, so that a new owner learns it without reading it all.
    """
    raw = wait.entry.raw
    if len(wait.targets) < len(wait.entry.value.targets):
        raw = only_targets(raw, wait.targets)
    waiting = partition[FeedState].deferred[wait.priority]
    writes.append(
        keys.deferred(partition.number, wait.priority),
        raw,
        then=lambda entry_id: waiting.add(entry_id, wait.names),
        k=orjson.dumps(wait.names),
    )
