"""``hookstream bench``: the benchmarks of a checkout, one after the other."""

import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from faust.cli.base import argument, option

from hookstream.app.commands.command import Command
from hookstream.app.errors import BadRequestError

__all__ = ["bench"]

#: What runs when no name is given.
USUAL = ("ingest", "worker", "end-to-end", "memory", "recovery")
NAMES = (
    *USUAL,
    "overload",
    "soak",
    "growth",
    "scale",
    "budget",
    "priority",
    "lifecycle",
    "archive",
    "tenants",
    "cluster",
)
#: Packages that are not installed with Hookstream itself, by the name they are imported by.
NEEDED = ("faststream", "psutil")
#: Where a checkout has its benchmarks.
CHECKOUT = Path(__file__).resolve().parents[2]


class bench(Command):  # noqa: N801 Faust names a command by its class
    """Run benchmarks: ingest, worker, end-to-end, memory, recovery (those if none is named);
    overload, soak (half an hour), growth, scale (1 to N processes), budget (µs by stage),
    priority (critical updates under load), lifecycle (what tiers cost),
    archive (what it costs alone), tenants (one above its quota beside another),
    cluster (three masters beside one server, and slots that move under load)."""

    options = [
        argument("names", metavar="[NAME]...", nargs=-1),
        option("--quick", is_flag=True, help="Tiny counts: only whether it works."),
        option("--write", is_flag=True, help="Keep the results, fill in docs/performance.md."),
        option("--json", "as_json", is_flag=True, help="Print JSON, one document a benchmark."),
        option("--full", is_flag=True, help="growth: 5 M waiting events and 50 M dedup keys, too."),
    ]

    def perform(self, **options: Any) -> int:
        """Run each in a process of its own; 1 when one failed."""
        names = options["names"] or USUAL
        if unknown := sorted(set(names) - set(NAMES)):
            raise BadRequestError(f"there is no benchmark {unknown[0]!r}: {', '.join(NAMES)}")
        if options["full"] and "growth" not in names:
            raise BadRequestError("--full is for growth: hookstream bench growth --full")
        if options["quick"] and options["write"]:
            raise BadRequestError("--quick proves that it works; its figures are not worth keeping")
        refuse_without_checkout(CHECKOUT)
        flags = [f"--{flag}" for flag in ("quick", "write") if options[flag]]
        flags += ["--json"] if options["as_json"] else []
        failed = []
        for name in names:
            sys.stderr.write(f"{name}\n")
            begun = time.monotonic()
            more = ["--full"] if name == "growth" and options["full"] else []
            command = [sys.executable, "-m", f"bench.{name.replace('-', '_')}", *flags, *more]
            # its own process: what one has loaded is no part of what the next measures
            status = subprocess.run(command, cwd=CHECKOUT, check=False).returncode  # noqa: S603
            if status:
                failed.append(name)
            sys.stderr.write(f"{name}: {time.monotonic() - begun:.0f} s\n\n")
        if failed:
            sys.stderr.write(f"failed: {', '.join(failed)}\n")
        return 1 if failed else 0


def refuse_without_checkout(checkout: Path) -> None:
    """Say what is missing, in an installed package or without the packages for development.

    Raises:
        BadRequestError: there is no folder of benchmarks, or they cannot be imported.
    """
    if not (checkout / "bench" / "ingest.py").exists():
        raise BadRequestError(
            "the benchmarks are not part of the installed package: run this in a checkout of "
            "Hookstream, after `make .venv/.installed`"
        )
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise BadRequestError(
            f"the benchmarks need {', '.join(missing)}, which are for development: "
            "pip install -e '.[dev]'"
        )
