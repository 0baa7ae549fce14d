"""Where a process spends its time: samples of its stacks, as tables of text.

``python -m bench.profile PID [--seconds 10]``. Samples are py-spy's, taken from outside while the
process works; idle threads are left out. *Self* is time in the function itself, *total* with what
it called.
"""

import argparse
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["Profile", "sample"]

RATE = 250
OURS = ("agents/", "app/", "codecs/", "stores/", "summaries/", "tables/", "web/")


class Profile:
    """Samples by function, in shares of all of them."""

    def __init__(self, raw: str) -> None:
        """``raw``: py-spy's format of that name, a line ``frame;frame;… count`` a stack."""
        self.own: Counter[str] = Counter()
        self.total: Counter[str] = Counter()
        self.count = 0
        for line in raw.splitlines():
            stack, _, times = line.rpartition(" ")
            frames = [_named(frame) for frame in stack.split(";")]
            self.count += int(times)
            self.own[frames[-1]] += int(times)
            for frame in set(frames):
                self.total[frame] += int(times)

    def table(self, rows: int) -> str:
        """The functions with the most time of their own, then ours with the most in all."""
        lines = [f"{self.count} samples"]
        ours = Counter(
            {name: times for name, times in self.total.items() if name.split()[-1].startswith(OURS)}
        )
        for title, counts in (("self", self.own), ("total", ours)):
            lines += ["", f"| {title}, % | function |", "| ---: | --- |"]
            lines += [
                f"| {times / max(1, self.count) * 100:.1f} | {name} |"
                for name, times in counts.most_common(rows)
            ]
        return "\n".join(lines)


def _named(frame: str) -> str:
    """``function (file)`` without the line and the folders above the package."""
    name, _, place = frame.partition(" (")
    path = place.rstrip(")").rpartition(":")[0] or place.rstrip(")")
    return f"`{name}` {'/'.join(path.split('/')[-2:])}"


def sample(pid: int, seconds: float) -> Profile:
    """Watch a process for so long.

    Raises:
        subprocess.CalledProcessError: py-spy may not look (it needs ptrace of that process).
    """
    with TemporaryDirectory() as folder:
        out = Path(folder) / "raw"
        subprocess.run(
            ["py-spy", "record", "--pid", str(pid), "--duration", str(max(1, round(seconds))),
             "--rate", str(RATE), "--format", "raw", "--nonblocking", "--output", str(out)],
            check=True,
            capture_output=True,
        )  # fmt: skip
        return Profile(out.read_text())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.profile")
    parser.add_argument("pid", type=int)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rows", type=int, default=40)
    given = parser.parse_args()
    sys.stdout.write(sample(given.pid, given.seconds).table(given.rows) + "\n")
