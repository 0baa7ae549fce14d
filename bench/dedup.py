"""How effective dedup is, at size: ``python -m bench.dedup [--events N] [--write]``.

Events come by a controlled clock over ten days, a fifth of them copies of earlier ones after
seconds to days. Workers die, start again, lose their disk and hand partitions over on the way;
events fail and come again. A ledger that the system does not see says of every event what should
become of it. Everything that decides is the system's own, on real servers: RocksDB tables, Bloom
filters, the judging of the dedupe stage, the commit script on Redis, the record in PostgreSQL.
Left out are HTTP, routing and delivery.
"""

import argparse
import asyncio
import hashlib
import heapq
import json
import platform
import random
import resource
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import redis.asyncio

from hookstream.agents.dedupe import judge
from hookstream.app import embedded, metrics
from hookstream.app.deduplication.first_events import EventLog
from hookstream.app.deduplication.lookup import HistoryLookup
from hookstream.app.deduplication.state import DedupState, opens_dedup
from hookstream.app.ids import new_event_id
from hookstream.app.postgres.pool import Postgres
from hookstream.app.redis import keys
from hookstream.app.redis.client import Scripts
from hookstream.app.settings import Settings
from hookstream.app.stores.audit import rows_of, write_rows
from hookstream.app.stores.tiers import Tiers
from hookstream.app.streams.batch import Batch, Entry
from hookstream.app.streams.commit import Writes, commit
from hookstream.app.streams.event_log import audit
from hookstream.app.streams.outcome import ACCEPTED
from hookstream.app.streams.partition import Partition, open_partition
from hookstream.codecs.envelope import Event
from hookstream.codecs.routed import encode_changes
from hookstream.proto.pipeline_pb2 import AuditBatch
from hookstream.tables.dedup import DAY_MS

__all__ = ["Plan", "Result", "run"]

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs" / "dedup.md"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->"
HOUR_MS = 3_600_000
#: Delays of redeliveries (ms), and the share of each kind: retries, outages, by hand days later.
DELAYS = (
    (1_000, 60_000, 0.40),
    (60_000, HOUR_MS, 0.25),
    (HOUR_MS, DAY_MS, 0.20),
    (DAY_MS, int(6.9 * DAY_MS), 0.15),
)
#: Copies that come when the promise has ended, which have to pass.
TOO_LATE = (int(7.1 * DAY_MS), int(8.5 * DAY_MS), 0.005)
#: Events that fail when they first come, and are tried again after up to two days.
FAILING = 0.002
BATCH = 256
#: Batches of a partition that the record is behind by, at most.
RECORD_LAG = 8
#: What happens to workers on the way.
FAULTS = ("restart", "hand over", "crash before commit", "crash after commit", "lost disk")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sent, and how the system is set. Half of the tools have a short window."""

    events: int = 5_000_000
    copies: float = 0.20
    days: float = 10.0
    partitions: int = 8
    workers: int = 3
    faults: int = 60
    windows_ms: tuple[int, ...] = (HOUR_MS, DAY_MS)
    history_days: int = 7
    filter_events: int = 65_000
    false_positives: float = 0.001
    memory_bytes: int = 64 << 20
    seed: int = 1


@dataclass(slots=True)
class Result:
    """What the ledger says. ``dropped`` and ``wrong_first`` must be 0."""

    events: int = 0
    copies: int = 0
    copies_found: int = 0
    by_window: int = 0
    by_history: int = 0
    missed: int = 0
    unconfirmed: int = 0
    wrong_first: int = 0
    fresh: int = 0
    dropped: int = 0
    too_late: int = 0
    tried_again: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    checked: int = 0
    suspected_wrongly: int = 0
    false_positives: float = 0.0
    filters_loaded: int = 0
    filters_saved: int = 0
    look_ups: int = 0
    look_up_ms: float = 0.0
    judge_cpu_us: float = 0.0
    commit_us: float = 0.0
    filter_memory_mb: float = 0.0
    redis_history_mb: float = 0.0
    rocksdb_mb: float = 0.0
    record_mb: float = 0.0
    record_index_mb: float = 0.0
    process_mb: float = 0.0
    minutes: float = 0.0

    @property
    def effectiveness(self) -> float:
        """The share of copies within the promise that were called duplicates of their first."""
        return (self.copies_found - self.wrong_first) / max(1, self.copies)


@dataclass(frozen=True, slots=True)
class Sent:
    """One event as it comes: when, which original, and what should become of it."""

    at_ms: int
    original: int
    kind: str  # fresh, copy, late (a copy outside the promise), again (a failed one)


def traffic(plan: Plan, start_ms: int) -> Iterator[Sent]:
    """All events in the order of their times; copies are exactly ``plan.copies`` of them."""
    draw = random.Random(plan.seed)
    span = int(plan.days * DAY_MS)
    copies = int(plan.events * plan.copies)
    late = int(plan.events * TOO_LATE[2])
    fresh = plan.events - copies - late
    step = span / fresh
    others: list[tuple[int, int, str]] = []

    def add(low: int, high: int, kind: str, original: int | None = None) -> None:
        # as many of one order of magnitude as of another
        delay = int(low * (high / low) ** draw.random())
        if original is None:
            original = draw.randrange(max(1, int((span - delay) / step)))
            # those with a copy that is too late are others than those with a copy in time
            original -= (original % 10 == 0) != (kind == "late")
            original = original // 10 * 10 if kind == "late" else max(1, original)
        others.append((start_ms + int(original * step) + delay, original, kind))

    shares = [share for _, _, share in DELAYS]
    for low, high, _ in draw.choices(DELAYS, shares, k=copies):
        add(low, high, "copy")
    once: set[int] = set()
    while len(once) < late:
        before = len(others)
        add(TOO_LATE[0], TOO_LATE[1], "late")
        if others[before][1] in once:
            others.pop()
        once.add(others[-1][1])
    failing = [i for i in range(fresh) if i % 10 and draw.random() < FAILING]
    for original in failing:
        add(60_000, 2 * DAY_MS, "again", original)
    others.sort()
    fresh_ones = ((start_ms + int(i * step), i, "fresh") for i in range(fresh))
    for at_ms, original, kind in heapq.merge(fresh_ones, others):
        yield Sent(at_ms, original, kind)


class TimedRecords(EventLog):
    """The record, with a stopwatch."""

    def __init__(self, redis: Any, postgres: Postgres) -> None:
        super().__init__(redis, postgres, Tiers(redis, Scripts(redis)))
        self.asked = 0
        self.seconds = 0.0
        self.wrong = 0
        #: Events whose first one the filters know rightly, and that is too long ago.
        self.late: set[str] = set()

    async def first(self, partition: int, suspects: Sequence[Any]) -> Any:
        begun = time.perf_counter()
        found = await super().first(partition, suspects)
        self.seconds += time.perf_counter() - begun
        self.asked += 1
        for suspect, record, sure in zip(suspects, *found, strict=True):
            self.wrong += record is None and sure and suspect.event_id not in self.late
        return found


class Worker:
    """What one process has in memory, and its folder."""

    def __init__(self, plan: Plan, folder: Path, redis_: Any, records: EventLog) -> None:
        self.settings = Settings(
            state_dir=folder,
            dedup_history_days=plan.history_days,
            dedup_history_events=plan.filter_events,
            dedup_history_false_positives=plan.false_positives,
            dedup_history_memory_bytes=plan.memory_bytes,
        )
        self.folder = folder
        self._new = lambda: HistoryLookup(redis_, records, self.settings)
        self.history_lookup = self._new()

    def restart(self) -> None:
        """Begin with nothing in memory."""
        fresh = self._new()
        fresh.asked, fresh.wrong = self.history_lookup.asked, self.history_lookup.wrong
        self.history_lookup = fresh


class Bench:
    """Sends the traffic through the system's own functions, and keeps the ledger."""

    def __init__(self, plan: Plan, redis_: Any, postgres: Postgres, folder: Path) -> None:
        self.plan = plan
        self.redis = redis_
        self.scripts = Scripts(redis_)
        self.postgres = postgres
        self.records = TimedRecords(redis_, postgres)
        self.workers = [
            Worker(plan, folder / f"worker-{n}", redis_, self.records) for n in range(plan.workers)
        ]
        self.owner = [n % plan.workers for n in range(plan.partitions)]
        self.partitions: list[Partition] = []
        self.unrecorded: list[list[AuditBatch]] = [[] for _ in range(plan.partitions)]
        self.writing: list[asyncio.Task[None] | None] = [None] * plan.partitions
        self.trims: list[tuple[int, str, int]] = []
        self.result = Result()
        self.metrics_before = (
            metrics.HISTORY_LOADED._value.get(),
            metrics.HISTORY_SAVED._value.get(),
        )
        self.draw = random.Random(plan.seed + 1)
        self.count = 0
        #: CPU of judging batches without a look-up, and how many events they had.
        self.judge_cpu = self.commit_seconds = 0.0
        self.judged = 0
        #: Whether the next batch of a partition dies, and how.
        self.dies: dict[int, str] = {}
        # in the future, so that nothing expires by the server's own clock meanwhile
        self.start_ms = (int(time.time()) // 86_400 + 1) * DAY_MS

    async def run(self, progress: Callable[[str], None]) -> Result:
        """Send everything; the result is complete."""
        plan, result, begun = self.plan, self.result, time.monotonic()
        await self.scripts.load()
        for number in range(plan.partitions):
            self.partitions.append(await self._claim(number))
            await self.redis.xgroup_create(keys.audit(number), keys.GROUP, "0", mkstream=True)
        waiting: list[list[tuple[Sent, Entry]]] = [[] for _ in range(plan.partitions)]
        every = max(1, plan.events // (plan.faults + 1))
        for sent in traffic(plan, self.start_ms):
            number = sent.original % plan.partitions
            waiting[number].append((sent, self._entry(sent, number)))
            if len(waiting[number]) == BATCH:
                await self._batch(number, waiting[number])
                waiting[number] = []
            if self.count % every == 0:
                await self._fault(FAULTS[self.count // every % len(FAULTS)])
            if self.count % max(1, plan.events // 20) == 0:
                seconds = time.monotonic() - begun
                progress(
                    f"{self.count:>9} events, {(sent.at_ms - self.start_ms) / DAY_MS:4.1f} days, "
                    f"{seconds:5.0f} s; copies found {result.copies_found}, missed "
                    f"{result.missed}, fresh events dropped {result.dropped}"
                )
        for number, rest in enumerate(waiting):
            if rest:
                await self._batch(number, rest)
        await asyncio.gather(*(self._record(number, wait=True) for number in range(len(waiting))))
        result.minutes = (time.monotonic() - begun) / 60
        await self._measure()
        return result

    def _entry(self, sent: Sent, number: int) -> Entry:
        self.count += 1
        plan = self.plan
        tool = f"tool-{number}"
        digest = hashlib.sha256(b"%d" % sent.original).hexdigest()
        again = sent.kind == "again"
        fresh = sent.kind in ("fresh", "again")
        received_ms = self._fresh_ms(sent.original) if again else sent.at_ms
        event = Event(
            event_id=self._first_id(sent.original)
            if fresh
            else new_event_id(sent.at_ms, number, (1 << 40) + self.count),
            tenant="bench",
            tool_id=tool,
            provider="none",
            type="order.paid",
            message_id=f"{tool}:order.paid:{digest}",
            received_at_ms=received_ms,
            dedup_window_ms=plan.windows_ms[number % len(plan.windows_ms)],
            dedup_history_ms=plan.history_days * DAY_MS,
        )
        entry = Entry(f"{sent.at_ms}-{self.count}", b"", event)
        if again:
            entry.failed_event_id = event.event_id
        if sent.kind == "late":
            self.records.late.add(event.event_id)
        return entry

    def _fresh_ms(self, original: int) -> int:
        plan = self.plan
        fresh = plan.events - int(plan.events * plan.copies) - int(plan.events * TOO_LATE[2])
        return self.start_ms + int(original * (plan.days * DAY_MS / fresh))

    def _first_id(self, original: int) -> str:
        number = original % self.plan.partitions
        return new_event_id(self._fresh_ms(original), number, original)

    async def _claim(self, number: int) -> Partition:
        worker = self.workers[self.owner[number]]
        await self.redis.hset(keys.lease(number), "expires_ms", "0")
        nonce = secrets.token_hex(4)
        reply = await self.scripts.call(
            "claim", [keys.lease(number)], [worker.folder.name, nonce, 3_600_000]
        )
        openers = (opens_dedup(self.redis, worker.settings.state_path / "tables"),)
        return await open_partition(openers, number, nonce, reply)

    async def _again(self, number: int) -> None:
        """The partition's owner begins anew."""
        self.partitions[number].close()
        self.partitions[number] = await self._claim(number)

    async def _fault(self, what: str) -> None:
        self.result.faults[what] = self.result.faults.get(what, 0) + 1
        number = self.draw.randrange(self.plan.partitions)
        if what == "restart":
            which = self.owner[number]
            self.workers[which].restart()
            for mine in [n for n, owner in enumerate(self.owner) if owner == which]:
                await self._again(mine)
        elif what == "hand over":
            self.owner[number] = (self.owner[number] + 1) % self.plan.workers
            await self._again(number)
        elif what == "lost disk":
            self.partitions[number].close()
            self.partitions[number].wipe()
            self.partitions[number] = await self._claim(number)
        else:
            self.dies[number] = what

    async def _batch(self, number: int, sent: list[tuple[Sent, Entry]]) -> None:
        death = self.dies.pop(number, "")
        if death == "crash before commit":
            # it is judged, and nobody hears of it: the same entries come again
            await self._judge(number, [entry for _, entry in sent])
            await self._again(number)
            for _, entry in sent:
                entry.outcome = ACCEPTED
        batch = await self._judge(number, [entry for _, entry in sent])
        for one, entry in sent:
            self._note(one, entry)
        begun = time.perf_counter()
        await self._commit(batch, apply=death != "crash after commit")
        self.commit_seconds += time.perf_counter() - begun
        if death == "crash after commit":
            await self._again(number)
        self.unrecorded[number].append(audit(batch))
        await self._record(number)
        await self._trim(number, sent[-1][0].at_ms)

    async def _judge(self, number: int, entries: list[Entry]) -> Batch:
        batch = Batch("events", self.partitions[number], entries, lambda *_: None)
        asked, loaded = self.records.asked, metrics.HISTORY_LOADED._value.get()
        begun = time.thread_time()
        await judge(batch, self.workers[self.owner[number]].history_lookup)
        spent = time.thread_time() - begun
        if asked == self.records.asked and loaded == metrics.HISTORY_LOADED._value.get():
            # nothing was waited for, so nothing else can have run meanwhile
            self.judge_cpu += spent
            self.judged += len(entries)
        return batch

    async def _commit(self, batch: Batch, *, apply: bool) -> None:
        """What the commit stage writes for dedup and the record, by the same script."""
        partition, writes = batch.partition, Writes()
        if batch.changes:
            writes.append(
                keys.changelog(partition.number),
                encode_changes("dedup", batch.changes),
                then=lambda entry_id: self._applied(batch, entry_id),
            )
        if history := partition[DedupState].history:
            history.write(writes, batch.remembered)
        writes.append(keys.audit(partition.number), audit(batch).SerializeToString())
        if not apply:
            # as if it died there: what follows from the commit never does
            writes = Writes(writes.commands)
        await commit(self.scripts, partition, batch.channel, writes, batch.entries)

    def _applied(self, batch: Batch, entry_id: str) -> None:
        batch.partition[DedupState].table.apply(batch.changes, entry_id)
        self.trims.append((batch.partition.number, entry_id, self._ms(batch)))

    @staticmethod
    def _ms(batch: Batch) -> int:
        return int(batch.entries[-1].entry_id.partition("-")[0])

    async def _record(self, number: int, *, wait: bool = False) -> None:
        """Write to PostgreSQL what has gathered, while the next batches are judged."""
        pending = self.writing[number]
        if pending is not None and (wait or pending.done() or self._behind(number)):
            await pending
            self.writing[number] = pending = None
        if pending is None and self.unrecorded[number] and (wait or self._behind(number)):
            batches, self.unrecorded[number] = self.unrecorded[number], []
            self.writing[number] = asyncio.create_task(self._write(number, batches))
            if wait:
                await self._record(number, wait=True)

    def _behind(self, number: int) -> bool:
        return len(self.unrecorded[number]) >= RECORD_LAG

    async def _write(self, number: int, batches: list[AuditBatch]) -> None:
        async with self.postgres.transaction() as connection:
            await write_rows(connection, rows_of(batches), tops=None)
        stream = keys.audit(number)
        read = await self.redis.xreadgroup(
            keys.GROUP, "recorder", {stream: ">"}, count=len(batches)
        )
        ids = [entry_id for entry_id, _ in read[0][1]]
        await self.redis.xack(stream, keys.GROUP, *ids)
        await self.redis.xtrim(stream, minid=ids[-1])

    async def _trim(self, number: int, now_ms: int) -> None:
        """Ended marks and their changelog go, as the owner of a partition sees to it."""
        self.partitions[number][DedupState].table.purge(now_ms)
        longest = max(self.plan.windows_ms)
        if self.trims and self.trims[0][2] < now_ms - longest - HOUR_MS:
            last: dict[int, str] = {}
            kept = []
            for trim in self.trims:
                if trim[2] < now_ms - longest:
                    last[trim[0]] = trim[1]
                else:
                    kept.append(trim)
            self.trims = kept
            for partition, minid in last.items():
                await self.redis.xtrim(keys.changelog(partition), minid=minid)

    def _note(self, sent: Sent, entry: Entry) -> None:
        """The ledger: what became of an event against what should have."""
        result, first = self.result, entry.duplicate_of
        result.events += 1
        if sent.kind != "copy":
            result.fresh += 1
            result.too_late += sent.kind == "late"
            result.tried_again += sent.kind == "again"
            result.dropped += bool(first)
            return
        result.copies += 1
        result.missed += not first
        result.unconfirmed += entry.dedup == "unconfirmed"
        if first:
            result.copies_found += 1
            result.by_window += entry.dedup == "window"
            result.by_history += entry.dedup == "history"
            result.wrong_first += first != self._first_id(sent.original)

    async def _measure(self) -> None:
        result, count = self.result, max(1, self.result.events)
        asked = sum(worker.history_lookup.asked for worker in self.workers)
        result.suspected_wrongly = self.records.wrong
        result.checked = asked
        result.false_positives = result.suspected_wrongly / max(1, asked)
        result.filters_loaded = int(metrics.HISTORY_LOADED._value.get() - self.metrics_before[0])
        result.filters_saved = int(metrics.HISTORY_SAVED._value.get() - self.metrics_before[1])
        result.look_ups = self.records.asked
        result.look_up_ms = 1000 * self.records.seconds / max(1, self.records.asked)
        result.judge_cpu_us = 1e6 * self.judge_cpu / max(1, self.judged)
        result.commit_us = 1e6 * self.commit_seconds / count
        filters = [worker.history_lookup.filters.used_bytes for worker in self.workers]
        result.filter_memory_mb = sum(filters) / 1e6
        names = [name async for name in self.redis.scan_iter("{hs:*}:history*", count=1000)]
        names += [keys.changelog(n, "history") for n in range(self.plan.partitions)]
        used = [await self.redis.memory_usage(name, samples=0) or 0 for name in names]
        result.redis_history_mb = sum(used) / 1e6
        result.rocksdb_mb = sum(_size(worker.folder) for worker in self.workers) / 1e6
        row = await self.postgres.fetchrow(
            "SELECT pg_total_relation_size('events') AS all, "
            "pg_relation_size('events_by_message') AS found_by"
        )
        assert row is not None
        result.record_mb, result.record_index_mb = row["all"] / 1e6, row["found_by"] / 1e6
        result.process_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3

    def close(self) -> None:
        for partition in self.partitions:
            partition.close()


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


async def run(
    plan: Plan,
    redis_url: str,
    postgres_url: str,
    folder: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> Result:
    """One run on servers that are emptied first.

    Raises:
        RedisError: Redis went away.
        UnavailableError: PostgreSQL went away.
    """
    client = redis.asyncio.Redis.from_url(redis_url, protocol=2)
    await client.flushall()
    async with Postgres(postgres_url) as postgres:
        await postgres.execute("TRUNCATE events")
        bench = Bench(plan, client, postgres, folder)
        try:
            return await bench.run(progress)
        finally:
            bench.close()
            await client.aclose()


def table(plan: Plan, result: Result, without: Result) -> str:
    """The figures as Markdown."""
    faults = ", ".join(f"{count} × {name}" for name, count in result.faults.items())
    rows = [
        ("events", f"{result.events:,}"),
        ("of which copies after 1 s to 6.9 days", f"{result.copies:,}"),
        ("of which events tried again after a failure", f"{result.tried_again:,}"),
        ("of which copies after the history's 7 days: they must pass", f"{result.too_late:,}"),
        ("faults on the way", faults),
        ("**copies called duplicates**", f"**{100 * result.effectiveness:.4f} %**"),
        ("by their window, by history", f"{result.by_window:,}, {result.by_history:,}"),
        ("copies missed, of which unconfirmed", f"{result.missed:,}, {result.unconfirmed:,}"),
        ("**fresh events dropped**", f"**{result.dropped:,}**"),
        ("duplicates whose first event is named wrongly", f"{result.wrong_first:,}"),
        (
            "new events that history suspected: configured for full filters, observed",
            f"{100 * plan.false_positives:.3f} %, {100 * result.false_positives:.3f} %",
        ),
        (
            "look-ups in the record (one a batch at most), each",
            f"{result.look_ups:,}, {result.look_up_ms:.1f} ms",
        ),
        (
            "CPU of judging an event: without history, with it (batches without a look-up)",
            f"{without.judge_cpu_us:.1f} µs, {result.judge_cpu_us:.1f} µs",
        ),
        (
            "filters read, saved",
            f"{result.filters_loaded:,}, {result.filters_saved:,}",
        ),
        ("filters in memory, all workers", f"{result.filter_memory_mb:.1f} MB"),
        ("history in Redis", f"{result.redis_history_mb:.1f} MB"),
        ("RocksDB's folders", f"{result.rocksdb_mb:.0f} MB"),
        (
            "the record in PostgreSQL, of which the index that is asked",
            f"{result.record_mb:,.0f} MB, {result.record_index_mb:,.0f} MB",
        ),
        ("largest size of the benchmark's process", f"{result.process_mb:,.0f} MB"),
        ("time", f"{result.minutes:.1f} min"),
    ]
    lines = ["| | |", "| --- | ---: |", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join(lines)


def write(plan: Plan, result: Result, without: Result) -> None:
    """Keep the results, and put the table into the document."""
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    kept = {
        "plan": asdict(plan),
        "result": {**asdict(result), "effectiveness": result.effectiveness},
        "judge_cpu_us_without_history": without.judge_cpu_us,
        "machine": machine,
        "date": time.strftime("%Y-%m-%d"),
    }
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "dedup.json").write_text(json.dumps(kept, indent=2) + "\n")
    before, _, rest = DOCS.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCS.write_text(f"{before}{BEGIN}\n{table(plan, result, without)}\n\n{END}{after}")


def main() -> int:
    """Run it on embedded servers of its own; 1 when the promise was broken."""
    full = Plan()
    parser = argparse.ArgumentParser(description="How effective dedup is, at size.")
    parser.add_argument("--events", type=int, default=full.events)
    parser.add_argument("--seed", type=int, default=full.seed)
    parser.add_argument("--folder", help="where servers and tables are kept while it runs")
    parser.add_argument("--write", action="store_true", help="keep results, and write the docs")
    given = parser.parse_args()
    share = given.events / full.events
    plan = Plan(
        events=given.events,
        seed=given.seed,
        filter_events=max(100, int(full.filter_events * share)),
        memory_bytes=max(1 << 20, int(full.memory_bytes * share)),
    )
    folder = Path(tempfile.mkdtemp(prefix="hookstream-bench-", dir=given.folder))
    servers = [embedded.start_valkey(folder), embedded.start_postgres(folder)]
    urls = [server.url for server in servers]
    try:
        small = Plan(events=min(plan.events, 200_000), history_days=0, faults=0)
        print("without history, for comparison", flush=True)
        without = asyncio.run(run(small, urls[0], urls[1], folder / "without"))
        print(f"{plan.events} events, {plan.partitions} partitions", flush=True)
        result = asyncio.run(
            run(plan, urls[0], urls[1], folder / "with", lambda line: print(line, flush=True))
        )
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(table(plan, result, without))
    if given.write:
        write(plan, result, without)
    return 0 if result.effectiveness >= 0.999 and not result.dropped else 1


if __name__ == "__main__":
    sys.exit(main())
