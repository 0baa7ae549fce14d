"""How many events of each tool come a minute: a table, a page, and a metric of its own."""

from typing import Any

from prometheus_client import Gauge

from hookstream import Event, app

per_tool = app.Table("per_tool", default=int, help="Events by tool and minute").tumbling(
    60.0, expires=3600.0
)

LAST_MINUTE = Gauge("my_project_events_last_minute", "Events of the last whole minute", ["tool"])


@app.stage(after="dedupe")
async def count(event: Event) -> Event | None:
    """Counts what is no duplicate, by the minute in which it was received."""
    per_tool[event.tool_id] += 1
    return event


def of_minute(ago: int = 0) -> dict[str, int]:
    """Events by tool, of this minute or of one before, in this worker's partitions."""
    found: dict[str, int] = {}
    for tool_id, number in per_tool.items(delta=60 * ago):
        # a tool whose events are spread over partitions has a count in each
        found[tool_id] = found.get(tool_id, 0) + number
    return found


@app.page("/counts")
async def counts(page: Any, request: Any) -> Any:
    """For the admin key, at the worker: this minute and the one before."""
    return page.json({"this_minute": of_minute(), "last_minute": of_minute(1)})


def tell() -> None:
    """Set what ``/metrics`` says to what is committed."""
    LAST_MINUTE.clear()
    for tool_id, number in of_minute(1).items():
        LAST_MINUTE.labels(tool=tool_id).set(number)


@app.timer(5.0)
async def tells() -> None:
    """Runs in workers, where tables are."""
    tell()
