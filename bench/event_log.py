"""What recording an event and its delivery in PostgreSQL costs, by the size of a transaction.

``python -m bench.event_log [--filled 200000] [--sizes 8 64 512 4096] [--quick] [--write]``. A
PostgreSQL of its own that has so many events already; batches of 16 events and of their deliveries,
of 32 partitions, as commits leave them. In turns: all rows taken for new (COPY), and none of them
(INSERT … ON CONFLICT from arrays, as every row was written before COPY).
"""

import argparse
import asyncio
import os
import random
import secrets
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.measure import Result, main, progress
from hookstream.app import embedded
from hookstream.app.ids import new_event_id, random_bits
from hookstream.app.postgres.pool import Postgres
from hookstream.app.postgres.sql import statement
from hookstream.app.stores.audit import Context, find_tops, rows_of, write_rows
from hookstream.proto.pipeline_pb2 import AuditBatch, DeliveryAudit, EventAudit

SIZES = (8, 64, 512, 4096)
PARTITIONS = 32
#: Events that one commit has decided.
IN_A_COMMIT = 16
#: What is written of each size: so many events, in so many transactions at most.
EVENTS = 20_480
TRANSACTIONS = 256
#: Events in a transaction that fills.
FILL = 4000
NONCE = "bench"


class Traffic:
    """Batches of ``audit[p]``, as a system with eight tools and contexts makes them."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self._begun_ms = int(time.time() * 1000)
        self._count = 0

    def take(self, events: int) -> list[AuditBatch]:
        """What commits have decided and delivered of so many events."""
        batches = []
        for left in range(events, 0, -IN_A_COMMIT):
            decided = AuditBatch(partition=self._draw.randrange(PARTITIONS))
            delivered = AuditBatch(partition=self._draw.randrange(PARTITIONS))
            for _ in range(min(left, IN_A_COMMIT)):
                self._add(decided, delivered)
            batches += [decided, delivered]
        return batches

    def _add(self, decided: AuditBatch, delivered: AuditBatch) -> None:
        self._count += 1
        at_ms, tool = self._begun_ms + self._count // 2, f"github-{self._count % 8}"
        event_id = new_event_id(at_ms, decided.partition, random_bits())
        decided.events.append(
            EventAudit(
                event_id=event_id,
                tenant="default",
                tool_id=tool,
                provider="github",
                type="pull_request.opened",
                status="accepted",
                message_id=f"{tool}:pull_request.opened:{secrets.token_hex(32)}",
                delivery_id=secrets.token_hex(16),
                received_at_ms=at_ms,
                entry_id=f"{at_ms}-{self._count % 2}",
                payload_bytes=9760,
            )
        )
        delivered.deliveries.append(
            DeliveryAudit(
                tenant="default",
                context_id=f"context-{self._count % 8}",
                seq=self._count // 8 + 1,
                event_id=event_id,
                delivered_at_ms=at_ms,
                kind="update",
            )
        )


class Log:
    """Writes batches as the recorder does, without its waiting."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._tops: dict[Context, int] = {}

    async def prepare(self) -> None:
        """Have every partition claimed."""
        numbers = list(range(PARTITIONS))
        nonces = [NONCE] * PARTITIONS
        await self._postgres.fetch(statement("take_log"), numbers, nonces, [""] * PARTITIONS)

    async def copy(self, batches: list[AuditBatch]) -> None:
        """Everything is new."""
        rows = rows_of(batches)
        reached: dict[Context, int] = defaultdict(int)
        for delivery in rows.deliveries:
            who = (delivery.tenant, delivery.context_id)
            reached[who] = max(reached[who], delivery.seq)
        async with self._postgres.transaction() as connection:
            numbers = sorted({batch.partition for batch in batches})
            await connection.fetch(statement("hold_log"), numbers, [NONCE] * len(numbers))
            if unknown := reached.keys() - self._tops.keys():
                self._tops |= await find_tops(connection, unknown)
            await write_rows(connection, rows, tops=self._tops)
        self._tops |= reached

    async def insert(self, batches: list[AuditBatch]) -> None:
        """Anything may be there."""
        async with self._postgres.transaction() as connection:
            await write_rows(connection, rows_of(batches), tops=None)


def server_seconds(root: int) -> float:
    """CPU time of a PostgreSQL's processes until now; those that have ended count with it."""
    total = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            if int(name) == root or int(fields[1]) == root:
                # nanoseconds: `stat` counts in hundredths of a second
                total += int(Path(f"/proc/{name}/schedstat").read_text().split()[0])
            if int(name) == root:
                hertz = os.sysconf("SC_CLK_TCK")
                total += (int(fields[13]) + int(fields[14])) * 1_000_000_000 // hertz
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total / 1e9


async def measure(filled: int, sizes: Sequence[int], runs: int) -> Result:
    """Fill, then write with each size, both ways in turns."""
    result = Result(
        f"`python -m bench.event_log --filled {filled}`: events with a delivery each, by the "
        f"number of events in a transaction, into a PostgreSQL of its own that has {filled:,} "
        "already. COPY: rows that are taken for new, as nearly all are; INSERT: rows that may be "
        "there, as all were written before. The server is all of its processes."
    )
    found: dict[str, list[float]] = defaultdict(list)
    with TemporaryDirectory(prefix="hs-") as folder:
        server = embedded.start_postgres(Path(folder))
        postgres = Postgres(server.url)
        await postgres.start()
        try:
            root = int((server.data / "postmaster.pid").read_text().split()[0])
            log, traffic = Log(postgres), Traffic(1)
            await log.prepare()
            progress(f"fill with {filled:,}")
            for _ in range(filled // FILL):
                await log.copy(traffic.take(FILL))
            await postgres.execute("ANALYZE")
            for run_number, size in product(range(runs), sizes):
                progress(f"run {run_number + 1}: {size:,} events in a transaction")
                count = max(1, min(TRANSACTIONS, EVENTS // size))
                for way, write in (("COPY", log.copy), ("INSERT", log.insert)):
                    given = [traffic.take(size) for _ in range(count)]
                    served, busy = server_seconds(root), time.process_time()
                    for batches in given:
                        await write(batches)
                    each = 1e6 / (count * size)
                    name = f"{size:,} events, {way}"
                    found[f"{name}, server"].append((server_seconds(root) - served) * each)
                    found[f"{name}, client"].append((time.process_time() - busy) * each)
        finally:
            await postgres.stop()
            server.stop()
    for name, values in found.items():
        result.add(name, "µs of CPU an event", values)
    return result


def run(options: argparse.Namespace) -> Result:
    """As the command line says."""
    if options.quick:
        return asyncio.run(measure(0, (8, 64), 1))
    return asyncio.run(measure(options.filled, options.sizes, options.runs))


if __name__ == "__main__":
    main(
        "event_log",
        __doc__,
        run,
        ("--filled", {"type": int, "default": 200_000}),
        ("--sizes", {"type": int, "nargs": "+", "default": SIZES}),
    )
