"""When two webhooks about a build are the same."""

from hookstream import Event, dedup


@dedup("by_build")
def by_build(event: Event) -> str | None:
    """Two webhooks about one build are the same."""
    data = event.data()
    return str(data["build"]) if isinstance(data, dict) and "build" in data else None
