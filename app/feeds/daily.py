"""Daily summaries: one update a day and context, at a time of day where the agent's people live."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Self
from zoneinfo import ZoneInfo

from mode.utils.logging import get_logger

from hookstream.app.errors import FencedError, OutdatedError
from hookstream.app.feeds.digests import MAX_DIGESTED
from hookstream.app.feeds.feed import feed_field
from hookstream.app.feeds.plan import FeedPlan
from hookstream.app.feeds.update import DAILY, digest_update
from hookstream.app.ids import partition_of
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.streams.batch import Partition
from hookstream.app.streams.commit import Writes
from hookstream.proto.pipeline_pb2 import DailyAudit
from hookstream.tables.errors import TableError

if TYPE_CHECKING:
    from hookstream.app.application import Hookstream
    from hookstream.app.routing.catalog import Context

__all__ = ["DailyRule", "Told", "tell_of", "tell_the_day"]

logger = get_logger(__name__)

#: What rings each minute is this machine's clock, what counts is Redis's: where that is a little
#: behind, a summary would come a minute late.
EARLY = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class DailyRule:
    """When a context wants the summary of its day, and in how many tokens."""

    at: time
    zone: ZoneInfo
    #: Nothing is due for a time before the rule was made.
    since: datetime
    token_budget: int | None = None

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Self:
        """The rule as the database holds it."""
        return cls(
            time.fromisoformat(kept["at"]),
            ZoneInfo(kept["timezone"]),
            datetime.fromisoformat(kept["since"]),
            kept["token_budget"],
        )

    def newest(self, now: datetime) -> date:
        """The newest day (in the context's zone) whose time has come at ``now``.

        Where clocks are put forward over the time of day, it comes with the first minute that
        there is; where they are put back, the first of the two counts.
        """
        local = now.astimezone(self.zone)
        return local.date() if local.time() >= self.at else local.date() - timedelta(days=1)

    def due(self, now: datetime, told: date | None) -> date | None:
        """The day to be told of at ``now``, if its summary has not been made yet."""
        day = self.newest(now)
        if told is not None and day <= told:
            return None
        moment = datetime.combine(day, self.at, self.zone)
        return day if moment.timestamp() > self.since.timestamp() else None


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


async def tell_the_day(app: "Hookstream") -> int:
    """Make the summaries that are due in this worker's partitions; returns how many.

    What was told is kept in the commit that writes the update: no day is told of twice.
    """
    now = datetime.fromtimestamp(app.parts.clock.now_ms() / 1000, UTC) + EARLY
    made = 0
    for context in list(app.parts.registry.current.contexts.values()):
        if context.daily is None:
            continue
        number = partition_of(app.settings.partitions, context.tenant, context.context_id)
        partition = app.ownership.owned.get(number)
        if partition is None:
            continue
        try:
            made += await tell_of(app, partition, context, now)
        except (FencedError, OutdatedError, TableError) as error:
            partition.lose(error)
        except REDIS_ERRORS as error:
            # the next minute tries again
            logger.warning("no daily summary for %s yet: %s", context.context_id, error)
        except Exception:
            logger.exception("no daily summary for %s", context.context_id)
    return made


async def tell_of(
    app: "Hookstream", partition: Partition, context: "Context", now: datetime
) -> bool:
    """Make a context's summary if it is due; whether there was one. Raises what commits raise."""
    rule = context.daily
    assert rule is not None
    name = feed_field(context.tenant, context.context_id)
    kept = await app.parts.redis.hget(keys.daily(partition.number), name)
    told = Told.decode(kept.decode()) if kept else None
    day = rule.due(now, told.day if told else None)
    if day is None:
        return False
    feeds, who = app.parts.feeds, (context.tenant, context.context_id)
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
            budget = rule.token_budget or context.token_budget
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
        writes = Writes()
        writes.add("HSET", keys.daily(partition.number), name, Told(day, to_seq).encode())
        return writes

    await app.delivery.announce(partition, name, make)
    return bool(updates)
