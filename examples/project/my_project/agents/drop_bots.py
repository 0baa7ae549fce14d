"""Drops what bots did. Runs before what costs something: `drop_bots` comes before `enrich`."""

from hookstream import Event, stage
from my_project.people import login_of


@stage(after="dedupe")
async def drop_bots(event: Event) -> Event | None:
    """Dropped events stay on record, as `unrouted` by this stage."""
    return None if login_of(event).endswith("[bot]") else event
