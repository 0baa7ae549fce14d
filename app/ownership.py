"""Which partitions this worker owns: leases in Redis, and what is opened for each.

Rendezvous hashing over the living workers says whose a partition is; the lease, fenced by epoch and
nonce, says who has it. A worker that comes gets its share as the others finish what is in hand.
"""

import asyncio
import fcntl
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import orjson
from mode import Service
from mode.utils.logging import get_logger
from xxhash import xxh3_64_intdigest

from hookstream.app import keys, metrics
from hookstream.app.batch import Partition
from hookstream.app.breaker import Breaker, BreakerState
from hookstream.app.delivery import read_deferred
from hookstream.app.errors import FencedError, SettingsError
from hookstream.app.history import TABLE as HISTORY
from hookstream.app.origins import OriginMark
from hookstream.app.reader import StreamReader
from hookstream.app.redis_client import REDIS_ERRORS
from hookstream.app.restore import open_restored
from hookstream.app.settings import Settings
from hookstream.tables.dedup import DAY_MS, DedupTable
from hookstream.tables.errors import TableCorruptError, TableError
from hookstream.tables.rates import RateTable

if TYPE_CHECKING:
    from hookstream.app.hookstream import Hookstream
    from hookstream.app.parts import Parts

__all__ = ["Ownership", "open_partition", "rendezvous", "worker_id"]

logger = get_logger(__name__)

TRIM_EVERY_MS = 60_000
MAX_BATCH = 1 << 20
#: How often a worker looks who else lives, and renews.
TURN_SECONDS = 1.0
RENEW_SECONDS = 1.0
#: How often it asks for partitions that are its own and still held by another.
CLAIM_SECONDS = 0.2


class Ownership(Service):
    """Claims, renews and hands over leases; starts and stops the readers of owned partitions."""

    mundane_level = "debug"

    def __init__(self, app: "Hookstream", **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.app = app
        self.owned: dict[int, Partition] = {}
        self.readers: list[StreamReader] = []
        self.worker_id = ""
        self.workers: list[str] = []
        self._renewed_at = 0.0
        self._trimmed_ms = 0
        self._identity: IO[str] | None = None
        self._lost: dict[int, BaseException] = {}
        self._turn = asyncio.Event()
        self._turning = asyncio.Lock()

    async def on_start(self) -> None:
        """Take this state folder's worker id, make the readers, claim what is this worker's."""
        settings = self.app.settings
        parts = self.app.parts
        self.worker_id, self._identity = worker_id(settings.ensure_state_dir())
        for channel in self.app.stream_channels.values():
            reader = StreamReader(
                channel,
                parts.redis,
                parts.scripts,
                self.worker_id,
                parts.payloads,
                batch_max=min(settings.batch_max_events, channel.batch_max or MAX_BATCH),
                buffer_max=settings.buffer_max_events,
                timeout_seconds=settings.redis_timeout_seconds,
                on_lost=self.on_lost,
                loop=self.loop,
                beacon=self.beacon,
            )
            self.readers.append(reader)
            await self.add_runtime_dependency(reader)
        self.app.flow_control.resume()
        if not parts.met.is_set():
            return
        try:
            async with self._turning:
                await self._heartbeat()
                await self._claim_mine()
        except (*REDIS_ERRORS, TableError, FencedError) as error:
            logger.warning("cannot take partitions yet: %s; trying on", error)

    async def on_stop(self) -> None:
        """Finish the batches in hand, close the tables, give the leases back."""
        if self._identity is None:
            return
        # a turn under way may have claimed what it has not opened yet: it finishes first
        async with self._turning:
            try:
                await self._heartbeat(leave=True)
            except REDIS_ERRORS as error:
                logger.warning("could not sign off: %s; the leases will lapse", error)
            await self._hand_over(list(self.owned), self.app.settings.shutdown_timeout_seconds)
        self._identity.close()

    def tripped(self) -> dict[str, str]:
        """Tools whose circuit breaker is open or half-open here, with its state."""
        return {
            tool_id: breaker.state.value
            for partition in self.owned.values()
            for tool_id, breaker in partition.breakers.items()
            if breaker.state is not BreakerState.CLOSED
        }

    def troubles(self) -> dict[str, str]:
        """What servers say of streams that are read or committed here and stand still for it."""
        return {
            f"{reader.channel.name}[{number}]": kind
            for reader in self.readers
            for number, kind in reader.troubles().items()
        }

    def read_ahead(self, channel: str, number: int) -> int:
        """Entries of a partition that this worker has read and that wait for their batch."""
        return sum(
            reader.read_ahead(number) for reader in self.readers if reader.channel.name == channel
        )

    def on_lost(self, number: int, error: BaseException) -> None:
        """What this worker knows of a partition is wrong: let it go, and claim it anew."""
        self._lost[number] = error
        self._turn.set()

    @Service.task
    async def _keep(self) -> None:
        third = self.app.settings.lease_ttl_seconds / 3
        await self.wait_first(self.app.parts.met.wait())
        while not self.should_stop:
            self._turn.clear()
            missing = any(n not in self.owned for n in self._mine())
            # what should be here and is another's is asked for often: its owner lets go, or dies
            await self.wait_first(
                self._turn.wait(), timeout=min(third, CLAIM_SECONDS if missing else TURN_SECONDS)
            )
            if self.should_stop:
                break
            try:
                async with self._turning:
                    await self._take_turn(third)
            except (*REDIS_ERRORS, TableError, FencedError) as error:
                logger.warning("cannot keep leases: %s; trying on", error)
                await self.sleep(CLAIM_SECONDS)

    async def _take_turn(self, third: float) -> None:
        for number, error in list(self._lost.items()):
            del self._lost[number]
            wipe = isinstance(error, TableCorruptError)
            await self._let_go(number, release=not isinstance(error, FencedError), wipe=wipe)
        if time.monotonic() - self._renewed_at >= min(third, RENEW_SECONDS):
            await self._heartbeat()
            await self._renew()
            await self._purge()
        mine = self._mine()
        if leaving := [number for number in self.owned if number not in mine]:
            logger.info("hands over partitions %s", leaving)
            await self._hand_over(leaving, self.app.settings.lease_ttl_seconds / 2)
        await self._claim_mine()

    def _mine(self) -> set[int]:
        """The partitions that rendezvous hashing gives this worker."""
        partitions = range(self.app.settings.partitions)
        return {n for n in partitions if rendezvous(n, self.workers) == self.worker_id}

    async def _heartbeat(self, *, leave: bool = False) -> None:
        ttl_ms = 0 if leave else int(self.app.settings.lease_ttl_seconds * 1000)
        now_ms, *workers = await self.app.parts.scripts.call(
            "heartbeat", [keys.WORKERS], [self.worker_id, ttl_ms]
        )
        self.app.parts.clock.set(int(now_ms))
        known = sorted(worker.decode() for worker in workers)
        if known != self.workers:
            logger.info("%d workers are alive", len(known))
        self.workers = known

    async def _renew(self) -> None:
        ttl_ms = int(self.app.settings.lease_ttl_seconds * 1000)
        renewed = list(self.owned.values())
        held = await asyncio.gather(
            *(
                self.app.parts.scripts.call(
                    "renew", [keys.lease(p.number)], [p.epoch, p.nonce, ttl_ms]
                )
                for p in renewed
            ),
            return_exceptions=True,
        )
        errors = [still for still in held if isinstance(still, BaseException)]
        for partition, still in zip(renewed, held, strict=True):
            if still == 0:
                metrics.LEASES_LOST.inc()
                logger.warning("the lease of partition %d went to another worker", partition.number)
                await self._let_go(partition.number, release=False)
        if errors:
            raise errors[0]
        self._renewed_at = time.monotonic()

    async def _claim_mine(self) -> None:
        wanted = [number for number in sorted(self._mine()) if number not in self.owned]
        if not wanted or self.should_stop:
            return
        ttl_ms = int(self.app.settings.lease_ttl_seconds * 1000)
        nonces = {number: secrets.token_hex(8) for number in wanted}
        replies = await asyncio.gather(
            *(
                self.app.parts.scripts.call(
                    "claim", [keys.lease(n)], [self.worker_id, nonces[n], ttl_ms]
                )
                for n in wanted
            ),
            return_exceptions=True,
        )
        errors = [reply for reply in replies if isinstance(reply, BaseException)]
        claimed = [
            (number, reply)
            for number, reply in zip(wanted, replies, strict=True)
            if not isinstance(reply, BaseException) and reply[0] == 1
        ]
        opened = []
        try:
            for number, reply in claimed:
                if self.should_stop:
                    break
                self.owned[number] = await open_partition(
                    self.app.parts, self.app.settings, number, nonces[number], reply
                )
                opened.append(self.owned[number])
            for reader in self.readers:
                await reader.attach(opened)
        except (*REDIS_ERRORS, TableError, FencedError):
            for number, _ in claimed:
                await self._let_go(number, release=False)
            raise
        for number, reply in claimed[len(opened) :]:
            await self._give_back(number, int(reply[1]), nonces[number])
        if opened:
            metrics.PARTITIONS_OWNED.set(len(self.owned))
            logger.info("owns %d of %d partitions", len(self.owned), self.app.settings.partitions)
        if errors:
            raise errors[0]

    async def _hand_over(self, numbers: Sequence[int], timeout_seconds: float) -> None:
        """Finish the batches in hand, then let go; what is not done in time stays pending."""
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
        partition.close_tables()
        if wipe:
            logger.warning("a table of partition %d is corrupt: rebuilding it", number)
            partition.wipe_tables()
        if release:
            await self._give_back(number, partition.epoch, partition.nonce)

    async def _give_back(self, number: int, epoch: int, nonce: str) -> None:
        try:
            await self.app.parts.scripts.call("renew", [keys.lease(number)], [epoch, nonce, 0])
        except REDIS_ERRORS as error:
            logger.warning("could not give back partition %d: %s", number, error)

    async def _purge(self) -> None:
        """Delete ended marks, and the changelog that no window needs any more."""
        self.app.parts.lookback.observe()
        now_ms = self.app.parts.clock.now_ms()
        windows = [tool.window_ms for tool in self.app.parts.registry.current.tools.values()]
        oldest_ms = now_ms - max(windows, default=0)
        for partition in list(self.owned.values()):
            try:
                if gone := partition.dedup.purge(now_ms):
                    metrics.DEDUP_PURGED.inc(gone)
            except TableError as error:
                self.on_lost(partition.number, error)
        if windows and now_ms - self._trimmed_ms > TRIM_EVERY_MS:
            self._trimmed_ms = now_ms
            contexts = self.app.parts.registry.current.contexts.values()
            horizons = [context.rate.horizon_ms() for context in contexts if context.rate]
            useful_ms = now_ms - int(max(horizons, default=0)) - TRIM_EVERY_MS
            async with self.app.parts.redis.pipeline(transaction=False) as pipe:
                for number in self.owned:
                    pipe.xtrim(keys.changelog(number), minid=oldest_ms, approximate=True)
                    pipe.xtrim(
                        keys.changelog(number, RateTable.name),
                        minid=max(0, useful_ms),
                        approximate=True,
                    )
                    # of a partition that remembers nothing any more; others trim as they save
                    pipe.xtrim(
                        keys.changelog(number, HISTORY),
                        minid=max(0, now_ms - self.app.parts.lookback.longest_ms - 2 * DAY_MS),
                        approximate=True,
                    )
                await pipe.execute()


def rendezvous(number: int, workers: Sequence[str]) -> str:
    """The worker that partition ``number`` belongs to; "" without workers.

    Highest random weight (D. Thaler, C. Ravishankar, 1998): a join or a leave moves only the
    partitions of the one that came or went.
    """
    return max(
        workers,
        key=lambda worker: (xxh3_64_intdigest(f"{worker}\0{number}".encode()), worker),
        default="",
    )


async def open_partition(
    parts: "Parts", settings: Settings, number: int, nonce: str, claim: Sequence[Any]
) -> Partition:
    """A claimed partition with its table and its state; ``claim`` is what claim.lua answered."""
    redis = parts.redis
    table = await open_restored(redis, settings.state_path / "tables", number, DedupTable)
    lease = dict(zip(claim[2::2], claim[3::2], strict=True))
    origins = await redis.hgetall(keys.origins(number))
    seqs = await redis.hgetall(keys.seqs(number))
    holds = await redis.hgetall(keys.holds(number))
    breakers = await redis.hgetall(keys.breakers(number))
    withheld = await redis.hgetall(keys.withheld(number))
    deferred = await read_deferred(redis, parts.scripts, number)
    return Partition(
        number,
        int(claim[1]),
        nonce,
        table,
        revisions={
            field[len(b"rev:") :].decode(): int(value)
            for field, value in lease.items()
            if field.startswith(b"rev:")
        },
        origins={int(p): OriginMark.decode(mark.decode()) for p, mark in origins.items()},
        seqs={name.decode(): int(seq) for name, seq in seqs.items()},
        withheld={name.decode(): int(count) for name, count in withheld.items()},
        deferred=deferred,
        holds={ordering.decode(): letter.decode() for ordering, letter in holds.items()},
        breakers={
            tool.decode(): Breaker.from_dict(
                orjson.loads(kept),
                threshold=settings.breaker_failures,
                wait_ms=int(settings.breaker_wait_seconds * 1000),
            )
            for tool, kept in breakers.items()
        },
    )


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
