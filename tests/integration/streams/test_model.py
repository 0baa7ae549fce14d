"""A model test: all that commits to a partition, in any interleaving, with faults at any step.

The scripts, the tables, the stages' own functions and the server are real; what hypothesis drives
is the order in which workers take the steps, where they stand still in between, which of them die,
are cancelled or lose a lease meanwhile, which replies are lost, which commands are carried out long
after they were given up, and which tables vanish. Some events are critical and go first, the others
are deferred; a stage fails for a while on some, which blocks what comes behind them; the
context has a rate that coalesces what exceeds it, and is told of its day. A plain model says what
its feed must hold in the end: every event once, numbers without gaps, each thing's events in order.
"""

import asyncio
import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Coroutine, Iterable, Sequence
from datetime import UTC, datetime, time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import orjson
import pytest
import redis.asyncio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from redis.exceptions import BusyLoadingError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from hookstream.agents.commit import settle, settle_all
from hookstream.agents.dedupe import candidate
from hookstream.app.deduplication.state import DedupState
from hookstream.app.errors import FencedError, OutdatedError
from hookstream.app.failures import failed_events as failed_events_module
from hookstream.app.failures import rules as rules_module
from hookstream.app.failures.blocking import mark_waiting
from hookstream.app.failures.released import ReleasedEntries
from hookstream.app.failures.retry_scheduler import RetryScheduler
from hookstream.app.failures.state import FailureState
from hookstream.app.feeds import delivery as delivery_module
from hookstream.app.feeds.daily import DailySummaries
from hookstream.app.feeds.delivery import Delivery
from hookstream.app.feeds.feed import Feeds
from hookstream.app.feeds.state import FeedState
from hookstream.app.ids import new_event_id, partition_of
from hookstream.app.keyring.error_texts import CLEAR
from hookstream.app.priority import DEFERRABLE, channel_name
from hookstream.app.providers import correlation_keys
from hookstream.app.providers.signatures.options import SignatureOptions
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.redis.durability import Durability
from hookstream.app.routing.catalog import Catalog, Context, Tool
from hookstream.app.routing.daily_rule import DailyRule
from hookstream.app.settings import Settings
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.commit_scripts import COMMITS
from hookstream.app.streams.outcome import ACCEPTED, Duplicate
from hookstream.app.streams.partition import Partition, open_partition
from hookstream.app.streams.scheduler import Scheduler
from hookstream.app.streams.source_positions import SourcePosition
from hookstream.codecs.envelope import Event, decode_event, encode_event
from hookstream.codecs.routed import Finished, Target, decode_routed
from hookstream.tables.dedup import decide, mark_key, mark_keys
from hookstream.tables.rates import Rate
from tests.support.judging import openers

T = TypeVar("T")
TENANT, CONTEXT = "t", "c"
#: Where events come in, and where the context's feed is.
SOURCES = (0, 1)
FEED = partition_of(32, TENANT, CONTEXT)
NUMBERS = tuple(sorted({*SOURCES, FEED}))
WORKERS = ("w0", "w1", "w2")
READ = 3
WINDOW_MS = 3_600_000
COPY_MS = 2 * WINDOW_MS
DEFERRED = {channel_name(priority): priority for priority in DEFERRABLE}
#: Channels of a partition that has a feed.
DELIVERING = ("updates", *DEFERRED)
#: Failures in a row after which the tool's events are parked.
BREAKER_FAILURES = 1000
DAILY = DailyRule(time(12), ZoneInfo("UTC"), datetime(2020, 1, 1, tzinfo=UTC))
REGISTRY = Catalog(
    1,
    tools={
        # what comes behind a failed event about the same thing is blocked
        "tool": Tool(
            "tool",
            TENANT,
            "github",
            (),
            SignatureOptions(),
            "payload",
            (),
            WINDOW_MS,
            "field",
            "issue.number",
            "hold",
        ),
    },
    contexts={
        (TENANT, CONTEXT): Context(TENANT, CONTEXT, "", "low", None, Rate(1.0, burst=3), DAILY),
    },
    priorities={(TENANT, CONTEXT): frozenset(("critical", "normal", "low"))},
    most_urgent="critical",
)


#: What of an update is one context's alone.
ADDRESSED = ("kind", "context_id", "priority")


class Plain:
    """Updates with what the model compares, and what a digest is made of."""

    slow = False

    async def prepare(self, events: Iterable[Event]) -> None:
        raise AssertionError("not asked for")

    def render(self, event: Event, target: Target) -> bytes:
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


async def readable(_: Sequence[Entry]) -> None:
    """Payloads are in the clear."""


def finished(event: Event, target: Target) -> Finished:
    """As the stage ``render`` would have it: the other half of events travels whole."""
    update = orjson.loads(Plain().render(event, target))
    shared = {name: value for name, value in update.items() if name not in ADDRESSED}
    return Finished(
        event.event_id,
        event.tenant,
        event.tool_id,
        event.type,
        event.replay_id,
        event.received_at_ms,
        correlation_keys(event),
        (orjson.dumps(shared),),
    )


def priority_of(event: Event) -> str:
    """What a subscription would say."""
    return str(event.data()["priority"])


def again(batch: Batch) -> Batch:
    """The same entries, as they were read."""
    decode = decode_event if batch.channel == "events" else decode_routed
    entries = [
        Entry(
            entry.entry_id,
            entry.raw,
            decode(entry.raw),
            failed_event_id=entry.failed_event_id,
            attempts=entry.attempts,
            listed=entry.listed,
            sent=entry.sent,
        )
        for entry in batch.entries
    ]
    return Batch(batch.channel, batch.partition, entries, lambda *_: None)


#: What may happen to a commit: nothing; it is carried out and the reply lost; it never arrives; it
#: arrives long after it was given up; the server refuses it; the worker stands still before it is
#: sent, or before the reply is read.
FAULTS = ("", "", "lost", "unsent", "late", "refused", "before", "after")
#: The same for one of several commits that travel together.
FAULTS_BESIDE = ("", "lost", "unsent", "late", "refused")
#: The same for the outputs that a batch appends before its commit.
APPEND_FAULTS = ("", "", "lost", "unsent")


class Faulty:
    """The scripts, with a fault at the next commit."""

    def __init__(self, model: "Pipeline", fault: str) -> None:
        self._model = model
        self._fault = fault
        self.used = False
        self.gate: asyncio.Event | None = None

    def sha(self, name: str) -> str:
        return self._model.scripts.sha(name)

    async def call(self, name: str, names: Any, arguments: Any) -> Any:
        model = self._model
        if name not in COMMITS:
            return await model.scripts.call(name, names, arguments)
        if model.blind:
            # sabotage: every commit is taken, whatever it was computed from
            arguments = list(arguments)
            arguments[3] = int(await model.redis.hget(names[0], "sequence") or 0)
        fault, self._fault = self._fault, ""
        self.used = bool(fault)
        if fault == "refused":
            raise BusyLoadingError("BUSY Redis is busy running a script")
        if fault == "unsent":
            raise RedisConnectionError("it never arrived")
        if fault == "late":
            model.late.append((name, names, arguments))
            raise RedisTimeoutError("given up")
        if fault == "before":
            await self._stand_still()
        reply = await model.scripts.call(name, names, arguments)
        if fault == "after":
            await self._stand_still()
        if fault == "lost":
            raise RedisConnectionError("the reply was lost")
        return reply

    async def _stand_still(self) -> None:
        self.gate = asyncio.Event()
        self._model.stood_still.set()
        await self.gate.wait()


class FaultyBeside:
    """The scripts, with a fault at one of several commits that travel together."""

    def __init__(self, model: "Pipeline", fault: str, at: int) -> None:
        self._model = model
        self._fault = fault
        self._at = at

    def sha(self, name: str) -> str:
        return self._model.scripts.sha(name)

    async def call(self, name: str, names: Any, arguments: Any) -> Any:
        [reply] = await self.call_all([(name, names, arguments)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def call_all(self, calls: Sequence[tuple[str, Any, Any]]) -> list[Any]:
        at = self._at % len(calls)
        sent = [call for number, call in enumerate(calls) if number != at or self._goes]
        replies = await self._model.scripts.call_all(sent)
        if self._fault == "late":
            self._model.late.append(calls[at])
        if not self._goes:
            replies.insert(at, None)
        said = {
            "refused": BusyLoadingError("BUSY Redis is busy running a script"),
            "unsent": RedisConnectionError("it never arrived"),
            "late": RedisTimeoutError("given up"),
            "lost": RedisConnectionError("the reply was lost"),
        }
        if self._fault:
            replies[at] = said[self._fault]
        return replies

    @property
    def _goes(self) -> bool:
        return self._fault in ("", "lost")


class FaultyAppends:
    """Appends of outputs, of which the next one fails."""

    def __init__(self, durability: Durability, fault: str) -> None:
        self._durability = durability
        self._fault = fault

    async def run_together(self, calls: Any) -> Any:
        if self._fault == "unsent":
            raise RedisConnectionError("it never arrived")
        replies = await self._durability.run_together(calls)
        if self._fault == "lost":
            raise RedisConnectionError("the reply was lost")
        return replies


class Worker:
    """One worker's memory of the partitions that it takes for its own, and what is in its hands."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.settings = Settings(
            state_dir=folder / name,
            retry_base_seconds=0.5,
            retry_max_seconds=2,
            retry_max_attempts=1000,
            breaker_failures=BREAKER_FAILURES,
            breaker_wait_seconds=1,
        )
        self.partitions: dict[int, Partition] = {}
        self.batches: dict[tuple[str, int], Batch] = {}
        #: Work that stands still, and what it waits at, by partition.
        self.still: dict[int, tuple[asyncio.Task[Any], Faulty]] = {}

    def forget(self, number: int) -> None:
        partition = self.partitions.pop(number, None)
        if partition is not None:
            partition.close()
        for channel in ("events", *DELIVERING):
            self.batches.pop((channel, number), None)


class Pipeline(RuleBasedStateMachine):
    url = ""
    #: Sabotage: commits are taken whatever they were computed from.
    blind = False

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="hookstream-model-"))
        self.redis = redis.asyncio.Redis.from_url(self.url, protocol=2)
        self.scripts = Scripts(self.redis)
        self.durability = Durability(self.redis, "local")
        self.now_ms = 1_700_000_000_000
        self.workers = {name: Worker(name, self.folder) for name in WORKERS}
        self.count = itertools.count(1)
        #: For each source the events in stream order: (event id, message).
        self.sent: dict[int, list[tuple[str, int]]] = {number: [] for number in SOURCES}
        #: What each event is about.
        self.about: dict[str, int] = {}
        #: What a stage fails on at the moment.
        self.broken: set[int] = set()
        #: Commits that the server will carry out some time.
        self.late: list[tuple[str, Any, Any]] = []
        self.stood_still = asyncio.Event()
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
        times=st.integers(1, 6),
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

    @rule(seconds=st.sampled_from((1, 2, 3, 86_400)))
    def time_passes(self, seconds: int) -> None:
        self.now_ms += seconds * 1000

    @rule(about=st.integers(0, 2))
    def stage_breaks_or_heals(self, about: int) -> None:
        """It fails on what is about one thing, or on nothing any more."""
        self.broken = {about} if about else set()

    @rule(
        worker=st.sampled_from(WORKERS),
        what=st.sampled_from(("what is withheld", "letters", "letters", "the day")),
        fault=st.sampled_from(FAULTS),
    )
    def looks_after(self, worker: str, what: str, fault: str) -> None:
        """What a worker does beside its batches: coalesce, keep letters, tell of the day."""
        who = self.workers[worker]
        if what == "what is withheld":
            self.run(self._coalesce(who, fault))
        elif what == "the day":
            self.run(self._tell_the_day(who, fault))
        else:
            for number in list(who.partitions):
                self.run(self._keep(who, number, fault))

    @rule(worker=st.sampled_from(WORKERS), number=st.sampled_from(NUMBERS), lapses=st.booleans())
    def claims(self, worker: str, number: int, lapses: bool) -> None:
        """Its owner, if it had one whose lease has lapsed, knows nothing of it: a zombie."""
        if lapses:
            self.run(self._lapse(number))
        self.run(self._claim(self.workers[worker], number))

    @rule(worker=st.sampled_from(WORKERS), disk=st.booleans())
    def crashes(self, worker: str, disk: bool) -> None:
        """And with it, perhaps, its disk."""
        self.run(self._crash(self.workers[worker]))
        if disk:
            shutil.rmtree(self.folder / worker, ignore_errors=True)

    @rule(worker=st.sampled_from(WORKERS), cancelled=st.booleans())
    def goes_on(self, worker: str, cancelled: bool) -> None:
        """What stood still goes on, or is cancelled as a stop does it; late commands arrive."""
        self.run(self._arrive())
        self.run(self._go_on(self.workers[worker], cancelled))

    @rule(
        which=st.integers(0, 2),
        fault=st.sampled_from(FAULTS),
        appends=st.sampled_from(APPEND_FAULTS),
        steps=st.integers(2, 8),
    )
    def works_on_events(self, which: int, fault: str, appends: str, steps: int) -> None:
        """Some owner takes steps with what came in, until one goes wrong."""
        self._works(which, ("events",), SOURCES, fault, appends, steps)

    @rule(
        worker=st.sampled_from(WORKERS),
        fault=st.sampled_from(FAULTS_BESIDE),
        appends=st.sampled_from(APPEND_FAULTS),
        at=st.integers(0, 1),
    )
    def works_on_all_events(self, worker: str, fault: str, appends: str, at: int) -> None:
        """What came in of several sources goes in one pass; one of the commits goes wrong."""
        self.run(self._settle_together(self.workers[worker], fault, appends, at))

    @rule(which=st.integers(0, 11), fault=st.sampled_from(FAULTS), steps=st.integers(2, 8))
    def works_on_updates(self, which: int, fault: str, steps: int) -> None:
        """The same with what goes to the feed."""
        self._works(which, DELIVERING, (FEED,), fault, "", steps)

    def _works(
        self,
        which: int,
        channels: Sequence[str],
        numbers: Sequence[int],
        fault: str,
        appends: str,
        steps: int,
    ) -> None:
        owned = [
            (worker, number, channel)
            for worker in self.workers.values()
            for number in worker.partitions
            if number in numbers
            for channel in channels
        ]
        if not owned:
            return
        worker, number, channel = owned[which % len(owned)]
        for _ in range(steps):
            faulty = Faulty(self, fault)
            self.run(self._step(worker, number, channel, faulty, appends))
            if faulty.used:
                break

    def teardown(self) -> None:
        try:
            self.run(self._finish())
        finally:
            for worker in self.workers.values():
                self.run(self._crash(worker))
            self.run(self.redis.aclose())
            self.loop.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    async def _lapse(self, number: int) -> None:
        if await self.redis.exists(keys.lease(number)):
            await self.redis.hset(keys.lease(number), "expires_ms", "0")

    async def _crash(self, worker: Worker) -> None:
        for task, _ in worker.still.values():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        worker.still.clear()
        for number in list(worker.partitions):
            worker.forget(number)

    async def _arrive(self) -> None:
        late, self.late = self.late, []
        for name, names, arguments in late:
            with contextlib.suppress(FencedError, OutdatedError, ResponseError):
                await Faulty(self, "").call(name, names, arguments)

    async def _claim(self, worker: Worker, number: int) -> None:
        if number in worker.partitions:
            return
        nonce = f"n{next(self.count)}"
        reply = await self.scripts.call(
            "claim", [keys.lease(number)], [worker.name, nonce, 3_600_000]
        )
        if reply[0] != 1:
            return
        worker.partitions[number] = await open_partition(
            openers(self.redis, self.scripts, worker.settings), number, nonce, reply
        )
        for channel in ("events", *DELIVERING):
            await self.scripts.call(
                "take_over",
                [
                    keys.lease(number),
                    keys.stream(channel, number),
                    keys.deaths(number, channel),
                ],
                [reply[1], nonce, keys.GROUP, worker.name, "0-0", "0-0", 0],
            )

    async def _work(
        self, worker: Worker, number: int, faulty: Faulty, work: Coroutine[Any, Any, Any]
    ) -> BaseException | None:
        """Have a worker do something in a partition; what it came to, unless it stands still."""
        self.stood_still.clear()
        task = asyncio.ensure_future(work)
        still = asyncio.ensure_future(self.stood_still.wait())
        await asyncio.wait({task, still}, return_when=asyncio.FIRST_COMPLETED)
        still.cancel()
        if not task.done():
            worker.still[number] = (task, faulty)
            return None
        return self._came_to(worker, number, task)

    def _came_to(
        self, worker: Worker, number: int, task: "asyncio.Task[Any]"
    ) -> BaseException | None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        partition = worker.partitions.get(number)
        if isinstance(error, (FencedError, OutdatedError)) or (partition and partition.lost):
            worker.forget(number)
        elif error is not None and not isinstance(error, (RedisError, asyncio.CancelledError)):
            raise error
        return error

    async def _go_on(self, worker: Worker, cancelled: bool) -> None:
        for number, (task, faulty) in list(worker.still.items()):
            del worker.still[number]
            if cancelled:
                task.cancel()
            elif faulty.gate:
                faulty.gate.set()
            await asyncio.gather(task, return_exceptions=True)
            self._came_to(worker, number, task)
            # what was in flight comes again, if it is still this worker's
            for channel in ("events", *DELIVERING):
                if batch := worker.batches.get((channel, number)):
                    if batch.ended:
                        del worker.batches[channel, number]
                    else:
                        worker.batches[channel, number] = again(batch)

    async def _step(
        self,
        worker: Worker,
        number: int,
        channel: str,
        faulty: "Faulty | None" = None,
        appends: str = "",
    ) -> bool:
        """One step of one partition's channel; False when there was nothing to do."""
        partition = worker.partitions.get(number)
        if partition is None or number in worker.still:
            return False
        faulty = faulty or Faulty(self, "")
        batch = worker.batches.get((channel, number))
        if batch is None:
            await self._work(worker, number, faulty, self._read(worker, partition, channel, faulty))
            return (channel, number) in worker.batches or number in worker.still
        if channel in DELIVERING:
            work = self._deliver(worker, batch, faulty)
        else:
            work = self._judge_and_settle(worker, batch, faulty, appends)
        error = await self._work(worker, number, faulty, work)
        if batch.ended:
            worker.batches.pop((channel, number), None)
        elif error is not None and (channel, number) in worker.batches:
            # the worker tries its batch again from its beginning, as the reader does
            worker.batches[channel, number] = again(batch)
        return True

    async def _deliver(self, worker: Worker, batch: Batch, faulty: Faulty) -> None:
        await self._delivery(worker, faulty).deliver(batch, DEFERRED.get(batch.channel))
        batch.done()

    def _delivery(self, worker: Worker, faulty: Faulty) -> Delivery:
        scripts: Any = faulty
        return Delivery(
            self.redis,
            scripts,
            worker.settings,
            Scheduler(),
            catalog=lambda: REGISTRY,
            now_ms=lambda: self.now_ms,
            renderer=Plain(),
            make_readable=readable,
        )

    async def _coalesce(self, worker: Worker, fault: str = "") -> None:
        partition = worker.partitions.get(FEED)
        if partition is None or FEED in worker.still:
            return
        rate = REGISTRY.contexts[TENANT, CONTEXT].rate
        assert rate is not None
        for name in list(partition[FeedState].throttled):
            if self.now_ms < rate.due_ms(partition[FeedState].arrivals.get(name, 0.0)):
                continue
            faulty = Faulty(self, fault)
            work = self._delivery(worker, faulty).coalesce(partition, name)
            error = await self._work(worker, FEED, faulty, work)
            if isinstance(error, OutdatedError):
                partition.lose(error)  # as the folder does

    async def _tell_the_day(self, worker: Worker, fault: str = "") -> None:
        partition = worker.partitions.get(FEED)
        if partition is None or FEED in worker.still:
            return
        faulty = Faulty(self, fault)
        feeds = Feeds(self.redis, self.scripts, worker.settings, self.durability)
        dailies = DailySummaries(
            self.redis,
            feeds,
            self._delivery(worker, faulty),
            partitions=32,
            catalog=lambda: REGISTRY,
            now_ms=lambda: self.now_ms,
            owned=lambda: {FEED: partition},
        )
        now = datetime.fromtimestamp(self.now_ms / 1000, UTC)
        context = REGISTRY.contexts[TENANT, CONTEXT]
        await self._work(worker, FEED, faulty, dailies.tell_of(partition, context, now))

    def _parts(self, faulty: Faulty, appends: str = "") -> Any:
        return SimpleNamespace(
            redis=self.redis,
            scripts=faulty,
            durability=FaultyAppends(self.durability, appends),
            clock=SimpleNamespace(now_ms=lambda: self.now_ms),
            catalog=SimpleNamespace(current=REGISTRY),
            error_texts=CLEAR,
        )

    async def _keep(self, worker: Worker, number: int, fault: str = "") -> None:
        partition = worker.partitions.get(number)
        if partition is None or number in worker.still:
            return
        faulty = Faulty(self, fault)
        scripts: Any = faulty
        retry_scheduler = RetryScheduler(
            self.redis,
            scripts,
            worker.settings,
            catalog=lambda: REGISTRY,
            now_ms=lambda: self.now_ms,
            owned=lambda: {number: partition},
            resume=lambda _: None,
        )
        due = await self.redis.zrangebyscore(keys.retries(number), 0, self.now_ms)
        work = retry_scheduler.keep_partition(partition, due, [], self.now_ms)
        await self._work(worker, number, faulty, work)

    async def _read(
        self, worker: Worker, partition: Partition, channel: str, faulty: Faulty
    ) -> None:
        scripts: Any = faulty
        if channel == "events":
            released = await ReleasedEntries(self.redis, scripts).take(partition, READ)
            for entry in released:
                entry.value = decode_event(entry.raw)
            if released:
                self._take(worker, Batch(channel, partition, released, lambda *_: None))
                return
        decode = decode_event if channel == "events" else decode_routed
        for start in ("0-0", ">"):
            found = await self.scripts.call(
                "read",
                [keys.lease(partition.number), keys.stream(channel, partition.number)],
                [partition.epoch, partition.nonce, keys.GROUP, worker.name, READ, start, 0],
            )
            if found:
                entries = []
                for entry_id, parts in found:
                    fields = dict(zip(parts[::2], parts[1::2], strict=True))
                    entry = Entry(entry_id.decode(), fields[b"d"], decode(fields[b"d"]))
                    entry.failed_event_id = fields.get(b"r", b"").decode()
                    entry.attempts = int(fields.get(b"a", 0))
                    entry.sent = start != ">"
                    entries.append(entry)
                self._take(worker, Batch(channel, partition, entries, lambda *_: None))
                return

    def _take(self, worker: Worker, batch: Batch) -> None:
        if worker.partitions.get(batch.partition.number) is batch.partition:
            worker.batches[batch.channel, batch.partition.number] = batch

    async def _judge_and_settle(
        self, worker: Worker, batch: Batch, faulty: Faulty, appends: str
    ) -> None:
        self._judge(batch)
        async with Scheduler().slot(0.0) as slot, batch.partition[FailureState].lock:
            await settle(batch, slot, self._parts(faulty, appends), worker.settings)
        batch.done()

    async def _settle_together(self, worker: Worker, fault: str, appends: str, at: int) -> None:
        batches = []
        for number in SOURCES:
            if number in worker.still or number not in worker.partitions:
                continue
            if ("events", number) not in worker.batches:
                await self._step(worker, number, "events")
            if batch := worker.batches.get(("events", number)):
                self._judge(batch)
                batches.append(batch)
        if not batches:
            return
        faulty: Any = FaultyBeside(self, fault, at)
        async with Scheduler().slot(0.0) as slot:
            errors = await settle_all(batches, slot, self._parts(faulty, appends), worker.settings)
        for batch, error in zip(batches, errors, strict=True):
            number = batch.partition.number
            if error is None:
                batch.done()
                del worker.batches["events", number]
            elif isinstance(error, (FencedError, OutdatedError)) or batch.partition.lost:
                worker.forget(number)
            elif isinstance(error, RedisError):
                worker.batches["events", number] = again(batch)
            else:
                raise error

    def _judge(self, batch: Batch) -> None:
        candidates = [
            candidate(
                entry.entry_id, entry.value, again=bool(entry.failed_event_id), copy_ms=COPY_MS
            )
            for entry in batch.entries
        ]
        known = batch.partition[DedupState].table.get(mark_keys(candidates))
        verdict = decide(candidates, known)
        batch.changes[:] = verdict.changes
        for entry, first in zip(batch.entries, verdict.duplicate_of, strict=True):
            entry.outcome = Duplicate(first) if first else ACCEPTED
            entry.targets = (Target(CONTEXT, priority_of(entry.value), "all"),)
        mark_waiting(batch, REGISTRY)
        for entry in list(batch.live()):
            if self.about[entry.value.event_id] in self.broken:
                entry.fail("stage", ValueError("broken"))
        for entry in list(batch.live()):
            if entry.value.event_id[-1] in "02468ace":
                entry.finished = (entry.value, finished(entry.value, entry.targets[0]))

    async def _finish(self) -> None:
        """One worker does all that is left; then feeds and tables are what the model says."""
        last = self.workers["w0"]
        for worker in self.workers.values():
            await self._go_on(worker, cancelled=True)
        for number in NUMBERS:
            last.forget(number)
            await self._lapse(number)
            await self._claim(last, number)
        await self._arrive()
        self.broken.clear()
        for _ in range(1000):
            if not await self._round(last):
                break
        else:
            raise AssertionError("it never comes to an end")
        await self._check(last)

    async def _round(self, last: Worker) -> bool:
        """Everything that can be done, once; False when nothing is left."""
        busy = False
        for number in NUMBERS:
            await self._claim(last, number)
        for number, channel in itertools.product(NUMBERS, ("events", *DELIVERING)):
            while await self._step(last, number, channel):
                busy = True
        self.now_ms += 10_000
        await self._coalesce(last)
        for number in NUMBERS:
            await self._keep(last, number)
        for number in NUMBERS:
            partition = last.partitions.get(number)
            if (
                partition is None
                or partition[FailureState].blocked
                or partition[FeedState].throttled
            ):
                busy = True
            if await self.redis.zcard(keys.retries(number)):
                busy = True
            async for _ in self.redis.scan_iter(keys.failed_event(number, "*")):
                busy = True
        return busy

    async def _check(self, last: Worker) -> None:
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
            marks = last.partitions[number][DedupState].table.get(
                [mark_key(f"{number}:{message}") for message in first]
            )
            known = {key: mark.event_id for key, mark in marks.items()}
            assert known == {
                mark_key(f"{number}:{message}"): event_id for message, event_id in first.items()
            }
            assert not last.partitions[number][FailureState].pins
        assert len(delivered) == total

    async def _opened(self, updates: list[dict[str, Any]]) -> list[str]:
        """The events of a feed, those that a digest stands for in its place."""
        found: list[str] = []
        days = []
        for seq, update in enumerate(updates, 1):
            if update["kind"] == "update":
                found.append(update["event_id"])
                continue
            if update["kind"] == "daily":
                days.append(update["received_at"])
                continue
            key = keys.coalesced_updates(FEED, TENANT, CONTEXT, seq)
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
            max_examples=80,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture
def by_hand(redis_url: str) -> Pipeline:
    """The model, for a story that is told step by step."""
    Pipeline.url = redis_url
    return Pipeline()


def is_sent_twice(model: Pipeline) -> None:
    """Its outputs go and their reply is lost: they go again."""
    model.events_come_in(source=0, message=1, times=1, about=1, priority="normal")
    model.works_on_events(which=0, fault="", appends="lost", steps=2)
    model.works_on_events(which=0, fault="", appends="", steps=8)
    model.works_on_updates(which=0, fault="", steps=8)
    model.teardown()


def test_what_is_sent_twice_is_taken_once(by_hand: Pipeline) -> None:
    is_sent_twice(by_hand)


def test_the_model_notices_when_source_positions_are_not_asked_for(
    by_hand: Pipeline, monkeypatch: Any
) -> None:
    """What proves that it can fail: without them, repeats come twice."""
    monkeypatch.setattr(SourcePosition, "accept", lambda *_: True)
    with pytest.raises(AssertionError, match="every event once"):
        is_sent_twice(by_hand)


def fails_after_it_was_sent(model: Pipeline) -> None:
    """Its outputs go, the reply is lost, it comes again, and a stage fails on it."""
    model.events_come_in(source=0, message=1, times=1, about=1, priority="normal")
    model.works_on_events(which=0, fault="", appends="lost", steps=2)
    model.stage_breaks_or_heals(about=1)
    model.works_on_events(which=0, fault="", appends="", steps=2)
    # what comes later lets whoever takes outputs forget what came before
    model.events_come_in(source=0, message=2, times=3, about=2, priority="normal")
    model.works_on_events(which=0, fault="", appends="", steps=8)
    model.works_on_updates(which=0, fault="", steps=8)
    model.teardown()


def test_event_that_fails_after_it_was_sent_keeps_its_origin(by_hand: Pipeline) -> None:
    fails_after_it_was_sent(by_hand)


def test_under_a_new_origin_it_would_come_twice(by_hand: Pipeline, monkeypatch: Any) -> None:
    monkeypatch.setattr(failed_events_module, "pin", lambda *_: None)
    with pytest.raises(AssertionError, match="every event once"):
        fails_after_it_was_sent(by_hand)


def is_let_go_while_more_comes(model: Pipeline) -> None:
    """More of a key that was blocked comes than goes, until all of a sudden nothing does."""
    model.stage_breaks_or_heals(about=1)
    model.events_come_in(source=0, message=1, times=6, about=1, priority="normal")
    model.works_on_events(which=0, fault="", appends="", steps=8)
    model.stage_breaks_or_heals(about=0)
    model.time_passes(seconds=3)
    for number in range(4):
        model.looks_after(worker="w0", what="letters", fault="")
        model.events_come_in(source=0, message=2 + number, times=4, about=1, priority="normal")
        model.works_on_events(which=0, fault="", appends="", steps=2)
    model.works_on_events(which=0, fault="", appends="", steps=30)
    model.looks_after(worker="w0", what="letters", fault="")
    assert not model.workers["w0"].partitions[0][FailureState].blocked
    model.teardown()


def test_what_was_held_back_goes_in_order_and_its_hold_ends(by_hand: Pipeline) -> None:
    is_let_go_while_more_comes(by_hand)


def test_what_comes_before_its_turn_would_overtake(by_hand: Pipeline, monkeypatch: Any) -> None:
    monkeypatch.setattr(rules_module, "passes", lambda entry, holder: not holder)
    with pytest.raises(AssertionError):
        is_let_go_while_more_comes(by_hand)


def is_taken_along_while_it_is_in_hand(model: Pipeline) -> None:
    """The reader of what waits has it in hand when something critical takes it along."""
    everything = {"fault": "", "appends": "", "steps": 8}
    model.events_come_in(source=0, message=1, times=2, about=1, priority="low")
    model.events_come_in(source=0, message=2, times=1, about=2, priority="low")
    model.works_on_events(which=0, **everything)
    model.works_on_updates(which=0, fault="", steps=8)
    # read, and no more
    model.works_on_updates(which=3, fault="", steps=1)
    assert ("deferred:low", FEED) in model.workers["w0"].batches
    model.events_come_in(source=0, message=3, times=1, about=1, priority="critical")
    model.works_on_events(which=0, **everything)
    model.works_on_updates(which=0, fault="", steps=8)
    owner = model.workers["w0"].partitions[FEED]
    assert len(owner[FeedState].deferred["low"].taken) == 2
    model.works_on_updates(which=3, fault="", steps=8)
    model.teardown()


def test_what_is_taken_along_comes_once(by_hand: Pipeline) -> None:
    is_taken_along_while_it_is_in_hand(by_hand)


def test_if_whoever_has_it_in_hand_did_not_ask_it_would_come_twice(
    by_hand: Pipeline, monkeypatch: Any
) -> None:
    monkeypatch.setattr(delivery_module, "taken_of", lambda *_: set())
    with pytest.raises(AssertionError, match="every event once"):
        is_taken_along_while_it_is_in_hand(by_hand)


def test_if_it_stayed_in_its_stream_the_next_owner_would_deliver_it_again(
    by_hand: Pipeline, monkeypatch: Any
) -> None:
    def forgets(_: Any, number: int, deferred: Any, along: Any) -> None:
        """Leaves it where it is."""

    def story(model: Pipeline) -> None:
        everything = {"fault": "", "appends": "", "steps": 8}
        model.events_come_in(source=0, message=1, times=2, about=1, priority="low")
        model.works_on_events(which=0, **everything)
        model.works_on_updates(which=0, fault="", steps=8)
        model.events_come_in(source=0, message=3, times=1, about=1, priority="critical")
        model.works_on_events(which=0, **everything)
        model.works_on_updates(which=0, fault="", steps=8)
        model.crashes(worker="w0", disk=False)
        model.teardown()

    monkeypatch.setattr(delivery_module, "write_along", forgets)
    with pytest.raises(AssertionError, match="every event once"):
        story(by_hand)


def digest_is_given_up_and_made_all_the_same(model: Pipeline) -> None:
    """What is throttled grows after a digest was given up, and before that is carried out."""
    everything = {"fault": "", "steps": 8}
    model.events_come_in(source=0, message=1, times=8, about=1, priority="low")
    model.works_on_events(which=0, appends="", **everything)
    for which in range(4):
        model.works_on_updates(which=which, **everything)
    model.time_passes(seconds=3)
    model.looks_after(worker="w0", what="what is withheld", fault="late")
    assert model.late
    model.claims(worker="w0", number=FEED, lapses=False)
    model.events_come_in(source=0, message=2, times=4, about=1, priority="low")
    model.works_on_events(which=0, appends="", **everything)
    for which in range(4):
        model.works_on_updates(which=which, **everything)
    model.goes_on(worker="w0", cancelled=False)
    model.teardown()


def test_commit_that_was_given_up_changes_nothing_later(by_hand: Pipeline) -> None:
    digest_is_given_up_and_made_all_the_same(by_hand)


def test_without_one_sequence_it_would_change_what_others_rely_on(
    by_hand: Pipeline, monkeypatch: Any
) -> None:
    """As it was: who shares a partition's state goes on with what another left behind."""
    by_hand.blind = True
    monkeypatch.setattr(Partition, "lose", lambda *_: None)
    with pytest.raises(AssertionError):
        digest_is_given_up_and_made_all_the_same(by_hand)
