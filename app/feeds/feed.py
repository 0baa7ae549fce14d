"""Feeds: a context's updates, read by sequence number."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import orjson
from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics
from hookstream.app.errors import ConflictError, UnavailableError
from hookstream.app.feeds.generations import Generations
from hookstream.app.feeds.seals import FeedSeals
from hookstream.app.feeds.turns import FairTurns
from hookstream.app.feeds.wakeups import Moved, Wakeups
from hookstream.app.ids import partition_of
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.redis.durability import Durability
from hookstream.app.settings import Settings

__all__ = ["FeedEnd", "FeedProgress", "FeedUpdate", "Feeds"]

logger = get_logger(__name__)

#: Feeds that are read at once, each on a connection, however many clients there are.
READS_AT_ONCE = 32
#: Acknowledgements whose time is remembered, a context.
ACK_TIMES_KEPT = 10_000
#: Updates of a digest that are read at once where all of them are.
OPENED_AT_ONCE = 500
#: An owner renews its lease once a second.
HEARD_MS = 3000


@dataclass(frozen=True, slots=True)
class FeedUpdate:
    """One update: its sequence number and its JSON without that number."""

    seq: int
    body: bytes

    def readable(self) -> bool:
        """Whether its body is an object, as all of ours are; parsed only where it may not be."""
        if self.body[:9] == b'{"kind":"' and self.body[-1:] == b"}":
            return True
        try:
            return isinstance(orjson.loads(self.body), dict)
        except orjson.JSONDecodeError:
            return False

    def values(self, generation: int | None = None) -> dict[str, Any]:
        """The update as JSON values, with its number and, where given, the generation of that."""
        number = {} if generation is None else {"generation": generation}
        return {"type": "update", "seq": self.seq, **number, **orjson.loads(self.body)}

    def frame(self, generation: int) -> str:
        """The update as a client gets it."""
        number = f'"seq":{self.seq},"generation":{generation}'
        return f'{{"type":"update",{number},{self.body[1:].decode()}'


@dataclass(frozen=True, slots=True)
class FeedEnd:
    """How far a feed has come. ``settled``: its partition has an owner who has seen what is there.

    Until then what is missing (Redis has just come back with less, say) means nothing.
    ``renewed_ms``: when that owner has last said so (Unix ms, Redis's).
    """

    generations: Generations
    last: int
    settled: bool
    renewed_ms: int


@dataclass(frozen=True, slots=True)
class FeedProgress:
    """Numbers of a feed: the last one, the last acknowledged; updates that wait to be coalesced.

    ``trimmed_seq``: up to which number updates have gone, since their time was over.
    """

    last_seq: int
    acknowledged_seq: int
    throttled: int
    trimmed_seq: int = 0


class Feeds(Service):
    """Reads feeds for any number of clients, a few at a time."""

    mundane_level = "debug"

    def __init__(
        self,
        redis: Any,
        scripts: Scripts,
        settings: Settings,
        durability: Durability,
        seals: FeedSeals | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        self.seals = seals or FeedSeals()
        self._redis = redis
        self._scripts = scripts
        self._settings = settings
        self._durability = durability
        self._reads = asyncio.Semaphore(READS_AT_ONCE)
        #: For whoever folds many updates into one text: thousands of them are in memory meanwhile,
        #: and what counts tokens holds the interpreter.
        self.digesting = FairTurns(1)
        self._wakeups = Wakeups(redis, loop=self.loop, beacon=self.beacon)
        self.add_dependency(self._wakeups)

    def partition(self, tenant: str, context_id: str) -> int:
        """The partition that holds a context's feed."""
        return partition_of(self._settings.partitions, tenant, context_id)

    async def read(
        self,
        tenant: str,
        context_id: str,
        after: int,
        limit: int | None = None,
        *,
        before: int | None = None,
    ) -> list[FeedUpdate]:
        """The next updates past ``after``, at most ``HOOKSTREAM_FEED_READ_MAX_UPDATES``.

        ``before``: only those with lower numbers.
        """
        most = limit or self._settings.feed_read_max_updates
        end = f"({before}-0" if before else "+"
        return await self._updates("XRANGE", tenant, context_id, f"{after + 1}-0", end, most)

    async def newest(
        self, tenant: str, context_id: str, after: int, limit: int, *, before: int | None = None
    ) -> list[FeedUpdate]:
        """The newest updates past ``after``, at most ``limit``, in their order."""
        end = f"({before}-0" if before else "+"
        found = await self._updates("XREVRANGE", tenant, context_id, end, f"{after + 1}-0", limit)
        return found[::-1]

    async def holds(self, tenant: str, context_id: str, after: int, before: int) -> bool:
        """Whether there is an update between two numbers, though none may be shown yet."""
        key = keys.feed(self.partition(tenant, context_id), tenant, context_id)
        return bool(await self._redis.xrange(key, f"{after + 1}-0", f"({before}-0", count=1))

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
        bodies = await self.seals.opened(
            tenant, context_id, [fields.get(b"d", b"") for _, fields in entries]
        )
        found = [
            FeedUpdate(_number(entry_id), body)
            for (entry_id, _), body in zip(entries, bodies, strict=True)
        ]
        readable = [update for update in found if update.readable()]
        if len(readable) < len(found):
            bad = [update.seq for update in found if update not in readable]
            metrics.FEED_UNREADABLE.inc(len(bad))
            logger.error("%s: entries %s are no updates, and are passed over", key, bad[:10])
        return readable

    async def at(self, wanted: Sequence[tuple[str, str, int]]) -> list[bytes | None]:
        """Updates by tenant, context and number, as JSON with that; None for those that are gone.

        Nothing that a failover could still take back: for what is told outside.

        Raises:
            UnavailableError: no replica has them yet.
            SealingKeyError: a key cannot be had now.
        """
        places = [
            (self.partition(tenant, context), tenant, context) for tenant, context, _ in wanted
        ]
        pipe = self._redis.pipeline(transaction=False)
        for place, (_, _, seq) in zip(places, wanted, strict=True):
            pipe.xrange(keys.feed(*place), f"{seq}-0", f"{seq}-0")
        entries = await pipe.execute() if wanted else []
        for number in {number for number, _, _ in places}:
            if not await self._durability.barrier(keys.barrier(number)):
                raise UnavailableError("updates are on no replica yet")
        found: list[bytes | None] = []
        for (tenant, context, seq), entry in zip(wanted, entries, strict=True):
            bodies = [fields.get(b"d", b"") for _, fields in entry]
            opened = await self.seals.opened(tenant, context, bodies)
            readable = [one for body in opened if (one := FeedUpdate(seq, body)).readable()]
            found.append(orjson.dumps(readable[0].values()) if readable else None)
        return found

    async def coalesced(
        self, tenant: str, context_id: str, seq: int, start: int = 0, count: int | None = None
    ) -> list[dict[str, Any]]:
        """Updates that the digest update ``seq`` stands for, behind the place ``start``.

        JSON values with ``place`` (from 1) instead of ``seq``; none where ``seq`` is no digest.
        """
        number = self.partition(tenant, context_id)
        key = keys.coalesced_updates(number, tenant, context_id, seq)
        last = -1 if count is None else start + count - 1
        kept = await self._redis.lrange(key, start, last) if count != 0 else []
        bodies = await self.seals.opened(tenant, context_id, kept)
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
                inside = await self.coalesced(tenant, context_id, update.seq)
                total += len(inside)
            found.append([{**one, "seq": update.seq} for one in inside] or [value])
        return [value for values in reversed(found) for value in values]

    async def opened(
        self, tenant: str, context_id: str, updates: Sequence[FeedUpdate]
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """As :meth:`expand` for any number of them, some hundreds of values at a time."""
        values: list[dict[str, Any]] = []
        for update in updates:
            value = update.values()
            kind = value.get("kind")
            if kind == "daily":
                continue
            start = 0
            while kind == "digest":
                inside = await self.coalesced(tenant, context_id, update.seq, start, OPENED_AT_ONCE)
                if not inside:
                    break
                start += len(inside)
                yield [*values, *({**one, "seq": update.seq} for one in inside)]
                values = []
            if not start:
                values.append(value)
        yield values

    async def last_seq(self, tenant: str, context_id: str) -> int:
        """The highest sequence number of a context; 0 when it has no update yet."""
        number = self.partition(tenant, context_id)
        value = await self._redis.hget(keys.seqs(number), keys.feed_field(tenant, context_id))
        return int(value or 0)

    async def look(self, tenant: str, context_id: str) -> FeedEnd:
        """How far a feed has come, by what is there."""
        number = self.partition(tenant, context_id)
        begun, last, settled, renewed_ms = await self._scripts.call(
            "feed_end",
            [keys.lease(number), keys.feed(number, tenant, context_id), keys.seqs(number)],
            [keys.feed_field(tenant, context_id), HEARD_MS],
        )
        return FeedEnd(_generations(begun), int(last), bool(settled), int(renewed_ms))

    async def generations(self, numbers: Iterable[int]) -> dict[int, Generations]:
        """Those of the feeds of each partition; one pipeline."""
        wanted = list(numbers)
        pipe = self._redis.pipeline(transaction=False)
        for number in wanted:
            pipe.hget(keys.lease(number), "generations")
        replies = await pipe.execute() if wanted else []
        return {n: _generations(begun) for n, begun in zip(wanted, replies, strict=True)}

    async def unread(self, tenant: str, context_id: str, after: int) -> int:
        """How many updates there are past ``after``: numbers have gaps where a generation begins.

        What has gone, since its time was over, does not count.
        """
        after = max(after, await self.trimmed(tenant, context_id))
        end = await self.look(tenant, context_id)
        total = 0
        while into := end.generations.crossing(after):
            before = await self.newest(tenant, context_id, after, 1, before=into.start)
            total += before[-1].seq - after if before else 0
            after = into.start - 1
        return total + max(0, end.last - after)

    async def unread_each(
        self, names: Sequence[tuple[str, str]], progress: Sequence[FeedProgress]
    ) -> list[int]:
        """How many updates of each context (tenant, id) are not acknowledged, by its progress.

        One pipeline for all of them; each feed that has lost data since is looked at by itself.
        """
        begun = await self.generations({self.partition(*name) for name in names})
        return [
            await self.unread(*name, reached.acknowledged_seq)
            if begun[self.partition(*name)].crossing(reached.acknowledged_seq)
            else max(0, reached.last_seq - max(reached.acknowledged_seq, reached.trimmed_seq))
            for name, reached in zip(names, progress, strict=True)
        ]

    async def ends(self, reached: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
        """The last number in the feed of each context (tenant, id); ``reached`` is known of it.

        One pipeline for all of them; what cannot be told now is left out. Only where the numbers
        given out so far are others is a feed itself looked at: its end need not be there any more.
        Where that is lower too, Redis has lost what it had.
        """
        names = list(reached)
        pipe = self._redis.pipeline(transaction=False)
        for name in names:
            pipe.hget(keys.seqs(self.partition(*name)), keys.feed_field(*name))
        given = await pipe.execute(raise_on_error=False) if names else []
        ahead = [
            name
            for name, last in zip(names, given, strict=True)
            if isinstance(last, Exception) or int(last or 0) != reached[name]
        ]
        pipe = self._redis.pipeline(transaction=False)
        for name in ahead:
            pipe.xrevrange(keys.feed(self.partition(*name), *name), count=1)
        newest = await pipe.execute(raise_on_error=False) if ahead else []
        found = {
            name: _number(entries[0][0]) if entries else 0
            for name, entries in zip(ahead, newest, strict=True)
            if not isinstance(entries, Exception)
        }
        same = {name: reached[name] for name in names if name not in set(ahead)}
        return same | found

    async def acknowledged(self, tenant: str, context_id: str) -> int:
        """The sequence number up to which a client has acknowledged; 0 when none has."""
        number = self.partition(tenant, context_id)
        value = await self._redis.hget(keys.acks(number), keys.feed_field(tenant, context_id))
        return int(value or 0)

    async def progress(self, names: Sequence[tuple[str, str]]) -> list[FeedProgress]:
        """How far each context (tenant, id) and its clients have come: one pipeline."""
        pipe = self._redis.pipeline(transaction=False)
        for tenant, context_id in names:
            number, field = self.partition(tenant, context_id), keys.feed_field(tenant, context_id)
            for hash_of in (keys.seqs, keys.acks, keys.throttled, keys.trimmed):
                pipe.hget(hash_of(number), field)
        found = iter(await pipe.execute() if names else ())
        return [FeedProgress(*(int(next(found) or 0) for _ in range(4))) for _ in names]

    async def trimmed(self, tenant: str, context_id: str) -> int:
        """Up to which number updates have gone, since their time was over; 0 where none have."""
        number = self.partition(tenant, context_id)
        value = await self._redis.hget(keys.trimmed(number), keys.feed_field(tenant, context_id))
        return int(value or 0)

    async def acknowledge(self, tenant: str, context_id: str, seq: int, generation: int = 0) -> int:
        """Keep ``seq`` as acknowledged, never going back; returns the number now kept.

        Raises:
            ConflictError: no update has that number yet, or it names a ``generation`` (0: none)
                that this number is not of, here; what is kept stays as it is.
        """
        number = self.partition(tenant, context_id)
        if generation:
            await self._check_generation(tenant, context_id, seq, generation)
        kept = int(
            await self._scripts.call(
                "acknowledge",
                [
                    keys.acks(number),
                    keys.seqs(number),
                    keys.ack_times(number, tenant, context_id),
                    keys.feed(number, tenant, context_id),
                ],
                [keys.feed_field(tenant, context_id), seq, ACK_TIMES_KEPT],
            )
        )
        if kept < 0:
            last = (await self.look(tenant, context_id)).last
            raise ConflictError(
                f"there is no update {seq} here: the feed ends at {last}. Acknowledge what was read"
            )
        return kept

    async def _check_generation(
        self, tenant: str, context_id: str, seq: int, generation: int
    ) -> None:
        end = await self.look(tenant, context_id)
        generations, last = end.generations, end.last
        if generation == generations.current and seq <= last:
            return
        # of an earlier one, what is still there counts, and what went since its time was over
        there = bool(seq) and (
            seq <= await self.trimmed(tenant, context_id)
            or bool(await self.read(tenant, context_id, seq - 1, 1, before=seq + 1))
        )
        if not there or generations.at(seq - 1) != generation:
            raise ConflictError(
                f"there is no update {seq} of generation {generation} here: this feed is at "
                f"{last} of generation {generations.current}; a reset says where it goes on"
            )

    @property
    def wakeups_trouble(self) -> str:
        """Why pub/sub tells nothing of new updates; "" while it does."""
        return self._wakeups.trouble

    def watch(self, tenant: str, context_id: str) -> AbstractContextManager[Moved]:
        """An event that is set whenever the feed may have moved, once a second at least."""
        return self._wakeups.watch(keys.feed_channel(tenant, context_id))


def _generations(kept: bytes | None) -> Generations:
    """Those in a lease; none where they cannot be read."""
    try:
        return Generations.decode((kept or b"").decode())
    except ValueError:
        return Generations()


def _number(entry_id: bytes) -> int:
    """The sequence number of an entry of a feed."""
    return int(entry_id.partition(b"-")[0])
