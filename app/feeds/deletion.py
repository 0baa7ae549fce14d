"""Deletes what is left of contexts that were deleted, in this worker's partitions.

What remains is how far their numbers had come: one of the same name that is made again goes on
behind them, so that no client ever takes a new update for one that it has had.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import asyncpg
import orjson
from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import tasks
from hookstream.app.errors import FencedError, OutdatedError, UnavailableError
from hookstream.app.feeds.state import FeedState, learn_feeds
from hookstream.app.ids import partition_of
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS, Scripts, is_cluster
from hookstream.app.redis.errors import is_redis_away
from hookstream.app.routing.catalog import Catalog
from hookstream.app.streams.commit import Writes, commit
from hookstream.app.streams.event_log import audit_end, is_recorded
from hookstream.app.streams.partition import Partition
from hookstream.codecs.sealed import is_sealed

__all__ = ["ContextDeletion"]

logger = get_logger(__name__)

#: The channel of these commits.
DELETIONS = "deletions"
TURN_SECONDS = 0.5
#: PostgreSQL is asked when the catalog has changed, and this often: partitions come and go.
LOOK_SECONDS = 10.0
#: Entries of a feed that are looked through in one round trip.
PAGE = 1000
#: So long it is waited at a time for the event log to be told of what was delivered before.
RECORDED_SECONDS = 1.0


class ContextDeletion(Service):
    """Deletes feeds as the owner of their partition, and then what the event log has of them."""

    mundane_level = "debug"

    def __init__(
        self,
        redis: Any,
        scripts: Scripts,
        postgres: Postgres,
        partitions: int,
        *,
        catalog: Callable[[], Catalog],
        reload: Callable[[], Awaitable[Catalog]],
        owned: Callable[[], Mapping[int, Partition]],
        **kwargs: Any,
    ) -> None:
        """``reload`` gives the catalog of now."""
        super().__init__(**kwargs)
        self._redis = redis
        self._scripts = scripts
        self._postgres = postgres
        self._partitions = partitions
        self._catalog = catalog
        self._reload = reload
        self._owned = owned
        #: Contexts that cannot be deleted yet, and why: each is told once for each reason.
        self._failing: dict[tuple[str, str], str] = {}
        #: Contexts whose feed is deleted: by whom, and the end of the audit stream then. What was
        #: delivered before is in the event log, to be forgotten there, once that is recorded.
        self._recording: dict[tuple[str, str], tuple[Partition, str]] = {}

    @tasks.loop
    async def _tend(self) -> None:
        seen, looked = -1, 0.0
        while not self.should_stop:
            await self.sleep(TURN_SECONDS)
            version, now = self._catalog().version, time.monotonic()
            if version == seen and now - looked < LOOK_SECONDS:
                continue
            try:
                if await self.delete():
                    seen, looked = version, now
            except (UnavailableError, asyncpg.PostgresError, *REDIS_ERRORS) as error:
                logger.debug("deleted contexts are looked after later: %s", error)

    async def delete(self) -> bool:
        """Delete what there is to delete now; False where some of it could not be.

        A context that cannot be deleted is in no other one's way.

        Raises:
            UnavailableError: PostgreSQL is away.
            RedisError: Redis is, with all that it has.
        """
        rows = await self._postgres.fetch(statement("deleted_contexts"))
        if not rows:
            self._failing.clear()
            self._recording.clear()
            return True
        # nothing is delivered to them here from now on
        await self._reload()
        deleted = [(row["tenant"], row["context_id"]) for row in rows]
        self._recording = {w: found for w, found in self._recording.items() if w in deleted}
        failing = await self._each(deleted, self._delete_one)
        until = time.monotonic() + RECORDED_SECONDS
        while True:
            waiting = [who for who in self._recording if who not in failing]
            failing |= await self._each(waiting, self._forget_recorded)
            if not waiting or time.monotonic() > until:
                break
            await asyncio.sleep(RECORDED_SECONDS / 20)
        self._failing = failing
        return not failing and not self._recording

    async def _each(
        self,
        contexts: Iterable[tuple[str, str]],
        work: Callable[[str, str], Awaitable[None]],
    ) -> dict[tuple[str, str], str]:
        """Those for which ``work`` failed, and with what; raises where Redis is away."""
        failing = {}
        for who in contexts:
            try:
                await work(*who)
            except (asyncpg.PostgresError, *REDIS_ERRORS) as error:
                if is_redis_away(error) and not is_cluster(self._redis):
                    raise
                failing[who] = self._note(who, error)
        return failing

    def _note(self, who: tuple[str, str], error: Exception) -> str:
        kind = type(error).__name__
        if self._failing.get(who) != kind:
            logger.warning(
                "the feed of the deleted context %s/%s cannot be deleted (%s: %s); trying on",
                *who,
                kind,
                error,
            )
        return kind

    async def _delete_one(self, tenant: str, context_id: str) -> None:
        """Delete a context's feed, if its partition is here and has not done so."""
        who = (tenant, context_id)
        partition = self._owned().get(partition_of(self._partitions, *who))
        known = self._recording.get(who)
        if known is not None and known[0] is partition:
            return
        self._recording.pop(who, None)
        if partition is None:
            return
        try:
            await self._delete_feed(partition, *who)
        except (FencedError, OutdatedError) as error:
            partition.lose(error)
            return
        end = await audit_end(self._redis, partition.number)
        self._recording[who] = (partition, end)

    async def _forget_recorded(self, tenant: str, context_id: str) -> None:
        """Delete what the event log has of a context, once all that there is of it is there."""
        who = (tenant, context_id)
        partition, end = self._recording[who]
        if self._owned().get(partition_of(self._partitions, *who)) is not partition:
            # its next owner does all of it
            del self._recording[who]
            return
        if not await is_recorded(self._redis, partition.number, end):
            return
        await self._postgres.execute(statement("forget_deliveries"), *who)
        await self._postgres.execute(statement("forget_deletion"), *who)
        del self._recording[who]
        logger.info("the feed of the deleted context %s/%s is deleted", *who)

    async def _delete_feed(self, partition: Partition, tenant: str, context_id: str) -> None:
        number, name = partition.number, keys.feed_field(tenant, context_id)
        state = partition[FeedState]
        async with state.lock:
            await learn_feeds(self._scripts, partition, {name})
            # nobody can read them any more, whatever becomes of the commit
            await self._delete_digests(number, tenant, context_id)
            # one more, so that a client of the old one finds a number missing and is told
            last = state.seqs[name] + 1
            writes = Writes()
            for key in (
                keys.feed(number, tenant, context_id),
                keys.throttled_updates(number, tenant, context_id),
                keys.ack_times(number, tenant, context_id),
            ):
                writes.add("UNLINK", key)
            writes.add("HDEL", keys.throttled(number), name)
            for kept in (keys.daily(number), keys.trimmed(number), keys.feed_marks(number)):
                writes.add("HDEL", kept, name)
            writes.add("HSET", keys.seqs(number), name, last)
            # the next one has nothing to read before that
            writes.add("HSET", keys.acks(number), name, last)
            writes.then(lambda: _forget(state, name, last))
            await commit(self._scripts, partition, DELETIONS, writes)

    async def _delete_digests(self, number: int, tenant: str, context_id: str) -> None:
        """Delete the lists of what digests in the feed stand for."""
        feed, after = keys.feed(number, tenant, context_id), "-"
        while page := await self._redis.xrange(feed, after, count=PAGE):
            lists = [
                keys.coalesced_updates(number, tenant, context_id, int(entry_id.partition(b"-")[0]))
                for entry_id, fields in page
                if _may_be_digest(fields.get(b"d", b""))
            ]
            if lists:
                await self._redis.unlink(*lists)
            after = f"({page[-1][0].decode()}"


def _may_be_digest(body: bytes) -> bool:
    if is_sealed(body):
        # whatever it is: it goes, also while its key is away
        return True
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(value, dict) and value.get("kind") == "digest"


def _forget(state: FeedState, name: str, last: int) -> None:
    state.seqs[name] = last
    state.throttled.pop(name, None)
    state.arrivals.pop(name, None)
