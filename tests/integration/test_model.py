"""A model test: ownership and commit in any interleaving, with crashes between any two steps.

The scripts, the tables, the stages' own functions and the server are real; what hypothesis drives
is the order in which workers take the steps, which of them die or lose a lease in between, which
replies are lost, and which tables vanish. A plain model says what every feed must hold in the end.
"""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import orjson
import redis.asyncio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from hookstream.agents.commit import audit, outputs
from hookstream.agents.dedupe import candidate
from hookstream.agents.deliver import plan, write_plan
from hookstream.app import keys
from hookstream.app.batch import Batch, Entry, Partition
from hookstream.app.commit import Writes, commit
from hookstream.app.durable import Durability, append_groups
from hookstream.app.errors import FencedError, OutdatedError
from hookstream.app.ids import new_event_id, partition_of
from hookstream.app.ownership import open_partition
from hookstream.app.redis_client import Scripts
from hookstream.app.settings import Settings
from hookstream.app.status import Status
from hookstream.codecs.envelope import Event, decode_event, encode_event
from hookstream.codecs.routed import Target, decode_routed, encode_changes
from hookstream.tables.dedup import decide, mark_key

T = TypeVar("T")
TENANT, CONTEXT = "t", "c"
#: Where events come in, and where the context's feed is.
SOURCES = (0, 1)
FEED = partition_of(32, TENANT, CONTEXT)
NUMBERS = tuple(sorted({*SOURCES, FEED}))
WORKERS = ("w0", "w1", "w2")
READ = 3
WINDOW_MS = 3_600_000


def body(event: Event, target: Target) -> bytes:
    """An update with nothing in it but what the model compares."""
    return orjson.dumps({"event_id": event.event_id, "context_id": target.context_id})


class LostReplyError(Exception):
    """A reply that never came; the server has done what it was asked."""


class Worker:
    """One worker's memory of the partitions that it takes for its own, and what is in its hands."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.settings = Settings(state_dir=folder / name)
        self.partitions: dict[int, Partition] = {}
        self.batches: dict[tuple[str, int], tuple[str, Batch, list[str]]] = {}

    def forget(self, number: int) -> None:
        partition = self.partitions.pop(number, None)
        if partition is not None:
            partition.dedup.close()
        for channel in ("events", "updates"):
            self.batches.pop((channel, number), None)

    def crash(self) -> None:
        for number in list(self.partitions):
            self.forget(number)


class Pipeline(RuleBasedStateMachine):
    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="hookstream-model-"))
        self.redis = redis.asyncio.Redis.from_url(self.url, protocol=2)
        self.scripts = Scripts(self.redis)
        self.durability = Durability(self.redis, "local")
        self.workers = {name: Worker(name, self.folder) for name in WORKERS}
        self.count = itertools.count(1)
        #: For each source the events in stream order: (event id, message).
        self.sent: dict[int, list[tuple[str, int]]] = {number: [] for number in SOURCES}
        self.run(self._begin())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    async def _begin(self) -> None:
        await self.redis.flushall()
        await self.scripts.load()
        for number in NUMBERS:
            await self._claim(self.workers["w0"], number)

    @rule(source=st.sampled_from(SOURCES), message=st.integers(0, 3), times=st.integers(1, 4))
    def events_come_in(self, source: int, message: int, times: int) -> None:
        for more in range(times):
            number = next(self.count)
            # mostly messages of their own, sometimes one that came before
            text = message if more == 0 else 100 + number
            event = Event(
                event_id=new_event_id(1_700_000_000_000 + number, source, number),
                tenant=TENANT,
                tool_id="tool",
                provider="none",
                type="webhook",
                message_id=f"{source}:{text}",
                received_at_ms=1_700_000_000_000,
                payload=b"{}",
                dedup_window_ms=WINDOW_MS,
            )
            self.run(self.redis.xadd(keys.events(source), {"d": encode_event(event)}))
            self.sent[source].append((event.event_id, text))

    @rule(worker=st.sampled_from(WORKERS), number=st.sampled_from(NUMBERS))
    def claims(self, worker: str, number: int) -> None:
        self.run(self._claim(self.workers[worker], number))

    @rule(number=st.sampled_from(NUMBERS), worker=st.sampled_from(WORKERS))
    def lease_lapses_and_goes_to(self, number: int, worker: str) -> None:
        """Its owner knows nothing of it: a zombie."""
        self.run(self._lapse(number))
        self.run(self._claim(self.workers[worker], number))

    @rule(worker=st.sampled_from(WORKERS))
    def crashes(self, worker: str) -> None:
        self.workers[worker].crash()

    @rule(worker=st.sampled_from(WORKERS))
    def crashes_and_loses_its_disk(self, worker: str) -> None:
        self.workers[worker].crash()
        shutil.rmtree(self.folder / worker, ignore_errors=True)

    @rule(
        which=st.integers(0, 17),
        lost=st.sampled_from((False, False, False, True)),
        steps=st.integers(1, 4),
    )
    def works(self, which: int, lost: bool, steps: int) -> None:
        """Some worker takes some steps of what it takes for its own; the last reply may be lost."""
        owned = [
            (worker, number, channel)
            for worker in self.workers.values()
            for number in worker.partitions
            for channel in (("events", "updates") if number == FEED else ("events",))
        ]
        if not owned:
            return
        worker, number, channel = owned[which % len(owned)]
        for step in range(steps):
            self.run(self._step(worker, number, channel, lost=lost and step == steps - 1))

    def teardown(self) -> None:
        try:
            self.run(self._finish())
        finally:
            for worker in self.workers.values():
                worker.crash()
            self.run(self.redis.aclose())
            self.loop.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    async def _lapse(self, number: int) -> None:
        if await self.redis.exists(keys.lease(number)):
            await self.redis.hset(keys.lease(number), "expires_ms", "0")

    async def _claim(self, worker: Worker, number: int) -> None:
        if number in worker.partitions:
            return
        nonce = f"n{next(self.count)}"
        reply = await self.scripts.call(
            "claim", [keys.lease(number)], [worker.name, nonce, 3_600_000]
        )
        if reply[0] != 1:
            return
        parts: Any = SimpleNamespace(redis=self.redis)
        worker.partitions[number] = await open_partition(
            parts, worker.settings, number, nonce, reply
        )
        for channel in ("events", "updates"):
            await self.scripts.call(
                "take_over",
                [keys.lease(number), keys.stream(channel, number)],
                [reply[1], nonce, keys.GROUP, worker.name, "0-0", "0-0"],
            )

    async def _step(self, worker: Worker, number: int, channel: str, *, lost: bool = False) -> bool:
        """One step of one partition's channel; False when there was nothing to do."""
        partition = worker.partitions.get(number)
        if partition is None:
            return False
        at = worker.batches.get((channel, number))
        try:
            if at is None:
                batch = await self._read(worker, partition, channel, lost)
                if batch is None:
                    return False
                worker.batches[channel, number] = ("read", batch, [])
            elif channel == "updates":
                await self._deliver(at[1], lost)
                del worker.batches[channel, number]
            elif at[0] == "read":
                await self._judge_and_send(at[1], lost)
                worker.batches[channel, number] = ("sent", at[1], [])
            elif at[0] == "sent":
                ids = await self._commit(at[1], lost)
                worker.batches[channel, number] = ("committed", at[1], ids)
            else:
                if at[1].changes:
                    partition.dedup.apply(at[1].changes, at[2][0])
                del worker.batches[channel, number]
        except (FencedError, OutdatedError):
            worker.forget(number)
        except LostReplyError:
            # the worker tries its batch again from its beginning, as the reader does
            worker.batches.pop((channel, number), None)
        return True

    async def _read(
        self, worker: Worker, partition: Partition, channel: str, lost: bool
    ) -> Batch | None:
        decode = decode_event if channel == "events" else decode_routed
        for start in ("0-0", ">"):
            found = await self.scripts.call(
                "read",
                [keys.lease(partition.number), keys.stream(channel, partition.number)],
                [partition.epoch, partition.nonce, keys.GROUP, worker.name, READ, start, 0],
            )
            if lost:
                raise LostReplyError
            if found:
                entries = [
                    Entry(entry_id.decode(), parts[1], decode(parts[1]))
                    for entry_id, parts in found
                ]
                return Batch(channel, partition, entries, lambda *_: None)
        return None

    async def _judge_and_send(self, batch: Batch, lost: bool) -> None:
        candidates = [candidate(entry.entry_id, entry.value) for entry in batch.entries]
        known = batch.partition.dedup.get([mark_key(c.message_id) for c in candidates])
        verdict = decide(candidates, known)
        batch.changes[:] = verdict.changes
        for entry, first in zip(batch.entries, verdict.duplicate_of, strict=True):
            entry.status = Status.DUPLICATE if first else Status.ACCEPTED
            entry.targets = (Target(CONTEXT, "normal", "all"),)
        await append_groups(self.durability, self.scripts, outputs(batch))
        if lost:
            raise LostReplyError

    async def _commit(self, batch: Batch, lost: bool) -> list[str]:
        number = batch.partition.number
        writes = Writes()
        if batch.changes:
            writes.append(keys.changelog(number), encode_changes("dedup", batch.changes))
        writes.append(keys.audit(number), audit(batch).SerializeToString())
        before = dict(batch.partition.revisions)
        ids = await commit(self.scripts, batch.partition, "events", writes, batch.entries)
        if lost:
            batch.partition.revisions = before
            raise LostReplyError
        return ids

    async def _deliver(self, batch: Batch, lost: bool) -> None:
        partition = batch.partition
        work = plan(batch.entries, partition.origins, partition.seqs, 0, body)
        writes = write_plan(partition.number, work)
        before = dict(partition.revisions)
        await commit(self.scripts, partition, "updates", writes, batch.entries, trim=True)
        if lost:
            partition.revisions = before
            raise LostReplyError
        partition.seqs.update(work.seqs)
        partition.origins.update(work.origins)

    async def _finish(self) -> None:
        """One worker does all that is left; then feeds and tables are what the model says."""
        last = self.workers["w0"]
        for number in NUMBERS:
            last.forget(number)
            await self._lapse(number)
            await self._claim(last, number)
        busy = True
        while busy:
            busy = False
            for number, channel in itertools.product(NUMBERS, ("events", "updates")):
                while await self._step(last, number, channel):
                    busy = True
        feed = await self.redis.xrange(keys.feed(FEED, TENANT, CONTEXT))
        assert [entry_id for entry_id, _ in feed] == [
            b"%d-0" % (n + 1) for n in range(len(feed))
        ], "gaps in the sequence"
        delivered = [orjson.loads(fields[b"d"])["event_id"] for _, fields in feed]
        total = 0
        for number in SOURCES:
            first: dict[int, str] = {}
            for event_id, message in self.sent[number]:
                first.setdefault(message, event_id)
            mine = {event_id for event_id, _ in self.sent[number]}
            wanted = list(first.values())
            assert [event_id for event_id in delivered if event_id in mine] == wanted
            total += len(wanted)
            marks = last.partitions[number].dedup.get(
                [mark_key(f"{number}:{message}") for message in first]
            )
            known = {key: mark.event_id for key, mark in marks.items()}
            assert known == {
                mark_key(f"{number}:{message}"): event_id for message, event_id in first.items()
            }
        assert len(delivered) == total


def test_nothing_lost_nothing_twice_whatever_dies_when(redis_url: str) -> None:
    Pipeline.url = redis_url
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Pipeline,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_model_notices_when_origins_are_not_asked_for(redis_url: str, monkeypatch: Any) -> None:
    """What proves that the test above can fail: without origins, repeats come twice."""
    from hookstream.app.origins import OriginMark

    Pipeline.url = redis_url
    monkeypatch.setattr(OriginMark, "accept", lambda *_: True)
    try:
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            Pipeline,
            settings=settings(
                max_examples=200,
                stateful_step_count=40,
                deadline=None,
                database=None,
                phases=[phase for phase in settings().phases if phase.name == "generate"],
                suppress_health_check=list(HealthCheck),
            ),
        )
    except AssertionError:
        return
    raise AssertionError("repeated outputs were not noticed")
