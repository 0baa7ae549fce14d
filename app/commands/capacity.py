"""What an installation needs, computed from what was measured: ``hookstream plan``.

The figures are those of the benchmarks (``figures.json``, written by ``hookstream bench --write``).
What is kept (docs/retention.md): an event in Redis while it is hot and warm, then in the archive;
updates for as long as feeds keep what is acknowledged; dedup marks for the window.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from hookstream.app.errors import BadRequestError

__all__ = ["FIGURES", "Figures", "Load", "Measured", "Plan", "load_figures", "plan_for"]

FIGURES = Path(__file__).resolve().parent / "figures.json"
#: Share of a core that a process is planned to use: what is busier answers bursts late.
BUSY_SHARE = 0.6
#: Memory that Redis is given over its data: what changes while it rewrites its file, fragmentation.
MEMORY_SHARE = 1.5
#: The append-only file before it is rewritten (twice the data), and the new one beside it.
FILE_SHARE = 3
#: RocksDB's files before they are compacted.
TABLE_SHARE = 2
DAY_SECONDS = 86_400
#: Most updates that a feed keeps if nothing else is set.
FEED_UPDATES = 100_000


@dataclass(frozen=True, slots=True)
class Load:
    """What comes in, and how long it is kept. ``size``: bytes of an average payload.

    ``contexts``: how many there are; a feed has :data:`FEED_UPDATES` at most.
    """

    rate: float
    size: float
    contexts_per_event: float = 1.0
    hot_seconds: float = 7_200
    window_seconds: float = 86_400
    warm_seconds: float = 86_400
    cold_seconds: float = 365 * 86_400
    feed_seconds: float = 7 * 86_400
    contexts: float = 100


@dataclass(frozen=True, slots=True)
class Figures:
    """Measured: µs of CPU, and bytes, an event; of a worker's and of a receiver's process."""

    receiver_cpu_us: float
    worker_cpu_us: float
    worker_context_cpu_us: float
    redis_cpu_us: float
    payload_bytes: float
    redis_event_bytes: float
    redis_bytes_per_payload_byte: float
    redis_feed_bytes: float
    redis_changelog_bytes: float
    table_bytes: float
    postgres_bytes: float
    receiver_bytes: float
    worker_bytes: float
    warm_event_bytes: float
    archive_event_bytes: float
    move_cpu_us: float


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures, and where they come from."""

    figures: Figures
    date: str
    machine: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What it takes. Bytes, but for the counts; ``redis_cores``: cores that Redis is busy."""

    redis_events_bytes: float
    redis_warm_bytes: float
    redis_feeds_bytes: float
    redis_changelog_bytes: float
    redis_bytes: float
    redis_memory_bytes: float
    redis_disk_bytes: float
    tables_disk_bytes: float
    postgres_bytes_per_day: float
    archive_bytes: float
    receivers: int
    workers: int
    processes_bytes: float
    redis_cores: float


def plan_for(load: Load, figures: Figures) -> Plan:
    """The plan for a load.

    CPU time is taken to grow with payloads larger than the measured ones, and not to shrink with
    smaller ones: it errs on the side of more processes.

    Raises:
        BadRequestError: a number that cannot be.
    """
    for name in (field.name for field in fields(Load)):
        value = getattr(load, name)
        if not math.isfinite(value) or value < 0 or (name in ("rate", "size") and not value):
            raise BadRequestError(f"{name}: {value:g} cannot be")
    hot, kept = load.rate * load.hot_seconds, load.rate * load.window_seconds
    events = hot * (figures.redis_event_bytes + load.size * figures.redis_bytes_per_payload_byte)
    larger = max(1.0, load.size / figures.payload_bytes)
    # what is packed together is taken to grow with larger payloads, and not to shrink with smaller
    warm = load.rate * load.warm_seconds * figures.warm_event_bytes * larger
    updates = load.rate * load.contexts_per_event * load.feed_seconds
    feeds = min(updates, load.contexts * FEED_UPDATES) * figures.redis_feed_bytes
    changelog = kept * figures.redis_changelog_bytes
    data = events + warm + feeds + changelog
    worker_us = figures.worker_cpu_us + load.contexts_per_event * figures.worker_context_cpu_us
    worker_us += figures.move_cpu_us
    receivers = processes(load.rate * figures.receiver_cpu_us * larger)
    workers = processes(load.rate * worker_us * larger)
    return Plan(
        redis_events_bytes=events,
        redis_warm_bytes=warm,
        redis_feeds_bytes=feeds,
        redis_changelog_bytes=changelog,
        redis_bytes=data,
        redis_memory_bytes=data * MEMORY_SHARE,
        redis_disk_bytes=data * FILE_SHARE,
        tables_disk_bytes=kept * figures.table_bytes * TABLE_SHARE,
        postgres_bytes_per_day=load.rate * DAY_SECONDS * figures.postgres_bytes,
        archive_bytes=load.rate * load.cold_seconds * figures.archive_event_bytes * larger,
        receivers=receivers,
        workers=workers,
        processes_bytes=receivers * figures.receiver_bytes + workers * figures.worker_bytes,
        redis_cores=load.rate * figures.redis_cpu_us * larger / 1e6,
    )


def processes(us_per_second: float) -> int:
    """Processes that so many µs of CPU a second keep busy as far as they should be."""
    return max(1, math.ceil(us_per_second / 1e6 / BUSY_SHARE))


def load_figures(path: Path = FIGURES) -> Measured:
    """What was measured.

    Raises:
        BadRequestError: there are no figures, or they lack one.
    """
    try:
        found: Mapping[str, object] = json.loads(path.read_text())
        values = found["figures"]
        assert isinstance(values, dict)
        wanted = {field.name: float(values[field.name]) for field in fields(Figures)}
    except FileNotFoundError as error:
        raise BadRequestError(
            f"there are no measured figures ({path.name}): `hookstream bench --write` in a "
            "checkout makes them, and --figures FILE takes them from elsewhere"
        ) from error
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise BadRequestError(f"{path}: these are not the figures of a benchmark: {error!r}") from (
            error
        )
    return Measured(Figures(**wanted), str(found.get("date", "")), str(found.get("machine", "")))
