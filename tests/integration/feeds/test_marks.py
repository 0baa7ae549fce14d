"""What workers remember of partitions, on real servers that lose data or are away."""

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis.asyncio

from hookstream.app.clock import RedisClock
from hookstream.app.errors import FencedError, UnavailableError
from hookstream.app.feeds.generations import MARGIN, Generations
from hookstream.app.feeds.marks import Marks
from hookstream.app.feeds.state import FeedState, learn_feeds
from hookstream.app.ids import partition_of
from hookstream.app.postgres.pool import Postgres
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.redis.durability import Durability
from hookstream.app.settings import Settings
from hookstream.app.streams.commit import Writes, commit
from hookstream.app.streams.partition import Partition
from tests.support.stack import free_port

PARTITIONS = 4
NAME = ("default", "c")
NUMBER = partition_of(PARTITIONS, *NAME)
FIELD = "/".join(NAME)


class Worker:
    """As much of a worker as takes marks: a state folder, and the partitions that it owns."""

    def __init__(
        self, redis: Any, postgres: Postgres, folder: Path, *, mode: str = "local", **catalog: Any
    ) -> None:
        contexts = catalog.get("contexts", {NAME: None})
        self.parts = SimpleNamespace(
            redis=redis,
            scripts=Scripts(redis),
            postgres=postgres,
            clock=RedisClock(),
            durability=Durability(redis, mode),
            catalog=SimpleNamespace(
                current=SimpleNamespace(contexts=contexts), loaded=catalog.get("loaded", True)
            ),
        )
        folder.mkdir(exist_ok=True)
        settings = Settings(state_dir=str(folder), partitions=PARTITIONS)
        self.owned: dict[int, Partition] = {}
        self.marks = Marks(
            redis,
            self.parts.scripts,
            self.parts.durability,
            postgres,
            self.parts.catalog,
            settings,
            now_ms=self.parts.clock.now_ms,
            owned=lambda: self.owned,
        )

    async def claim(self, nonce: str) -> Partition:
        """Claim the partition and compare it with what is remembered."""
        scripts = self.parts.scripts
        taken, epoch, *lease = await scripts.call(
            "claim", [keys.lease(NUMBER)], [f"w-{id(self)}", nonce, 60_000]
        )
        assert taken
        partition = Partition(NUMBER, int(epoch), nonce)
        partition.add(FeedState())
        fields = dict(zip(lease[::2], lease[1::2], strict=True))
        partition.sequence = int(fields.get(b"sequence", 0))
        await self.marks.settle(partition, fields)
        self.owned = {NUMBER: partition}
        return partition

    async def number(self, partition: Partition, count: int = 1) -> int:
        """Commit that many updates; returns the last number."""
        await learn_feeds(self.parts.scripts, partition, [FIELD])
        for _ in range(count):
            seq = partition[FeedState].seqs[FIELD] + 1
            writes = Writes()
            writes.add("XADD", keys.feed(NUMBER, *NAME), f"{seq}-0", "d", b"{}")
            writes.add("HSET", keys.seqs(NUMBER), FIELD, seq)
            await commit(self.parts.scripts, partition, "folds", writes)
            partition[FeedState].seqs[FIELD] = seq
        return partition[FeedState].seqs[FIELD]

    async def release(self) -> None:
        """Let it go, so that another may claim it."""
        for partition in self.owned.values():
            self.marks.leave(partition)
            lease = keys.lease(NUMBER)
            await self.parts.scripts.call("renew", [lease], [partition.epoch, partition.nonce, 0])
        self.owned = {}


Make = Callable[..., Worker]


@pytest.fixture
async def make(
    redis_client: "redis.asyncio.Redis", postgres_url: str, tmp_path: Path
) -> AsyncIterator[Make]:
    postgres = Postgres(postgres_url)
    await postgres.execute("DELETE FROM partition_marks")
    await postgres.execute("DELETE FROM deliveries")
    away = Postgres(f"postgresql://x@127.0.0.1:{free_port()}/x")

    def made(folder: str, *, without_postgres: bool = False, **more: Any) -> Worker:
        used = away if without_postgres else postgres
        return Worker(redis_client, used, tmp_path / folder, **more)

    yield made
    await postgres.execute("DELETE FROM partition_marks")
    await postgres.on_stop()


async def generations(redis_client: "redis.asyncio.Redis") -> Generations:
    kept = await redis_client.hget(keys.lease(NUMBER), "generations")
    return Generations.decode(kept.decode())


async def test_what_one_worker_noted_another_finds_missing(
    make: Make, redis_client: "redis.asyncio.Redis"
) -> None:
    first = make("one")
    assert await first.number(await first.claim("a"), 7) == 7
    await first.marks.remember()
    await first.marks.record()
    before = await generations(redis_client)
    await redis_client.flushall()
    second = make("two")
    partition = await second.claim("b")
    after = await generations(redis_client)
    assert after.begun[:-1] == before.begun
    assert after.current > before.current
    assert await second.number(partition) == after.start == 7 + MARGIN + 1
    # the count of partitions is put back
    assert await redis_client.hget(keys.META, "partitions") == str(PARTITIONS).encode()
    # what the first one says late, of before, takes nothing back
    await second.marks.remember()
    await second.marks.record()
    first.marks._noted.clear()
    await first.marks.record()
    third = make("three")
    await second.release()
    await third.claim("c")
    assert await generations(redis_client) == after


async def test_going_over_and_coming_back_is_no_loss(
    make: Make, redis_client: "redis.asyncio.Redis"
) -> None:
    workers = [make("one"), make("two"), make("one-too", without_postgres=True)]
    for turn in range(6):
        worker = workers[turn % 3]
        assert await worker.number(await worker.claim(f"n{turn}"), 3) == 3 * (turn + 1)
        await worker.marks.remember()
        await worker.marks.check()
        if turn % 3 < 2:
            await worker.marks.record()
        await worker.release()
    assert len((await generations(redis_client)).begun) == 1


async def test_a_state_folder_remembers_without_postgresql(
    make: Make, redis_client: "redis.asyncio.Redis"
) -> None:
    first = make("one", without_postgres=True)
    await first.number(await first.claim("a"), 5)
    await first.marks.remember()
    await redis_client.flushall()
    # a new process; how high numbers have come is not certain: the time is above them
    again = make("one", without_postgres=True)
    now_ms = time.time() * 1000
    assert await again.number(await again.claim("b")) >= now_ms - 60_000


@pytest.mark.parametrize("contexts", [{NAME: None}, {}])
async def test_an_empty_redis_of_which_nobody_can_be_asked(
    make: Make, redis_client: "redis.asyncio.Redis", contexts: dict[Any, Any]
) -> None:
    await make("one", without_postgres=True, contexts=contexts).claim("a")
    start = (await generations(redis_client)).start
    assert start > 10**12 if contexts else start == 1


async def test_before_anything_is_known_an_empty_partition_waits(make: Make) -> None:
    worker = make("one", without_postgres=True, contexts={}, loaded=False)
    with pytest.raises(UnavailableError):
        await worker.claim("a")


async def test_what_was_claimed_without_postgresql_is_looked_at_when_it_is_back(
    make: Make, redis_client: "redis.asyncio.Redis"
) -> None:
    first = make("one")
    await first.number(await first.claim("a"), 7)
    await first.marks.remember()
    await first.marks.record()
    await first.release()
    # an older copy: three commits and their numbers are gone
    await redis_client.hset(keys.lease(NUMBER), "sequence", 4)
    await redis_client.hset(keys.seqs(NUMBER), FIELD, 4)
    await redis_client.xtrim(keys.feed(NUMBER, *NAME), maxlen=4, approximate=False)
    await redis_client.delete(keys.feed(NUMBER, *NAME))
    worker = make("two", without_postgres=True)
    partition = await worker.claim("b")
    assert await worker.number(partition, 20) == 24
    worker.marks._postgres = first.parts.postgres
    worker.marks._pause_until = 0.0
    await worker.marks.check()
    with pytest.raises(FencedError):
        await worker.number(partition)
    await worker.release()
    assert await worker.number(await worker.claim("c")) >= 24 + MARGIN
    assert len((await generations(redis_client)).begun) == 2


async def test_an_event_log_ahead_of_an_earlier_releases_redis_is_a_loss(
    make: Make, redis_client: "redis.asyncio.Redis"
) -> None:
    worker = make("one")
    postgres = worker.parts.postgres
    await postgres.execute("INSERT INTO contexts VALUES ($1, $2, '', 'normal')", *NAME)
    await postgres.execute(
        "INSERT INTO deliveries VALUES ($1, $2, 500, gen_random_uuid(), NULL, now())", *NAME
    )
    try:
        # how far behind the log was nobody knows: the time is above all
        assert await worker.number(await worker.claim("a")) > 10**12
    finally:
        await postgres.execute("DELETE FROM contexts WHERE context_id = $1", NAME[1])


async def test_with_replicas_only_what_is_on_one_counts(
    make: Make, redis_client: "redis.asyncio.Redis"
) -> None:
    worker = make("one", mode="replicated")
    partition = await worker.claim("a")
    known = worker.marks._known[NUMBER]
    await worker.number(partition, 3)
    await worker.marks.remember()  # no replica confirms it
    worker.marks.leave(partition)
    assert worker.marks._known[NUMBER] == known


async def test_a_lease_that_is_gone_alone_is_no_loss(
    make: Make, redis_client: "redis.asyncio.Redis"
) -> None:
    """Numbers and feeds are there: how many commits there were is remembered elsewhere."""
    first = make("one")
    await first.number(await first.claim("a"), 7)
    await first.marks.remember()
    await first.marks.record()
    before = (await generations(redis_client)).begun
    await redis_client.delete(keys.lease(NUMBER))
    worker = make("two")
    assert await worker.number(await worker.claim("b")) == 8
    assert (await generations(redis_client)).begun == before
    await worker.marks.remember()
    await worker.marks.record()
    await worker.release()
    # and whoever remembers the time before does not take it for a loss
    assert await first.number(await first.claim("c")) == 9
    # with the feeds' numbers it is one
    await redis_client.delete(keys.lease(NUMBER), keys.seqs(NUMBER), keys.feed(NUMBER, *NAME))
    assert await first.number(await first.claim("d")) > MARGIN
