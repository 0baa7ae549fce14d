"""The retry scheduler: puts failed events back into their streams when what they wait for has come.

That is their time (retries), their turn (a held ordering key), a hand-over, their tool's circuit
breaker, or a worker that reads their envelope's version: this one.
What is moved and where it is forgotten go into one commit: a crash neither loses nor doubles it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import orjson
from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.circuit_breaker import Breaker, BreakerState
from hookstream.app.errors import FencedError, OutdatedError
from hookstream.app.failures.failed_events import requeue
from hookstream.app.failures.hand_overs import is_hand_over, let_go_hand_overs
from hookstream.app.failures.state import FailureState
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS, Scripts, is_redis_down
from hookstream.app.redis.errors import is_redis_away, redis_kind
from hookstream.app.routing.catalog import Catalog
from hookstream.app.settings import Settings
from hookstream.app.streams.commit import FAILED_EVENTS, Writes, commit
from hookstream.app.streams.partition import Partition
from hookstream.codecs.envelope import KNOWN_VERSIONS

__all__ = ["RetryScheduler"]

logger = get_logger(__name__)

TURN_SECONDS = 0.2
#: Most failed events of one partition that go back in one commit.
PAGE = 256
FIELDS = ("raw", "channel", "attempts")


class RetryScheduler(Service):
    """Looks after the failed events of this worker's partitions."""

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
        resume: Callable[[int], None],
        **kwargs: Any,
    ) -> None:
        """``owned``: this worker's partitions now; ``resume`` has readers look at one of them."""
        super().__init__(**kwargs)
        self._redis = redis
        self._scripts = scripts
        self._settings = settings
        self._catalog = catalog
        self._now_ms = now_ms
        self._owned = owned
        self._resume = resume
        #: What Redis says of partitions that cannot be looked at: said once, not each turn.
        self._refused: dict[int, str] = {}

    @tasks.loop
    async def _keep(self) -> None:
        while not self.should_stop:
            await self.sleep(TURN_SECONDS)
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001 whatever it is, it is said and tried again
                if not (isinstance(error, REDIS_ERRORS) and is_redis_down(error)):
                    tasks.BOARD.failed("RetryScheduler._keep", error, restarts=True)
                await self.sleep(1.0)

    async def _look(self) -> None:
        """One pipeline asks every partition what is due; only those with something get a commit."""
        owned = list(self._owned().values())
        if not owned:
            return
        now_ms = self._now_ms()
        longest_ms = int(self._settings.retry_max_seconds * 1000) + 1000
        pipe = self._redis.pipeline(transaction=False)
        for partition in owned:
            retries = keys.retries(partition.number)
            pipe.zrangebyscore(retries, 0, now_ms, start=0, num=PAGE)
            # due later than anything is ever put off: Redis's clock has stepped back since
            pipe.zrangebyscore(retries, f"({now_ms + longest_ms}", "+inf", start=0, num=PAGE)
            pipe.hkeys(keys.quarantines(partition.number))
        replies = iter(await pipe.execute(raise_on_error=False))
        for partition in owned:
            found = [next(replies), next(replies), next(replies)]
            if failed := next((reply for reply in found if isinstance(reply, Exception)), None):
                if is_redis_away(failed):
                    raise failed
                if self._refused.get(partition.number) != redis_kind(failed):
                    logger.error(
                        "partition %d: its failed events wait: %s", partition.number, failed
                    )
                self._refused[partition.number] = redis_kind(failed)
                continue
            self._refused.pop(partition.number, None)
            failed_events = found[0] + found[1]
            known = [v for v in map(_version, found[2]) if v in KNOWN_VERSIONS]
            state = partition[FailureState]
            if failed_events or known or state.blocked or state.breakers:
                await self._keep_one(partition, failed_events, known, now_ms)

    async def _keep_one(
        self, partition: Partition, failed_events: list[bytes], known: Sequence[int], now_ms: int
    ) -> None:
        """Look after one partition: its trouble is not the others'."""
        try:
            await self.keep_partition(partition, failed_events, known, now_ms)
        except (FencedError, OutdatedError):
            # it is given up by now, and claimed anew
            return
        except Exception as error:
            if is_redis_away(error):
                raise
            logger.warning("partition %d: its failed events wait: %s", partition.number, error)
            tasks.BOARD.failed("RetryScheduler.keep_partition", error, restarts=True)
        state = partition[FailureState]
        if state.released() or state.draining:
            self._resume(partition.number)

    async def keep_partition(
        self, partition: Partition, due: list[bytes], known: Sequence[int], now_ms: int
    ) -> None:
        """What is due of one partition, in one commit. Raises what a commit raises."""
        async with partition[FailureState].lock:
            if self._owned().get(partition.number) is not partition:
                return
            partition.check()
            writes = Writes()
            await self._retry(writes, partition, due)
            for version in known:
                await self._let_go_version(writes, partition, version)
            await let_go_hand_overs(self._redis, writes, partition, self._catalog())
            await self._let_go_held(writes, partition)
            await self._let_go_parked(writes, partition, now_ms)
            if writes.commands:
                await commit(self._scripts, partition, FAILED_EVENTS, writes)

    async def _retry(self, writes: Writes, partition: Partition, due: list[bytes]) -> None:
        names = [name.decode() for name in due]
        for name, failed_event in zip(
            names, await self._failed_events(partition, names), strict=True
        ):
            if requeue(writes, partition, name, failed_event[:3], keys.retries(partition.number)):
                metrics.RETRIES.inc()

    async def _let_go_version(self, writes: Writes, partition: Partition, version: int) -> None:
        """Entries that an older worker could not read: they come again, in their order."""
        number = partition.number
        queue = keys.quarantined(number, version)
        names = [name.decode() for name in await self._redis.lrange(queue, 0, PAGE - 1)]
        for name, failed_event in zip(
            names, await self._failed_events(partition, names), strict=True
        ):
            writes.add("LREM", queue, 1, name)
            requeue(writes, partition, name, failed_event[:3], "")
        if len(names) < PAGE:
            writes.add("HDEL", keys.quarantines(number), version)
        logger.info("%d quarantined entries of envelope version %d come again", len(names), version)

    async def _let_go_held(self, writes: Writes, partition: Partition) -> None:
        """Release ordering keys whose holder is resolved; forget those behind which nothing waits.

        What waits is taken from its list by the reader, before anything else: see ``released``.
        """
        number, blocked = partition.number, partition[FailureState].blocked
        asked = [each for each in blocked.items() if not is_hand_over(each[1])]
        if not asked:
            return
        pipe = self._redis.pipeline(transaction=False)
        for ordering, holder in asked:
            if holder:
                pipe.hmget(keys.failed_event(number, holder), "raw", "tool_id")
            else:
                pipe.llen(keys.blocked_events(number, ordering))
        for (ordering, holder), there in zip(asked, await pipe.execute(), strict=True):
            if self._holds_back(*there) if holder else there:
                continue
            if holder:
                writes.add("HSET", keys.blocked_keys(number), ordering, "")
                writes.then(partial(blocked.__setitem__, ordering, ""))
            else:
                writes.add("HDEL", keys.blocked_keys(number), ordering)
                writes.then(partial(blocked.pop, ordering, None))

    def _holds_back(self, raw: bytes | None, tool_id: bytes | None) -> bool:
        """Whether a failed event is still there, and its tool one that blocks what comes behind."""
        if raw is None:
            return False
        tool = self._catalog().tools.get((tool_id or b"").decode())
        return tool is not None and tool.on_error == "hold"

    async def _let_go_parked(self, writes: Writes, partition: Partition, now_ms: int) -> None:
        """One probe of a tool whose breaker asks for it; once it is closed, all that was parked."""
        number, breakers = partition.number, partition[FailureState].breakers
        for tool_id, kept in breakers.items():
            parked = keys.parked(number, tool_id)
            if kept.state is BreakerState.CLOSED:
                # the reader takes them from there, before anything else: see ``released``
                if await self._parked(parked, 1):
                    partition[FailureState].draining.add(tool_id)
                elif not kept.failures:
                    writes.add("HDEL", keys.breakers(number), tool_id)
                    writes.then(partial(breakers.pop, tool_id, None))
                continue
            breaker = Breaker.from_dict(
                kept.to_dict(), threshold=kept.threshold, wait_ms=kept.wait_ms
            )
            if breaker.probe and not await self._is_queued(number, breaker.probe):
                breaker.reprobe(now_ms)
            names = await self._parked(parked, 1)
            if not names or not breaker.allow(now_ms):
                continue
            [failed_event] = await self._failed_events(partition, names)
            if not requeue(writes, partition, names[0], failed_event[:3], parked):
                continue
            breaker.probe = names[0]
            writes.add("HSET", keys.breakers(number), tool_id, orjson.dumps(breaker.to_dict()))
            writes.then(partial(breakers.__setitem__, tool_id, breaker))

    async def _is_queued(self, number: int, name: str) -> bool:
        """Whether a failed event is in its stream, or being worked on: else it says nothing as a
        probe.

        It may be gone, wait for its turn or for a newer worker, or be dead.
        """
        return bool(await self._redis.hget(keys.failed_event(number, name), "state") == b"queued")

    async def _parked(self, key: str, count: int) -> list[str]:
        return [name.decode() for name in await self._redis.zrange(key, 0, count - 1)]

    async def _failed_events(self, partition: Partition, names: Sequence[str]) -> list[list[Any]]:
        """Raw bytes, channel, attempts and state of each; None for fields of one that is gone."""
        if not names:
            return []
        pipe = self._redis.pipeline(transaction=False)
        for name in names:
            pipe.hmget(keys.failed_event(partition.number, name), *FIELDS, "state")
        return list(await pipe.execute())


def _version(name: bytes) -> int:
    return int(name) if name.isdigit() else -1
