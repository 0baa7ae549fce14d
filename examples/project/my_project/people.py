"""Who did something, as GitHub's webhooks and their like say it."""

from hookstream import Event


def login_of(event: Event) -> str:
    """The login of an event's sender; "" where none is named."""
    data = event.data()
    sender = data.get("sender") if isinstance(data, dict) else None
    return str(sender.get("login") or "") if isinstance(sender, dict) else ""
