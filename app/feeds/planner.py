"""Makes plans for the feeds of a partition from what is known of them, and commits' part of it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hookstream.app.feeds.plan import FeedPlan, Limits
from hookstream.app.feeds.seals import FeedSeals
from hookstream.app.feeds.state import FeedState, learn_feeds
from hookstream.app.kafka.outbox import write_updates
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.routing.catalog import Catalog
from hookstream.app.streams.commit import Writes
from hookstream.app.streams.partition import Partition
from hookstream.app.streams.recovery import open_restored
from hookstream.codecs.routed import Change
from hookstream.tables.rates import RateTable

__all__ = ["Planner"]


class Planner:
    """Plans with the limits that the catalog of now sets; rate tables are below ``folder``."""

    def __init__(
        self,
        redis: Any,
        scripts: Scripts,
        folder: Path,
        catalog: Callable[[], Catalog],
        seals: FeedSeals,
        *,
        mirrors: bool = False,
    ) -> None:
        """``mirrors``: whether updates are mirrored to Kafka."""
        self._mirrors = mirrors
        self._seals = seals
        self._redis = redis
        self._scripts = scripts
        self._folder = folder
        self._catalog = catalog

    async def plan(
        self, partition: Partition, now_ms: int, names: set[str], urgent: set[str]
    ) -> FeedPlan:
        """An empty plan for the contexts ``names`` (``tenant/context_id``).

        Those of them that are ``urgent`` may have to be coalesced: what is throttled of them is
        read. To be called with the partition's feed lock held.

        Raises:
            SealingKeyError: a data key that is needed cannot be had now.
        """
        await learn_feeds(self._scripts, partition, names)
        state = partition[FeedState]
        rates = {name: self._limits(*name.split("/", 1)).rate for name in names}
        limited = {name: rate for name, rate in rates.items() if rate}
        await self._learn_arrivals(partition, list(limited))
        for name, rate in limited.items():
            state.arrivals[name] = rate.bounded(state.arrivals[name], now_ms)
        coalesced = [name for name in sorted(urgent) if state.throttled.get(name)]
        pipe = self._redis.pipeline(transaction=False)
        for name in coalesced:
            pipe.lrange(keys.throttled_updates(partition.number, *name.split("/", 1)), 0, -1)
        waiting = await pipe.execute() if coalesced else []
        tenants = {name.partition("/")[0] for name in names}
        await self._seals.ready(tenants, (body for bodies in waiting for body in bodies))
        return FeedPlan(
            partition.number,
            now_ms,
            seqs=state.seqs,
            throttled=state.throttled,
            arrivals=state.arrivals,
            limits=self._limits,
            waiting=dict(zip(coalesced, waiting, strict=True)),
            seals=self._seals,
        )

    def write(self, writes: Writes, partition: Partition, plan: FeedPlan) -> None:
        """Add a plan to a commit, with what follows from it for the partition's state here."""
        state = partition[FeedState]

        def apply_rates(changes: list[Change], entry_id: str) -> None:
            if state.rates is not None:
                state.rates.apply(changes, entry_id)

        plan.finish(apply_rates)
        writes.merge(plan.writes)
        if self._mirrors:
            write_updates(writes, partition.number, plan.placed)
        writes.then(lambda: plan.apply(state.seqs, state.throttled, state.arrivals))

    async def _learn_arrivals(self, partition: Partition, names: Sequence[str]) -> None:
        state = partition[FeedState]
        missing = [name for name in names if name not in state.arrivals]
        if not missing:
            return
        if state.rates is None:
            table = await open_restored(self._redis, self._folder, partition.number, RateTable)
            if partition.closed:
                table.close()
                partition.check()
            state.rates = table
        known = state.rates.get(missing)
        state.arrivals.update({name: known.get(name, 0.0) for name in missing})

    def _limits(self, tenant: str, context_id: str) -> Limits:
        context = self._catalog().contexts.get((tenant, context_id))
        return Limits(context.rate, context.token_budget) if context else Limits()
