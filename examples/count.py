"""A table of one's own: events of each tool minute by minute, and a page that shows them."""

from typing import Any

from hookstream import Event, app

counts = app.Table("per_tool", default=int).tumbling(60.0, expires=3600.0)


@app.stage(after="dedupe")
async def count(event: Event) -> Event | None:
    """Counts the events of each tool, minute by minute."""
    counts[event.tool_id] += 1
    return event


@app.page("/counts")
async def page(self: Any, request: Any) -> Any:
    """This minute's, for the admin key."""
    return self.json(dict(counts.items()))
