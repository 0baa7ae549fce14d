"""The keeper: puts letters back into their streams when what they wait for has come.

That is their time (retries), their turn (a held ordering key), their tool's circuit breaker, or a
worker that reads their envelope's version: this one.
What is moved and where it is forgotten go into one commit: a crash neither loses nor doubles it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson
from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import keys, metrics, tasks
from hookstream.app.batch import Partition
from hookstream.app.breaker import Breaker, BreakerState
from hookstream.app.commit import LETTERS, Writes, commit
from hookstream.app.errors import FencedError, OutdatedError
from hookstream.app.letters import requeue
from hookstream.app.redis_client import REDIS_ERRORS, is_redis_down
from hookstream.codecs.envelope import KNOWN_VERSIONS

if TYPE_CHECKING:
    from hookstream.app.hookstream import Hookstream

__all__ = ["Keeper"]

logger = get_logger(__name__)

TURN_SECONDS = 0.2
#: Most letters of one partition that go back in one commit.
PAGE = 256
FIELDS = ("raw", "channel", "attempts")


class Keeper(Service):
    """Looks after the letters of this worker's partitions."""

    mundane_level = "debug"

    def __init__(self, app: "Hookstream", **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.app = app

    @tasks.loop
    async def _keep(self) -> None:
        while not self.should_stop:
            await self.sleep(TURN_SECONDS)
            try:
                await self._look()
            except REDIS_ERRORS as error:
                if not is_redis_down(error):
                    logger.exception("cannot look after letters")
                await self.sleep(1.0)

    async def _look(self) -> None:
        """One pipeline asks every partition what is due; only those with something get a commit."""
        owned = list(self.app.ownership.owned.values())
        if not owned:
            return
        now_ms = self.app.parts.clock.now_ms()
        pipe = self.app.parts.redis.pipeline(transaction=False)
        for partition in owned:
            pipe.zrangebyscore(keys.retries(partition.number), 0, now_ms, start=0, num=PAGE)
            pipe.hkeys(keys.held_versions(partition.number))
        replies = await pipe.execute()
        for partition, letters, held in zip(owned, replies[::2], replies[1::2], strict=True):
            known = [int(version) for version in held if int(version) in KNOWN_VERSIONS]
            if letters or known or partition.holds or partition.breakers:
                try:
                    await self._keep_partition(partition, letters, known, now_ms)
                except (FencedError, OutdatedError) as error:
                    self.app.ownership.on_lost(partition.number, error)

    async def _keep_partition(
        self, partition: Partition, due: list[bytes], known: Sequence[int], now_ms: int
    ) -> None:
        async with partition.lock:
            if self.app.ownership.owned.get(partition.number) is not partition:
                return
            writes = Writes()
            await self._retry(writes, partition, due)
            for version in known:
                await self._let_go_version(writes, partition, version)
            holds = await self._let_go_held(writes, partition)
            breakers = await self._let_go_parked(writes, partition, now_ms)
            if not writes.commands:
                return
            await commit(self.app.parts.scripts, partition, LETTERS, writes)
            for ordering, holder in holds.items():
                if holder is None:
                    partition.holds.pop(ordering, None)
                else:
                    partition.holds[ordering] = holder
            for tool_id, breaker in breakers.items():
                if breaker is None:
                    partition.breakers.pop(tool_id, None)
                else:
                    partition.breakers[tool_id] = breaker

    async def _retry(self, writes: Writes, partition: Partition, due: list[bytes]) -> None:
        names = [name.decode() for name in due]
        for name, letter in zip(names, await self._letters(partition, names), strict=True):
            if requeue(writes, partition, name, letter[:3], keys.retries(partition.number)):
                metrics.RETRIES.inc()

    async def _let_go_version(self, writes: Writes, partition: Partition, version: int) -> None:
        """Entries that an older worker could not read: they come again, in their order."""
        number = partition.number
        queue = keys.held_version(number, version)
        names = [name.decode() for name in await self.app.parts.redis.lrange(queue, 0, PAGE - 1)]
        for name, letter in zip(names, await self._letters(partition, names), strict=True):
            writes.add("LREM", queue, 1, name)
            requeue(writes, partition, name, letter[:3], "")
        if len(names) < PAGE:
            writes.add("HDEL", keys.held_versions(number), version)
        logger.info("%d held entries of envelope version %d come again", len(names), version)

    async def _let_go_held(self, writes: Writes, partition: Partition) -> dict[str, str | None]:
        """Ordering keys whose holder is resolved: the next ones come, in their order."""
        changes: dict[str, str | None] = {}
        redis, number = self.app.parts.redis, partition.number
        for ordering, holder in partition.holds.items():
            if holder and await redis.exists(keys.letter(number, holder)):
                continue
            queue = keys.held(number, ordering)
            names = [name.decode() for name in await redis.lrange(queue, 0, PAGE - 1)]
            if not names:
                writes.add("HDEL", keys.holds(number), ordering)
                changes[ordering] = None
                continue
            for name, letter in zip(names, await self._letters(partition, names), strict=True):
                if letter[0] is None:
                    writes.add("LREM", queue, 1, name)
                elif letter[3] == b"held":
                    requeue(writes, partition, name, letter[:3], "")
            if holder:
                writes.add("HSET", keys.holds(number), ordering, "")
                changes[ordering] = ""
        return changes

    async def _let_go_parked(
        self, writes: Writes, partition: Partition, now_ms: int
    ) -> dict[str, Breaker | None]:
        """One probe of a tool whose breaker asks for it; all that was parked once it is closed."""
        changes: dict[str, Breaker | None] = {}
        redis, number = self.app.parts.redis, partition.number
        for tool_id, kept in partition.breakers.items():
            parked = keys.parked(number, tool_id)
            if kept.state is BreakerState.CLOSED:
                names = await self._parked(parked, PAGE)
                for name, letter in zip(names, await self._letters(partition, names), strict=True):
                    requeue(writes, partition, name, letter[:3], parked)
                if not names and not kept.failures:
                    writes.add("HDEL", keys.breakers(number), tool_id)
                    changes[tool_id] = None
                continue
            breaker = Breaker.from_dict(
                kept.to_dict(), threshold=kept.threshold, wait_ms=kept.wait_ms
            )
            if breaker.probe and not await redis.exists(keys.letter(number, breaker.probe)):
                breaker.reprobe(now_ms)
            names = await self._parked(parked, 1)
            if not names or not breaker.allow(now_ms):
                continue
            [letter] = await self._letters(partition, names)
            if requeue(writes, partition, names[0], letter[:3], parked):
                breaker.probe = names[0]
            writes.add("HSET", keys.breakers(number), tool_id, orjson.dumps(breaker.to_dict()))
            changes[tool_id] = breaker
        return changes

    async def _parked(self, key: str, count: int) -> list[str]:
        return [name.decode() for name in await self.app.parts.redis.zrange(key, 0, count - 1)]

    async def _letters(self, partition: Partition, names: Sequence[str]) -> list[list[Any]]:
        """Raw bytes, channel, attempts and state of each; None for fields of one that is gone."""
        if not names:
            return []
        pipe = self.app.parts.redis.pipeline(transaction=False)
        for name in names:
            pipe.hmget(keys.letter(partition.number, name), *FIELDS, "state")
        return list(await pipe.execute())
