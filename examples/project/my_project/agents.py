"""What this project adds to the pipeline."""

from dataclasses import replace

from hookstream import Event, dedup, stage


@stage(after="dedupe")
async def shout(event: Event) -> Event | None:
    """Marks every event, so that a subscription can ask for it by header."""
    return replace(event, headers={**event.headers, "x-my-project": "seen"})


@dedup("by_build")
def by_build(event: Event) -> str | None:
    """Two webhooks about one build are the same."""
    data = event.data()
    return str(data["build"]) if isinstance(data, dict) and "build" in data else None
