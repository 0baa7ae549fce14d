"""Throws dead letters away whose time is over, in this worker's partitions.

One that blocks its ordering key stays, with all that waits behind it: whether that order may be
broken only people can say.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.durations import DAY_MS
from hookstream.app.errors import FencedError, UnavailableError
from hookstream.app.failures.held_letters import held_letter
from hookstream.app.failures.state import FailureState
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS, Scripts
from hookstream.app.redis.errors import is_redis_away
from hookstream.app.settings import Settings
from hookstream.app.stores.holds import Hold, HoldStore
from hookstream.app.streams.partition import Partition

__all__ = ["DeadLetterExpiry"]

logger = get_logger(__name__)

#: From one round to the next, give or take a quarter.
ROUND_SECONDS = 60.0
#: Letters of a partition that are looked at in one round trip, and the pause behind it.
PAGE = 100
PAUSE_SECONDS = 0.05
#: Letters that the log names, of a round.
NAMED = 10


class DeadLetterExpiry(Service):
    """One round over all partitions a minute."""

    mundane_level = "debug"

    def __init__(
        self,
        redis: Any,
        scripts: Scripts,
        settings: Settings,
        *,
        now_ms: Callable[[], int],
        owned: Callable[[], Mapping[int, Partition]],
        holds: HoldStore | None = None,
        **kwargs: Any,
    ) -> None:
        """``holds``: what is thrown away by nothing."""
        super().__init__(**kwargs)
        self._holds = holds
        self._redis = redis
        self._scripts = scripts
        self._days = settings.dead_letter_days
        self._now_ms = now_ms
        self._owned = owned

    @tasks.loop
    async def _tend(self) -> None:
        while not self.should_stop:
            await self.sleep(ROUND_SECONDS * random.uniform(0.75, 1.25))
            try:
                await self.expire()
            except (UnavailableError, *REDIS_ERRORS) as error:
                logger.debug("old dead letters are thrown away later: %s", error)

    async def expire(self) -> int:
        """Throw away what is too old now; how many those were.

        Raises:
            redis.exceptions.RedisError: Redis is away.
            UnavailableError: nobody can say what is held.
        """
        holds = await self._holds.in_force() if self._holds else ()
        gone: Counter[str] = Counter()
        named: list[str] = []
        for partition in list(self._owned().values()):
            try:
                await self._expire_in(partition, gone, named, holds)
            except FencedError as error:
                partition.lose(error)
            except REDIS_ERRORS as error:
                if is_redis_away(error):
                    raise
                logger.warning(
                    "dead letters of partition %d cannot be thrown away: %s",
                    partition.number,
                    error,
                )
        for tool_id, count in gone.items():
            metrics.DEAD_LETTERS_EXPIRED.labels(tool=tool_id).inc(count)
        if total := sum(gone.values()):
            logger.warning(
                "%d dead letters older than %g days were thrown away (%s), among them %s",
                total,
                self._days,
                ", ".join(f"{tool_id}: {count}" for tool_id, count in gone.most_common(NAMED)),
                ", ".join(named),
            )
        return sum(gone.values())

    async def _expire_in(
        self,
        partition: Partition,
        gone: Counter[str],
        named: list[str],
        holds: Sequence[Hold],
    ) -> None:
        number = partition.number
        until_ms = self._now_ms() - int(self._days * DAY_MS)
        passed = 0
        while not self.should_stop:
            found = await self._redis.zrangebyscore(
                keys.dead(number), "-inf", until_ms, start=passed, num=PAGE
            )
            blocking = set(partition[FailureState].blocked.values())
            for name in found:
                letter_id = name.decode()
                partition.check()
                held = holds and await held_letter(
                    self._redis, keys.failed_event(number, letter_id), holds
                )
                if (
                    letter_id in blocking
                    or held
                    or not (
                        letter := await self._scripts.call(
                            "expire_letter",
                            [
                                keys.lease(number),
                                keys.dead(number),
                                keys.pins(number),
                                keys.failed_event(number, letter_id),
                            ],
                            [partition.epoch, partition.nonce, letter_id, until_ms],
                        )
                    )
                ):
                    passed += 1
                    continue
                gone[letter[0].decode("utf-8", "replace")] += 1
                if len(named) < NAMED:
                    named.append(letter_id)
            if len(found) < PAGE:
                return
            await self.sleep(PAUSE_SECONDS)
