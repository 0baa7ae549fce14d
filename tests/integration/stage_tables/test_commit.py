"""Counts are exact, whatever becomes of commits, workers and their tables."""

import random
import secrets
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError
from redis.exceptions import TimeoutError as RedisTimeoutError

from hookstream.app.application import Hookstream
from hookstream.app.errors import FencedError, OutdatedError
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.settings import Settings
from hookstream.app.stage_tables import state as state_module
from hookstream.app.stage_tables.state import TablesState, opens_tables, settle, write_tables
from hookstream.app.stages import EventStageRunner
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.commit import Writes, commit
from hookstream.app.streams.partition import Partition, open_partition
from hookstream.app.streams.table_writes import SplitBatchError
from hookstream.codecs.envelope import Event
from hookstream.testing import make_event

NUMBER = 4


class Faulty:
    """Scripts of which one call may be refused, or carried out and its reply lost."""

    def __init__(self, scripts: Scripts) -> None:
        self.scripts = scripts
        self.fault = ""

    async def call(self, name: str, *given: Any) -> Any:
        fault, self.fault = self.fault, ""
        if fault == "refused":
            raise OutOfMemoryError("OOM command not allowed")
        reply = await self.scripts.call(name, *given)
        if fault == "lost reply":
            raise RedisTimeoutError("timeout reading from socket")
        return reply


class Worker:
    """One of two workers, each with a folder of its own, that take the partition in turn."""

    def __init__(self, redis: Any, folder: Path) -> None:
        self.redis = redis
        self.folder = folder
        self.scripts = Faulty(Scripts(redis))
        app = Hookstream(Settings(state_dir=folder / "app"))
        self.counts = app.Table("counts", default=int)
        self.partition: Partition | None = None

    async def claim(self, worker: str, *, steal: bool = False) -> None:
        if self.partition is not None and not steal:
            self.partition.close()
        await self.redis.hset(keys.lease(NUMBER), "expires_ms", "0")
        nonce = secrets.token_hex(4)
        reply = await self.scripts.call("claim", [keys.lease(NUMBER)], [worker, nonce, 3_600_000])
        if not steal:
            openers = [opens_tables(self.redis, self.folder / worker, lambda: True)]
            self.partition = await open_partition(openers, NUMBER, nonce, reply)

    async def work(self, events: list[Event], fault: str) -> None:
        """Two stages, the second of which fails on some; then their commit."""
        assert self.partition is not None
        entries = [Entry(f"{e.received_at_ms}-0", b"", e) for e in events]
        batch = Batch("events", self.partition, entries, lambda *_: None)
        await EventStageRunner("count", self._count)(batch)
        await EventStageRunner("fail", self._fail)(batch)
        writes = Writes()
        await write_tables(self.redis, writes, batch, settle(batch))
        # as every commit of events does: how far Redis has come is read from it
        writes.append(keys.audit(NUMBER), b"what was decided")
        if fault == "another owner":
            await self.claim("another", steal=True)
        self.scripts.fault = fault
        await commit(self.scripts, self.partition, "events", writes)  # type: ignore[arg-type]

    async def _count(self, event: Event) -> Event | None:
        self.counts[event.tool_id] += 1
        return event

    async def _fail(self, event: Event) -> Event | None:
        if event.type == "bad":
            raise ValueError("no")
        return event

    def found(self) -> dict[str, int]:
        assert self.partition is not None
        values = self.partition[TablesState].values.scan(b"", b"\xff" * 9)
        return {key.decode().rpartition("v")[2].strip('"'): int(value) for key, value in values}


@pytest.mark.parametrize("seed", range(4))
async def test_counts_are_exact_whatever_happens(
    redis_client: Any, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "COMPACT_BYTES", 300)
    draw = random.Random(seed)
    worker = Worker(redis_client, tmp_path)
    await worker.scripts.scripts.load()
    await worker.claim("w0")
    wanted: Counter[str] = Counter()
    faults = ["", "", "", "", "", "refused", "lost reply", "another owner"]
    seen: Counter[str] = Counter()
    for number in range(200):
        waiting = [
            make_event(
                number=number * 10 + n,
                tool_id=f"t{draw.randrange(5)}",
                type="bad" if draw.random() < 0.2 else "good",
            )
            for n in range(draw.randint(1, 5))
        ]
        wanted.update(event.tool_id for event in waiting if event.type == "good")
        size = len(waiting)
        while waiting:
            before = await commits(redis_client)
            fault, part = draw.choice(faults), waiting[:size]
            seen[fault] += 1
            try:
                await worker.work(part, fault)
            except SplitBatchError as error:
                seen["split"] += 1
                size = max(1, error.at)
                continue
            except (FencedError, OutdatedError, RedisTimeoutError, OutOfMemoryError):
                pass
            # what was acknowledged does not come again
            if await commits(redis_client) > before:
                waiting, size = waiting[size:], 5
            if worker.partition is None or worker.partition.lost or draw.random() < 0.05:
                name = draw.choice(("w0", "w1"))
                if draw.random() < 0.2:
                    assert worker.partition is not None
                    worker.partition.close()
                    shutil.rmtree(tmp_path / name, ignore_errors=True)
                await worker.claim(name)
        assert worker.found() == wanted
    assert all(seen[fault] for fault in (*faults, "split"))
    assert await redis_client.xlen(keys.changelog(NUMBER, "stages")) < 60
    assert worker.partition is not None
    worker.partition.close()


async def commits(redis: Any) -> int:
    return int(await redis.hget(keys.lease(NUMBER), "sequence") or 0)
