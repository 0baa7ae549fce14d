"""``hookstream plan``: how much Redis, disk, receivers and workers a load needs."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from faust.cli.base import option

from hookstream.app.commands.capacity import FIGURES, Load, Measured, Plan, load_figures, plan_for
from hookstream.app.commands.command import Command
from hookstream.app.durations import duration_seconds
from hookstream.app.errors import BadRequestError

__all__ = ["plan"]


class plan(Command):  # noqa: N801 Faust names a command by its class
    """Say what a load needs, by what was measured: Redis memory, disk, receivers, workers."""

    options = [
        option("--rate", required=True, type=float, help="Events a second, at their most."),
        option("--size", required=True, type=float, help="Bytes of an average payload."),
        option(
            "--contexts-per-event",
            default=1.0,
            help="Contexts that an event reaches; 1 by default.",
        ),
        option("--hot", default="2h", help="How long events are hot."),
        option("--warm", default="24h", help="How long they are warm then."),
        option("--cold", default="365d", help="How long they are in the archive then."),
        option("--feeds", default="7d", help="How long feeds keep what is acknowledged."),
        option("--contexts", default=100.0, help="How many contexts there are; 100 by default."),
        option("--window", default="24h", help="Dedup window."),
        option(
            "--figures", default="", help="File of figures; those that came with this by default."
        ),
        option("--json", "as_json", is_flag=True, help="Print JSON."),
    ]

    def perform(self, **options: Any) -> int:
        """Compute, and print."""
        measured = load_figures(Path(options["figures"]) if options["figures"] else FIGURES)
        load = Load(
            options["rate"],
            options["size"],
            options["contexts_per_event"],
            seconds(options["hot"]),
            seconds(options["window"]),
            seconds(options["warm"]),
            seconds(options["cold"]),
            seconds(options["feeds"]),
            options["contexts"],
        )
        made = plan_for(load, measured.figures)
        if options["as_json"]:
            measurement = {"date": measured.date, "machine": measured.machine}
            found = {"load": asdict(load), "plan": asdict(made), "measured": measurement}
            self.stdout.write(json.dumps(found, indent=2) + "\n")
        else:
            self.stdout.write(text(load, made, measured, self.settings.partitions) + "\n")
        return 0


def seconds(duration: str) -> int:
    """``90s``, ``15m``, ``24h``, ``7d`` in seconds. Raises BadRequestError."""
    try:
        return duration_seconds(duration)
    except ValueError as error:
        raise BadRequestError(f"{duration!r}: {error}") from error


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"


def text(load: Load, made: Plan, measured: Measured, partitions: int) -> str:
    """The plan for people."""
    rows = [
        ("Redis memory", size(made.redis_memory_bytes), f"{size(made.redis_bytes)} of data"),
        ("  events", size(made.redis_events_bytes), f"hot for {load.hot_seconds:g} s"),
        ("  warm events", size(made.redis_warm_bytes), f"for {load.warm_seconds:g} s more"),
        ("  feeds", size(made.redis_feeds_bytes), f"{load.contexts_per_event:g} contexts an event"),
        ("  dedup changelog", size(made.redis_changelog_bytes), f"{load.window_seconds:g} s"),
        ("Redis disk", size(made.redis_disk_bytes), "append-only file while it is rewritten"),
        ("Redis CPU", f"{made.redis_cores:.2f} cores", "for the workers' part"),
        ("worker disk", size(made.tables_disk_bytes), "dedup tables of all workers"),
        ("PostgreSQL", size(made.postgres_bytes_per_day), "more each day"),
        ("archive", size(made.archive_bytes), f"once it has {load.cold_seconds / 86400:g} days"),
        ("receivers", str(made.receivers), "processes, each at most 60 % busy"),
        ("workers", str(made.workers), "processes, each at most 60 % busy"),
        ("their memory", size(made.processes_bytes), "all receivers and workers"),
    ]
    lines = [f"{name:<18}{value:>12}   {note}" for name, value, note in rows]
    if made.workers > partitions:
        lines.append(
            f"More workers than the {partitions} partitions of HOOKSTREAM_PARTITIONS: the others "
            "would have nothing to do. Set it higher before the first start."
        )
    if made.redis_cores > 1:
        lines.append("More than one Redis can do on a core: use a cluster.")
    lines.append(f"By figures measured on {measured.date}: {measured.machine}.")
    return "\n".join(lines)
