"""A stage: copy this file into ``agents/``, and every event passes it. Nothing else is edited."""

from dataclasses import replace

from hookstream import Event, app


@app.stage(after="dedupe")
async def label_urgent(event: Event) -> Event | None:
    """Marks what mentions an outage, so that a subscription can ask for it by header."""
    if b"outage" not in event.payload.lower():
        return event
    return replace(event, headers={**event.headers, "x-urgent": "yes"})
