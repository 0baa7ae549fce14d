"""Which partitions this worker owns: leases in Redis, and what is opened for each.

A worker claims what is free or lapsed; the others stand by. The lease is fenced by epoch and nonce.
"""

import asyncio
import fcntl
import os
import secrets
from pathlib import Path
from typing import IO, TYPE_CHECKING

from mode import Service
from mode.utils.logging import get_logger
from redis.exceptions import RedisError

from hookstream.app import keys, metrics
from hookstream.app.batch import Partition
from hookstream.app.errors import SettingsError
from hookstream.app.reader import StreamReader
from hookstream.app.restore import open_restored

if TYPE_CHECKING:
    from hookstream.app.hookstream import Hookstream

__all__ = ["Ownership", "check_partition_count", "worker_id"]

logger = get_logger(__name__)

TRIM_EVERY_MS = 60_000


class Ownership(Service):
    """Claims and renews leases; starts and stops the readers of owned partitions."""

    mundane_level = "debug"

    def __init__(self, app: "Hookstream", **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.app = app
        self.owned: dict[int, Partition] = {}
        self.readers: list[StreamReader] = []
        self.worker_id = ""
        self.redis_now_ms = 0
        self._trimmed_ms = 0
        self._identity: IO[str] | None = None
        self._fenced: set[int] = set()

    async def on_start(self) -> None:
        """Take this state folder's worker id, make the readers, claim what is free."""
        settings = self.app.settings
        self.worker_id, self._identity = worker_id(settings.ensure_state_dir())
        await check_partition_count(self.app)
        for channel in self.app.stream_channels.values():
            reader = StreamReader(
                channel,
                self.app.parts.redis,
                self.worker_id,
                batch_max=settings.batch_max_events,
                buffer_max=settings.buffer_max_events,
                on_fenced=self._fenced.add,
                loop=self.loop,
                beacon=self.beacon,
            )
            self.readers.append(reader)
            await self.add_runtime_dependency(reader)
        self.app.flow_control.resume()
        await self._claim_free()

    async def on_stop(self) -> None:
        """Finish the batches in hand, close the tables, give the leases back."""
        await asyncio.gather(*(reader.drain(10.0) for reader in self.readers))
        for number in list(self.owned):
            await self._let_go(number, release=True)
        if self._identity is not None:
            self._identity.close()

    @Service.task
    async def _keep(self) -> None:
        third = self.app.settings.lease_ttl_seconds / 3
        while not self.should_stop:
            await self.sleep(third)
            if self.should_stop:
                break
            try:
                for number in list(self._fenced):
                    self._fenced.discard(number)
                    await self._let_go(number, release=False)
                await self._renew()
                await self._claim_free()
                await self._purge()
            except (RedisError, OSError) as error:
                logger.warning("cannot renew leases: %s; trying on", error)

    async def _renew(self) -> None:
        ttl_ms = int(self.app.settings.lease_ttl_seconds * 1000)
        seconds, micros = await self.app.parts.redis.time()
        self.redis_now_ms = seconds * 1000 + micros // 1000
        renewed = list(self.owned.values())
        held = await asyncio.gather(
            *(
                self.app.parts.scripts.call(
                    "renew", [keys.lease(p.number)], [p.epoch, p.nonce, ttl_ms]
                )
                for p in renewed
            )
        )
        for number, still in zip((p.number for p in renewed), held, strict=True):
            if not still:
                metrics.LEASES_LOST.inc()
                logger.warning("the lease of partition %d went to another worker", number)
                await self._let_go(number, release=False)

    async def _claim_free(self) -> None:
        ttl_ms = int(self.app.settings.lease_ttl_seconds * 1000)
        wanted = [n for n in range(self.app.settings.partitions) if n not in self.owned]
        nonces = {number: secrets.token_hex(8) for number in wanted}
        replies = await asyncio.gather(
            *(
                self.app.parts.scripts.call(
                    "claim", [keys.lease(n)], [self.worker_id, nonces[n], ttl_ms]
                )
                for n in wanted
            )
        )
        claimed = [
            (number, int(reply[1]))
            for number, reply in zip(wanted, replies, strict=True)
            if reply[0] == 1
        ]
        if claimed:
            for number, epoch in claimed:
                self.owned[number] = await self._open(number, epoch, nonces[number])
            opened = [self.owned[number] for number, _ in claimed]
            try:
                for reader in self.readers:
                    await reader.attach(opened)
            except (RedisError, OSError):
                for number, _ in claimed:
                    await self._let_go(number, release=False)
                raise
            metrics.PARTITIONS_OWNED.set(len(self.owned))
            logger.info("owns %d of %d partitions", len(self.owned), self.app.settings.partitions)

    async def _open(self, number: int, epoch: int, nonce: str) -> Partition:
        redis = self.app.parts.redis
        table = await open_restored(redis, self.app.settings.state_path / "tables", number)
        origins = await redis.hgetall(keys.origins(number))
        seqs = await redis.hgetall(keys.seqs(number))
        return Partition(
            number,
            epoch,
            nonce,
            table,
            {int(field): entry.decode() for field, entry in origins.items()},
            {field.decode(): int(seq) for field, seq in seqs.items()},
        )

    async def _let_go(self, number: int, *, release: bool) -> None:
        partition = self.owned.pop(number, None)
        if partition is None:
            return
        metrics.PARTITIONS_OWNED.set(len(self.owned))
        for reader in self.readers:
            reader.detach(number)
        partition.dedup.close()
        if release:
            try:
                await self.app.parts.scripts.call(
                    "renew", [keys.lease(number)], [partition.epoch, partition.nonce, 0]
                )
            except (RedisError, OSError) as error:
                logger.warning("could not give back partition %d: %s", number, error)

    async def _purge(self) -> None:
        """Delete ended marks, and the changelog that no window needs any more."""
        windows = [tool.window_ms for tool in self.app.parts.registry.current.tools.values()]
        oldest_ms = self.redis_now_ms - max(windows, default=0)
        for partition in self.owned.values():
            if gone := partition.dedup.purge(self.redis_now_ms):
                metrics.DEDUP_PURGED.inc(gone)
        if windows and self.redis_now_ms - self._trimmed_ms > TRIM_EVERY_MS:
            self._trimmed_ms = self.redis_now_ms
            async with self.app.parts.redis.pipeline(transaction=False) as pipe:
                for number in self.owned:
                    pipe.xtrim(keys.changelog(number), minid=oldest_ms, approximate=True)
                await pipe.execute()


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


async def check_partition_count(app: "Hookstream") -> None:
    """Store the partition count at first start; refuse another one afterwards.

    Raises:
        SettingsError: the stored count differs.
    """
    redis, wanted = app.parts.redis, app.settings.partitions
    await redis.hsetnx(keys.META, "partitions", str(wanted))
    stored = int(await redis.hget(keys.META, "partitions") or 0)
    if stored != wanted:
        raise SettingsError(
            f"this installation has {stored} partitions and HOOKSTREAM_PARTITIONS says {wanted}: "
            f"set it to {stored}, or start on an empty Redis"
        )
