"""The digest flusher: sends what is throttled as soon as a rate allows one more update."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from mode import Service

from hookstream.app import metrics, tasks
from hookstream.app.errors import FencedError, OutdatedError
from hookstream.app.feeds.delivery import Delivery
from hookstream.app.feeds.plan import MAX_THROTTLED
from hookstream.app.feeds.state import FeedState
from hookstream.app.redis.client import REDIS_ERRORS, is_redis_down
from hookstream.app.redis.errors import OF_ONE_KEY, redis_kind
from hookstream.app.routing.catalog import Catalog
from hookstream.app.streams.partition import Partition
from hookstream.app.summaries.tokens import count_tokens
from hookstream.tables.errors import TableError

__all__ = ["DigestFlusher"]

TURN_SECONDS = 0.05


class DigestFlusher(Service):
    """Looks after what is throttled in this worker's partitions."""

    mundane_level = "debug"

    def __init__(
        self,
        delivery: Delivery,
        *,
        catalog: Callable[[], Catalog],
        now_ms: Callable[[], int],
        owned: Callable[[], Mapping[int, Partition]],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._delivery = delivery
        self._catalog = catalog
        self._now_ms = now_ms
        self._owned = owned

    async def on_start(self) -> None:
        """Load the tokenizer: the first update should not wait for it."""
        await asyncio.to_thread(count_tokens, "")

    @tasks.loop
    async def _coalesce_forever(self) -> None:
        while not self.should_stop:
            await self.sleep(TURN_SECONDS)
            for partition in list(self._owned().values()):
                if not partition[FeedState].throttled:
                    continue
                try:
                    await self._coalesce(partition)
                except (FencedError, OutdatedError, TableError) as error:
                    # what was believed of it here is wrong
                    partition.lose(error)
                except Exception as error:  # noqa: BLE001 whatever it is, it is said and tried again
                    if not (isinstance(error, REDIS_ERRORS) and is_redis_down(error)):
                        tasks.BOARD.failed("DigestFlusher._fold", error, restarts=True)
                    await self.sleep(1.0)

    async def _coalesce(self, partition: Partition) -> None:
        for name, count in list(partition[FeedState].throttled.items()):
            if count < MAX_THROTTLED and not self._due(partition, name):
                continue
            try:
                plan = await self._delivery.coalesce(partition, name)
            except (FencedError, OutdatedError, TableError):
                raise
            except Exception as error:
                if isinstance(error, REDIS_ERRORS) and redis_kind(error) not in OF_ONE_KEY:
                    raise
                # one context's trouble is not the others'
                tasks.BOARD.failed("DigestFlusher._fold", error, restarts=True)
                continue
            if plan is not None:
                metrics.UPDATES_COALESCED.inc(plan.coalesced)

    def _due(self, partition: Partition, name: str) -> bool:
        """Whether the context's rate allows one more update (or it has no rate any more).

        What this worker has not looked up yet counts as due: the plan looks it up, and decides.
        """
        tenant, _, context_id = name.partition("/")
        context = self._catalog().contexts.get((tenant, context_id))
        if context is None or context.rate is None:
            return True
        arrivals = partition[FeedState].arrivals
        if name not in arrivals:
            return True
        now_ms = self._now_ms()
        arrival_ms = context.rate.bounded(arrivals[name], now_ms)
        arrivals[name] = arrival_ms
        return now_ms >= context.rate.due_ms(arrival_ms)
