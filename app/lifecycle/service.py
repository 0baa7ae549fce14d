"""The lifecycle of this worker's partitions: looks what is due in each tier, and moves it."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mode import Service
from mode.utils.logging import get_logger

from hookstream.app import metrics, tasks
from hookstream.app.bounded import Aside
from hookstream.app.errors import ArchiveDamagedError, FencedError, UnavailableError
from hookstream.app.ids import partition_of
from hookstream.app.lifecycle.cold import ColdMover, WarmTotals
from hookstream.app.lifecycle.policies import PolicyMover
from hookstream.app.lifecycle.status import asked_runs, note_run
from hookstream.app.lifecycle.warm import WarmMover
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.redis.errors import redis_kind
from hookstream.app.redis.memory import MemoryWatch, Pressure
from hookstream.app.routing.catalog import Catalog
from hookstream.app.stores.holds import HoldStore
from hookstream.app.stores.tiers import HOT, WARM
from hookstream.app.streams.partition import Partition

__all__ = ["Lifecycle"]

logger = get_logger(__name__)

#: How often partitions are looked at for what is due; under pressure, and for the archive.
LOOK_SECONDS = 5.0
HURRY_SECONDS = 1.0
ARCHIVE_SECONDS = 30.0
#: How often the archive is given what is due while all goes straight there: objects of a second's
#: events are many, and small.
HURRY_ARCHIVE_SECONDS = 5.0
#: For how long a run that was asked for goes on; who has asked waits a little longer.
EAGER_SECONDS = 540.0
#: How often it is looked for what is over in the archive.
EXPIRE_SECONDS = 600.0
#: Most of the time that moving takes, while nothing presses: stages go first. With all of the time
#: they fell behind at 2,000 events a second on two cores. It is more the longer one way through all
#: partitions takes, since what comes meanwhile is found by the next: from a minute on all of it, or
#: moving would fall behind for good wherever the loop is busy, and what Redis keeps would grow.
#: Waiting for the child that packs does not count: all others go before it, and on a busy machine
#: it is waited for longer the less it takes.
SHARE = 0.25
LONG_SECONDS = 60.0
#: A partition that has so many entries to move is looked at again, a few times.
MANY = 1024
LOOKS = 8


def share_of_time(seconds: float) -> float:
    """The share of its time that moving may take when a way through all partitions takes so long.

    >>> [share_of_time(seconds) for seconds in (1, 24, 90)]
    [0.25, 0.4, 1.0]
    """
    return min(1.0, max(SHARE, seconds / LONG_SECONDS))


@dataclass(slots=True)
class Run:
    """What moving came to."""

    warm: int = 0
    archived: int = 0
    #: What keeps the archive from taking anything; what was the matter with a partition.
    trouble: str = ""
    failed: str = ""

    def add(self, other: "Run") -> None:
        """What moved after it, too; the trouble is the last one's."""
        self.warm += other.warm
        self.archived += other.archived
        self.trouble, self.failed = other.trouble, other.failed


class Lifecycle(Service):
    """Moves events of owned partitions on, one partition at a time."""

    mundane_level = "debug"

    def __init__(
        self,
        redis: Any,
        warm: WarmMover,
        cold: ColdMover,
        memory: MemoryWatch,
        *,
        worker: Callable[[], str],
        catalog: Callable[[], Catalog],
        now_ms: Callable[[], int],
        owned: Callable[[], Mapping[int, Partition]],
        partitions: int,
        aside: Aside | None = None,
        holds: HoldStore | None = None,
        policies: PolicyMover | None = None,
        **kwargs: Any,
    ) -> None:
        """``worker``: what this one is called; ``partitions``: how many there are.

        ``aside``: where both movers have packed what they move. ``holds``: what is deleted by
        nothing; ``policies`` delete before a tool's time is over.
        """
        super().__init__(**kwargs)
        self.warm = warm
        self.cold = cold
        self._redis = redis
        self._worker = worker
        self._memory = memory
        self._catalog = catalog
        self._now_ms = now_ms
        self._owned = owned
        self._partitions = partitions
        self._aside = aside or Aside()
        self._holds = holds
        self._policies = policies
        self._totals: dict[int, WarmTotals] = {}
        #: Held while anything moves: whoever looks through what is kept takes it meanwhile.
        self.still = asyncio.Lock()
        #: What kept the archive from taking what is due, when it was last tried; for people.
        self.archive_trouble = ""
        #: Kinds of trouble that have been told, and have not been over since.
        self._told_kinds: set[str] = set()
        #: When the present way through all partitions began, and how long the last one took.
        self._begun = self._took_seconds = 0.0

    @tasks.loop
    async def _move_forever(self) -> None:
        archived_at = expired_at = float("-inf")
        asked: int | None = None
        while not self.should_stop:
            pressure = self._memory.pressure
            await self.sleep(HURRY_SECONDS if pressure else LOOK_SECONDS)
            try:
                wanted = await asked_runs(self._redis)
                # what was asked for before this worker began was asked of others
                asked = wanted if asked is None else asked
                # without a catalog nobody knows how long a tool's events stay
                if not self._catalog().version:
                    continue
                eager = wanted > asked
                straight = pressure >= Pressure.STRAIGHT
                every = HURRY_ARCHIVE_SECONDS if straight else ARCHIVE_SECONDS
                archiving = eager or time.monotonic() - archived_at >= every
                if archiving:
                    archived_at = time.monotonic()
                if eager:
                    run = await self.move_all(pressure)
                else:
                    run = await self.move(pressure, archiving=archiving)
                if eager or time.monotonic() - expired_at >= EXPIRE_SECONDS:
                    expired_at = time.monotonic()
                    await self.expire()
                asked = max(asked, wanted)
                if archiving:
                    await note_run(self._redis, self._worker(), self._noted(run, asked))
            except REDIS_ERRORS as error:
                logger.debug("events are moved later: %s", error)
            except Exception as error:  # noqa: BLE001 moving goes on, whatever it is
                self._tell("the lifecycle", error)

    def _noted(self, run: Run, asked: int) -> dict[str, Any]:
        return {
            "at_ms": self._now_ms(),
            "asked": asked,
            "moved": run.warm,
            "archived": run.archived,
            "trouble": run.trouble or run.failed,
        }

    async def move_all(self, pressure: Pressure = Pressure.NONE) -> Run:
        """Move at once what is due, until a look at all of it moves nothing more."""
        until = time.monotonic() + EAGER_SECONDS
        run = Run()
        while True:
            moved = await self.move(pressure, eager=True)
            run.add(moved)
            if not moved.warm and not moved.archived:
                return run
            if self.should_stop or time.monotonic() >= until:
                return run

    async def move(
        self, pressure: Pressure = Pressure.NONE, *, archiving: bool = True, eager: bool = False
    ) -> Run:
        """Move what is due in all partitions that are owned now.

        ``eager``: nothing waits for what it might be packed with. Whatever is the matter with one
        partition, the others are looked after.
        """
        owned, run, self._begun = dict(self._owned()), Run(), time.monotonic()
        self.warm.keep(owned)
        self._totals = {n: known for n, known in self._totals.items() if n in owned}
        trouble: set[str] = set()
        for number, partition in owned.items():
            for part in (self._move_warm, self._move_cold):
                if part == self._move_cold and not archiving:
                    continue
                try:
                    async with self.still:
                        await part(partition, pressure, run, eager=eager)
                except FencedError:
                    break
                except UnavailableError as error:
                    # the same one for all: warm blocks stay where they are
                    run.trouble = str(error)
                except Exception as error:  # noqa: BLE001 others are looked after
                    run.failed = f"partition {number}: {error}"
                    trouble.add(self._tell(f"partition {number}", error))
                    if isinstance(error, REDIS_ERRORS):
                        break
            if self.should_stop:
                return run
        if archiving:
            self._note(run.trouble)
            self._told_kinds &= trouble
        self._measure()
        self._took_seconds = time.monotonic() - self._begun
        return run

    async def _move_warm(
        self, partition: Partition, pressure: Pressure, run: Run, *, eager: bool
    ) -> None:
        for _ in range(LOOKS):
            begun = self._own_time()
            moved = await self.warm.move(partition, pressure, eager=eager)
            run.warm += moved
            await self._give_way(begun, pressure)
            if moved < MANY or self.should_stop:
                break

    async def _move_cold(
        self, partition: Partition, pressure: Pressure, run: Run, *, eager: bool
    ) -> None:
        begun = self._own_time()
        try:
            if run.trouble:
                raise UnavailableError(run.trouble)
            totals = await self.cold.move(partition, pressure, eager=eager)
        except UnavailableError:
            # it waits, and for how long is to be seen
            self._totals[partition.number] = await self.cold.left(partition, pressure)
            raise
        self._totals[partition.number] = totals
        run.archived += totals.archived
        await self._give_way(begun, pressure)

    def _tell(self, what: str, error: Exception) -> str:
        """Say once of each kind of trouble what it is; its kind."""
        server = isinstance(error, REDIS_ERRORS)
        kind = redis_kind(error) if server else type(error).__name__
        if kind in self._told_kinds:
            logger.debug("%s: events are moved later: %s", what, error)
        elif server:
            logger.warning("%s: events are moved later: %s", what, error)
        else:
            logger.error("%s: events are moved later: %s", what, error, exc_info=error)
        self._told_kinds.add(kind)
        return kind

    async def expire(self) -> None:
        """Forget what is over, of the tools that a partition owned here looks after."""
        owned, partitions = self._owned(), self._partitions
        try:
            # what is wrong with its address or rights is not to be seen when the first event is
            # cold: a day after the start
            await self.cold.check()
            holds = await self._holds.in_force() if self._holds else ()

            def is_mine(*tool: str) -> bool:
                return partition_of(partitions, *tool) in owned

            gone = await self.cold.expire(is_mine, holds)
            async with self.still:
                if self._policies is not None:
                    await self._policies.enforce(owned, is_mine, holds)
                # one worker at a time is enough for what concerns all of it
                if 0 in owned:
                    await self.cold.compact()
        except UnavailableError as error:
            logger.debug("archived events are forgotten later: %s", error)
            return
        except ArchiveDamagedError as error:
            logger.error("small objects of the archive stay as they are: %s", error)
            return
        if gone:
            logger.info("%d archived events were over their time and are gone", gone)

    def _own_time(self) -> float:
        """A clock in seconds that stands still while a child packs."""
        return time.monotonic() - self._aside.child_seconds

    async def _give_way(self, begun: float, pressure: Pressure) -> None:
        """Leave the time to stages, most of it, while nothing presses.

        ``begun``: of :meth:`_own_time`.
        """
        if not pressure:
            share = share_of_time(max(self._took_seconds, time.monotonic() - self._begun))
            await self.sleep((self._own_time() - begun) * (1 / share - 1))

    def _note(self, trouble: str) -> None:
        if trouble and not self.archive_trouble:
            logger.warning("the archive takes nothing, events stay warm: %s", trouble)
        elif self.archive_trouble and not trouble:
            logger.info("the archive takes events again")
        self.archive_trouble = trouble

    def _measure(self) -> None:
        now_ms, every = self._now_ms(), list(self._totals.values())
        metrics.TIER_EVENTS.labels(tier=WARM).set(sum(one.events for one in every))
        metrics.TIER_BYTES.labels(tier=WARM).set(sum(one.size for one in every))
        hot = min(self.warm.due_since.values(), default=now_ms)
        warm = min((one.due_since_ms for one in every if one.due_since_ms), default=now_ms)
        for tier, since in ((HOT, hot), (WARM, warm)):
            metrics.TIER_LAG_SECONDS.labels(tier=tier).set(max(0, now_ms - since) / 1000)
