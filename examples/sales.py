"""Stream channels of one's own: sales out of webhooks, priced one by one, booked in batches."""

import os
from pathlib import Path

from hookstream import Event, app

BOOKS = Path(os.environ.get("BOOKS", "."))

sales = app.stream_channel("sales", codec="json")
priced = app.stream_channel("priced", codec="json")


@app.stage(after="dedupe")
async def collect(event: Event) -> Event | None:
    """Every sale goes to a channel of its own, beside its event's way to contexts."""
    for sale in (event.data() or {}).get("sales", []):
        await sales.send(key=sale["customer"], value=sale)
    return event


@app.agent(sales)
async def price(stream):
    """One at a time: a sale is done when the next one is asked for."""
    async for sale in stream:
        stream.send(priced, {**sale, "total": sum(sale["prices"])})


@app.batches(priced)
async def book(batch):
    """A batch at a time: it is done when the function returns. What comes again changes nothing."""
    for sale in batch.values():
        (BOOKS / str(sale["number"])).write_text(str(sale["total"]))
