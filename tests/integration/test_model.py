"""A model test: ownership, commit and delivery in any interleaving, with crashes between any steps.

The scripts, the tables, the stages' own functions and the server are real; what hypothesis drives
is the order in which workers take the steps, which of them die or lose a lease in between, which
replies are lost, and which tables vanish. Some events are critical and go first, the others are
deferred, and the context has a rate that folds what exceeds it. A plain model says what its feed
must hold in the end: every event once, numbers without gaps, each thing's events in order.
"""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Coroutine, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import orjson
import pytest
import redis.asyncio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from hookstream.agents.commit import audit, outputs
from hookstream.agents.dedupe import candidate
from hookstream.app import delivery as delivery_module
from hookstream.app import keys
from hookstream.app.batch import Batch, Entry, Partition
from hookstream.app.commit import Writes, commit
from hookstream.app.deferral import DEFERRABLE, channel_name
from hookstream.app.delivery import Delivery
from hookstream.app.durable import Durability, append_groups
from hookstream.app.errors import FencedError, OutdatedError
from hookstream.app.ids import new_event_id, partition_of
from hookstream.app.ownership import open_partition
from hookstream.app.redis_client import Scripts
from hookstream.app.registry import Context, Registry
from hookstream.app.settings import Settings
from hookstream.app.status import Status
from hookstream.app.turns import Turns
from hookstream.codecs.envelope import Event, decode_event, encode_event
from hookstream.codecs.routed import Target, decode_routed, encode_changes
from hookstream.tables.dedup import decide, mark_key
from hookstream.tables.rates import Rate

T = TypeVar("T")
TENANT, CONTEXT = "t", "c"
#: Where events come in, and where the context's feed is.
SOURCES = (0, 1)
FEED = partition_of(32, TENANT, CONTEXT)
NUMBERS = tuple(sorted({*SOURCES, FEED}))
WORKERS = ("w0", "w1", "w2")
READ = 3
WINDOW_MS = 3_600_000
DEFERRED = {channel_name(priority): priority for priority in DEFERRABLE}
#: Channels of a partition that has a feed.
DELIVERING = ("updates", *DEFERRED)
REGISTRY = Registry(
    1,
    contexts={
        (TENANT, CONTEXT): Context(TENANT, CONTEXT, "", "low", None, Rate(1.0, burst=3)),
    },
    priorities={(TENANT, CONTEXT): frozenset(("critical", "normal", "low"))},
    most_urgent="critical",
)


class Plain:
    """Updates with what the model compares, and what a digest is made of."""

    slow = False

    async def prepare(self, events: Iterable[Event]) -> None:
        raise AssertionError("not asked for")

    def describe(self, event: Event, target: Target) -> bytes:
        return orjson.dumps(
            {
                "kind": "update",
                "event_id": event.event_id,
                "context_id": target.context_id,
                "priority": target.priority,
                "tool_id": event.tool_id,
                "event_type": event.type,
                "received_at": event.received_at_ms,
                "summary": "something",
            }
        )


def priority_of(event: Event) -> str:
    """What a subscription would say."""
    return str(event.data()["priority"])


def again(batch: Batch) -> Batch:
    """The same entries, as they were read."""
    decode = decode_event if batch.channel == "events" else decode_routed
    entries = [Entry(entry.entry_id, entry.raw, decode(entry.raw)) for entry in batch.entries]
    return Batch(batch.channel, batch.partition, entries, lambda *_: None)


class LostReplyError(Exception):
    """A reply that never came; the server has done what it was asked."""


class LossyScripts:
    """The scripts; with ``lost`` the reply of the next commit does not come."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts
        self.lost = False

    async def call(self, name: str, names: Any, arguments: Any) -> Any:
        reply = await self._scripts.call(name, names, arguments)
        if name == "commit" and self.lost:
            self.lost = False
            raise LostReplyError
        return reply


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
            partition.close_tables()
        for channel in ("events", *DELIVERING):
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
        self.lossy = LossyScripts(self.scripts)
        self.durability = Durability(self.redis, "local")
        self.now_ms = 1_700_000_000_000
        self.workers = {name: Worker(name, self.folder) for name in WORKERS}
        self.count = itertools.count(1)
        #: For each source the events in stream order: (event id, message).
        self.sent: dict[int, list[tuple[str, int]]] = {number: [] for number in SOURCES}
        #: What each event is about.
        self.about: dict[str, int] = {}
        self.run(self._begin())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    async def _begin(self) -> None:
        await self.redis.flushall()
        await self.scripts.load()
        for number in NUMBERS:
            await self._claim(self.workers["w0"], number)

    @rule(
        source=st.sampled_from(SOURCES),
        message=st.integers(0, 3),
        times=st.integers(1, 4),
        about=st.integers(1, 2),
        priority=st.sampled_from(("critical", "normal", "low", "low")),
    )
    def events_come_in(
        self, source: int, message: int, times: int, about: int, priority: str
    ) -> None:
        for more in range(times):
            number = next(self.count)
            # mostly messages of their own, sometimes one that came before
            text = message if more == 0 else 100 + number
            event = Event(
                event_id=new_event_id(1_700_000_000_000 + number, source, number),
                tenant=TENANT,
                tool_id="tool",
                provider="github",
                type="issues",
                message_id=f"{source}:{text}",
                received_at_ms=1_700_000_000_000,
                payload=orjson.dumps(
                    {
                        "repository": {"full_name": f"acme/{source}"},
                        "issue": {"number": about},
                        "priority": priority,
                    }
                ),
                dedup_window_ms=WINDOW_MS,
            )
            self.about[event.event_id] = about
            self.run(self.redis.xadd(keys.events(source), {"d": encode_event(event)}))
            self.sent[source].append((event.event_id, text))

    @rule(seconds=st.integers(1, 3))
    def time_passes(self, seconds: int) -> None:
        self.now_ms += seconds * 1000

    @rule(worker=st.sampled_from(WORKERS), lost=st.sampled_from((False, False, True)))
    def folds(self, worker: str, lost: bool) -> None:
        """What is withheld goes, if this worker takes the feed for its own and the rate allows."""
        self.run(self._fold(self.workers[worker], lost))

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
        which=st.integers(0, 29),
        lost=st.sampled_from((False, False, False, True)),
        steps=st.integers(1, 4),
    )
    def works(self, which: int, lost: bool, steps: int) -> None:
        """Some worker takes some steps of what it takes for its own; the last reply may be lost."""
        owned = [
            (worker, number, channel)
            for worker in self.workers.values()
            for number in worker.partitions
            for channel in (("events", *DELIVERING) if number == FEED else ("events",))
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
        parts: Any = SimpleNamespace(redis=self.redis, scripts=self.scripts)
        worker.partitions[number] = await open_partition(
            parts, worker.settings, number, nonce, reply
        )
        for channel in ("events", *DELIVERING):
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
            elif channel in DELIVERING:
                self.lossy.lost = lost
                await self._delivery(worker).deliver(at[1], DEFERRED.get(channel))
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
            if at is not None:
                worker.batches[channel, number] = ("read", again(at[1]), [])
        finally:
            self.lossy.lost = False
        return True

    def _delivery(self, worker: Worker) -> Delivery:
        scripts: Any = self.lossy
        return Delivery(
            self.redis,
            scripts,
            worker.settings,
            Turns(),
            registry=lambda: REGISTRY,
            now_ms=lambda: self.now_ms,
            describer=Plain(),
        )

    async def _fold(self, worker: Worker, lost: bool = False) -> None:
        partition = worker.partitions.get(FEED)
        if partition is None:
            return
        rate = REGISTRY.contexts[TENANT, CONTEXT].rate
        assert rate is not None
        for name in list(partition.withheld):
            if self.now_ms < rate.due_ms(partition.arrivals.get(name, 0.0)):
                continue
            self.lossy.lost = lost
            try:
                await self._delivery(worker).fold(partition, name)
            except (FencedError, OutdatedError, LostReplyError):
                # what Redis has now is for the next owner to read
                worker.forget(FEED)
            finally:
                self.lossy.lost = False

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
            entry.targets = (Target(CONTEXT, priority_of(entry.value), "all"),)
        async with Turns().turn(0.0) as turn:
            sent = await outputs(batch, turn)
        await append_groups(self.durability, self.scripts, sent)
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
            for number, channel in itertools.product(NUMBERS, ("events", *DELIVERING)):
                while await self._step(last, number, channel):
                    busy = True
            if last.partitions[FEED].withheld:
                self.now_ms += 10_000
                await self._fold(last)
                busy = True
        feed = await self.redis.xrange(keys.feed(FEED, TENANT, CONTEXT))
        assert [entry_id for entry_id, _ in feed] == [
            b"%d-0" % (n + 1) for n in range(len(feed))
        ], "gaps in the sequence"
        delivered = await self._opened([orjson.loads(fields[b"d"]) for _, fields in feed])
        total = 0
        for number in SOURCES:
            first: dict[int, str] = {}
            for event_id, message in self.sent[number]:
                first.setdefault(message, event_id)
            mine = {event_id for event_id, _ in self.sent[number]}
            wanted = list(first.values())
            came = [event_id for event_id in delivered if event_id in mine]
            assert sorted(came) == sorted(wanted), "every event once"
            for about in (1, 2):
                assert [event_id for event_id in came if self.about[event_id] == about] == [
                    event_id for event_id in wanted if self.about[event_id] == about
                ], "each thing's events in order"
            total += len(wanted)
            marks = last.partitions[number].dedup.get(
                [mark_key(f"{number}:{message}") for message in first]
            )
            known = {key: mark.event_id for key, mark in marks.items()}
            assert known == {
                mark_key(f"{number}:{message}"): event_id for message, event_id in first.items()
            }
        assert len(delivered) == total

    async def _opened(self, updates: list[dict[str, Any]]) -> list[str]:
        """The events of a feed, those that a digest stands for in its place."""
        found: list[str] = []
        for seq, update in enumerate(updates, 1):
            if update["kind"] == "update":
                found.append(update["event_id"])
                continue
            key = keys.folded_updates(FEED, TENANT, CONTEXT, seq)
            inside = [orjson.loads(one) for one in await self.redis.lrange(key, 0, -1)]
            assert update["folded"]["count"] == len(inside) > 1
            found += [one["event_id"] for one in inside]
        return found


@pytest.fixture(autouse=True)
def pressure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is less urgent than something else waits."""
    monkeypatch.setattr(delivery_module, "PRESSED_UPDATES", 0)


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
