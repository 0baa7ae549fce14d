"""Carries erasures out, each worker in its partitions, and again on whatever an older copy brings.

What is done stands in PostgreSQL, step by step: whoever goes on after a crash does what is left.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg
from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.archive.archive import Archive
from hookstream.app.erasure.memory import Memory
from hookstream.app.erasure.partition import NotYetError, PartitionSweep
from hookstream.app.erasure.plan import AUDIT, is_open, next_steps, phases, receipt, sum_up
from hookstream.app.erasure.progress import Progress, Saw, nobody_counts
from hookstream.app.erasure.targets import Target
from hookstream.app.erasure.wide import WideSweep
from hookstream.app.errors import (
    ArchiveDamagedError,
    FencedError,
    OutdatedError,
    SealingKeyError,
    UnavailableError,
)
from hookstream.app.ingest.spool_erasure import spools_that_lack
from hookstream.app.lifecycle.service import Lifecycle
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS, Scripts
from hookstream.app.stores.erasures import (
    CONTEXT,
    DONE,
    EVENT,
    OPEN,
    RUNNING,
    SUBJECT,
    WAITING,
    Erasure,
    ErasureStore,
    Tally,
)
from hookstream.app.stores.holds import ALL_EVENTS, HoldStore, hold_against
from hookstream.app.streams.partition import Partition
from hookstream.tables.errors import TableError

__all__ = ["Erasures"]

logger = get_logger(__name__)

LOOK_SECONDS: Final = 1.0
#: How often it is looked what older copies have brought, and whether all places remember.
AGAIN_SECONDS: Final = 5.0
SETTLE_SECONDS: Final = 30.0
#: A step that cannot be done yet is tried again, later each time.
RETRY_SECONDS: Final = 1.0
MOST_RETRY_SECONDS: Final = 60.0
TROUBLES: Final = (
    NotYetError,
    UnavailableError,
    ArchiveDamagedError,
    SealingKeyError,
    TableError,
    asyncpg.PostgresError,
    *REDIS_ERRORS,
)


class Erasures(Service):
    """One round a second over the erasures that are not done."""

    mundane_level = "debug"

    def __init__(
        self,
        redis: Any,
        scripts: Scripts,
        postgres: Postgres,
        archive: Archive,
        payloads: Payloads,
        store: ErasureStore,
        holds: HoldStore,
        lifecycle: Lifecycle,
        memory: Memory,
        *,
        partitions: int,
        owned: Callable[[], Mapping[int, Partition]],
        **kwargs: Any,
    ) -> None:
        """``lifecycle`` moves nothing of a partition while that is looked through."""
        super().__init__(**kwargs)
        self._redis = redis
        self._scripts = scripts
        self._postgres = postgres
        self._archive = archive
        self._payloads = payloads
        self._store = store
        self._holds = holds
        self._lifecycle = lifecycle
        self._memory = memory
        self._partitions = partitions
        self._owned = owned
        self._progress = Progress(redis, postgres, archive, partitions)
        #: Of which it was said how much there is to look through.
        self._planned: set[str] = set()
        #: By erasure and step: when it may be tried again (monotonic), how often it was, and why.
        self._later: dict[tuple[str, str], tuple[float, int, str]] = {}
        #: Erasures of which a kind of trouble has been told.
        self._told: set[tuple[str, str]] = set()
        self._again_at = self._settled_at = float("-inf")

    @tasks.loop
    async def _work_forever(self) -> None:
        while not self.should_stop:
            await self.sleep(LOOK_SECONDS)
            try:
                await self.work()
            except TROUBLES as error:
                logger.debug("erasures go on later: %s", error)

    async def work(self) -> None:
        """One round: a step of each erasure that can go on here, and what has to be done again.

        Raises:
            UnavailableError: PostgreSQL is away.
            redis.exceptions.RedisError: Redis does not answer.
        """
        known = self._postgres.schema.known
        if not self._owned() or (known is not None and not known.has("erasures")):
            return
        now = time.monotonic()
        if 0 in self._owned() and now - self._settled_at > SETTLE_SECONDS:
            self._settled_at = now
            try:
                await self._settle()
            except TROUBLES as error:
                logger.warning("erasures are not remembered everywhere yet: %s", error)
        for erasure in await self._store.under_way():
            try:
                await self._go_on(erasure)
            except (UnavailableError, *REDIS_ERRORS):
                raise
            except Exception as error:  # noqa: BLE001 one is in no other one's way
                self._tell(erasure, error)
        if now - self._again_at > AGAIN_SECONDS or self._store.strays:
            await self._again()
            self._again_at = now

    def _tell(self, erasure: Erasure, error: Exception) -> None:
        """Say once of each kind what an erasure cannot go on for."""
        known = (erasure.erasure_id, type(error).__name__)
        told = known in self._told
        self._told.add(known)
        logger.log(
            logging.DEBUG if told else logging.ERROR,
            "erasure %s cannot go on: %s",
            erasure.erasure_id,
            error,
            exc_info=None if told else error,
        )

    async def _settle(self) -> None:
        """Have all places remember; where the archive is an older copy, erase there again."""
        unknown = await self._memory.settle()
        done = {one.erasure_id for one in self._store.known() if one.status == DONE}
        if not unknown & done:
            return
        names = await self._store.erased_objects()
        for erasure in self._store.known():
            if erasure.erasure_id in unknown & done and erasure.kind != CONTEXT:
                sweep = self._wide(erasure, await self._target(erasure))
                await sweep.delete_objects(names)
                await sweep.archive()
                await self._note(erasure, "again:archive", sweep.tallies)

    async def _go_on(self, erasure: Erasure) -> None:
        """Do what can be done here of an erasure."""
        hold = await self._held(erasure)
        if hold:
            await self._store.set_status(erasure.erasure_id, WAITING, hold)
            return
        done, _ = await self._store.progress(erasure.erasure_id)
        if not done and 0 in self._owned() and erasure.erasure_id not in self._planned:
            self._planned.add(erasure.erasure_id)
            await self._progress.plan(erasure)
        while steps := next_steps(erasure, self._partitions, done):
            mine = [step for step in steps if self._is_mine(erasure, step)]
            finished = [step for step in mine if await self._step(erasure, step)]
            if not finished or self.should_stop:
                break
            done = [*done, *finished]
        if not next_steps(erasure, self._partitions, done):
            if 0 in self._owned():
                await self._finish(erasure)
        elif 0 in self._owned():
            troubles = [
                said for (one, _), (_, _, said) in self._later.items() if one == erasure.erasure_id
            ]
            status = OPEN if troubles else RUNNING
            await self._store.set_status(erasure.erasure_id, status, sum_up(troubles))

    def _is_mine(self, erasure: Erasure, step: str) -> bool:
        at, _, _ = self._later.get((erasure.erasure_id, step), (0.0, 0, ""))
        if time.monotonic() < at:
            return False
        name, _, number = step.partition(":")
        if name in ("events", "derived"):
            return int(number) in self._owned()
        return 0 in self._owned()

    async def _held(self, erasure: Erasure) -> str:
        """The hold that an erasure waits for, as a sentence; "" for none.

        Raises:
            UnavailableError: it cannot be said: then nothing is erased.
        """
        if erasure.dry_run:
            return ""
        holds = [one for one in await self._holds.in_force() if one.tenant == erasure.tenant]
        if not holds:
            return ""
        target = erasure.target
        found = None
        if erasure.kind in (EVENT, SUBJECT):
            events = await self._store.found_events(erasure.erasure_id)
            places = await self._postgres.fetch(
                statement("places_of_events"),
                erasure.tenant,
                [UUID(one) for one in sorted(events | set(target.get("events", ())))],
            )
            for place in places:
                span = (place["event_id"], place["event_id"])
                found = found or hold_against(
                    holds, erasure.tenant, tool_id=place["tool_id"], events=span
                )
                for context_id in place["contexts"]:
                    found = found or hold_against(
                        holds, erasure.tenant, context_id=context_id, events=span
                    )
            if found is None and erasure.kind == SUBJECT:
                # nobody knows yet whose events they will be
                found = hold_against(holds, erasure.tenant)
        else:
            found = hold_against(
                holds,
                erasure.tenant,
                tool_id=str(target.get("tool", "")),
                context_id=str(target.get("context", "")),
                events=ALL_EVENTS,
            )
        return f"waits for the legal hold {found.hold_id} ({found.reason})" if found else ""

    async def _step(self, erasure: Erasure, step: str) -> bool:
        """Do a step; whether it is done."""
        name = (erasure.erasure_id, step)
        try:
            await self._store.forget_left(erasure.erasure_id, step)
            tallies = await self._do(erasure, step)
            await self._note(erasure, step, tallies)
            # what is left is in no other step's way: it is done again in the end
            await self._store.note_step(erasure.erasure_id, step)
        except FencedError:
            return False
        except OutdatedError as error:
            self._postpone(name, str(error))
            return False
        except TROUBLES as error:
            if isinstance(error, NotYetError) and erasure.dry_run:
                await self._store.note_step(erasure.erasure_id, step)
                return True
            self._postpone(name, f"{step}: {error}")
            logger.debug("erasure %s, %s: %s", erasure.erasure_id, step, error)
            return False
        self._later.pop(name, None)
        return True

    def _postpone(self, name: tuple[str, str], why: str) -> None:
        _, tries, _ = self._later.get(name, (0.0, 0, ""))
        wait = min(MOST_RETRY_SECONDS, RETRY_SECONDS * 2**tries)
        self._later[name] = (time.monotonic() + wait, tries + 1, why)

    async def _do(self, erasure: Erasure, step: str) -> Mapping[str, Tally]:
        progress = await self._progress.step(erasure.erasure_id, step)
        tallies = await self._carry_out(erasure, step, progress.saw)
        await progress.finish()
        return tallies

    async def _carry_out(self, erasure: Erasure, step: str, saw: Saw) -> Mapping[str, Tally]:
        target = await self._target(erasure)
        name, _, number = step.partition(":")
        if name in ("events", "derived"):
            return await self._in_partition(erasure, target, int(number), name, saw)
        sweep = self._wide(erasure, target, saw)
        match name:
            case "log-find":
                await sweep.find_in_log()
            case "archive":
                await sweep.archive()
            case "log":
                await sweep.find_in_log()
                await sweep.log()
            case "refusals":
                await sweep.refusals()
            case "dictionaries":
                await sweep.dictionaries()
                if any(tally.erased for tally in sweep.tallies.values()):
                    await sweep.files()
            case "settings":
                await sweep.settings()
            case "files":
                await sweep.files()
                if not erasure.dry_run:
                    await self._redis.sadd(keys.ERASED, erasure.erasure_id)
            case "spools":
                await self._spools(erasure)
            case "data-keys":
                # one that is away may have in its spool what it has sealed by them since
                await self._spools(erasure, away=True)
                try:
                    await sweep.data_keys()
                except NotYetError:
                    await self._store.seal_again(erasure.erasure_id)
                    raise
        return sweep.tallies

    async def _spools(self, erasure: Erasure, *, away: bool = False) -> None:
        if erasure.dry_run:
            return
        if lacking := await spools_that_lack(self._redis, erasure.erasure_id, away=away):
            raise NotYetError(f"the spools of {', '.join(lacking)} are looked through")

    async def _in_partition(
        self,
        erasure: Erasure,
        target: Target,
        number: int,
        part: str,
        saw: Saw = nobody_counts,
    ) -> Mapping[str, Tally]:
        partition = self._owned().get(number)
        if partition is None:
            raise FencedError(f"partition {number} is another worker's")
        sweep = PartitionSweep(
            self._redis,
            self._scripts,
            self._payloads,
            partition,
            target,
            dry=erasure.dry_run,
            note=lambda events: self._store.note_events(erasure, events),
            saw=saw,
        )
        async with self._lifecycle.still:
            await (sweep.events() if part == "events" else sweep.derived())
        if part == "derived" and not erasure.dry_run:
            await self._redis.sadd(keys.erased(number), erasure.erasure_id)
        return sweep.tallies

    def _wide(self, erasure: Erasure, target: Target, saw: Saw = nobody_counts) -> WideSweep:
        return WideSweep(
            self._redis,
            self._scripts,
            self._postgres,
            self._archive,
            self._payloads,
            target,
            partitions=self._partitions,
            dry=erasure.dry_run,
            note=lambda events: self._store.note_events(erasure, events),
            note_objects=lambda names: self._store.note_objects(erasure.erasure_id, names),
            saw=saw,
        )

    async def _target(self, erasure: Erasure) -> Target:
        events = await self._store.found_events(erasure.erasure_id)
        return Target(erasure, await self._store.subject_of(erasure), events)

    async def _note(self, erasure: Erasure, step: str, tallies: Mapping[str, Tally]) -> None:
        for place, tally in tallies.items():
            if tally != Tally():
                await self._store.note_place(erasure.erasure_id, step, place, tally)
                metrics.ERASED.labels(place=place).inc(tally.erased)

    async def _finish(self, erasure: Erasure) -> None:
        steps, places = await self._store.progress(erasure.erasure_id)
        if (left := is_open(places)) and not erasure.dry_run:
            await self._reopen(erasure, sum_up(left))
            return
        count = sum(map(len, phases(erasure, self._partitions)))
        await self._store.finish(erasure.erasure_id, receipt(places, steps=len(steps), of=count))
        self._later = {
            name: said for name, said in self._later.items() if name[0] != erasure.erasure_id
        }
        self._settled_at = float("-inf")
        self._planned.discard(erasure.erasure_id)
        await self._progress.forget(erasure.erasure_id)
        logger.info("erasure %s (%s) is done", erasure.erasure_id, erasure.kind)

    async def _reopen(self, erasure: Erasure, why: str) -> None:
        """Something is left: the steps that left it are done again, later each time."""
        await self._store.set_status(erasure.erasure_id, OPEN, why)
        name = (erasure.erasure_id, "")
        if time.monotonic() >= self._later.get(name, (0.0, 0, ""))[0]:
            self._postpone(name, why)
            if self._later[name][1] > 1:
                await self._store.do_again(erasure.erasure_id, AUDIT)

    async def _again(self) -> None:
        """Carry out what partitions here have not had, or what has come late."""
        strays, self._store.strays = self._store.strays, set()
        done = [one for one in self._store.known() if one.status == DONE]
        if not done:
            return
        if 0 in self._owned():
            await self._wide_again(done)
        for number in list(self._owned()):
            had = {one.decode() for one in await self._redis.smembers(keys.erased(number))}
            for erasure in done:
                stray = (number, erasure.erasure_id) in strays
                if erasure.erasure_id in had and not stray:
                    continue
                try:
                    await self._erase_again(erasure, number)
                except (*TROUBLES, FencedError, OutdatedError) as error:
                    logger.debug("erasure %s is done again later: %s", erasure.erasure_id, error)
                    if stray:
                        self._store.strays.add((number, erasure.erasure_id))

    async def _wide_again(self, done: Sequence[Erasure]) -> None:
        """What is no partition's, where Redis is an older copy."""
        had = {one.decode() for one in await self._redis.smembers(keys.ERASED)}
        for erasure in done:
            name = (erasure.erasure_id, "again")
            if erasure.erasure_id in had or time.monotonic() < self._later.get(name, (0.0,))[0]:
                continue
            try:
                if await self._held(erasure):
                    continue
                if erasure.kind != CONTEXT:
                    sweep = self._wide(erasure, await self._target(erasure))
                    await sweep.refusals()
                    await sweep.dictionaries()
                    await sweep.files()
                    await self._note(erasure, "again", sweep.tallies)
                await self._redis.sadd(keys.ERASED, erasure.erasure_id)
                self._later.pop(name, None)
            except TROUBLES as error:
                self._postpone(name, str(error))

    async def _erase_again(self, erasure: Erasure, number: int) -> None:
        if await self._held(erasure):
            return
        target = await self._target(erasure)
        tallies: list[Mapping[str, Tally]] = []
        try:
            for part in ("events", "derived"):
                tallies.append(await self._in_partition(erasure, target, number, part))
        finally:
            for one in tallies:
                await self._note(erasure, f"again:{number}", one)
        if any(tally.erased for one in tallies for tally in one.values()):
            sweep = self._wide(erasure, target)
            await sweep.log()
            await sweep.files()
            logger.warning(
                "partition %d had again what the erasure %s had taken out: it is gone again",
                number,
                erasure.erasure_id,
            )
