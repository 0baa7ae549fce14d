"""Lets go from the feeds of this worker's partitions what their contexts keep no longer.

What goes is found by what is there: a round that breaks off is begun again, and does what is left.
"""

import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.errors import FencedError, UnavailableError
from hookstream.app.feeds.daily import Told
from hookstream.app.feeds.keeping import FeedMarks, going, installed, known_age_ms
from hookstream.app.feeds.state import FeedState
from hookstream.app.ids import partition_of
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS, Scripts
from hookstream.app.redis.errors import is_redis_away
from hookstream.app.routing.catalog import Catalog, Context
from hookstream.app.routing.keeping import Keeping
from hookstream.app.settings import Settings
from hookstream.app.stores.holds import Hold, HoldStore
from hookstream.app.streams.partition import Partition

__all__ = ["FeedTrimming"]

logger = get_logger(__name__)

Who = tuple[str, str]

#: From the end of one round over all feeds to the next, give or take a quarter.
ROUND_SECONDS = 60.0
#: How often it is looked whose rule has changed.
LOOK_SECONDS = 1.0
#: Contexts that are looked at in one round trip, and the pause behind each: other work goes on.
CONTEXTS_AT_ONCE = 100
PAUSE_SECONDS = 0.02
#: Updates that go in one step: two scripts, while each of which Redis does nothing else (7 µs an
#: update of 800 bytes in both together).
STEP = 200
#: Steps of one feed until it is another one's turn: 10,000 updates a second of one worker at most.
STEPS = 20


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was there of one context in one look."""

    context: Context
    length: int
    first: int
    last: int
    ack: int
    marks: FeedMarks
    told: int | None


class FeedTrimming(Service):
    """Looks through feeds once a minute; only the owner of a partition trims there."""

    mundane_level = "debug"

    def __init__(
        self,
        redis: Any,
        scripts: Scripts,
        settings: Settings,
        *,
        catalog: Callable[[], Catalog],
        now_ms: Callable[[], int],
        owned: Callable[[], Mapping[int, Partition]],
        holds: HoldStore | None = None,
        **kwargs: Any,
    ) -> None:
        """``holds``: what is let go by nothing."""
        super().__init__(**kwargs)
        self._holds = holds
        self._redis = redis
        self._scripts = scripts
        self._partitions = settings.partitions
        self._installed = installed(settings)
        self._catalog = catalog
        self._now_ms = now_ms
        self._owned = owned
        self._oldest_ms = 0
        #: Contexts with a rule of their own, as of a version of the catalog.
        self._rules: dict[Who, Keeping] = {}
        self._version = -1

    @tasks.loop
    async def _tend(self) -> None:
        while not self.should_stop:
            # many workers that were started together do not all come at once
            due_at = self.loop.time() + ROUND_SECONDS * random.uniform(0.75, 1.25)
            while self.loop.time() < due_at and not self.should_stop:
                await self.sleep(LOOK_SECONDS)
                # who is told to keep less does so at once
                await self._try(self.changed())
            await self._try(self._catalog().contexts)

    async def _try(self, wanted: Collection[Who]) -> None:
        """Rounds over some contexts until nothing is to go; later where Redis is away."""
        try:
            while wanted and await self.round(wanted) and not self.should_stop:
                await self.sleep(PAUSE_SECONDS)
        except (UnavailableError, *REDIS_ERRORS) as error:
            logger.debug("feeds are trimmed later: %s", error)

    def changed(self) -> set[Who]:
        """Contexts whose rule is another one than when this was last asked."""
        catalog = self._catalog()
        if catalog.version == self._version:
            return set()
        rules = {
            who: context.keeping
            for who, context in catalog.contexts.items()
            if context.keeping != Keeping()
        }
        before, self._rules, self._version = self._rules, rules, catalog.version
        return {who for who in before.keys() | rules.keys() if before.get(who) != rules.get(who)}

    async def round(self, wanted: Collection[Who] | None = None) -> int:
        """Trim feeds here (of contexts that are ``wanted``: None for all) by some steps.

        Returns how many updates, at least, are still to go. What cannot be read or written of one
        feed is in no other one's way.

        Raises:
            redis.exceptions.RedisError: Redis is away.
            UnavailableError: nobody can say what is held.
        """
        everything = self._catalog().contexts
        if wanted is None:
            wanted = everything
        holds = await self._holds.in_force() if self._holds else ()
        contexts: dict[int, list[Context]] = {}
        for who in wanted:
            if who in everything and not await self._held(holds, *who):
                number = partition_of(self._partitions, *who)
                contexts.setdefault(number, []).append(everything[who])
        self._oldest_ms = 0
        overdue = 0
        for number, partition in list(self._owned().items()):
            found = contexts.get(number, [])
            for start in range(0, len(found), CONTEXTS_AT_ONCE):
                some = found[start : start + CONTEXTS_AT_ONCE]
                if self.should_stop or partition.closed or partition.lost is not None:
                    break
                try:
                    overdue += await self._trim_some(partition, some)
                except FencedError as error:
                    partition.lose(error)
                    break
                await self.sleep(PAUSE_SECONDS)
        if len(wanted) == len(everything):
            metrics.FEED_OVERDUE.set(overdue)
            metrics.FEED_OLDEST_SECONDS.set(self._oldest_ms / 1000)
        return overdue

    async def _held(self, holds: Sequence[Hold], tenant: str, context_id: str) -> bool:
        if not holds or self._holds is None:
            return False
        return await self._holds.of_feed(holds, tenant, context_id) is not None

    async def _trim_some(self, partition: Partition, contexts: Sequence[Context]) -> int:
        seen = await self._look(partition.number, contexts)
        now_ms = self._now_ms()
        noted: list[tuple[_Seen, FeedMarks]] = []
        overdue = 0
        for one in seen:
            rule = one.context.keeping.over(self._installed)
            marks = one.marks.then(now_ms, one.last, one.ack, rule)
            if marks != one.marks:
                noted.append((one, marks))
        # known before anything goes by it: a round that breaks off has not lost its memory
        await self._note(partition, noted)
        fresh = {id(one): marks for one, marks in noted}
        for one in seen:
            marks = fresh.get(id(one), one.marks)
            self._oldest_ms = max(self._oldest_ms, known_age_ms(one.first, marks, now_ms))
            try:
                overdue += await self._trim(partition, one, marks)
            except FencedError:
                raise
            except REDIS_ERRORS as error:
                if is_redis_away(error):
                    raise
                who = (one.context.tenant, one.context.context_id)
                logger.warning("the feed of %s/%s cannot be trimmed: %s", *who, error)
        return overdue

    async def _look(self, number: int, contexts: Sequence[Context]) -> list[_Seen]:
        """What there is of contexts that have a feed; one pipeline."""
        names = [keys.feed_field(one.tenant, one.context_id) for one in contexts]
        feeds = [keys.feed(number, one.tenant, one.context_id) for one in contexts]
        pipe = self._redis.pipeline(transaction=False)
        for hash_of in (keys.acks, keys.feed_marks, keys.daily):
            pipe.hmget(hash_of(number), names)
        for feed in feeds:
            pipe.xlen(feed)
            pipe.execute_command("XRANGE", feed, "-", "+", "COUNT", 1)
            pipe.execute_command("XREVRANGE", feed, "+", "-", "COUNT", 1)
        acks, marks, told, *rest = await pipe.execute(raise_on_error=False)
        for reply in (acks, marks, told):
            if isinstance(reply, Exception):
                raise reply
        found = []
        for place, context in enumerate(contexts):
            replies = rest[3 * place : 3 * place + 3]
            if any(isinstance(reply, Exception) for reply in replies) or not replies[1]:
                continue
            found.append(
                _Seen(
                    context,
                    replies[0],
                    _number(replies[1]),
                    _number(replies[2]),
                    int(acks[place] or 0),
                    _decoded(marks[place]),
                    _told(context, told[place]),
                )
            )
        return found

    async def _note(self, partition: Partition, noted: Iterable[tuple[_Seen, FeedMarks]]) -> None:
        # whoever deletes a context holds this: nothing is noted of one that is gone
        async with partition[FeedState].lock:
            there = self._catalog().contexts
            arguments: list[str] = []
            for one, marks in noted:
                who = (one.context.tenant, one.context.context_id)
                if who in there:
                    arguments += (keys.feed_field(*who), marks.encode())
            if arguments:
                partition.check()
                await self._scripts.call(
                    "note_feeds",
                    [keys.lease(partition.number), keys.feed_marks(partition.number)],
                    [partition.epoch, partition.nonce, *arguments],
                )

    async def _trim(self, partition: Partition, seen: _Seen, marks: FeedMarks) -> int:
        """Trim one feed, at most :data:`STEPS` times; at least how many updates are still to go."""
        for _ in range(STEPS):
            rule = seen.context.keeping.over(self._installed)
            if not _may_go(seen, marks, rule, self._now_ms()):
                return 0
            due, went = await self._step(partition, seen.context, marks, seen.told)
            if due < STEP or went == 0:
                return 0
            await self.sleep(PAUSE_SECONDS)
        return STEP

    async def _step(
        self, partition: Partition, context: Context, marks: FeedMarks, told: int | None
    ) -> tuple[int, int]:
        """How many of the oldest updates have to go, and how many of those went."""
        number, who = partition.number, (context.tenant, context.context_id)
        feed = keys.feed(number, *who)
        length, *oldest = await self._scripts.call("feed_oldest", [feed], [STEP + 1])
        numbers, digests = [int(n) for n in oldest[::2]], oldest[1::2]
        # the rule may have changed meanwhile, and the context may be gone
        current = self._catalog().contexts.get(who)
        if current is None or not numbers:
            return 0, 0
        last = numbers[-1] if len(numbers) == length else numbers[-1] + 1
        rule = current.keeping.over(self._installed)
        found = going(numbers[:STEP], length, last, marks, rule, self._now_ms(), untold=told)
        due = sum(found.values())
        if not due:
            return 0, 0
        partition.check()
        lists = [
            keys.coalesced_updates(number, *who, seq)
            for seq, digest in zip(numbers[:due], digests[:due], strict=True)
            if digest
        ]
        went = int(
            await self._scripts.call(
                "trim_feed",
                [keys.lease(number), feed, keys.trimmed(number), *lists],
                [partition.epoch, partition.nonce, keys.feed_field(*who), numbers[0],
                 numbers[due - 1]],
            )
        )  # fmt: skip
        if went:
            for name, count in found.items():
                metrics.FEED_TRIMMED.labels(rule=name).inc(count)
        return due, went


def _may_go(seen: _Seen, marks: FeedMarks, rule: Keeping, now_ms: int) -> bool:
    """Whether anything can be due, by what was looked at already: most feeds need no step."""
    oldest = (seen.first,)
    return any(
        going(oldest, seen.length, seen.last, marks, rule, now_ms, untold=seen.told).values()
    )


def _number(entries: Sequence[Any]) -> int:
    return int(entries[0][0].partition(b"-")[0])


def _decoded(kept: bytes | None) -> FeedMarks:
    try:
        return FeedMarks.decode((kept or b"").decode())
    except ValueError as error:
        logger.error("the marks of a feed cannot be read, and begin anew: %s", error)
        return FeedMarks()


def _told(context: Context, kept: bytes | None) -> int | None:
    """Up to which number a context has been told of its days; None where it is told of none."""
    if context.daily is None:
        return None
    try:
        return Told.decode(kept.decode()).to_seq if kept else 0
    except ValueError:
        return 0
