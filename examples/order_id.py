"""A dedup function: copy this file into ``agents/``, and tools may ask for it by its name."""

from hookstream import Event, app


@app.dedup("order_id")
def order_id(event: Event) -> str | None:
    """Two webhooks about the same state of one order are the same, whatever else they carry."""
    data = event.data()
    if not isinstance(data, dict) or "order" not in data:
        return None
    return f"{data['order']['id']}:{data['order']['status']}"
