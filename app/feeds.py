"""Feeds: a context's updates, read by sequence number."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import orjson
from mode import Service

from hookstream.app import keys
from hookstream.app.cues import Cues
from hookstream.app.durable import Durability
from hookstream.app.ids import partition_of
from hookstream.app.redis_client import Scripts
from hookstream.app.settings import Settings

__all__ = ["FeedProgress", "FeedUpdate", "Feeds", "feed_field"]

#: Feeds that are read at once, each on a connection, however many clients there are.
READS_AT_ONCE = 32
#: Acknowledgements whose time is remembered, a context.
ACK_TIMES_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class FeedUpdate:
    """One update: its sequence number and its JSON without that number."""

    seq: int
    body: bytes

    def values(self) -> dict[str, Any]:
        """The update as JSON values, with its number."""
        return {"type": "update", "seq": self.seq, **orjson.loads(self.body)}

    def frame(self) -> str:
        """The update as a client gets it."""
        return f'{{"type":"update","seq":{self.seq},{self.body[1:].decode()}'


@dataclass(frozen=True, slots=True)
class FeedProgress:
    """Numbers of a feed: the last one, the last acknowledged; updates that wait to be folded."""

    last_seq: int
    acknowledged_seq: int
    withheld: int


def feed_field(tenant: str, context_id: str) -> str:
    """The field of a context in the hashes of its partition."""
    return f"{tenant}/{context_id}"


class Feeds(Service):
    """Reads feeds for any number of clients, a few at a time."""

    mundane_level = "debug"

    def __init__(
        self,
        redis: Any,
        scripts: Scripts,
        settings: Settings,
        durability: Durability,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        self._redis = redis
        self._scripts = scripts
        self._settings = settings
        self._durability = durability
        self._reads = asyncio.Semaphore(READS_AT_ONCE)
        self._cues = Cues(redis, loop=self.loop, beacon=self.beacon)
        self.add_dependency(self._cues)

    def partition(self, tenant: str, context_id: str) -> int:
        """The partition that holds a context's feed."""
        return partition_of(self._settings.partitions, tenant, context_id)

    async def read(
        self, tenant: str, context_id: str, after: int, limit: int | None = None
    ) -> list[FeedUpdate]:
        """The next updates past ``after``, at most ``HOOKSTREAM_FEED_READ_MAX_UPDATES``."""
        most = limit or self._settings.feed_read_max_updates
        return await self._updates("XRANGE", tenant, context_id, f"{after + 1}-0", "+", most)

    async def newest(
        self, tenant: str, context_id: str, after: int, limit: int
    ) -> list[FeedUpdate]:
        """The newest updates past ``after``, at most ``limit``, in their order."""
        found = await self._updates("XREVRANGE", tenant, context_id, "+", f"{after + 1}-0", limit)
        return found[::-1]

    async def _updates(
        self, command: str, tenant: str, context_id: str, start: str, end: str, count: int
    ) -> list[FeedUpdate]:
        """What ``command`` gives of a feed; nothing that a failover could still take back."""
        number = self.partition(tenant, context_id)
        key = keys.feed(number, tenant, context_id)
        async with self._reads:
            entries = await self._redis.execute_command(command, key, start, end, "COUNT", count)
            if entries and not await self._durability.barrier(keys.barrier(number)):
                return []
        return [FeedUpdate(_number(entry_id), fields[b"d"]) for entry_id, fields in entries]

    async def folded(
        self, tenant: str, context_id: str, seq: int, start: int = 0, count: int | None = None
    ) -> list[dict[str, Any]]:
        """Updates that the digest update ``seq`` stands for, behind the place ``start``.

        JSON values with ``place`` (from 1) instead of ``seq``; none where ``seq`` is no digest.
        """
        number = self.partition(tenant, context_id)
        key = keys.folded_updates(number, tenant, context_id, seq)
        last = -1 if count is None else start + count - 1
        bodies = await self._redis.lrange(key, start, last) if count != 0 else []
        return [{"place": at, **orjson.loads(body)} for at, body in enumerate(bodies, start + 1)]

    async def expand(
        self, tenant: str, context_id: str, updates: Sequence[FeedUpdate], limit: int = 5000
    ) -> list[dict[str, Any]]:
        """``updates`` as JSON values, with what digest updates among them stand for in their place.

        Those bear the number of their digest. The newest digests are opened first, for ``limit``
        updates in all; daily summaries, which tell of others once more, are left out.
        """
        found: list[list[dict[str, Any]]] = []
        total = len(updates)
        for update in reversed(updates):
            value = update.values()
            kind = value.get("kind")
            if kind == "daily":
                continue
            inside: list[dict[str, Any]] = []
            if kind == "digest" and total + value["folded"]["count"] <= limit:
                inside = await self.folded(tenant, context_id, update.seq)
                total += len(inside)
            found.append([{**one, "seq": update.seq} for one in inside] or [value])
        return [value for values in reversed(found) for value in values]

    async def last_seq(self, tenant: str, context_id: str) -> int:
        """The highest sequence number of a context; 0 when it has no update yet."""
        number = self.partition(tenant, context_id)
        value = await self._redis.hget(keys.seqs(number), feed_field(tenant, context_id))
        return int(value or 0)

    async def ends(self, reached: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
        """The last number in the feed of each context (tenant, id) that has one past ``reached``.

        One pipeline for all of them; what cannot be told now is left out. Only where the numbers
        given out so far are higher is a feed itself looked at: its end need not be there any more.
        """
        names = list(reached)
        pipe = self._redis.pipeline(transaction=False)
        for name in names:
            pipe.hget(keys.seqs(self.partition(*name)), feed_field(*name))
        given = await pipe.execute(raise_on_error=False) if names else []
        ahead = [
            name
            for name, last in zip(names, given, strict=True)
            if isinstance(last, Exception) or int(last or 0) > reached[name]
        ]
        pipe = self._redis.pipeline(transaction=False)
        for name in ahead:
            pipe.xrevrange(keys.feed(self.partition(*name), *name), count=1)
        newest = await pipe.execute(raise_on_error=False) if ahead else []
        found = {
            name: _number(entries[0][0])
            for name, entries in zip(ahead, newest, strict=True)
            if entries and not isinstance(entries, Exception)
        }
        return {name: end for name, end in found.items() if end > reached[name]}

    async def acknowledged(self, tenant: str, context_id: str) -> int:
        """The sequence number up to which a client has acknowledged; 0 when none has."""
        number = self.partition(tenant, context_id)
        value = await self._redis.hget(keys.acks(number), feed_field(tenant, context_id))
        return int(value or 0)

    async def progress(self, names: Sequence[tuple[str, str]]) -> list[FeedProgress]:
        """How far each context (tenant, id) and its clients have come: one pipeline."""
        pipe = self._redis.pipeline(transaction=False)
        for tenant, context_id in names:
            number, field = self.partition(tenant, context_id), feed_field(tenant, context_id)
            for key in (keys.seqs(number), keys.acks(number), keys.withheld(number)):
                pipe.hget(key, field)
        found = iter(await pipe.execute() if names else ())
        return [FeedProgress(*(int(next(found) or 0) for _ in range(3))) for _ in names]

    async def acknowledge(self, tenant: str, context_id: str, seq: int) -> int:
        """Keep ``seq`` as acknowledged, never going back; returns the number now kept."""
        number = self.partition(tenant, context_id)
        return int(
            await self._scripts.call(
                "acknowledge",
                [
                    keys.acks(number),
                    keys.seqs(number),
                    keys.ack_times(number, tenant, context_id),
                ],
                [feed_field(tenant, context_id), seq, ACK_TIMES_KEPT],
            )
        )

    def watch(self, tenant: str, context_id: str) -> AbstractContextManager[asyncio.Event]:
        """An event that is set whenever the feed may have moved, once a second at least."""
        return self._cues.watch(keys.feed_channel(tenant, context_id))


def _number(entry_id: bytes) -> int:
    """The sequence number of an entry of a feed."""
    return int(entry_id.partition(b"-")[0])
