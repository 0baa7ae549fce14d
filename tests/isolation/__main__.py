"""``python -m tests.isolation``: the table of routes and kinds of access, and what leaked."""

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.isolation.suite import run
from tests.support.stack import Stack


def main() -> int:
    """Run the suite on a system of its own; 1 where something came through."""
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        report = asyncio.run(run(stack))
    for line in report.table():
        print(line)
    for what, found in (("leaks", report.leaks), ("changed", report.changed)):
        for line in found:
            print(f"{what}: {line}")
    if report.missing:
        print(f"not tried: {', '.join(sorted(report.missing))}")
    return int(bool(report.leaks or report.changed or report.missing))


if __name__ == "__main__":
    sys.exit(main())
