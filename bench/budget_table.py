"""The budget as a table: a line a part or stage, two columns a rate."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from bench.measure import shown

__all__ = ["ALL", "budget_rows", "markdown"]

#: The line of all parts together.
ALL = "all of ours"


def budget_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """One table: a line a part or stage, a column and its floor a rate."""
    values = {row["what"]: row["median"] for row in rows}
    suffix = f" at {columns[0]}"
    named = [what.removesuffix(suffix) for what in values if what.endswith(suffix)]
    order: dict[str, list[str]] = defaultdict(list)
    for line in named:
        order[line.partition(":")[0]].append(line)
    # all of it last
    order[ALL] = order.pop(ALL, [])
    lines = [
        f"| µs of CPU an event | {' | '.join(f'{column} | floor' for column in columns)} |",
        f"| --- |{' ---: |' * (2 * len(columns))}",
    ]

    def cell(what: str) -> str:
        return shown(round(values[what], 1)) if what in values else ""

    for part, members in order.items():
        for line in members:
            name = f"**{line}**" if line == part else line.partition(": ")[2]
            cells = (
                cell(f"{line} at {column}{mark}") for column in columns for mark in ("", ", floor")
            )
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def markdown(found: Mapping[str, Any]) -> str:
    """The table of a kept result, and how it was made."""
    on = found["machine"]
    return "\n".join(
        [
            *budget_rows(found["rows"], found["facts"]["columns"]),
            "",
            f"{found['method']} {found['date']}, {on['cores']} cores ({on['processor']}), Python "
            f"{on['python']}.",
        ]
    )
