"""Where receiver and worker spend their time: samples of their stacks, as tables of text.

``python -m bench.profile [--seconds 6] [--write]``; with ``--pid`` any Python process, such as a
worker in production. Samples are py-spy's, taken from outside while the process works; idle threads
are left out. *Self* is time in the function itself, *total* with what it called.
"""

import argparse
import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.ingest import one, prepare
from bench.load import Target, beside
from bench.measure import progress
from bench.payloads import Entries
from bench.report import fill
from bench.system import SECRET, System, system
from bench.worker import TOOLS

__all__ = ["Profile", "sample"]

RATE = 250
PY_SPY = Path(sys.executable).with_name("py-spy")
#: Enough that it is not done before its time is over, at 10,000 a second.
BACKLOG_A_SECOND = 10_000
ROWS = 25
OURS = ("agents/", "app/", "codecs/", "tables/")


class Profile:
    """Samples by function, in shares of all of them."""

    def __init__(self, raw: str) -> None:
        """``raw``: py-spy's format of that name, a line ``frame;frame;… count`` a stack."""
        self.own: Counter[str] = Counter()
        self.total: Counter[str] = Counter()
        self.count = 0
        #: Frames, the outermost first, and how often they were seen.
        self.stacks: list[tuple[list[str], int]] = []
        for line in raw.splitlines():
            stack, _, times = line.rpartition(" ")
            frames = [_named(frame) for frame in stack.split(";")]
            self.count += int(times)
            self.stacks.append((frames, int(times)))
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
    # py-spy leaves out what sys.path has of a path
    ours = f"/{path}".rpartition("/hookstream/")[2]
    shown = path.split("/")[-2:] if ours == f"/{path}" else [ours]
    return f"`{name}` {'/'.join(shown)}"


def sample(pid: int, seconds: float) -> Profile:
    """Watch a process for so long.

    Raises:
        subprocess.CalledProcessError: py-spy may not look (it needs ptrace of that process).
    """
    with TemporaryDirectory() as folder:
        out = Path(folder) / "raw"
        subprocess.run(
            [str(PY_SPY), "record", "--pid", str(pid), "--duration", str(max(1, round(seconds))),
             "--rate", str(RATE), "--format", "raw", "--output", str(out)],
            check=True,
            capture_output=True,
        )  # fmt: skip
        return Profile(out.read_text())


async def of_worker(running: System, seconds: float) -> Profile:
    """A worker on a backlog of GitHub events."""
    running.launch("receiver")
    tools = await running.tools(TOOLS)
    dictionaries = await running.train(tools)
    entries = Entries(running.partitions, dictionaries)
    async with running.client() as client:
        await running.append(client, entries.make(tools, int(BACKLOG_A_SECOND * seconds)))
        worker = await asyncio.to_thread(running.launch, "worker")
        await running.until(lambda: running.delivered(client), 2000, "updates")
    return await asyncio.to_thread(sample, worker.pid, seconds)


def of_receiver(running: System, seconds: float) -> Profile:
    """A receiver of signed GitHub webhooks."""
    receiver = running.launch("receiver")
    asyncio.run(prepare(running, trained=True))
    target = Target(running.port, ["signed"], SECRET, 32)
    with beside() as post, ThreadPoolExecutor(1) as pool:
        one(post, receiver, target, 1.0)
        load = pool.submit(one, post, receiver, target, seconds + 1)
        found = sample(receiver.pid, seconds)
        load.result()
    return found


def both(seconds: float) -> Iterator[str]:
    """A table each, with its heading."""
    for name in ("receiver", "worker"):
        progress(f"the {name}, for {seconds:g} s")
        with system() as running:
            if name == "receiver":
                found = of_receiver(running, seconds)
            else:
                found = asyncio.run(of_worker(running, seconds))
        yield f"### The {name}\n\n{found.table(ROWS)}"


def main() -> None:
    """Read the command line, sample, print or write."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("--pid", type=int, help="a process that runs, instead of both of ours")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--write", action="store_true", help="fill in docs/performance.md")
    given = parser.parse_args()
    if given.pid:
        sys.stdout.write(sample(given.pid, given.seconds).table(ROWS) + "\n")
        return
    text = "\n\n".join(both(given.seconds))
    sys.stdout.write(text + "\n")
    if given.write:
        fill("profile", text)


if __name__ == "__main__":
    main()
