"""Numbering: which updates enter a context's feed now, and what its rate holds up.

What exceeds a context's rate is throttled, in order, until one digest update can stand for all of
it. A ``critical`` update has an allowance of its own; what was throttled before it is coalesced and
goes ahead of it, so that nothing about the same thing changes its order.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from hookstream.app.errors import OutdatedError
from hookstream.app.feeds.seals import FeedSeals
from hookstream.app.feeds.update import DAILY, DIGEST, UPDATE, coalesced_values, digest_update
from hookstream.app.redis import keys
from hookstream.app.streams.commit import Writes
from hookstream.codecs.routed import Change, encode_changes
from hookstream.proto.pipeline_pb2 import AuditBatch, DailyAudit, DeliveryAudit
from hookstream.tables.rates import Rate, RateTable, encode_due, rate_key

__all__ = ["MAX_THROTTLED", "FeedPlan", "Limits", "Ready"]

#: Past this a digest goes whatever the rate says: what waits is bounded.
MAX_THROTTLED = 2000


@dataclass(frozen=True, slots=True)
class Limits:
    """What a context takes: updates at a rate (None: all of them), tokens an update."""

    rate: Rate | None = None
    token_budget: int | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """An update that is ready for a feed: its JSON, sealed where updates are, and what the delivery
    record needs of it.
    """

    context_id: str
    priority: str
    event_id: str
    replay_id: str
    body: bytes


@dataclass(slots=True)
class _Feed:
    """One context while a plan is made."""

    tenant: str
    context_id: str
    limits: Limits
    seq: int
    #: GCRA's theoretical arrival time (Unix ms).
    arrival_ms: float
    #: Withheld in Redis already, and those of this plan behind them.
    waiting: int
    fresh: list[bytes] = field(default_factory=list)
    taken: bool = False

    def throttled(self) -> int:
        return self.waiting + len(self.fresh)

    def conforms(self, now_ms: int, *, urgent: bool = False) -> bool:
        rate = self.limits.rate
        return rate is None or now_ms >= rate.due_ms(self.arrival_ms, urgent=urgent)

    def take(self, now_ms: int) -> None:
        self.seq += 1
        if self.limits.rate:
            self.arrival_ms = self.limits.rate.taken(self.arrival_ms, now_ms)
            self.taken = True


class FeedPlan:
    """Writes to the feeds of one partition. Reads its state, and changes none of it.

    ``seqs``, ``throttled``: last numbers and throttled counts by ``tenant/context_id``;
    ``arrivals``: of contexts with a rate (Unix ms); ``limits`` by tenant and context id;
    ``waiting``: the throttled updates of the contexts that may have to be coalesced, as they lie
    there; ``seals`` has the keys that open them, and those of now.
    """

    def __init__(
        self,
        number: int,
        now_ms: int,
        *,
        seqs: Mapping[str, int],
        throttled: Mapping[str, int],
        arrivals: Mapping[str, float],
        limits: Callable[[str, str], Limits],
        waiting: Mapping[str, Sequence[bytes]],
        seals: FeedSeals | None = None,
    ) -> None:
        self._seals = seals or FeedSeals()
        self._number = number
        self._now_ms = now_ms
        self._before = (seqs, throttled, arrivals)
        self._limits = limits
        self._waiting = waiting
        self._feeds: dict[str, _Feed] = {}
        self.writes = Writes()
        self.deliveries: list[DeliveryAudit] = []
        #: Tenant, context and number of what comes into feeds, in that order.
        self.placed: list[tuple[str, str, int]] = []
        self.dailies: list[DailyAudit] = []
        self.priorities: Counter[str] = Counter()
        self.coalesced = 0
        self.throttled_now = 0

    def add(self, tenant: str, update: Ready) -> None:
        """Put an update into its feed, or throttles it."""
        feed = self._feed(tenant, update.context_id)
        urgent = update.priority == "critical"
        if not feed.conforms(self._now_ms, urgent=urgent) or (feed.throttled() and not urgent):
            feed.fresh.append(update.body)
            self.throttled_now += 1
            return
        if feed.throttled():
            self.coalesce(tenant, update.context_id)
        feed.take(self._now_ms)
        self._put(feed, update.body, UPDATE, [(update.event_id, update.replay_id)])
        self.priorities[update.priority] += 1

    def is_due(self, tenant: str, context_id: str) -> bool:
        """Whether what is throttled may go: the rate allows one more update, or too much waits."""
        feed = self._feed(tenant, context_id)
        return feed.conforms(self._now_ms) or feed.throttled() >= MAX_THROTTLED

    def coalesce(self, tenant: str, context_id: str) -> None:
        """Let everything that is throttled go: one as it is, several as one digest update.

        Raises:
            OutdatedError: Redis holds another number of them than this worker believes.
        """
        feed = self._feed(tenant, context_id)
        name = keys.feed_field(tenant, context_id)
        waiting = self._waiting[name] if feed.waiting else ()
        if len(waiting) != feed.waiting:
            # another owner has let them go meanwhile, or a reply was lost
            raise OutdatedError(f"{len(waiting)} of {feed.waiting} updates of {name} are throttled")
        bodies = [*waiting, *feed.fresh]
        values = coalesced_values([self._seals.open(tenant, context_id, one) for one in bodies])
        # of one that is erased nobody knows whose it was
        ids = [(value["event_id"], value.get("replay_id", "")) for value in values]
        ids = [one for one in ids if one[0]]
        source = keys.throttled_updates(self._number, tenant, context_id)
        feed.take(self._now_ms)
        if len(bodies) == 1:
            if feed.waiting:
                self.writes.add("DEL", source)
            self._put(feed, bodies[0], UPDATE, ids)
            self.priorities[values[0]["priority"]] += 1
        else:
            kept = keys.coalesced_updates(self._number, tenant, context_id, feed.seq)
            if feed.waiting:
                self.writes.add("RENAME", source, kept)
            for at in range(0, len(feed.fresh), 1000):
                self.writes.add("RPUSH", kept, *feed.fresh[at : at + 1000])
            body = digest_update(DIGEST, context_id, values, feed.limits.token_budget)
            self._put(feed, self._seals.seal(tenant, context_id, body), DIGEST, ids)
            self.coalesced += len(bodies)
        feed.waiting = 0
        feed.fresh = []

    def announce(self, daily: DailyAudit, body: bytes, event_ids: Sequence[str]) -> None:
        """Put a day's summary into its context's feed: it goes whatever the rate says."""
        feed = self._feed(daily.tenant, daily.context_id)
        feed.take(self._now_ms)
        daily.seq = feed.seq
        update = orjson.loads(body)
        who = (daily.tenant, daily.context_id)
        daily.summary = self._seals.daily(*who, daily.day, update["summary"])
        daily.tokens = update["tokens"]
        self.dailies.append(daily)
        sealed = self._seals.seal(*who, body)
        self._put(feed, sealed, DAILY, [(event_id, "") for event_id in event_ids])

    def _put(self, feed: _Feed, body: bytes, kind: str, events: Sequence[tuple[str, str]]) -> None:
        """An entry of the feed under the number that was taken, and its delivery record."""
        key = keys.feed(self._number, feed.tenant, feed.context_id)
        self.writes.add("XADD", key, f"{feed.seq}-0", "d", body)
        self.placed.append((feed.tenant, feed.context_id, feed.seq))
        for event_id, replay_id in events:
            self.deliveries.append(
                DeliveryAudit(
                    tenant=feed.tenant,
                    context_id=feed.context_id,
                    seq=feed.seq,
                    event_id=event_id,
                    delivered_at_ms=self._now_ms,
                    replay_id=replay_id,
                    kind=kind,
                )
            )

    def finish(self, apply_rates: Callable[[list[Change], str], object]) -> None:
        """Add what the plan changes beside the feeds.

        ``apply_rates`` takes the changes of the rate table and the changelog entry they are in.
        """
        writes, number = self.writes, self._number
        changes: list[Change] = []
        for name, feed in self._feeds.items():
            if feed.fresh:
                key = keys.throttled_updates(number, feed.tenant, feed.context_id)
                for at in range(0, len(feed.fresh), 1000):
                    writes.add("RPUSH", key, *feed.fresh[at : at + 1000])
            if feed.throttled() != self._before[1].get(name, 0):
                if feed.throttled():
                    writes.add("HSET", keys.throttled(number), name, feed.throttled())
                else:
                    writes.add("HDEL", keys.throttled(number), name)
            if feed.seq != self._before[0].get(name, 0):
                writes.add("HSET", keys.seqs(number), name, feed.seq)
            if feed.taken:
                changes.append((rate_key(name), encode_due(feed.arrival_ms)))
        if self.deliveries or self.dailies:
            record = AuditBatch(partition=number, deliveries=self.deliveries, dailies=self.dailies)
            writes.append(keys.audit(number), record.SerializeToString())
        if changes:
            writes.append(
                keys.changelog(number, RateTable.name),
                encode_changes(RateTable.name, changes),
                then=lambda entry_id: apply_rates(changes, entry_id),
            )
        # wake-ups to look at the feeds come last
        for name, feed in self._feeds.items():
            if feed.seq != self._before[0].get(name, 0):
                writes.publish(keys.feed_channel(feed.tenant, feed.context_id), feed.seq)

    def apply(
        self, seqs: dict[str, int], throttled: dict[str, int], arrivals: dict[str, float]
    ) -> None:
        """Take over into the partition's state what has been committed."""
        for name, feed in self._feeds.items():
            seqs[name] = feed.seq
            if feed.taken:
                arrivals[name] = feed.arrival_ms
            if feed.throttled():
                throttled[name] = feed.throttled()
            else:
                throttled.pop(name, None)

    def _feed(self, tenant: str, context_id: str) -> _Feed:
        name = keys.feed_field(tenant, context_id)
        feed = self._feeds.get(name)
        if feed is None:
            seqs, throttled, arrivals = self._before
            feed = self._feeds[name] = _Feed(
                tenant,
                context_id,
                self._limits(tenant, context_id),
                seqs.get(name, 0),
                arrivals.get(name, 0.0),
                throttled.get(name, 0),
            )
        return feed
