"""The trainer: gives each tool a dictionary from its own traffic, in the background of a worker.

A tool is looked at when this worker has seen some number of its events, and again each time that
number has doubled: what is learnt early, from little, is replaced by something better, and the cost
stays a fixed share of the traffic. A crash at any point leaves a dictionary that nothing uses, or
none.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.errors import UnavailableError
from hookstream.app.keyring.data_keys import DataKeys
from hookstream.app.payloads.dictionaries import Dictionaries
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.routing.catalog import Catalog, Tool
from hookstream.app.settings import Settings
from hookstream.codecs.dictionaries import Dictionary
from hookstream.codecs.errors import UnknownDictionaryError
from hookstream.codecs.sealed import MonthKey, dictionary_place
from hookstream.codecs.training import Trial, try_dictionary

__all__ = ["Trainer", "next_look"]

logger = get_logger(__name__)

#: The newest payloads of a tool (tenant, tool id), at most so many; of a month, where it is named.
Samples = Callable[[str, str, int, str], Awaitable[list[bytes]]]

LOOK_SECONDS = 2.0
#: Payloads that one training looks at, the newest ones.
SAMPLES = 512
#: The longest a worker may take before another one tries.
LOCK_MS = 60_000
#: A tool with a dictionary is first looked at again after this many times the usual count.
PATIENCE = 16
#: At least once in this many events a tool is looked at.
MOST_EVENTS = 65_536

_NEWEST = """
SELECT dictionary_id, content FROM dictionaries WHERE tool_id = $1 ORDER BY version DESC LIMIT 1
"""
_SAME = "SELECT version FROM dictionaries WHERE dictionary_id = $1 AND content = $2"


def next_look(seen: int, min_events: int, *, trained: bool) -> int:
    """At which count of a tool's events to look at it after ``seen`` of them.

    >>> [next_look(0, 128, trained=False), next_look(128, 128, trained=True)]
    [128, 256]
    """
    if not seen:
        return min_events * (PATIENCE if trained else 1)
    return seen + min(max(seen, min_events), MOST_EVENTS)


class Trainer(Service):
    """Looks for tools whose events would shrink with a new dictionary."""

    mundane_level = "debug"

    def __init__(
        self,
        redis: Any,
        postgres: Postgres,
        payloads: Payloads,
        dictionaries: Dictionaries,
        settings: Settings,
        *,
        worker_id: str,
        catalog: Callable[[], Catalog],
        samples: Samples,
        data_keys: DataKeys | None = None,
        **kwargs: Any,
    ) -> None:
        """``samples`` are masked: what is to be hidden from agents gets into no dictionary."""
        super().__init__(**kwargs)
        self._redis = redis
        self._postgres = postgres
        self._payloads = payloads
        self._dictionaries = dictionaries
        self._settings = settings
        self._worker_id = worker_id
        self._catalog = catalog
        self._samples = samples
        self._look_at: dict[str, int] = {}
        self._data_keys = data_keys
        #: Where payloads are sealed, of which month those were that are counted.
        self._month: str | None = None

    def _key(self, tool: Tool) -> MonthKey | None:
        return None if self._data_keys is None else self._data_keys.key_now(tool.tenant)

    @tasks.loop
    async def _train_forever(self) -> None:
        if self._settings.compression != "dictionary":
            return
        while not self.should_stop:
            # found now, trained after the next pause: by then their events are recorded
            due = self.due()
            await self.sleep(LOOK_SECONDS)
            for tool in due:
                if self.should_stop:
                    break
                try:
                    await self._train(tool)
                except (UnavailableError, UnknownDictionaryError, *REDIS_ERRORS) as error:
                    metrics.TRAININGS.labels(result="failed").inc()
                    logger.warning("no dictionary for %s now: %s", tool.tool_id, error)

    def due(self) -> list[Tool]:
        """Tools of which enough has been seen since they were last looked at."""
        min_events = self._settings.dictionary_min_events
        month = self._payloads.month_now()
        if self._month is not None and month != self._month:
            # dictionaries of the month before pack nothing any more: soon there are new ones
            self._look_at = {
                tool_id: seen + min_events for tool_id, seen in self._payloads.seen.items()
            }
        self._month = month
        found = []
        for tool_id, seen in self._payloads.seen.items():
            tool = self._catalog().tools.get(tool_id)
            trained = self._dictionaries.current(tool_id, month) is not None
            look_at = self._look_at.setdefault(tool_id, next_look(0, min_events, trained=trained))
            if tool is not None and seen >= look_at:
                found.append(tool)
        return found

    async def _train(self, tool: Tool) -> None:
        seen = self._payloads.seen[tool.tool_id]
        lock = keys.training(tool.tool_id)
        if not await self._redis.set(lock, self._worker_id, nx=True, px=LOCK_MS):
            return
        try:
            if not await self._republish(tool):
                await self._try(tool)
        finally:
            await self._redis.delete(lock)
        self._look_at[tool.tool_id] = next_look(
            seen, self._settings.dictionary_min_events, trained=True
        )

    async def _republish(self, tool: Tool) -> bool:
        """Name what PostgreSQL has and Redis does not: lost there, or a worker died half way."""
        row = await self._postgres.fetchrow(_NEWEST, tool.tool_id)
        if row is None or row["dictionary_id"] == await self._dictionaries.named(tool.tool_id):
            return False
        await self._dictionaries.publish(tool.tool_id, row["dictionary_id"], row["content"])
        return True

    async def _try(self, tool: Tool) -> None:
        key = self._key(tool)
        payloads = await self._samples(tool.tenant, tool.tool_id, SAMPLES, key.month if key else "")
        current = self._dictionaries.current(tool.tool_id, key.month if key else "")
        # a thread that ends: what zstd keeps for it goes with it
        with ThreadPoolExecutor(1) as pool:
            trial = await asyncio.get_running_loop().run_in_executor(
                pool, try_dictionary, payloads, current
            )
        if trial is None or not trial.worth_it:
            metrics.TRAININGS.labels(result="not-better").inc()
            return
        dictionary, content = trial.dictionary, trial.dictionary.content
        if key is not None:
            dictionary = dictionary.named_for(f"{tool.tenant}/{tool.tool_id}/{key.month}")
            content = key.seal(dictionary.content, dictionary_place(dictionary.dictionary_id))
        version = await self._keep(tool, trial, dictionary, content)
        if version is None:
            return
        await self._dictionaries.publish(tool.tool_id, dictionary.dictionary_id, content)
        metrics.TRAININGS.labels(result="stored").inc()
        logger.info(
            "dictionary %d for %s, version %d, from %d payloads: what it has not seen takes %d "
            "bytes, %d now, %d raw",
            dictionary.dictionary_id,
            tool.tool_id,
            version,
            trial.samples,
            trial.bytes_then,
            trial.bytes_now,
            trial.raw_bytes,
        )

    async def _keep(
        self, tool: Tool, trial: Trial, dictionary: Dictionary, content: bytes
    ) -> int | None:
        """Store it in PostgreSQL; its version, None where its id stands for something else."""
        row: Any = await self._postgres.fetchrow(
            statement("put_dictionary"),
            dictionary.dictionary_id,
            tool.tenant,
            tool.tool_id,
            content,
            trial.samples,
            trial.ratio,
        )
        if row is None:
            # another tool with the same traffic came to the same dictionary
            row = await self._postgres.fetchrow(_SAME, dictionary.dictionary_id, content)
        return None if row is None else int(row["version"])
