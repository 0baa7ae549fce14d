"""Daily summaries: one update a day and context, at a time of day where the agent's people live."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Self

from mode.utils.logging import get_logger

from hookstream.app.errors import FencedError, OutdatedError
from hookstream.app.feeds.delivery import Delivery
from hookstream.app.feeds.digests import MAX_DIGESTED, Digest, DigestBuilder, digest_budget
from hookstream.app.feeds.feed import Feeds
from hookstream.app.feeds.plan import FeedPlan
from hookstream.app.feeds.update import DAILY, told_update
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

#: Updates of a feed that are read at once.
PAGE = 256
#: What a digest needs of an update.
DIGESTED = (
    "seq", "event_id", "tool_id", "event_type", "priority", "summary", "received_at",
)  # fmt: skip
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
        begun = await self._begun(context, told, now)
        read = None if begun is None else await self._read(context, begun)
        if read is None:
            # what is there cannot be read yet (its replication is waited for): the next minute can
            return False
        updates, event_ids, to_seq = read
        budget = rule.token_budget or context.token_budget
        # counting tokens takes a while: other work goes on meanwhile
        digest = await asyncio.to_thread(updates.fit, digest_budget(budget))

        def make(plan: FeedPlan) -> Writes:
            if updates.count:
                announce(plan, context, day, updates, digest, event_ids, to_seq, now)
            writes = Writes()
            writes.add("HSET", keys.daily(partition.number), name, Told(day, to_seq).encode())
            return writes

        await self._delivery.announce(partition, name, make)
        return bool(updates.count)

    async def _begun(
        self, context: Context, told: Told | None, now: datetime
    ) -> tuple[int, float] | None:
        """Past which number a summary begins, and when (Unix ms) what it tells of was received.

        The first one tells of 24 hours: where those begin is looked for from the feed's end. None
        where the feed cannot be read.
        """
        if told is not None:
            return told.to_seq, 0.0
        who = (context.tenant, context.context_id)
        begin_ms = (now - timedelta(days=1)).timestamp() * 1000
        before = None
        while True:
            page = await self._feeds.newest(*who, 0, PAGE, before=before)
            if not page:
                ended = before is not None or not await self._feeds.last_seq(*who)
                return (0, begin_ms) if ended else None
            if all(one.values()["received_at"] < begin_ms for one in page):
                return page[-1].seq, begin_ms
            before = page[0].seq

    async def _read(
        self, context: Context, begun: tuple[int, float]
    ) -> tuple[DigestBuilder, Sequence[str], int] | None:
        """All that there is to tell, in pages; the newest ids of its events; up to which number.

        None where some of it cannot be read yet.
        """
        who = (context.tenant, context.context_id)
        after, begin_ms = begun
        end = await self._feeds.last_seq(*who)
        builder = DigestBuilder(listed=False)
        newest: deque[str] = deque(maxlen=MAX_DIGESTED)
        while after < end:
            page = await self._feeds.read(*who, after, PAGE)
            if not page:
                return None
            async for values in self._feeds.opened(*who, page):
                meant = [_slim(value) for value in values if value["received_at"] >= begin_ms]
                builder.add(meant)
                # a digest whose list is gone stands for itself, without an event
                newest.extend(value["event_id"] for value in meant if value["event_id"])
            after = page[-1].seq
        return builder, newest, after


def _slim(value: Mapping[str, Any]) -> dict[str, Any]:
    """What a digest needs of an update: a long day's are many."""
    kept = {name: value[name] for name in DIGESTED}
    return {**kept, "keys": value.get("keys", [])[:1]}


def announce(
    plan: FeedPlan,
    context: Context,
    day: date,
    updates: DigestBuilder,
    digest: Digest,
    event_ids: Sequence[str],
    to_seq: int,
    now: datetime,
) -> None:
    """Add the summary of a day, of which there are ``updates``, to a plan."""
    body = told_update(DAILY, context.context_id, updates, digest)
    daily = DailyAudit(
        tenant=context.tenant,
        context_id=context.context_id,
        day=day.isoformat(),
        updates=updates.count,
        from_seq=updates.from_seq,
        to_seq=to_seq,
        created_at_ms=int(now.timestamp() * 1000),
    )
    plan.announce(daily, body, event_ids)
