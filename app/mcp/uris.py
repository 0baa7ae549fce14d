"""How the resources of a context are named over MCP."""

import re

from hookstream.app.errors import NotFoundError
from hookstream.app.web.models.fields import ID_PATTERN

__all__ = ["CONTEXT_URI", "EVENT_URI", "UPDATES_URI", "split_context_uri"]

CONTEXT_URI = "hookstream://contexts/{context_id}"
UPDATES_URI = "hookstream://contexts/{context_id}/updates/{after}"
EVENT_URI = "hookstream://events/{event_id}"
_CONTEXT = re.compile(r"hookstream://contexts/([^/]+)(?:/updates/(\d{1,16}))?")


def split_context_uri(uri: str) -> tuple[str, int | None]:
    """Context id and number in a URI. Raises NotFoundError for any other one."""
    found = _CONTEXT.fullmatch(uri)
    if not found or not re.fullmatch(ID_PATTERN, found[1]):
        raise NotFoundError(
            f"no such resource; there are {CONTEXT_URI}, {UPDATES_URI}, {EVENT_URI}"
        )
    return found[1], int(found[2]) if found[2] else None
