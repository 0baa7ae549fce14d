"""What Hookstream wants to reach on two cores, beside what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["markdown", "of_tiers"]

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


CPU = "µs of CPU an event"
AT_2000 = ("receiver", "worker", "Redis", "PostgreSQL")

GOALS = (
    Goal(
        "bare aiohttp to receiver, signed, CPU a request",
        0.42,
        0.5,
        (("ingest", "CPU of bare to receiver, signed", "ratio"),),
        "what is left is what nobody can leave out (compression 11 % of samples, HTTP parser 8, "
        "HMAC 8, hash 6, event loop 7, Redis 6) and Python between it, no piece of which has 3 "
        "%",
    ),
    Goal(
        "receiver with its WebSockets at 2,000/s, µs an event",
        230,
        180,
        (("end-to-end", "receiver", CPU),),
        "envelope and packing 23 %, the route 23, HTTP 13, looking into the body 11, HMAC 9, "
        "appends 6, feeds to clients 6: a request is still one pass of Python",
        less_is_better=True,
    ),
    Goal(
        "worker at 2,000/s, µs an event",
        170,
        110,
        (("end-to-end", "worker", CPU),),
        "payloads unpacked and parsed 27 %, masking 15, client of Redis 12, reading 12, event log "
        "7, delivery 6, dedup 5, commits 5, rendering 4",
        less_is_better=True,
    ),
    Goal(
        "worker on a backlog, µs an event",
        150,
        90,
        (("worker", "worker", CPU),),
        "masking and parsing, once an event each, are 38 %; reading 19, client of Redis 14; no "
        "other stage has a tenth",
        less_is_better=True,
    ),
    Goal(
        "Redis at 2,000/s, µs an event",
        55,
        40,
        (("end-to-end", "Redis", CPU),),
        "scripts by partition, 3.5 an event at 500/s; reads of feeds by the receiver are in it",
        less_is_better=True,
    ),
    Goal(
        "PostgreSQL at 2,000/s, µs an event",
        20,
        12,
        (("end-to-end", "PostgreSQL", CPU),),
        "one row and its indexes; `events_by_message` is half of it in large tables",
        less_is_better=True,
    ),
    Goal(
        "all of ours at 2,000/s, µs an event",
        475,
        340,
        tuple(("end-to-end", part, CPU) for part in AT_2000),
        "as above",
        less_is_better=True,
    ),
    Goal(
        "all of ours at 500/s, µs an event",
        1200,
        600,
        (("budget", "all of ours at 500/s", CPU),),
        "batches have 1.1 events, and each costs nearly what one of several does: client of "
        "Redis, reading, and wake-ups of both processes are a third",
        less_is_better=True,
    ),
    Goal(
        "sustained for 60 s, nothing lost, events/s",
        4500,
        6000,
        (("end-to-end", "sustained for 60 s", "events/s"),),
        "both cores are full",
    ),
    Goal(
        "p50 from webhook to client at 2,000/s, ms",
        25,
        10,
        (("end-to-end", "latency at 2000/s, p50", "ms"),),
        "both cores are nearly full at 2,000/s, load and clients among what fills them",
        less_is_better=True,
    ),
    Goal(
        "p99 from webhook to client at 2,000/s, ms",
        60,
        25,
        (("end-to-end", "latency at 2000/s, p99", "ms"),),
        "as above: a hiccup (training, a checkpoint) queues",
        less_is_better=True,
    ),
    Goal(
        "worker to FastStream's empty handler, one by one",
        1.5,
        2.5,
        (("worker", "worker to FastStream, one by one", "ratio"),),
        "as the worker on a backlog",
    ),
    Goal(
        "four contexts an event to one, worker's CPU",
        1.25,
        1.15,
        (("worker", "worker, 4 contexts an event, to one", "ratio"),),
        "an update more is a fixed part of an entry, a feed's write and a row of deliveries, "
        "100 µs; rendering, which is once an event now, was the smaller part",
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


TIERS = (
    Goal(
        "Redis's growth an hour in the last two thirds of the soak, %",
        2,
        0,
        (("soak", "Redis grows", "% an hour"),),
        "what is kept for its time grows until that is over",
        less_is_better=True,
    ),
    Goal(
        "p99 of the soak, last part to first",
        1.5,
        1.1,
        (("soak", "latency p99, last part to first", "ratio"),),
        "rewrites of Redis's file",
        less_is_better=True,
    ),
    Goal(
        "bytes of an event that is hot",
        900,
        700,
        (("lifecycle", "bytes hot", "bytes an event"),),
        "what a payload packs to by itself with a dictionary, and headers and ids beside it, "
        "which stand in each entry",
        less_is_better=True,
    ),
    Goal(
        "bytes of an event that is warm",
        200,
        120,
        (("lifecycle", "bytes warm", "bytes an event"),),
        "blocks of 8 MiB, which is as much as is unpacked to find one event",
        less_is_better=True,
    ),
    Goal(
        "bytes of an event that is cold",
        150,
        100,
        (("lifecycle", "bytes cold", "bytes an event"),),
        "row groups of 8 MiB of payloads",
        less_is_better=True,
    ),
    Goal(
        "worker's CPU to move an event through both tiers, µs",
        40,
        20,
        (("lifecycle", "worker, through both tiers", CPU),),
        "payloads are unpacked and packed three times on the way (stream, block, object), each "
        "time compared with what was read back; protobuf and Arrow copy them",
        less_is_better=True,
    ),
    Goal(
        "payload from the archive by id over HTTP, p99, ms",
        100,
        30,
        (("lifecycle", "found cold, p99", "ms"),),
        "the footer and a row group of 8 MiB are read where nothing of them is in memory",
        less_is_better=True,
    ),
    Goal(
        "read in order from the archive, events/s",
        5_000,
        20_000,
        (("archive", "scanned", "events/s"),),
        "one thread takes rows apart",
    ),
)


def _row(results: Results, bench: str, what: str, unit: str) -> Figure | None:
    for row in results.get(bench, {}).get("rows", ()):
        if (row["what"], row["unit"]) == (what, unit):
            return row["median"], row["low"], row["high"]
    return None


def markdown(results: Results) -> str:
    """The goals as a table."""
    head = "On two cores that all parts and the load share. Sums have the sums of their spreads."
    return "\n".join(["### Goals", "", head, "", *_table(GOALS, results)])


def of_tiers(results: Results) -> str:
    """Those of the lifecycle."""
    return "\n".join(_table(TIERS, results))


def _table(goals: Sequence[Goal], results: Results) -> list[str]:
    lines = [
        "| figure | at least | aim | measured | lowest | highest | | what limits it |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for goal in goals:
        found = goal.measured(results)
        figures = [f"{value:,.4g}" for value in found] if found else ["", "", ""]
        word = goal.verdict(found[0]) if found else "not measured"
        cells = [goal.what, f"{goal.floor:,g}", f"{goal.aim:,g}", *figures, word, goal.limit]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
