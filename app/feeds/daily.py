"""Daily summaries: one update a day and context, at a time of day where the agent's people live."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Self

from mode.utils.logging import get_logger

from hookstream.app.errors import FencedError, OutdatedError
from hookstream.app.feeds.delivery import Delivery
from hookstream.app.feeds.digests import MAX_DIGESTED
from hookstream.app.feeds.feed import Feeds
from hookstream.app.feeds.plan import FeedPlan
from hookstream.app.feeds.update import DAILY, digest_update
from hookstream.app.ids import partition_of
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.routing.catalog import Catalog, Context
from hookstream.app.streams.commit import Writes
from hookstream.app.streams.partition import Partition
from hookstream.proto.pipeline_pb2 import DailyAudit
from hookstream.tables.errors import TableError

__all__ = ["DailySummaries", "Told"]

logger = get_logger(__name__)

#: What rings each minute is this machine's clock, what counts is Redis's: where that is a little
#: behind, a summary would come a minute late.
EARLY = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Told:
    """The last day that was told of, and the number of the feed up to which."""

    day: date
    to_seq: int

    def encode(self) -> str:
        """As it is kept in Redis."""
        return f"{self.day.isoformat()} {self.to_seq}"

    @classmethod
    def decode(cls, text: str) -> Self:
        """What is kept in Redis."""
        day, _, seq = text.partition(" ")
        return cls(date.fromisoformat(day), int(seq))


class DailySummaries:
    """Makes the summaries that are due in this worker's partitions."""

    def __init__(
        self,
        redis: Any,
        feeds: Feeds,
        delivery: Delivery,
        *,
        partitions: int,
        catalog: Callable[[], Catalog],
        now_ms: Callable[[], int],
        owned: Callable[[], Mapping[int, Partition]],
    ) -> None:
        self._redis = redis
        self._feeds = feeds
        self._delivery = delivery
        self._partitions = partitions
        self._catalog = catalog
        self._now_ms = now_ms
        self._owned = owned

    async def tell(self) -> int:
        """Make what is due now; returns how many.

        What was told is kept in the commit that writes the update: no day is told of twice.
        """
        now = datetime.fromtimestamp(self._now_ms() / 1000, UTC) + EARLY
        made = 0
        for context in list(self._catalog().contexts.values()):
            if context.daily is None:
                continue
            number = partition_of(self._partitions, context.tenant, context.context_id)
            partition = self._owned().get(number)
            if partition is None:
                continue
            try:
                made += await self.tell_of(partition, context, now)
            except (FencedError, OutdatedError, TableError) as error:
                partition.lose(error)
            except REDIS_ERRORS as error:
                # the next minute tries again
                logger.warning("no daily summary for %s yet: %s", context.context_id, error)
            except Exception:
                logger.exception("no daily summary for %s", context.context_id)
        return made

    async def tell_of(self, partition: Partition, context: Context, now: datetime) -> bool:
        """Make a context's summary if it is due; whether there was one.

        Raises what commits raise.
        """
        rule = context.daily
        assert rule is not None
        name = keys.feed_field(context.tenant, context.context_id)
        kept = await self._redis.hget(keys.daily(partition.number), name)
        told = Told.decode(kept.decode()) if kept else None
        day = rule.due(now, told.day if told else None)
        if day is None:
            return False
        feeds, who = self._feeds, (context.tenant, context.context_id)
        found = await feeds.newest(*who, told.to_seq if told else 0, MAX_DIGESTED)
        if not found and await feeds.last_seq(*who) > (told.to_seq if told else 0):
            # what is there cannot be read yet (its replication is waited for): the next minute can
            return False
        updates = await feeds.expand(*who, found)
        if told is None:
            begin_ms = (now - timedelta(days=1)).timestamp() * 1000
            updates = [update for update in updates if update["received_at"] >= begin_ms]
        to_seq = found[-1].seq if found else told.to_seq if told else 0

        def make(plan: FeedPlan) -> Writes:
            if updates:
                announce(plan, context, day, updates, to_seq, now)
            writes = Writes()
            writes.add("HSET", keys.daily(partition.number), name, Told(day, to_seq).encode())
            return writes

        await self._delivery.announce(partition, name, make)
        return bool(updates)


def announce(
    plan: FeedPlan,
    context: Context,
    day: date,
    updates: list[dict[str, Any]],
    to_seq: int,
    now: datetime,
) -> None:
    """Add the summary of a day, of which there are ``updates``, to a plan."""
    assert context.daily is not None
    budget = context.daily.token_budget or context.token_budget
    body = digest_update(DAILY, context.context_id, updates, budget)
    daily = DailyAudit(
        tenant=context.tenant,
        context_id=context.context_id,
        day=day.isoformat(),
        updates=len(updates),
        from_seq=updates[0]["seq"],
        to_seq=to_seq,
        created_at_ms=int(now.timestamp() * 1000),
    )
    # a digest that was not opened for its size stands for itself, without an event
    ids = [update["event_id"] for update in updates if update["event_id"]]
    plan.announce(daily, body, ids)
