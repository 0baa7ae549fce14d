"""What ends with time in the changelogs of rates of this worker's partitions."""

from collections.abc import Callable, Mapping
from typing import Any

from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import tasks
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.routing.catalog import Catalog
from hookstream.app.streams.partition import Partition
from hookstream.tables.rates import RateTable

__all__ = ["RateUpkeep"]

logger = get_logger(__name__)

TRIM_EVERY_SECONDS = 60.0


class RateUpkeep(Service):
    """Cuts the changelogs of rates off where no rate looks back to any more."""

    mundane_level = "debug"

    def __init__(
        self,
        redis: Any,
        *,
        catalog: Callable[[], Catalog],
        now_ms: Callable[[], int],
        owned: Callable[[], Mapping[int, Partition]],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._redis = redis
        self._catalog = catalog
        self._now_ms = now_ms
        self._owned = owned

    @tasks.loop
    async def _tend(self) -> None:
        while not self.should_stop:
            await self.sleep(TRIM_EVERY_SECONDS)
            try:
                await self.trim()
            except REDIS_ERRORS as error:
                logger.debug("changelogs of rates are trimmed later: %s", error)

    async def trim(self) -> None:
        """Trim now. Raises what Redis says."""
        contexts = self._catalog().contexts.values()
        horizons = [context.rate.horizon_ms() for context in contexts if context.rate]
        spare_ms = int(TRIM_EVERY_SECONDS * 1000)
        useful_ms = self._now_ms() - int(max(horizons, default=0)) - spare_ms
        async with self._redis.pipeline(transaction=False) as pipe:
            for number in self._owned():
                pipe.xtrim(
                    keys.changelog(number, RateTable.name),
                    minid=max(0, useful_ms),
                    approximate=True,
                )
            await pipe.execute()
