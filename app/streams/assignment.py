"""Which partitions this worker owns: leases in Redis, and what is opened for each.

Rendezvous hashing over the living workers says whose a partition is; the lease, fenced by epoch and
nonce, says who has it. A worker that comes gets its share as the others finish what is in flight.
Each partition is opened by itself: what keeps one closed is one partition's trouble, told in
``/health``. A worker that cannot write its tables, or knows no tools yet, takes none, and says why.
"""

import asyncio
import fcntl
import math
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mode import Service
from mode.utils.logging import get_logger
from redis.exceptions import RedisError

from hookstream.app import metrics, tasks
from hookstream.app.clock import RedisClock
from hookstream.app.errors import FencedError, OutdatedError, SettingsError
from hookstream.app.payloads.payloads import Payloads
from hookstream.app.redis import keys
from hookstream.app.redis.client import REDIS_ERRORS, Scripts, is_cluster
from hookstream.app.redis.errors import OF_ONE_KEY, is_redis_away, redis_kind
from hookstream.app.settings import Settings
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.channel import RedisStreamChannel
from hookstream.app.streams.consumer import Released, StreamReader
from hookstream.app.streams.deaths import Trials
from hookstream.app.streams.partition import OpenState, Partition, open_partition
from hookstream.app.streams.rendezvous import WorkerNote, assignees
from hookstream.app.streams.standby import LeaseStandby
from hookstream.app.streams.turns import Turns
from hookstream.codecs.envelope import KNOWN_VERSIONS
from hookstream.tables.errors import TableCorruptError, TableError

__all__ = ["PartitionAssignment", "worker_id"]

logger = get_logger(__name__)

MAX_BATCH = 1 << 20
#: How often a worker looks who else lives, and renews.
TURN_SECONDS = 1.0
RENEW_SECONDS = 1.0
#: How often it asks for partitions that are its own and still held by another.
CLAIM_SECONDS = 0.2
#: How long a partition that cannot be opened is left alone: doubling, up to the second one. Where
#: its table here is the trouble, others may take it for the third, which doubles too.
TROUBLE_SECONDS, TROUBLE_MAX_SECONDS, TABLE_TROUBLE_SECONDS = 0.2, 5.0, 60.0
#: After this many failures in a row others are asked to take it.
OTHERS_AFTER = 2
#: After so many times in a row that a table made trouble it is deleted, and built anew.
WIPE_AFTER = 3
#: Nothing is handed over for so long after a worker came that reads less than the others: what they
#: have appended for it to read goes first. Others hear of it within a second.
OLDER_SECONDS = 3.0
#: A partition that has gone well for so long has no trouble any more.
WELL_SECONDS = 30.0


@dataclass(slots=True)
class Trouble:
    """Why a partition cannot be opened here, and until when (monotonic) that is not tried again."""

    error: str
    attempts: int
    until: float
    #: It is this worker's own table: others may open theirs.
    here: bool


class PartitionAssignment(Service):
    """Claims, renews and hands off leases; starts and stops the readers of owned partitions."""

    mundane_level = "debug"

    def __init__(
        self,
        redis: Any,
        scripts: Scripts,
        settings: Settings,
        clock: RedisClock,
        payloads: Payloads,
        *,
        met: asyncio.Event,
        channels: Collection[RedisStreamChannel],
        openers: Sequence[OpenState],
        released: Released,
        commit: Callable[[Batch], Awaitable[None]],
        revoke: Callable[[Partition], None] = lambda partition: None,
        lacks: Callable[[], str] = lambda: "",
        catalog_version: Callable[[], tuple[int, int]] = lambda: (0, 0),
        standby: LeaseStandby,
        is_urgent: Callable[[Entry], bool] = lambda _: False,
        **kwargs: Any,
    ) -> None:
        """``met``: set once Redis may be used; ``openers`` add each room's state of a partition.

        ``released`` gives entries of ``events`` whose turn has come; ``commit`` commits batches of
        stream developers' own channels; ``revoke`` is told of each partition before it is closed
        here; ``lacks`` says without what it could do nothing with any, "" where all is there;
        ``catalog_version``: version and token of the catalog that it has; ``standby`` renews leases
        while the event loop stands still; ``is_urgent``: what other entries are not to go together
        with.
        """
        super().__init__(**kwargs)
        self._redis = redis
        self._scripts = scripts
        self._settings = settings
        self._clock = clock
        self._payloads = payloads
        self._met = met
        self._channels = channels
        self._openers = openers
        self._released = released
        self._commit = commit
        self._on_revoke = revoke
        self._lacks = lacks
        self._catalog_version = catalog_version
        self._standby = standby
        self._is_urgent = is_urgent
        self.owned: dict[int, Partition] = {}
        self.readers: list[StreamReader] = []
        self.worker_id = ""
        self.workers: list[str] = []
        #: Leases of partitions that are being opened: epoch and nonce.
        self._opening: dict[int, tuple[int, str]] = {}
        self._identity: IO[str] | None = None
        #: Partitions that this worker could not open, or lost again and again.
        self.troubles: dict[int, Trouble] = {}
        #: Why it takes no partitions at all; "" where it does.
        self.unable = ""
        #: Begins the nonce of each lease of this process.
        self._process = secrets.token_hex(4)
        #: When Redis was last found away (monotonic).
        self._missed_at = -math.inf
        self._trials = Trials()
        self._others: dict[str, WorkerNote] = {}
        #: The newest version of entries that every worker can read; 0 where one does not say.
        self._all_read = 0
        #: Until then (monotonic) nothing is handed over.
        self._keeps_until = -math.inf
        self._lost: list[Partition] = []
        self._turn = asyncio.Event()
        self._turning = asyncio.Lock()
        self._beating = asyncio.Lock()
        #: Held while leases are renewed or given back: one that was given back is not renewed.
        self._renewing = asyncio.Lock()

    async def on_start(self) -> None:
        """Take this state folder's worker id, make the readers, claim what is this worker's."""
        settings = self._settings
        self.worker_id, self._identity = worker_id(settings.ensure_state_dir())
        self._reading = Turns(
            self._redis,
            self._scripts,
            self.worker_id,
            timeout_seconds=settings.redis_timeout_seconds,
            loop=self.loop,
            beacon=self.beacon,
        )
        await self.add_runtime_dependency(self._reading)
        for channel in self._channels:
            reader = StreamReader(
                channel,
                self._redis,
                self._scripts,
                self.worker_id,
                self._payloads,
                self._reading,
                batch_max=min(settings.batch_max_events, channel.batch_max or MAX_BATCH),
                buffer_max=settings.buffer_max_events,
                released=self._released if channel.name == "events" else None,
                commit=self._commit if channel.own else None,
                trials=self._trials,
                is_urgent=self._is_urgent,
                loop=self.loop,
                beacon=self.beacon,
            )
            self.readers.append(reader)
            await self.add_runtime_dependency(reader)
        # before the others hear of it: they would hand over to it what it could not work on
        self._look_at_itself()
        # beside the turns: opening a partition may take longer than a lease lasts
        tasks.spawn_loop("PartitionAssignment._live", self._live, self)
        self._standby.start()
        if not self._met.is_set():
            return
        try:
            async with self._turning:
                await self._heartbeat()
                await self._claim_mine()
        except Exception as error:  # noqa: BLE001 whatever it is, the turns go on trying
            logger.warning("cannot take partitions yet: %s; trying on", error)

    async def on_stop(self) -> None:
        """Finish the batches in flight, close the tables, give the leases back."""
        if self._identity is None:
            return
        await self._standby.stop()
        # a turn in flight may have claimed what it has not opened yet: it finishes first
        async with self._turning:
            try:
                await self._heartbeat(leave=True)
            except REDIS_ERRORS as error:
                logger.warning("could not sign off: %s; the leases will lapse", error)
            await self._hand_over(list(self.owned), self._settings.shutdown_timeout_seconds)
        self._identity.close()

    def refused(self) -> dict[str, str]:
        """What servers say of streams that are read or committed here and stand still for it."""
        return {
            f"{reader.channel.name}[{number}]": kind
            for reader in self.readers
            for number, kind in reader.troubles().items()
        }

    def prefetched(self, channel: str, number: int) -> int:
        """Entries of a partition that this worker has read and that wait for their batch."""
        return sum(
            reader.prefetched(number) for reader in self.readers if reader.channel.name == channel
        )

    def resume(self, number: int) -> None:
        """Have readers look whether anything of a partition may go now."""
        for reader in self.readers:
            reader.resume(number)

    def on_lost(self, partition: Partition, error: BaseException) -> None:
        """What this worker knows of a partition is wrong: let it go, and claim it anew."""
        logger.warning("partition %d: %s: %s", partition.number, type(error).__name__, error)
        self._lost.append(partition)
        self._turn.set()

    async def _live(self) -> None:
        """Say that this worker lives, and renew its leases, whatever the turns are at."""
        await self.wait_first(self._met.wait())
        while not self.should_stop:
            try:
                await self._heartbeat()
                await self._renew()
            except REDIS_ERRORS as error:
                self._missed_at = time.monotonic()
                logger.debug("leases cannot be renewed now: %s", error)
            await self.sleep(min(self._settings.lease_ttl_seconds / 3, RENEW_SECONDS))

    @tasks.loop
    async def _keep(self) -> None:
        third = self._settings.lease_ttl_seconds / 3
        await self.wait_first(self._met.wait())
        while not self.should_stop:
            self._turn.clear()
            missing = not self._lost and any(n not in self.owned for n in self._mine())
            # what should be here and is another's is asked for often: its owner lets go, or dies
            await self.wait_first(
                self._turn.wait(), timeout=min(third, CLAIM_SECONDS if missing else TURN_SECONDS)
            )
            if self.should_stop:
                break
            try:
                async with self._turning:
                    await self._take_turn()
            except Exception as error:  # noqa: BLE001 whatever it is, it is said and tried again
                # leases are looked after whatever happens
                logger.warning("cannot keep leases: %s; trying on", error)
                if not isinstance(error, (*REDIS_ERRORS, TableError, FencedError)):
                    tasks.BOARD.failed("PartitionAssignment._keep", error, restarts=True)
                await self.sleep(CLAIM_SECONDS)

    async def _take_turn(self) -> None:
        lost, self._lost = self._lost, []
        for partition in lost:
            await self._give_up(partition)
        here = any(trouble.here for trouble in self.troubles.values())
        if self.unable or here or self._lacks():
            self._look_at_itself()
        self._forget_troubles()
        mine = self._mine()
        leaving = [number for number in self.owned if number not in mine]
        if leaving and time.monotonic() >= self._keeps_until:
            logger.info("hands over partitions %s", leaving)
            await self._hand_over(leaving, self._settings.lease_ttl_seconds / 2)
        await self._claim_mine()

    async def _give_up(self, partition: Partition) -> None:
        error = partition.lost
        if error is None or self.owned.get(partition.number) is not partition:
            return
        here = isinstance(error, TableError)
        if here or partition.sequence == partition.claimed_sequence:
            # nothing came through since it was claimed, or its table is the trouble: not at once
            self._note_trouble(partition.number, error)
        again = here and self.troubles[partition.number].attempts >= WIPE_AFTER
        await self._let_go(
            partition.number,
            release=not isinstance(error, FencedError),
            wipe=again or isinstance(error, TableCorruptError),
        )

    def _forget_troubles(self) -> None:
        """Troubles of partitions that have gone well here for a while are over."""
        now = time.monotonic()
        for number in list(self.troubles):
            partition = self.owned.get(number)
            if partition and not partition.lost and now - partition.opened_at > WELL_SECONDS:
                del self.troubles[number]

    def _note_trouble(self, number: int, error: BaseException) -> None:
        before = self.troubles.get(number)
        attempts = before.attempts + 1 if before else 1
        here = isinstance(error, TableError)
        wait = min(TROUBLE_MAX_SECONDS, TROUBLE_SECONDS * 2.0 ** min(attempts, 16))
        if here and attempts >= OTHERS_AFTER and len(self.workers) > 1:
            wait = TABLE_TROUBLE_SECONDS * 2.0 ** min(attempts - OTHERS_AFTER, 4)
        text = f"{type(error).__name__}: {error}"[:300]
        self.troubles[number] = Trouble(text, attempts, time.monotonic() + wait, here)
        if attempts == 1 or attempts % 20 == 0:
            logger.error("partition %d cannot be opened here, trying on: %s", number, text)

    def _look_at_itself(self) -> None:
        """See whether it could do its work: who cannot takes no partitions."""
        why = self._lacks() or self._disk_trouble()
        if why and not self.unable:
            logger.error("takes no partitions: %s", why)
        elif self.unable and not why:
            logger.warning("takes partitions: that is over (%s)", self.unable)
            self.troubles = {n: t for n, t in self.troubles.items() if not t.here}
        self.unable = why

    def _disk_trouble(self) -> str:
        """Why tables cannot be written at all; "" where they can."""
        folder = self._settings.state_path / "tables"
        probe = folder / f".{self.worker_id}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"\0" * 4096)
            probe.unlink()
        except OSError as error:
            return f"tables cannot be written: {error}"
        return ""

    def _mine(self) -> set[int]:
        """The partitions that are this worker's to have."""
        if self.unable:
            return set()
        names = assignees(
            self._settings.partitions,
            {worker: set(note.cannot) for worker, note in self._others.items()},
        )
        return {number for number, name in enumerate(names) if name == self.worker_id}

    def note(self) -> WorkerNote:
        """What this worker says of itself to the others, and to ``/health``."""
        now = time.monotonic()
        cannot = {
            number: trouble.error
            for number, trouble in self.troubles.items()
            if trouble.here and trouble.attempts >= OTHERS_AFTER and trouble.until > now
        }
        mine = self._mine()
        waits = {
            number: trouble.error
            for number, trouble in self.troubles.items()
            if number in mine and number not in self.owned
        }
        return WorkerNote(self.unable, cannot, waits)

    def all_read(self, version: int) -> bool:
        """Whether every worker that lives can read entries of a version."""
        return self._all_read >= version

    async def _heartbeat(self, *, leave: bool = False) -> None:
        leaving = leave or self.unable
        ttl_ms = 0 if leaving else int(self._settings.lease_ttl_seconds * 1000)
        note = "" if leave else self.note().encode()
        async with self._beating:
            if self.should_stop and not leave:
                return  # it has signed off, or does so next
            catalog = "{} {}".format(*self._catalog_version())
            sign = [self.worker_id, ttl_ms, note, max(KNOWN_VERSIONS), catalog]
            now_ms, all_read, *others = await self._scripts.call("heartbeat", keys.OF_WORKERS, sign)
            if not leave:
                self._standby.publish_sign(sign)
        self._clock.set(int(now_ms))
        if int(all_read) < self._all_read:
            self._keeps_until = time.monotonic() + OLDER_SECONDS
        self._all_read = int(all_read)
        self._others = {
            worker.decode(): WorkerNote.decode(told.decode())
            for worker, told in zip(others[::2], others[1::2], strict=True)
        }
        known = sorted(self._others)
        if known != self.workers:
            logger.info("%d workers are alive", len(known))
            self._turn.set()
        self.workers = known

    async def _renew(self) -> None:
        """Renew what is owned, and what is being opened.

        Raises:
            redis.exceptions.RedisError: no lease could be renewed.
        """
        async with self._renewing:
            await self._renew_all()

    def _leases(self, partitions: Iterable[Partition]) -> dict[int, Sequence[object]]:
        """Arguments of ``renew`` for what is being opened, and for ``partitions``."""
        ttl_ms = int(self._settings.lease_ttl_seconds * 1000)
        leases: dict[int, Sequence[object]] = {
            number: (*fence, ttl_ms) for number, fence in self._opening.items()
        }
        return leases | {p.number: (p.epoch, p.nonce, ttl_ms, p.sequence) for p in partitions}

    def _stand_by(self) -> None:
        """A stage may stop the event loop before the first renewal of what was just claimed."""
        self._standby.publish(self._leases(p for p in self.owned.values() if p.lost is None))

    async def _renew_all(self) -> None:
        owned = list(self.owned.values())
        leases = self._leases(owned)
        replies = await asyncio.gather(
            *(
                self._scripts.call("renew", [keys.lease(number)], arguments)
                for number, arguments in leases.items()
            ),
            return_exceptions=True,
        )
        held = dict(zip(leases, replies, strict=True))
        for partition in owned:
            still = held[partition.number]
            if still == 0:
                metrics.LEASES_LOST.inc()
                partition.lose(FencedError("its lease went to another worker"))
            elif still == -1:
                partition.lose(OutdatedError("Redis has had fewer commits than were done here"))
            elif isinstance(still, RedisError) and redis_kind(still) in OF_ONE_KEY:
                partition.lose(still)
        self._stand_by()
        errors = [reply for reply in replies if isinstance(reply, BaseException)]
        if errors and len(errors) == len(replies):
            raise errors[0]

    async def _claim_mine(self) -> None:
        now = time.monotonic()
        wanted = [
            number
            for number in sorted(self._mine())
            if number not in self.owned
            and not (number in self.troubles and self.troubles[number].until > now)
        ]
        if not wanted or self.should_stop:
            return
        ttl_ms = int(self._settings.lease_ttl_seconds * 1000)
        nonces = {number: self._process + secrets.token_hex(8) for number in wanted}
        replies = await asyncio.gather(
            *(
                self._scripts.call("claim", [keys.lease(n)], [self.worker_id, nonces[n], ttl_ms])
                for n in wanted
            ),
            return_exceptions=True,
        )
        claimed = []
        errors: list[BaseException] = []
        for number, reply in zip(wanted, replies, strict=True):
            if isinstance(reply, BaseException):
                errors.append(reply)
                if not is_redis_away(reply):
                    self._note_trouble(number, reply)
            elif reply[0] == 1:
                claimed.append((number, reply))
        self._opening = {number: (int(reply[1]), nonces[number]) for number, reply in claimed}
        self._stand_by()
        try:
            opened = await self._open_claimed(claimed, nonces, errors)
        finally:
            self._opening = {}
        if opened:
            metrics.PARTITIONS_OWNED.set(len(self.owned))
            logger.info("owns %d of %d partitions", len(self.owned), self._settings.partitions)
        if down := next((error for error in errors if is_redis_away(error)), None):
            raise down

    async def _open_claimed(
        self,
        claimed: Sequence[tuple[int, Sequence[Any]]],
        nonces: Mapping[int, str],
        errors: list[BaseException],
    ) -> int:
        """Open what was claimed, one by one; how many could be. What went wrong joins errors."""
        opened = 0
        for number, reply in claimed:
            if not is_cluster(self._redis) and any(is_redis_away(error) for error in errors):
                break  # the leases stay this worker's to claim again
            if self.should_stop:
                await self._give_back(number, int(reply[1]), nonces[number])
                continue
            try:
                await self._open(number, nonces[number], reply)
                opened += 1
            except Exception as error:  # noqa: BLE001 one bad partition is one bad partition
                errors.append(error)
            finally:
                self._opening.pop(number, None)
        return opened

    async def _open(self, number: int, nonce: str, claim: Sequence[Any]) -> None:
        """Open one claimed partition and begin to read it; else close it, and give it back."""
        try:
            partition = await open_partition(self._openers, number, nonce, claim)
        except BaseException as error:
            if not is_redis_away(error):
                self._note_trouble(number, error)
                await self._give_back(number, int(claim[1]), nonce)
            raise
        partition.on_lost = self.on_lost
        partition.on_append = self._reading.appended
        partition.opened_at = time.monotonic()
        partition.after_death = self._is_after_death(claim)
        self.owned[number] = partition
        self._stand_by()
        found = await asyncio.gather(
            *(reader.attach([partition]) for reader in self.readers), return_exceptions=True
        )
        for failed in found:
            if isinstance(failed, BaseException):
                if not is_redis_away(failed):
                    self._note_trouble(number, failed)
                await self._let_go(number, release=not is_redis_away(failed))
                raise failed
        trouble = self.troubles.get(number)
        if partition.lost is None and trouble and not trouble.here:
            # a table may turn out to be no good only when it is used
            del self.troubles[number]

    def _is_after_death(self, claim: Sequence[Any]) -> bool:
        """Whether who had a claimed partition before has died with it.

        Not who gave it back, nor this process itself. Of another worker whose lease has lapsed
        nobody can say while Redis itself was away: it may not have been able to renew.
        """
        lease = dict(zip(claim[2::2], claim[3::2], strict=True))
        owner, _, nonce = lease.get(b"left_by", b"").decode().partition(" ")
        if not owner or nonce.startswith(self._process):
            return False
        if owner == self.worker_id:
            return True  # the lock of the state folder says that it lives no more
        return time.monotonic() - self._missed_at > self._settings.lease_ttl_seconds

    async def _hand_over(self, numbers: Sequence[int], timeout_seconds: float) -> None:
        """Finish the batches in flight, then revoke; what is not done in time stays pending."""
        for number in numbers:
            self.owned[number].leaving = True
        done = await asyncio.gather(
            *(reader.drain(numbers, timeout_seconds) for reader in self.readers)
        )
        if not all(done):
            logger.warning("batches were not done in %g s: they stay pending", timeout_seconds)
        await asyncio.gather(*(self._let_go(number, release=True) for number in numbers))

    async def _let_go(self, number: int, *, release: bool, wipe: bool = False) -> None:
        partition = self.owned.pop(number, None)
        if partition is None:
            return
        metrics.PARTITIONS_OWNED.set(len(self.owned))
        for reader in self.readers:
            reader.detach(number)
        self._on_revoke(partition)
        partition.close()
        if wipe:
            logger.warning("a table of partition %d is corrupt: rebuilding it", number)
            partition.wipe()
        if release:
            await self._give_back(number, partition.epoch, partition.nonce)

    async def _give_back(self, number: int, epoch: int, nonce: str) -> None:
        self._opening.pop(number, None)
        try:
            async with self._renewing:
                await self._standby.withdraw(number)
                await self._scripts.call("renew", [keys.lease(number)], [epoch, nonce, 0])
        except REDIS_ERRORS as error:
            logger.warning("could not give back partition %d: %s", number, error)


def worker_id(state_dir: Path) -> tuple[str, IO[str]]:
    """This state folder's worker id, and the open file whose lock says that it is in use.

    A worker that starts again on the same folder has the same id, and may take its own leases
    back at once: the lock says that the one before is dead.

    Raises:
        SettingsError: another worker runs on this folder.
    """
    file = open(  # noqa: SIM115 it stays open, and locked, for the life of the worker
        os.open(state_dir / "worker-id", os.O_RDWR | os.O_CREAT, 0o600), "r+"
    )
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise SettingsError(
            f"another worker runs on {state_dir}: give this one a HOOKSTREAM_STATE_DIR of its own"
        ) from error
    name = file.read().strip()
    if not name:
        name = f"worker-{secrets.token_hex(6)}"
        file.write(name + "\n")
        file.flush()
    return name, file
