"""What MCP requests have in common: whose they are, what they name, and how they fail."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mode.utils.logging import get_logger

from hookstream.app.errors import HookstreamError, NotFoundError, UnavailableError
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.web.access import Caller
from hookstream.app.web.models.fields import ID_PATTERN

__all__ = [
    "CONTEXT_URI",
    "EVENT_URI",
    "UPDATES_URI",
    "Context",
    "as_mcp_errors",
    "caller_of",
    "split_context_uri",
]

logger = get_logger(__name__)

CONTEXT_URI = "hookstream://contexts/{context_id}"
UPDATES_URI = "hookstream://contexts/{context_id}/updates/{after}"
EVENT_URI = "hookstream://events/{event_id}"
_CONTEXT = re.compile(r"hookstream://contexts/([^/]+)(?:/updates/(\d{1,16}))?")
Context = ServerRequestContext[Any, Any]


def caller_of(ctx: Context) -> Caller:
    """Whose key the HTTP request of a message came with."""
    assert ctx.request is not None
    caller = ctx.request.scope["caller"]
    assert isinstance(caller, Caller)
    return caller


def split_context_uri(uri: str) -> tuple[str, int | None]:
    """Context id and number in a URI. Raises NotFoundError for any other one."""
    found = _CONTEXT.fullmatch(uri)
    if not found or not re.fullmatch(ID_PATTERN, found[1]):
        raise NotFoundError(
            f"no such resource; there are {CONTEXT_URI}, {UPDATES_URI}, {EVENT_URI}"
        )
    return found[1], int(found[2]) if found[2] else None


@contextmanager
def as_mcp_errors() -> Iterator[None]:
    """Our errors, and whatever Redis answers, as those of the protocol."""
    try:
        yield
    except (*REDIS_ERRORS, UnavailableError) as error:
        raise MCPError(types.INTERNAL_ERROR, "not available at the moment: try again") from error
    except HookstreamError as error:
        raise MCPError(types.INVALID_PARAMS, str(error)) from error
    except MCPError:
        raise
    except Exception as error:
        # the SDK would tell the client what it says
        logger.exception("an MCP request failed")
        raise MCPError(types.INTERNAL_ERROR, "internal error: see the server's log") from error
