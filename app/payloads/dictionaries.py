"""Compression dictionaries: which one each tool's new events get, and where any of them is found.

A dictionary is in PostgreSQL first, then in Redis, and only then named as its tool's current one.
Whoever packs with it has fetched it from there like any reader, so an entry never asks for what is
not everywhere. They are never deleted: what was packed with one needs it.
"""

from collections.abc import Iterable
from typing import Any

from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.errors import UnavailableError
from hookstream.app.postgres.pool import Postgres, WholePostgres
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS, is_redis_down
from hookstream.app.redis.durability import Durability
from hookstream.codecs.dictionaries import BOOK, Dictionary
from hookstream.codecs.errors import CodecError

__all__ = ["Dictionaries"]

logger = get_logger(__name__)

#: How often each process looks which dictionaries are current.
POLL_SECONDS = 2.0


class Dictionaries(Service):
    """Fetches dictionaries by id, and follows which ones are current."""

    mundane_level = "debug"

    def __init__(
        self,
        redis: Any,
        postgres: Postgres,
        durability: Durability,
        *,
        enabled: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.enabled = enabled
        self._redis = redis
        self._postgres = WholePostgres(postgres)
        self._durability = durability
        self._current: dict[str, Dictionary] = {}

    def current(self, tool_id: str) -> Dictionary | None:
        """What to pack a tool's new payloads with; None where there is nothing yet."""
        return self._current.get(tool_id)

    async def fetch(self, ids: Iterable[int]) -> None:
        """Bring dictionaries into this process's book, from Redis or else from PostgreSQL.

        One that cannot be had stays out of the book.

        Raises:
            redis.exceptions.RedisError: Redis does not answer.
        """
        missing = sorted(BOOK.missing(ids))
        if not missing:
            return
        pipe = self._redis.pipeline(transaction=False)
        for number in missing:
            pipe.get(keys.dictionary(number))
        for number, content in zip(missing, await pipe.execute(), strict=True):
            if content:
                _learn(number, content)
        if still := sorted(BOOK.missing(missing)):
            await self._fetch_from_postgres(still)

    async def _fetch_from_postgres(self, ids: list[int]) -> None:
        try:
            rows = await self._postgres.fetch(
                "SELECT dictionary_id, content FROM dictionaries WHERE dictionary_id = ANY($1)", ids
            )
        except UnavailableError as error:
            logger.warning("dictionaries %s are not in Redis, and %s", ids, error)
            return
        for row in rows:
            if _learn(row["dictionary_id"], row["content"]):
                logger.warning("dictionary %d was not in Redis: put back", row["dictionary_id"])
                await self._redis.set(keys.dictionary(row["dictionary_id"]), row["content"])
        if gone := BOOK.missing(ids):
            logger.error("dictionaries %s are neither in Redis nor in PostgreSQL", sorted(gone))

    async def publish(self, tool_id: str, dictionary: Dictionary) -> None:
        """Make a dictionary that PostgreSQL has the current one of its tool, everywhere.

        Raises:
            UnconfirmedError: it is not yet as durable as events are.
            redis.exceptions.RedisError: Redis did not take it.
        """
        key, number = keys.dictionary(dictionary.dictionary_id), dictionary.dictionary_id
        calls = [
            (key, ("SET", key, dictionary.content)),
            (keys.DICTIONARIES, ("HSET", keys.DICTIONARIES, tool_id, number)),
        ]
        for call in calls:
            # one after the other: what is named must be there
            [reply] = await self._durability.run([call])
            if isinstance(reply, Exception):
                raise reply

    async def forget(self, tool_id: str) -> None:
        """Have no dictionary be the current one of a tool; what was packed stays readable.

        Raises:
            redis.exceptions.RedisError: Redis did not take it.
        """
        await self._redis.hdel(keys.DICTIONARIES, tool_id)

    async def named(self, tool_id: str) -> int:
        """The id of the dictionary that Redis names as a tool's current one; 0 for none."""
        return int(await self._redis.hget(keys.DICTIONARIES, tool_id) or 0)

    @tasks.loop
    async def _follow(self) -> None:
        while self.enabled and not self.should_stop:
            try:
                await self.look()
            except REDIS_ERRORS as error:
                if not is_redis_down(error):
                    logger.warning("cannot look for dictionaries: %s", error)
            await self.sleep(POLL_SECONDS)

    async def look(self) -> None:
        """Learn which dictionaries are current, and fetch those that are new."""
        named = {
            tool_id.decode(): int(number)
            for tool_id, number in (await self._redis.hgetall(keys.DICTIONARIES)).items()
        }
        await self.fetch(named.values())
        self._current = {
            tool_id: dictionary
            for tool_id, number in named.items()
            if (dictionary := BOOK.get(number)) is not None
        }
        metrics.DICTIONARY.clear()
        for tool_id, dictionary in self._current.items():
            metrics.DICTIONARY.labels(tool=tool_id).set(dictionary.dictionary_id)


def _learn(number: int, content: bytes) -> bool:
    try:
        dictionary = Dictionary.of(content)
    except CodecError as error:
        logger.error("dictionary %d cannot be used: %s", number, error)
        return False
    if dictionary.dictionary_id != number:
        logger.error("dictionary %d says that it is %d", number, dictionary.dictionary_id)
        return False
    BOOK.add(dictionary)
    return True
