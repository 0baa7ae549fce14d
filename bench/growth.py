"""How costs grow: with partitions, the size of payloads, what waits, the dedup table.

``python -m bench.growth [--full] [--quick] [--write]``. A worker on a small backlog with 1, 8 and
32 partitions, and with payloads of 0.5, 10 and 256 KiB; a
worker's first events while up to a million wait behind them; and the dedup table by itself with ten
thousand and a million keys. With ``--full`` also 5 million waiting events (5 GB of memory) and 50
million keys (5 GB of disk, a quarter of an hour).
"""

import argparse
import asyncio
import random
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.measure import Result, main, progress
from bench.payloads import DAY_MS, Entries
from bench.system import cpu_seconds, system
from bench.worker import Drained, drain
from hookstream.codecs.envelope import decode_event
from hookstream.tables.dedup import Candidate, DedupTable, decide, mark_key

__all__ = ["Judged", "fill_and_judge"]

TOOLS = 8
PARTITIONS = (1, 8, 32)
KIB = (0.5, 10, 256)
#: Most bytes of payload in a backlog, so that large ones do not take minutes.
BACKLOG_BYTES = 96 << 20
BATCH = 64
NOW_MS = 1_767_225_600_000
KEYS = (10_000, 1_000_000)
FULL_KEYS = 50_000_000
WAITING = (0, 100_000, 1_000_000)
FULL_WAITING = 5_000_000
#: Payloads of what waits: small, so that much of it fits into memory.
WAITING_BYTES = 512
WAITING_PAGE = 20_000
SAY_ENTRIES = 1_000_000
SAY_BATCHES = 5_000_000 // BATCH


@dataclass(frozen=True, slots=True)
class Judged:
    """µs of CPU an event for looking up, deciding and writing; bytes of disk a key."""

    cpu_us: float
    disk_bytes: float


def candidates(first: int, count: int, later_ms: int = 0) -> Iterator[list[Candidate]]:
    """Events in batches; those that come later than the first of their number are copies."""
    draw = random.Random(first)
    for at in range(first, first + count, BATCH):
        yield [
            Candidate(
                f"{NOW_MS + later_ms}-{number}",
                str(uuid.UUID(int=draw.getrandbits(128))),
                f"tool:push:{number:064x}",
                DAY_MS,
                False,
                0,
            )
            for number in range(at, min(at + BATCH, first + count))
        ]


def judge(table: DedupTable, batch: list[Candidate], number: int) -> None:
    """What the dedupe and commit stages do with a batch."""
    known = table.get([mark_key(candidate.message_id) for candidate in batch])
    table.apply(decide(batch, known).changes, f"{number}-0")


def fill_and_judge(folder: Path, count: int, events: int, runs: int) -> list[Judged]:
    """A table of so many keys, then ``runs`` times so many events more, half of them copies."""
    table = DedupTable(folder / "table")
    try:
        for number, batch in enumerate(candidates(0, count)):
            # known to be new: only the writing counts for filling it
            table.apply(decide(batch, {}).changes, f"{number}-0")
            if number and number % SAY_BATCHES == 0:
                progress(f"{number * BATCH:,} of {count:,} keys")
        found = []
        draw = random.Random(count)
        for run in range(runs):
            batches = list(candidates(count + run * events, events // 2))
            old = [next(candidates(draw.randrange(count - BATCH), BATCH, 1)) for _ in batches]
            work = [batch for pair in zip(batches, old, strict=True) for batch in pair]
            cpu = time.thread_time_ns()
            for number, batch in enumerate(work):
                judge(table, batch, count + number)
            spent = (time.thread_time_ns() - cpu) / 1000 / sum(map(len, work))
            found.append(spent)
    finally:
        table.close()
    held = count + runs * (events // 2)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return [Judged(spent, size / held) for spent in found]


async def one(partitions: int, size: int, events: int, runs: int) -> list[Drained]:
    """A worker on backlogs, in a system of its own."""
    with system(HOOKSTREAM_PARTITIONS=str(partitions)) as running:
        running.launch("receiver")
        tools = await running.tools(TOOLS)
        entries = Entries(partitions, size=size)
        return [await drain(running, entries.make(tools, events), 1) for _ in range(runs)]


def waiting(made: Sequence[tuple[int, bytes]], first: int, count: int) -> list[tuple[int, bytes]]:
    """More events like ``made`` of the same sizes, told apart by their event and message ids."""
    found = []
    for number in range(first, first + count):
        partition, data = made[number % len(made)]
        event = decode_event(data)
        message_id = event.message_id.rpartition(":")[0] + f":{number:064x}"
        data = data.replace(event.message_id.encode(), message_id.encode())
        event_id = event.event_id[:24] + f"{number:012x}"
        found.append((partition, data.replace(event.event_id.encode(), event_id.encode())))
    return found


async def before(behind: int, events: int, runs: int) -> list[Drained]:
    """A worker's first events while so many wait behind them."""
    found = []
    for _ in range(runs):
        with system() as running:
            running.launch("receiver")
            tools = await running.tools(TOOLS)
            made = Entries(running.partitions, size=WAITING_BYTES).make(tools, TOOLS * 8)
            async with running.client() as client:
                for first in range(0, events + behind, WAITING_PAGE):
                    count = min(WAITING_PAGE, events + behind - first)
                    if first and first % SAY_ENTRIES == 0:
                        progress(f"{first:,} of {events + behind:,} events wait")
                    await running.append(client, waiting(made, first, count))
                redis = running.server("valkey")
                worker = await asyncio.to_thread(running.launch, "worker")
                start = await running.until(lambda: running.delivered(client), 1, "updates")
                begun, cpu, redis_cpu = time.perf_counter(), cpu_seconds(worker), cpu_seconds(redis)
                end = await running.until(lambda: running.delivered(client), events, "updates")
                seconds = time.perf_counter() - begun
                cpu, redis_cpu = cpu_seconds(worker) - cpu, cpu_seconds(redis) - redis_cpu
                done = end - start
                found.append(Drained(done / seconds, cpu / done * 1e6, redis_cpu / done * 1e6))
            running.end("worker", signal.SIGKILL)
    return found


def run(given: argparse.Namespace) -> Result:
    """Everything, one after the other."""
    counts, sizes, tables = PARTITIONS, KIB, KEYS + (FULL_KEYS,) * given.full
    behind = WAITING + (FULL_WAITING,) * given.full
    if given.quick:
        given.events, counts, sizes, tables = 400, PARTITIONS[:0], KIB[:1], KEYS[:1]
        behind = (1000,)
    result = Result(
        f"A worker on a backlog of {given.events} events of {TOOLS} tools, fewer where payloads "
        f"are large ({BACKLOG_BYTES >> 20} MiB at most). By partitions: GitHub's example "
        "payloads. By size: random words, 32 partitions, no dictionary. By what "
        f"waits: payloads of {WAITING_BYTES} bytes, the first {given.events} updates while so many "
        "events are in the streams behind them. Dedup table: one RocksDB "
        f"table by itself, batches of {BATCH}, half of the events copies of random earlier ones."
    )
    for partitions in counts:
        progress(f"{partitions} partitions")
        found = asyncio.run(one(partitions, 0, given.events, given.runs))
        result.add(f"{partitions} partitions", "events/s", (each.rate for each in found))
        result.add(f"{partitions} partitions", "µs of CPU an event", (e.cpu_us for e in found))
    for kib in sizes:
        progress(f"payloads of {kib:g} KiB")
        size = int(kib * 1024)
        events = min(given.events, BACKLOG_BYTES // size)
        found = asyncio.run(one(32, size, events, given.runs))
        result.add(f"payloads of {kib:g} KiB", "events/s", (each.rate for each in found))
        result.add(
            f"payloads of {kib:g} KiB", "µs of CPU an event", (each.cpu_us for each in found)
        )
    for count in behind:
        progress(f"{count} events behind")
        found = asyncio.run(before(count, given.events, 1 if count == FULL_WAITING else given.runs))
        name = f"{count:,} events behind"
        result.add(name, "events/s", (each.rate for each in found))
        result.add(name, "µs of CPU an event", (each.cpu_us for each in found))
        result.add(f"{name}, Redis", "µs of CPU an event", (each.redis_cpu_us for each in found))
    costs: dict[int, list[float]] = {}
    for count in tables:
        progress(f"a dedup table of {count} keys")
        with TemporaryDirectory(prefix="hookstream-bench-") as folder:
            judged = fill_and_judge(Path(folder), count, given.events, given.runs)
        name = f"dedup table of {count:,} keys"
        result.add(name, "µs of CPU an event", (each.cpu_us for each in judged))
        result.add(name, "bytes of disk a key", [judged[-1].disk_bytes])
        costs[count] = [each.cpu_us for each in judged]
    if FULL_KEYS in costs:
        ratios = (a / b for a, b in zip(costs[FULL_KEYS], costs[KEYS[0]], strict=True))
        result.add("dedup, 50 million keys to 10 thousand", "ratio", ratios)
    return result


OPTIONS = (
    ("--events", {"type": int, "default": 5000, "help": "events of each backlog"}),
    ("--full", {"action": "store_true", "help": "5 M waiting events, 50 M keys, too"}),
)

if __name__ == "__main__":
    main("growth", __doc__, run, *OPTIONS)
