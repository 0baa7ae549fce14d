"""Compression dictionaries: which one each tool's new events get, and where any of them is found.

A dictionary is in PostgreSQL first, then in Redis, and only then named as its tool's current one.
Whoever packs with it has fetched it from there like any reader, so an entry never asks for what is
not everywhere. They are never deleted: what was packed with one needs it.

Where payloads are sealed, a dictionary holds pieces of its month's: it is sealed by that month's
key, and packs that month's payloads only. So a key that is destroyed takes its dictionaries with
it, and nothing of another month needs those.
"""

from collections.abc import Iterable
from typing import Any

from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.errors import SealingKeyError, UnavailableError
from hookstream.app.keyring.data_keys import DataKeys
from hookstream.app.postgres.pool import Postgres, WholePostgres
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS, is_redis_down
from hookstream.app.redis.durability import Durability
from hookstream.codecs.dictionaries import BOOK, Dictionary
from hookstream.codecs.errors import CodecError, ErasedError
from hookstream.codecs.sealed import KEYS, dictionary_place, key_ids

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
        data_keys: DataKeys | None = None,
        **kwargs: Any,
    ) -> None:
        """``data_keys``: without them none is sealed, nor opened that is."""
        super().__init__(**kwargs)
        self._data_keys = data_keys
        #: Of those that came sealed, by their id: by which key, and of which month.
        self._sealed: dict[int, tuple[int, str]] = {}
        if data_keys is not None:
            data_keys.when_destroyed(self._forget_destroyed)
        self.enabled = enabled
        self._redis = redis
        self._postgres = WholePostgres(postgres)
        self._durability = durability
        self._current: dict[str, Dictionary] = {}

    def current(self, tool_id: str, month: str = "") -> Dictionary | None:
        """What to pack a tool's new payloads with; None where there is nothing yet.

        ``month``: that of payloads that are sealed. One of another month is not for them.
        """
        found = self._current.get(tool_id)
        if found is None:
            return None
        sealed = self._sealed.get(found.dictionary_id)
        return found if sealed is None or sealed[1] == month else None

    def _forget_destroyed(self) -> None:
        for number, (key_id, _) in list(self._sealed.items()):
            if KEYS.is_destroyed(key_id):
                BOOK.remove(number)
                del self._sealed[number]
                self._current = {
                    tool_id: known
                    for tool_id, known in self._current.items()
                    if known.dictionary_id != number
                }

    async def fetch(self, ids: Iterable[int]) -> None:
        """Bring dictionaries into this process's book, from Redis or else from PostgreSQL.

        One that cannot be had stays out of the book, and so does one whose key was destroyed.

        Raises:
            SealingKeyError: the key of one cannot be had now.
            redis.exceptions.RedisError: Redis does not answer.
        """
        missing = sorted(BOOK.missing(ids))
        if not missing:
            return
        pipe = self._redis.pipeline(transaction=False)
        for number in missing:
            pipe.get(keys.dictionary(number))
        found = await pipe.execute()
        await self._fetch_keys(found)
        for number, content in zip(missing, found, strict=True):
            if content:
                self._learn(number, content)
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
        await self._fetch_keys(row["content"] for row in rows)
        for row in rows:
            if self._learn(row["dictionary_id"], row["content"]):
                logger.warning("dictionary %d was not in Redis: put back", row["dictionary_id"])
                await self._redis.set(keys.dictionary(row["dictionary_id"]), row["content"])
        if gone := BOOK.missing(ids):
            logger.error("dictionaries %s are neither in Redis nor in PostgreSQL", sorted(gone))

    async def _fetch_keys(self, contents: Iterable[bytes | None]) -> None:
        if self._data_keys is not None and (wanted := key_ids(contents)):
            await self._data_keys.fetch(wanted)

    def _learn(self, number: int, content: bytes) -> bool:
        sealed = key_ids((content,))
        try:
            dictionary = Dictionary.of(DataKeys.open(content, dictionary_place(number)))
        except ErasedError:
            return False
        except CodecError as error:
            logger.error("dictionary %d cannot be used: %s", number, error)
            return False
        if dictionary.dictionary_id != number:
            logger.error("dictionary %d says that it is %d", number, dictionary.dictionary_id)
            return False
        for key_id in sealed:
            if key := KEYS.get(key_id):
                self._sealed[number] = key_id, key.month
        BOOK.add(dictionary)
        return True

    async def publish(self, tool_id: str, number: int, content: bytes) -> None:
        """Make a dictionary that PostgreSQL has the current one of its tool, everywhere.

        ``content`` is as it is there, sealed or not.

        Raises:
            UnconfirmedError: it is not yet as durable as events are.
            redis.exceptions.RedisError: Redis did not take it.
        """
        key = keys.dictionary(number)
        calls = [
            (key, ("SET", key, content)),
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
            except SealingKeyError as error:
                # payloads are packed without; those that need one wait, and say so
                logger.debug("dictionaries wait for their keys: %s", error)
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
