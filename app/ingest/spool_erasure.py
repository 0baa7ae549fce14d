"""Looks through this process's own spool for what was erased, and says that it has.

Nobody else can: a spool is on the disk of its machine. A process that is away has its spool looked
through when it is back, and what it sends before is dropped by the first stage.
"""

import asyncio
import os
import socket
import time
from collections import Counter
from collections.abc import Collection
from typing import Any, Final

import asyncpg
import orjson
from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.errors import SealingKeyError, UnavailableError
from hookstream.app.ingest.appender import Appender
from hookstream.app.ingest.spool import Spooled
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.stores.erasures import DONE, ErasureStore, Tally
from hookstream.codecs.envelope import decode_event
from hookstream.codecs.errors import CodecError, UnknownDictionaryError

__all__ = ["SpoolErasure", "spools_that_lack"]

logger = get_logger(__name__)

LOOK_SECONDS: Final = 2.0
#: A process that has not said so for this long is away.
AWAY_MS: Final = 20_000
#: One that has not for a day is forgotten.
FORGOTTEN_MS: Final = 24 * 3_600_000
PAGE: Final = 256
#: Erasures that a process names, the newest: those under way are among them.
NAMED: Final = 1000


class SpoolErasure(Service):
    """One look every two seconds; entries are read only where there is an erasure to look for."""

    mundane_level = "debug"

    def __init__(
        self,
        redis: Any,
        appender: Appender,
        payloads: Payloads,
        store: ErasureStore,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._redis = redis
        self._appender = appender
        self._payloads = payloads
        self._store = store
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._looked_for: set[str] = set()

    @tasks.loop
    async def _look_forever(self) -> None:
        while not self.should_stop:
            try:
                await self.look()
            except (UnavailableError, asyncpg.PostgresError, *REDIS_ERRORS) as error:
                logger.debug("the spool is looked through later: %s", error)
            await self.sleep(LOOK_SECONDS)

    async def on_stop(self) -> None:
        """Nobody waits for a process that has stopped."""
        try:
            await self._redis.hdel(keys.SPOOLS, self._name)
        except REDIS_ERRORS as error:
            logger.debug("the spool is not taken off the list: %s", error)

    async def look(self) -> None:
        """Take out what was erased, and say which erasures were looked for.

        Raises:
            UnavailableError: the spool or PostgreSQL cannot be used now.
            redis.exceptions.RedisError: Redis does not answer.
        """
        known = {one.erasure_id: one for one in self._store.known()}
        fresh = [one for name, one in known.items() if name not in self._looked_for]
        trouble = ""
        if self._payloads.data_keys is not None and any(one.data_keys for one in fresh):
            # before it is said that it was looked for: this process seals by them no more
            await self._payloads.data_keys.learn_changes()
        if fresh and self._appender.spool is not None and self._appender.spool.entries:
            counts, trouble = await self._erase({one.tenant for one in known.values()})
            for erasure_id, count in counts.items():
                tally = Tally(count, count)
                await self._store.note_place(erasure_id, f"spool:{self._name}", "spools", tally)
                metrics.ERASED.labels(place="spools").inc(count)
        if not trouble:
            self._looked_for |= {one.erasure_id for one in fresh}
        under_way = [one for one in known if known[one].status != DONE]
        named = [one for one in under_way if one in self._looked_for][:NAMED]
        said = {"at_ms": time.time_ns() // 1_000_000, "looked_for": named, "trouble": trouble}
        await self._redis.hset(keys.SPOOLS, self._name, orjson.dumps(said))

    async def _erase(self, tenants: Collection[str]) -> tuple[Counter[str], str]:
        """Take out what was erased: how much of which erasure, and what could not be looked into.

        ``tenants``: whose entries are looked into.
        """
        spool = self._appender.spool
        assert spool is not None
        counts: Counter[str] = Counter()
        trouble = ""
        #: Keys that cannot be had: they are asked for once.
        lacking: set[int] = set()
        after = -1
        while page := spool.page(PAGE, after):
            after = page[-1].number
            gone: list[Spooled] = []
            for entry in page:
                erasure_id = ""
                try:
                    erasure_id = await self._late_by(entry.data, tenants, lacking)
                except (SealingKeyError, UnknownDictionaryError) as error:
                    trouble = trouble or str(error)
                if erasure_id:
                    gone.append(entry)
                    counts[erasure_id] += 1
            if gone:
                spool.remove(gone)
            await asyncio.sleep(0)
        if counts:
            await asyncio.to_thread(spool.compact)
        return counts, trouble

    async def _late_by(self, data: bytes, tenants: Collection[str], lacking: set[int]) -> str:
        try:
            event = decode_event(data)
            number = event.stored.key_id if event.stored else 0
            if event.tenant not in tenants or number in lacking:
                return ""
            try:
                [readable] = await self._payloads.open([event])
            except SealingKeyError:
                lacking.add(number)
                raise
            late = self._store.late_by(readable or event)
        except UnknownDictionaryError:
            raise
        except CodecError:
            return ""
        return late.erasure_id if late else ""


async def spools_that_lack(redis: Any, erasure_id: str, *, away: bool = False) -> list[str]:
    """Processes that are there and have not looked for an erasure yet, each with what keeps it.

    ``away``: also those that were there within a day.

    Raises:
        redis.exceptions.RedisError: Redis does not answer.
    """
    now_ms = time.time_ns() // 1_000_000
    lacking, forgotten = [], []
    for name, data in (await redis.hgetall(keys.SPOOLS)).items():
        try:
            said = orjson.loads(data)
            at_ms, looked_for = int(said["at_ms"]), said["looked_for"]
            trouble = str(said.get("trouble") or "")
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            at_ms, looked_for, trouble = 0, [], ""
        if now_ms - at_ms > FORGOTTEN_MS:
            forgotten.append(name)
        elif (away or now_ms - at_ms <= AWAY_MS) and erasure_id not in looked_for:
            lacking.append(f"{name.decode()} ({trouble})" if trouble else name.decode())
    if forgotten:
        await redis.hdel(keys.SPOOLS, *forgotten)
    return sorted(lacking)
