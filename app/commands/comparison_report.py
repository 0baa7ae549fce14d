"""The comparison of old workers and Hookstream, for people: Markdown that a terminal shows, too."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["merged", "report"]

KINDS: Final = {
    "neither": "Done by nobody",
    "only-old": "Only old workers",
    "only-ours": "Only Hookstream",
    "contexts": "Other contexts",
    "order": "Another order",
    "old-twice": "Done twice by old workers",
}
#: Columns of the table of hours: what stands above them, and fields of an hour.
COUNTS: Final = (
    ("events", ("events",)),
    ("both", ("both",)),
    ("only old", ("only_old",)),
    ("only ours", ("only_ours",)),
    ("nobody", ("neither",)),
    ("one alone", ("old_alone", "ours_alone")),
    ("no context", ("nobody",)),
    ("on their way", ("under_way",)),
    ("not reported", ("not_reported",)),
    ("same contexts", ("contexts_equal",)),
    ("other", ("contexts_other",)),
    ("not said", ("contexts_unknown",)),
    ("out of order", ("out_of_order",)),
    ("twice", ("old_twice",)),
)
PAIRS: Final = (
    ("p50", "p50_{}_ms"),
    ("p99", "p99_{}_ms"),
    ("errors", "errors_{}"),
    ("USD a million", "cost_{}"),
)


def merged(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Answers that follow each other as one; each has whole hours."""
    causes: dict[tuple[str, str], dict[str, Any]] = {}
    for answer in answers:
        for one in answer["causes"]:
            known = causes.setdefault(
                (one["kind"], one["cause"]), {**one, "count": 0, "events": []}
            )
            known["count"] += one["count"]
            known["events"] += one["events"]
    hours = [hour for answer in answers for hour in answer["hours"]]
    return {
        **answers[-1],
        "since": answers[0]["since"],
        "hours": sorted(hours, key=lambda hour: str(hour["hour"])),
        "causes": sorted(causes.values(), key=lambda one: -one["count"]),
    }


def report(found: Mapping[str, Any]) -> str:
    """A comparison as Markdown."""
    hours = found["hours"]
    lines = [
        f"# {found['tool_id']}: old workers and Hookstream",
        "",
        f"Events received from {_moment(found['since'])} to {_moment(found['until'])} (UTC), mode "
        f"`{found['mode'] or 'none'}`. Latencies in ms from the receipt of an event, costs for a "
        "million events: see docs/migration.md.",
    ]
    if not hours:
        return "\n".join([*lines, "", "There were none."])
    lines += ["", "## By hour", "", *_table(*_counts(hours))]
    lines += [
        "",
        "Old workers / Hookstream:",
        "",
        *_table(*_sides(hours)),
        "",
        "## Differences",
        "",
    ]
    if not found["causes"]:
        lines.append("None.")
    for kind, title in KINDS.items():
        causes = [one for one in found["causes"] if one["kind"] == kind]
        for one in causes:
            lines += [f"- **{title}**, {one['count']:,}: {one['cause']}"]
            lines += [f"  - {_example(event)}" for event in one["events"]]
            if more := one["count"] - len(one["events"]):
                lines.append(f"  - … and {more:,} more (`--limit`)")
    return "\n".join(lines)


def _counts(hours: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    rows = [
        [
            _moment(hour["hour"])[:16],
            *(str(sum(hour[name] for name in names)) for _, names in COUNTS),
        ]
        for hour in hours
    ]
    total = [str(sum(hour[name] for hour in hours for name in names)) for _, names in COUNTS]
    return ["hour", *(title for title, _ in COUNTS)], [*rows, ["all", *total]]


def _sides(hours: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    rows = [
        [
            _moment(hour["hour"])[:16],
            *(
                f"{_said(hour[name.format('old')])} / {_said(hour[name.format('ours')])}"
                for _, name in PAIRS
            ),
        ]
        for hour in hours
    ]
    return ["hour", *(title for title, _ in PAIRS)], rows


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown whose columns stand below each other."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *rest = (
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join([first, *rest])} |"

    rule = ["-" * width if not at else "-" * (width - 1) + ":" for at, width in enumerate(widths)]
    return [line(head), line(rule), *map(line, rows)]


def _said(value: float | None) -> str:
    return "–" if value is None else f"{value:,}"


def _moment(text: str) -> str:
    return text[:19].replace("T", " ")


def _example(event: Mapping[str, Any]) -> str:
    said = [f"`{event['event_id']}`"]
    if other := event.get("other"):
        said.append(f"and `{other}`")
    for name in ("missing", "additional"):
        if contexts := event.get(name):
            said.append(f"{name} here: {', '.join(f'`{one}`' for one in contexts)}")
    return " ".join(said)
