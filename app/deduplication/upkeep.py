"""What ends with time in dedup's tables and changelogs of this worker's partitions."""

from collections.abc import Callable, Mapping
from typing import Any

from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.deduplication.history import TABLE as HISTORY
from hookstream.app.deduplication.lookup import HistoryLookup
from hookstream.app.deduplication.state import DedupState
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.routing.catalog import Catalog
from hookstream.app.streams.partition import Partition
from hookstream.tables.dedup import DAY_MS
from hookstream.tables.errors import TableError

__all__ = ["DedupUpkeep"]

logger = get_logger(__name__)

TURN_SECONDS = 1.0
TRIM_EVERY_MS = 60_000


class DedupUpkeep(Service):
    """Deletes ended marks, and the changelogs that no window needs any more."""

    mundane_level = "debug"

    def __init__(
        self,
        redis: Any,
        history_lookup: HistoryLookup,
        *,
        catalog: Callable[[], Catalog],
        now_ms: Callable[[], int],
        owned: Callable[[], Mapping[int, Partition]],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._redis = redis
        self._history_lookup = history_lookup
        self._catalog = catalog
        self._now_ms = now_ms
        self._owned = owned
        self._trimmed_ms = 0

    @tasks.loop
    async def _tend(self) -> None:
        while not self.should_stop:
            await self.sleep(TURN_SECONDS)
            self._history_lookup.observe()
            self.purge()
            if self._now_ms() - self._trimmed_ms > TRIM_EVERY_MS:
                try:
                    await self.trim()
                except REDIS_ERRORS as error:
                    logger.debug("changelogs of dedup are trimmed later: %s", error)

    def purge(self) -> None:
        """Delete the marks whose time is over."""
        now_ms = self._now_ms()
        for partition in list(self._owned().values()):
            try:
                if gone := partition[DedupState].table.purge(now_ms):
                    metrics.DEDUP_PURGED.inc(gone)
            except TableError as error:
                partition.lose(error)

    async def trim(self) -> None:
        """Cut changelogs off where the longest window begins. Raises what Redis says."""
        now_ms = self._now_ms()
        windows = [tool.window_ms for tool in self._catalog().tools.values()]
        if not windows:
            return
        oldest_ms = now_ms - max(self._history_lookup.copy_ms, *windows)
        async with self._redis.pipeline(transaction=False) as pipe:
            for number in self._owned():
                pipe.xtrim(keys.changelog(number), minid=oldest_ms, approximate=True)
                # of a partition that remembers nothing any more; others trim as they save
                pipe.xtrim(
                    keys.changelog(number, HISTORY),
                    minid=max(0, now_ms - self._history_lookup.longest_ms - 2 * DAY_MS),
                    approximate=True,
                )
            await pipe.execute()
        self._trimmed_ms = now_ms
