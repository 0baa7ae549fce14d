"""The one writer of a worker's event log: what all of its partitions have, in one transaction.

A batch of a partition is a dozen events; a transaction of its own, and statements for a dozen rows,
cost several times as much as the rows. So what comes within a quarter of a second is written
together, and what comes after a pause at once.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.errors import FencedError, UnavailableError
from hookstream.app.postgres.pool import Postgres
from hookstream.app.stores.audit import Context, UnstorableError, find_tops, rows_of, write_rows
from hookstream.app.stores.log_claims import ClaimLostError, LogClaims
from hookstream.app.streams.partition import Partition
from hookstream.proto.pipeline_pb2 import AuditBatch

__all__ = ["Recorder"]

logger = get_logger(__name__)

#: From the beginning of one transaction to that of the next, unless so many rows wait before.
LINGER_SECONDS = 0.25
ROWS = 4096
#: Contexts of a partition of which it is known here how far the event log has come; it is asked for
#: others.
CONTEXTS = 10_000
#: How often it is asked whose partitions are before who waits is told to try again.
TRIES = 3
#: What says that rows cannot be stored, not that the server cannot.
OF_ROWS = (UnstorableError, asyncpg.PostgresError)


@dataclass(eq=False, slots=True)
class Part:
    """What one partition has to record, and who waits for it."""

    partition: Partition
    batches: Sequence[AuditBatch]
    done: "asyncio.Future[None]"
    #: The highest number that was given to each context of it.
    reached: dict[Context, int] = field(default_factory=dict)
    rows: int = 0

    def __post_init__(self) -> None:
        for batch in self.batches:
            self.rows += len(batch.events) + len(batch.deliveries)
            for delivery in batch.deliveries:
                who = (delivery.tenant, delivery.context_id)
                self.reached[who] = max(self.reached.get(who, 0), delivery.seq)

    def end(self, error: BaseException | None = None) -> None:
        """Tell who waits, if anybody still does."""
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class Recorder:
    """Writes what partitions have decided. Of each there is one batch at a time."""

    def __init__(self, redis: Any, postgres: Postgres) -> None:
        self._postgres = postgres
        self._claims = LogClaims(redis, postgres)
        self._waiting: list[Part] = []
        self._enough = asyncio.Event()
        self._begun = -LINGER_SECONDS
        self._task: asyncio.Task[Any] | None = None

    async def record(self, partition: Partition, batches: Sequence[AuditBatch]) -> None:
        """Write batches of ``audit[p]``, the oldest first; they are committed when this returns.

        To write them again changes nothing.

        Raises:
            FencedError: the partition has another owner.
            UnavailableError: PostgreSQL is away.
            UnstorableError, asyncpg.PostgresError: a row cannot be stored. Of a single batch all
                others are; of several none.
            redis.exceptions.RedisError: it cannot be asked whose partition it is.
        """
        [error] = await self.record_all([(partition, batches)])
        if error is not None:
            raise error

    async def record_all(
        self, records: Sequence[tuple[Partition, Sequence[AuditBatch]]]
    ) -> list[Exception | None]:
        """As :meth:`record` for several partitions; what it would raise for each of them."""
        parts = [
            Part(partition, batches, asyncio.get_running_loop().create_future())
            for partition, batches in records
        ]
        self._waiting += [part for part in parts if part.batches]
        if sum(part.rows for part in self._waiting) >= ROWS:
            self._enough.set()
        if self._waiting and (self._task is None or self._task.done()):
            self._task = tasks.spawn("Recorder._work", self._work())
        errors: list[Exception | None] = []
        for part in parts:
            try:
                if part.batches:
                    await part.done
            except Exception as error:  # noqa: BLE001 whoever asked for it hears it
                errors.append(error)
            else:
                errors.append(None)
        return errors

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            rest = self._begun + LINGER_SECONDS - loop.time()
            if rest > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._enough.wait(), rest)
            self._begun = loop.time()
            parts = self._next()
            try:
                await self._write(parts)
            except BaseException:
                # a partition whose batch never ends stands still
                for part in (*parts, *self._waiting):
                    part.end(UnavailableError("the writer of the event log has ended"))
                self._waiting.clear()
                raise

    def _next(self) -> list[Part]:
        """What is written next: at least one part, and more up to :data:`ROWS`."""
        parts: list[Part] = []
        rows = 0
        while self._waiting and (not parts or rows + self._waiting[0].rows <= ROWS):
            parts.append(self._waiting.pop(0))
            rows += parts[-1].rows
        if sum(part.rows for part in self._waiting) < ROWS:
            self._enough.clear()
        return parts

    async def _write(self, parts: Sequence[Part]) -> None:
        """Write parts together; where that cannot be done because of one of them, each alone."""
        try:
            await self._write_claimed(parts)
        except OF_ROWS as error:
            waiting = [part for part in parts if not part.done.done()]
            if len(waiting) > 1:
                for part in waiting:
                    await self._write([part])
            elif waiting:
                await self._write_rest(waiting[0], error)
        except Exception as error:  # noqa: BLE001 whoever waits for it hears it
            for part in parts:
                part.end(error)
        else:
            for part in parts:
                part.end()

    async def _write_claimed(self, parts: Sequence[Part]) -> None:
        """Write those parts whose claims write the event log; the others hear that theirs do not.

        Raises what :meth:`record` does, and then nothing is written.
        """
        for _ in range(TRIES):
            claimed = await self._claimed(parts)
            if not claimed:
                return
            # who turns out to have lost his claim meanwhile is found by asking anew
            with suppress(ClaimLostError):
                await self._commit(claimed)
                return
        raise UnavailableError("others begin to write the same event log: it is tried again")

    async def _claimed(self, parts: Sequence[Part]) -> list[Part]:
        for part in parts:
            try:
                part.partition.check()
            except FencedError as error:
                part.end(error)
        waiting = [part for part in parts if not part.done.done()]
        refused = await self._claims.take([part.partition for part in waiting])
        for part in waiting:
            if part.partition in refused:
                part.end(refused[part.partition])
        return [part for part in waiting if part.partition not in refused]

    async def _commit(self, parts: Sequence[Part]) -> None:
        try:
            await self._commit_once(parts, new=True)
        except asyncpg.UniqueViolationError:
            # it was committed before and not acknowledged; or an older release has not said that
            # an event came again
            await self._commit_once(parts, new=False)

    async def _commit_once(self, parts: Sequence[Part], *, new: bool) -> None:
        """Write rows in one transaction; with ``new`` what seems so is taken to be new.

        Raises:
            ClaimLostError: one of them is not held any more; nothing is written.
        """
        rows = rows_of([batch for part in parts for batch in part.batches])
        async with self._postgres.transaction() as connection:
            await self._claims.hold(connection, [part.partition for part in parts])
            tops = await self._tops(connection, parts) if new else None
            await write_rows(connection, rows, tops=tops)
        self._learn(parts, tops or {})
        metrics.EVENT_LOG_ROWS.observe(sum(part.rows for part in parts))

    async def _tops(
        self, connection: asyncpg.Connection, parts: Sequence[Part]
    ) -> dict[Context, int]:
        """How far the event log has come of every context: as known here, or as it says itself."""
        tops, unknown = {}, []
        for part in parts:
            known = self._claims.tops(part.partition)
            for who in part.reached:
                if who in known:
                    tops[who] = known[who]
                else:
                    unknown.append(who)
        return tops | await find_tops(connection, unknown) if unknown else tops

    def _learn(self, parts: Sequence[Part], tops: Mapping[Context, int]) -> None:
        """Note how far the event log has come now, of contexts of which it is known."""
        for part in parts:
            known = self._claims.tops(part.partition)
            for who, seq in part.reached.items():
                if who in known or who in tops:
                    # those that had something last stay
                    known[who] = max(known.pop(who, 0), tops.get(who, 0), seq)
            while len(known) > CONTEXTS:
                del known[next(iter(known))]

    async def _write_rest(self, part: Part, error: Exception) -> None:
        """Write every row alone that can be stored, if this is a single batch; it fails then.

        Of several one alone is tried next: its reader sees to that.
        """
        if len(part.batches) == 1:
            stored = 0
            for row in _single_rows(part.batches[0]):
                try:
                    await self._commit([Part(part.partition, [row], part.done)])
                    stored += 1
                except OF_ROWS as caught:
                    error = caught
                except Exception as caught:  # noqa: BLE001 whoever waits for it hears it
                    part.end(caught)
                    return
            logger.error(
                "partition %d: %d rows for the event log are stored, and others cannot be: %s: %s",
                part.partition.number,
                stored,
                type(error).__name__,
                error,
            )
        part.end(error)


def _single_rows(batch: AuditBatch) -> Iterator[AuditBatch]:
    """A batch for each thing that ``batch`` says."""
    for event in batch.events:
        yield AuditBatch(partition=batch.partition, events=[event])
    for delivery in batch.deliveries:
        yield AuditBatch(partition=batch.partition, deliveries=[delivery])
    for daily in batch.dailies:
        yield AuditBatch(partition=batch.partition, dailies=[daily])
