"""What Hookstream wants to reach on two cores, beside what was measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["markdown"]

Results = Mapping[str, Mapping[str, Any]]
Figure = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure with its floor and its aim, and the rows (benchmark, figure, unit) it is the sum of.

    ``limit`` says what stands in the way of more: it is to be kept true by whoever measures anew.
    """

    what: str
    floor: float
    aim: float
    rows: tuple[tuple[str, str, str], ...]
    limit: str
    less_is_better: bool = False

    def measured(self, results: Results) -> Figure | None:
        """Median, lowest and highest; None where something was not measured."""
        found = [_row(results, *row) for row in self.rows]
        sums = zip(*(row for row in found if row), strict=True)
        return tuple(map(sum, sums)) if all(found) else None  # type: ignore[return-value]

    def verdict(self, value: float) -> str:
        """Whether the median reaches the aim, the floor, or neither."""
        for goal, word in ((self.aim, "aim reached"), (self.floor, "reached")):
            if value <= goal if self.less_is_better else value >= goal:
                return word
        return "**not reached**"


GOALS = (
    Goal(
        "receiver to bare aiohttp, signed",
        0.5,
        0.7,
        (("ingest", "receiver, signed, share of bare", "ratio"),),
        "a quarter is aiohttp itself; envelope 16 % (compression 6 of it), looking into the body "
        "8 %, signature 7 %, appending 6 %, the rest spread over ids, headers and the answer "
        "(profile below)",
    ),
    Goal(
        "worker to FastStream, one by one, empty handler",
        5,
        10,
        (("worker", "worker to FastStream, one by one", "ratio"),),
        "summaries over a third (of all: tokens 9 %, parsing 8, then template, facts and keys), "
        "reading entries 15 %, commits 9 %, the rest spread over the event log, scripts and Faust "
        "(profile below)",
    ),
    Goal(
        "CPU time an event, receiver and worker, µs",
        120,
        70,
        (
            ("ingest", "receiver, signed", "µs of CPU a request"),
            ("worker", "worker", "µs of CPU an event"),
        ),
        "as above; no single function has a tenth of it",
        less_is_better=True,
    ),
    Goal(
        "sustained for 60 s, nothing lost, events/s",
        6000,
        10_000,
        (("end-to-end", "sustained for 60 s", "events/s"),),
        "both cores are full: at 2,000/s an event takes 331 µs in the receiver, 319 in the worker, "
        "107 in Redis, 116 in PostgreSQL, 68 in load and clients, and most of a lone request's are "
        "system calls that wake another process",
    ),
    Goal(
        "p99 from webhook to client at 2,000/s, ms",
        50,
        15,
        (("end-to-end", "latency at 2000/s, p99", "ms"),),
        "three quarters of what is sustained, and nine tenths of both cores: what is pending of a "
        "partition waits for its batch in flight, and a hiccup (training, a checkpoint) queues",
        less_is_better=True,
    ),
    Goal(
        "dedup at 50 million keys to 10 thousand, CPU an event",
        1.5,
        1.1,
        (("growth", "dedup, 50 million keys to 10 thousand", "ratio"),),
        "19.9 µs to 6.6: ten thousand keys lie in the processor's caches, 50 million (4.8 GB) in "
        "the kernel's; filters and blocks of four levels are looked at in memory that is not near "
        "(`hookstream bench growth --full`)",
        less_is_better=True,
    ),
)


def _row(results: Results, bench: str, what: str, unit: str) -> Figure | None:
    for row in results.get(bench, {}).get("rows", ()):
        if (row["what"], row["unit"]) == (what, unit):
            return row["median"], row["low"], row["high"]
    return None


def markdown(results: Results) -> str:
    """The goals as a table."""
    lines = [
        "### Goals",
        "",
        "On two cores that all parts and the load share. Sums have the sums of their spreads.",
        "",
        "| figure | at least | aim | measured | lowest | highest | | what limits it |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for goal in GOALS:
        found = goal.measured(results)
        figures = [f"{value:,.4g}" for value in found] if found else ["", "", ""]
        word = goal.verdict(found[0]) if found else "not measured"
        cells = [goal.what, f"{goal.floor:,g}", f"{goal.aim:,g}", *figures, word, goal.limit]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
