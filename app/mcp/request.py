"""What MCP requests have in common: whose they are, and how they fail."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mode.utils.logging import get_logger

from hookstream.app.errors import HookstreamError, UnavailableError
from hookstream.app.redis.client import REDIS_ERRORS
from hookstream.app.web.access import Caller

__all__ = ["Context", "as_mcp_errors", "caller_of"]

logger = get_logger(__name__)

Context = ServerRequestContext[Any, Any]


def caller_of(ctx: Context) -> Caller:
    """Whose key the HTTP request of a message came with."""
    assert ctx.request is not None
    caller = ctx.request.scope["caller"]
    assert isinstance(caller, Caller)
    return caller


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
