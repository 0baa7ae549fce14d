"""What an event costs in the archive: ``python -m bench.archive [--quick] [--write]``.

GitHub's example payloads, each numbered, as blocks of warm events give them: written, read back and
compared, then put together into one object of tens of MiB, out of which events are found one by one
and read in order. In a folder, with a PostgreSQL of the benchmark's own.
"""

import argparse
import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.measure import Result, main, progress
from bench.payloads import Entries
from hookstream.app import embedded
from hookstream.app.archive import parquet
from hookstream.app.archive.archive import Archive
from hookstream.app.archive.rows import ArchivedEvent, Place, join, split
from hookstream.app.archive_address import ArchiveAddress
from hookstream.app.postgres.pool import Postgres
from hookstream.codecs.envelope import decode_event, encode_event

TENANT, TOOL, PARTITION = "default", "github", 3
T0 = 1_767_225_600_000
CPU = "µs of CPU an event"


@dataclass(slots=True)
class Run:
    """What one run found; times in seconds."""

    store_cpu: float = 0.0
    store_seconds: float = 0.0
    compact_cpu: float = 0.0
    scan_cpu: float = 0.0
    scan_seconds: float = 0.0
    bytes: int = 0
    objects: int = 0
    cold: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    stalls: list[float] = field(default_factory=list)
    parts: dict[str, float] = field(default_factory=dict)


def made(first: int, count: int) -> list[ArchivedEvent]:
    """So many events of one tool and partition, one a millisecond."""
    entries = Entries(1, first=first).make([TOOL], count)
    found = []
    for number, (_, data) in enumerate(entries, first):
        event = replace(decode_event(data), received_at_ms=T0 + number)
        # as it comes out of a block: the payload as it is
        event = replace(event, payload=bytes(event.payload), headers=dict(event.headers))
        found.append(ArchivedEvent(PARTITION, f"{T0 + number}-0", encode_event(event)))
    return found


@contextmanager
def cpu(took: Callable[[float, float], None]) -> Iterator[None]:
    """Tell the CPU time of this process, and the wall time, of a block."""
    cpu_before, before = time.process_time(), time.perf_counter()
    yield
    took(time.process_time() - cpu_before, time.perf_counter() - before)


async def ticking(stalls: list[float]) -> None:
    """How long the event loop does not come round, from now on."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(0.005)
        stalls.append(time.perf_counter() - before - 0.005)


def parts(events: list[ArchivedEvent]) -> dict[str, float]:
    """CPU time of the parts of a store, each by itself; of three times the least."""
    rows = [split(event) for event in events]
    writer_rows = sorted(rows, key=lambda row: row.entry_ms)

    def encode() -> "parquet.Encoded":
        writer = parquet.ObjectWriter(TENANT, TOOL)
        writer.add(writer_rows)
        return writer.finish()

    encoded = encode()
    works: dict[str, Callable[[], object]] = {
        "taken apart": lambda: [split(event) for event in events],
        "encoded": encode,
        "compared": lambda: parquet.check_rows(encoded, encoded.data),
        "put together": lambda: [join(row) for row in rows],
    }
    return {name: min(_thread_cpu(work) for _ in range(3)) for name, work in works.items()}


def _thread_cpu(work: Callable[[], object]) -> float:
    before = time.thread_time()
    work()
    return time.thread_time() - before


async def one(archive: Archive, given: argparse.Namespace) -> Run:
    """Store all, compact, find, scan, delete."""
    run = Run()
    stalls = asyncio.ensure_future(ticking(run.stalls))

    def stored(cpu_seconds: float, seconds: float) -> None:
        run.store_cpu += cpu_seconds
        run.store_seconds += seconds

    for first in range(0, given.events, given.block):
        # in a thread: the events of the benchmark are not what the event loop waits for
        events = await asyncio.to_thread(made, first, given.block)
        run.stalls.clear()
        ends = [(PARTITION, events[0].entry_id, events[-1].entry_id)]
        with cpu(stored):
            await archive.store(TENANT, TOOL, events, ends)
    run.parts = await asyncio.to_thread(parts, events)
    run.bytes = (await archive.totals()).bytes

    def compacted(cpu_seconds: float, _: float) -> None:
        run.compact_cpu += cpu_seconds

    with cpu(compacted):
        while (await archive.compact(T0 + 86_400_000)).objects:
            pass
    run.objects = (await archive.totals()).objects
    draw = random.Random(1)
    for _ in range(given.finds):
        number = draw.randrange(given.events)
        place = Place(TENANT, TOOL, PARTITION, f"{T0 + number}-0")
        archive.cache = type(archive.cache)(64 << 20)
        for taken in (run.cold, run.warm):
            before = time.perf_counter()
            [found] = await archive.find([place])
            taken.append(time.perf_counter() - before)
            if found is None:
                raise RuntimeError(f"{place} was not found")

    def scanned(cpu_seconds: float, seconds: float) -> None:
        run.scan_cpu, run.scan_seconds = cpu_seconds, seconds

    count = 0
    with cpu(scanned):
        async for some in archive.scan(TENANT, TOOL, T0, T0 + given.events):
            count += len(some)
    if count != given.events:
        raise RuntimeError(f"{count} events were scanned of {given.events}")
    stalls.cancel()
    await archive.delete_tool(TENANT, TOOL)
    return run


def percentile(values: list[float], share: float) -> float:
    """The value below which that share of them is."""
    return sorted(values)[max(0, round(len(values) * share) - 1)]


async def measure(given: argparse.Namespace, folder: Path) -> list[Run]:
    """All runs, one after the other."""
    server = await asyncio.to_thread(embedded.start_postgres, folder)
    runs = []
    try:
        address = ArchiveAddress("file", "", str(folder / "archive"))
        async with (
            Postgres(server.url) as postgres,
            Archive(address, postgres, cache_bytes=64 << 20) as archive,
        ):
            for number in range(given.runs):
                progress(f"run {number + 1} of {given.runs}")
                runs.append(await one(archive, given))
    finally:
        server.stop()
    return runs


def run(given: argparse.Namespace) -> Result:
    """Everything, in a folder that goes when it ends."""
    if given.quick:
        given.events, given.block, given.finds = 2000, 500, 10
    with TemporaryDirectory(prefix="hookstream-bench-") as folder:
        runs = asyncio.run(measure(given, Path(folder)))
    count = given.events
    result = Result(
        f"{count:,} events of GitHub's examples, numbered, stored {given.block:,} at a time in a "
        "folder, then compacted. Stored: taken apart, encoded, written, synced, read back and "
        "compared value by value, with its row in the manifest; CPU time of this process, not "
        "PostgreSQL's. Found: manifest, footer and one row group of 8 MiB of payloads, nothing of "
        f"which is in memory, {given.finds} times; again: the row group is.",
        facts={"objects after compaction": max(each.objects for each in runs)},
    )
    result.add("stored", CPU, (each.store_cpu / count * 1e6 for each in runs))
    for name in runs[0].parts:
        result.add(
            f"of one block: {name}", CPU, (each.parts[name] / given.block * 1e6 for each in runs)
        )
    result.add("stored", "events/s", (count / each.store_seconds for each in runs))
    result.add("archived", "bytes an event", (each.bytes / count for each in runs))
    result.add("compacted", CPU, (each.compact_cpu / count * 1e6 for each in runs))
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        result.add(f"found, {name}", "ms", (percentile(each.cold, share) * 1e3 for each in runs))
    result.add("found again, p99", "ms", (percentile(each.warm, 0.99) * 1e3 for each in runs))
    result.add("scanned", "events/s", (count / each.scan_seconds for each in runs))
    result.add("scanned", CPU, (each.scan_cpu / count * 1e6 for each in runs))
    result.add("event loop late, p99", "ms", (percentile(each.stalls, 0.99) * 1e3 for each in runs))
    result.add("event loop late, worst", "ms", (max(each.stalls) * 1e3 for each in runs))
    return result


OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--events", {"type": int, "default": 160_000, "help": "how many are stored"}),
    ("--block", {"type": int, "default": 4000, "help": "how many at a time"}),
    ("--finds", {"type": int, "default": 300, "help": "how often one is looked for"}),
)

if __name__ == "__main__":
    main("archive", __doc__, run, *OPTIONS)
