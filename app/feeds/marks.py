"""What is remembered of partitions outside Redis, and what follows where Redis has less.

Every worker keeps in memory, in its state folder and in PostgreSQL how many commits each partition
has had, about once a second. Whoever claims one and finds fewer knows that Redis has lost data: the
partition's feeds begin a new generation before anything is numbered (decision 110). Where
PostgreSQL does not answer within a second the claim goes on with what is known here, and is looked
at again when it is back.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import orjson
from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.errors import OutdatedError, UnavailableError
from hookstream.app.feeds.generations import (
    MARGIN,
    Generations,
    Mark,
    Verdict,
    begin,
    judge,
    newest,
)
from hookstream.app.feeds.state import FeedState, learn_feeds
from hookstream.app.ids import partition_of
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS, Scripts, is_cluster
from hookstream.app.redis.durability import Durability
from hookstream.app.settings import Settings
from hookstream.app.stores.catalog import CatalogCache
from hookstream.app.streams.partition import Partition

__all__ = ["Marks"]

logger = get_logger(__name__)

#: How often marks are taken; how often those of others' partitions are, and how often what has not
#: moved is noted again.
TURN_SECONDS = 1.0
OTHERS_EVERY = 5
AGAIN_SECONDS = 30.0
#: How long a claim waits for PostgreSQL, and how long none waits when that was in vain.
WAIT_SECONDS = 1.0
PAUSE_SECONDS = 5.0
#: How long it is waited for where nothing else could be done anyway.
START_SECONDS = 10.0
#: How often at most that is done where numbers could go on without it.
INSIST_SECONDS = 30.0
#: A mark in PostgreSQL that was noted so lately names the highest number, but for the margin.
CERTAIN_SECONDS = 600.0
#: For so long an answer of PostgreSQL counts for further claims.
ASKED_SECONDS = 5.0


class Marks(Service):
    """Takes marks, keeps them, and compares what is claimed with them."""

    mundane_level = "debug"

    def __init__(
        self,
        redis: Any,
        scripts: Scripts,
        durability: Durability,
        postgres: Postgres,
        catalog: CatalogCache,
        settings: Settings,
        *,
        now_ms: Callable[[], int],
        owned: Callable[[], Mapping[int, Partition]],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._redis = redis
        self._scripts = scripts
        self._durability = durability
        self._postgres = postgres
        self._catalog = catalog
        self._now_ms = now_ms
        self._settings = settings
        self._owned = owned
        self._path: Path = settings.state_path / "marks.json"
        #: What this state folder remembers; of which what it has owned itself in this process.
        self._known: dict[int, Mark] = self._load()
        self._own: dict[int, Mark] = {}
        self._recorded: dict[int, Mark] = {}
        self._ages: dict[int, float] = {}
        self._tops: dict[int, dict[str, int]] = {}
        self._asked_at = self._tops_at = -ASKED_SECONDS
        self._pause_until = 0.0
        self._insisted_at = -INSIST_SECONDS
        self._noted: dict[int, Mark] = {}
        self._noted_at = 0.0
        #: Partitions that were claimed while PostgreSQL could not be asked: by which claim, and
        #: what was found.
        self._unchecked: dict[int, tuple[str, Mark]] = {}
        self._saved: dict[int, Mark] = {}
        self._turn = 0

    # -- claims

    async def look(self, patience_seconds: float = WAIT_SECONDS) -> None:
        """Ask PostgreSQL what it remembers, for a second at most."""
        if time.monotonic() - self._asked_at < ASKED_SECONDS:
            return
        rows = await self._ask("partition_marks", patience_seconds)
        if rows is None:
            return
        for row in rows:
            mark = Mark(Generations.decode(row["generations"]), row["sequence"], row["top"])
            self._recorded[row["partition"]] = mark
            self._ages[row["partition"]] = row["age_seconds"]
        self._asked_at = time.monotonic()

    async def settle(
        self, partition: Partition, lease: Mapping[bytes, bytes], *, again: bool = False
    ) -> None:
        """Compare a claimed partition with what is remembered; begin a generation where needed.

        To be called before anything of it is numbered.

        Raises:
            FencedError: another owner has it.
            redis.exceptions.RedisError: what the server said.
        """
        number, state = partition.number, partition[FeedState]
        await self.look()
        state.generations = _decoded(number, lease.get(b"generations", b""))
        given = await self._redis.hgetall(keys.seqs(number))
        numbers = {name.decode(): int(seq) for name, seq in given.items()}
        state.top = max(numbers.values(), default=0)
        found = mark_of(partition)
        known = newest(self._known.get(number), self._recorded.get(number))
        asked = time.monotonic() - self._asked_at < ASKED_SECONDS
        ahead = False
        if not found.generations.begun:
            # of an earlier release, or gone: the event log has its own memory
            tops = await self._tops_of(number)
            asked = asked and tops is not None
            ahead = await self._is_ahead(partition, tops or {})
            found = mark_of(partition)
            state.top = found.top
            state.seqs.clear()  # learnt again, above the first number of the generation
        verdict = judge(found, known, asked=asked, ahead=ahead)
        if verdict is Verdict.UNSURE:
            resolved = await self._resolve(number)
            if resolved is None and not again:
                # PostgreSQL has answered meanwhile: compared once more, the claim stands
                await self.settle(partition, lease, again=True)
                return
            verdict = resolved or verdict
        if verdict is Verdict.FORGOTTEN and known is not None:
            state.generations = known.generations
            partition.sequence = partition.claimed_sequence = known.sequence + MARGIN
            logger.warning("partition %d: its lease was gone; its feeds go on as they were", number)
            await self._write(partition, partition.sequence)
        elif verdict is not Verdict.KEPT:
            await self._begin(partition, verdict, found, known)
        else:
            await self._write(partition)
        self._take(partition)
        self._unchecked.pop(number, None)
        if not asked:
            self._unchecked[number] = (partition.nonce, mark_of(partition))

    async def _is_ahead(self, partition: Partition, tops: Mapping[str, int]) -> bool:
        """Whether the event log has a higher number of some context than its feed."""
        await learn_feeds(self._scripts, partition, tops)
        return any(seq > partition[FeedState].seqs[name] for name, seq in tops.items())

    async def _resolve(self, number: int) -> Verdict | None:
        """What an empty partition is of which nobody could be asked; None: now somebody could.

        Raises:
            UnavailableError: it does not matter yet: no context is known that could get anything.
        """
        catalog = self._catalog
        names = catalog.current.contexts
        if any(partition_of(self._settings.partitions, *name) == number for name in names):
            if time.monotonic() - self._insisted_at > INSIST_SECONDS:
                # a server that is only slow is worth the wait: numbers go on where they were
                self._insisted_at = time.monotonic()
                self._pause_until = 0.0
                await self.look(START_SECONDS)
            asked = time.monotonic() - self._asked_at < ASKED_SECONDS
            return None if asked else Verdict.UNSURE
        if catalog.loaded:
            return Verdict.FRESH
        self._pause_until = 0.0
        await self.look(START_SECONDS)
        if time.monotonic() - self._asked_at < ASKED_SECONDS:
            return None
        raise UnavailableError("PostgreSQL has not said yet whether there was anything before")

    async def _begin(
        self, partition: Partition, verdict: Verdict, found: Mark, known: Mark | None
    ) -> None:
        number, state = partition.number, partition[FeedState]
        top, certain = max(state.top, known.top if known else 0), True
        if verdict is not Verdict.FRESH:
            tops = await self._tops_of(number)
            top = max(top, *(tops or {}).values(), 0)
            certain = self._is_certain(number, known)
        generations = begin(
            verdict,
            found.generations,
            known,
            now_ms=self._now_ms(),
            top=top,
            certain=certain,
        )
        state.generations = generations
        await self._write(partition)
        # it goes with all else; who starts with another count must be refused all the same
        await self._redis.hsetnx(keys.META, "partitions", str(self._settings.partitions))
        if verdict is Verdict.FRESH:
            return
        contexts = self._catalog.current.contexts
        feeds = sum(partition_of(self._settings.partitions, *name) == number for name in contexts)
        metrics.FEED_RESETS.inc(feeds)
        logger.error(
            "partition %d: Redis has lost data: it has had %d commits, and %s are remembered; its "
            "feeds go on at number %d, as generation %d. See `hookstream doctor --loss`",
            number,
            found.sequence,
            known.sequence if known else "unknown ones",
            generations.start,
            generations.current,
        )

    async def _write(self, partition: Partition, *sequence: int) -> None:
        await self._scripts.call(
            "settle",
            [keys.lease(partition.number)],
            [
                partition.epoch,
                partition.nonce,
                partition[FeedState].generations.encode(),
                *sequence,
            ],
        )

    def _is_certain(self, number: int, known: Mark | None) -> bool:
        """Whether the highest number that is remembered is, but for a few seconds, the highest."""
        if known is None:
            return False
        own, recorded = self._own.get(number), self._recorded.get(number)
        if own is not None and own.order == known.order:
            return True
        lately = self._ages.get(number, CERTAIN_SECONDS) < CERTAIN_SECONDS
        return recorded is not None and recorded.order == known.order and lately

    def leave(self, partition: Partition) -> None:
        """Remember a partition that is revoked."""
        if self._durability.mode != "replicated":
            # else what a failover may still take back was shown to nobody
            self._take(partition)

    def _take(self, partition: Partition) -> None:
        self._own[partition.number] = mark = mark_of(partition)
        self._keep(partition.number, mark)

    def _keep(self, number: int, mark: Mark) -> None:
        merged = newest(self._known.get(number), mark)
        assert merged is not None
        self._known[number] = merged

    # -- memory

    @tasks.loop
    async def _remember(self) -> None:
        while not self.should_stop:
            try:
                await self.remember()
            except REDIS_ERRORS as error:
                logger.debug("cannot take marks: %s", error)
            await self.sleep(TURN_SECONDS)

    async def remember(self) -> None:
        """Take marks of this worker's partitions, and now and then of the others', and save them.

        With ``replicated`` only what is on a replica: anything else may be taken back without
        anybody having seen it.
        """
        partitions = [one for one in self._owned().values() if one.lost is None and not one.closed]
        own = {one.number: mark_of(one) for one in partitions}
        others = await self._read_others(own) if self._turn % OTHERS_EVERY == 0 else {}
        self._turn += 1
        moved = {n: m for n, m in (own | others).items() if m != self._known.get(n)}
        confirmed = await self._confirm(moved)
        for number in confirmed:
            self._keep(number, moved[number])
            if number in own:
                self._own[number] = own[number]
        await self._save()

    async def _read_others(self, own: Mapping[int, Mark]) -> dict[int, Mark]:
        """What the leases of partitions say that others own."""
        numbers = [n for n in range(self._settings.partitions) if n not in own]
        pipe = self._redis.pipeline(transaction=False)
        for number in numbers:
            pipe.hmget(keys.lease(number), "generations", "sequence")
        replies = await pipe.execute(raise_on_error=False) if numbers else []
        return {
            number: Mark(_decoded(number, reply[0]), int(reply[1] or 0))
            for number, reply in zip(numbers, replies, strict=True)
            if isinstance(reply, list) and reply[0]
        }

    async def _confirm(self, numbers: Iterable[int]) -> list[int]:
        wanted = list(numbers)
        durability = self._durability
        if not wanted or durability.mode != "replicated":
            return wanted
        if not is_cluster(self._redis):
            # one server: what is behind its last write is on the replica too
            return wanted if await durability.barrier(keys.barrier(wanted[0])) else []
        sure = await asyncio.gather(*(durability.barrier(keys.barrier(n)) for n in wanted))
        return [number for number, there in zip(wanted, sure, strict=True) if there]

    def _load(self) -> dict[int, Mark]:
        try:
            kept = orjson.loads(self._path.read_bytes())
            return {
                int(number): Mark(Generations.decode(generations), int(sequence), int(top))
                for number, (generations, sequence, top) in kept.items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            logger.warning("%s cannot be read and is begun anew: %s", self._path, error)
            return {}

    async def _save(self) -> None:
        if self._saved == self._known:
            return
        known = dict(self._known)
        lines = {
            str(number): [mark.generations.encode(), mark.sequence, mark.top]
            for number, mark in known.items()
        }
        try:
            await asyncio.to_thread(_replace, self._path, orjson.dumps(lines))
        except OSError as error:
            logger.debug("%s cannot be written: %s", self._path, error)
        else:
            self._saved = known

    # -- PostgreSQL

    @tasks.loop
    async def _record(self) -> None:
        while not self.should_stop:
            await self.sleep(TURN_SECONDS)
            try:
                await self.check()
                await self.record()
            except (UnavailableError, asyncpg.PostgresError, *REDIS_ERRORS) as error:
                logger.debug("marks are not in PostgreSQL yet: %s", error)

    async def check(self) -> None:
        """Look again at what was claimed while PostgreSQL could not be asked."""
        if not self._unchecked:
            return
        self._asked_at = -ASKED_SECONDS
        await self.look()
        if self._asked_at < 0:
            return
        for number, (nonce, found) in list(self._unchecked.items()):
            partition, known = self._owned().get(number), self._recorded.get(number)
            if partition is not None and partition.nonce == nonce and known is not None:
                verdict = judge(found, known, asked=True, ahead=False)
                if verdict is Verdict.LOST:
                    await self._begin_late(partition, found, known)
            self._unchecked.pop(number, None)

    async def _begin_late(self, partition: Partition, found: Mark, known: Mark) -> None:
        """It has numbered since; from here on it numbers above all that is remembered."""
        async with partition.committing:
            partition.check()
            partition[FeedState].top = mark_of(partition).top
            try:
                await self._begin(partition, Verdict.LOST, found, newest(known, mark_of(partition)))
            finally:
                # also where the answer is lost: what is known here is not what Redis has
                partition.lose(OutdatedError("Redis has lost data of it: its feeds begin anew"))

    async def record(self) -> None:
        """Note in PostgreSQL how far this worker's partitions have come."""
        now = time.monotonic()
        every = now - self._noted_at > AGAIN_SECONDS
        marks = {
            partition.number: self._own[partition.number]
            for partition in self._owned().values()
            if partition.number in self._own and partition.number not in self._unchecked
        }
        moved = {n: mark for n, mark in marks.items() if every or mark != self._noted.get(n)}
        if moved:
            await self._postgres.execute(
                statement("note_partitions"),
                list(moved),
                [mark.generations.current for mark in moved.values()],
                [mark.generations.encode() for mark in moved.values()],
                [mark.sequence for mark in moved.values()],
                [mark.top for mark in moved.values()],
            )
        if every:
            self._noted_at = now
        self._noted.update(moved)

    async def _tops_of(self, number: int) -> dict[str, int] | None:
        """The highest number of each context of a partition in the event log; None: no answer."""
        if time.monotonic() - self._tops_at > ASKED_SECONDS:
            rows = await self._ask("delivered_tops")
            if rows is None:
                return None
            self._tops = {}
            for row in rows:
                tenant, context_id = row["tenant"], row["context_id"]
                own = partition_of(self._settings.partitions, tenant, context_id)
                tops = self._tops.setdefault(own, {})
                tops[keys.feed_field(tenant, context_id)] = row["seq"]
            self._tops_at = time.monotonic()
        return self._tops.get(number, {})

    async def _ask(self, name: str, seconds: float = WAIT_SECONDS) -> list[Any] | None:
        """Rows of a statement; None where PostgreSQL does not answer in time."""
        if time.monotonic() < self._pause_until:
            return None
        query = tasks.awaited("Marks.ask", self._postgres.fetch(statement(name)))
        # to cancel it would wait for a server that hangs: it ends by its own time limit
        done, _ = await asyncio.wait((query,), timeout=seconds)
        try:
            if not done:
                query.add_done_callback(_ended)
                raise UnavailableError(f"PostgreSQL has not answered in {seconds:g} s")
            return query.result()
        except (UnavailableError, asyncpg.PostgresError) as error:
            self._pause_until = time.monotonic() + PAUSE_SECONDS
            logger.warning("partitions are opened without PostgreSQL's memory of them: %s", error)
            return None


def mark_of(partition: Partition) -> Mark:
    """How far an owned partition has come."""
    state = partition[FeedState]
    top = max(state.top, *state.seqs.values(), 0)
    return Mark(state.generations, partition.sequence, top)


def _decoded(number: int, kept: bytes | None) -> Generations:
    try:
        return Generations.decode((kept or b"").decode())
    except ValueError as error:
        logger.error("the generations of partition %d cannot be read: %s", number, error)
        return Generations()


def _replace(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.replace(path)


def _ended(query: "asyncio.Future[Any]") -> None:
    if not query.cancelled():
        query.exception()
