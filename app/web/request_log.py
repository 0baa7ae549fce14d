"""A line a request and an id for each; of what is no request only that it came.

What clients send is not logged: paths are those of routes, and of a header nothing is kept.
"""

import logging
import os
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import server_logger
from mode.utils.logging import get_logger
from structlog.contextvars import bind_contextvars

from hookstream.app import metrics

__all__ = ["log_requests", "route_of", "server_log"]

logger = get_logger(__name__)

REQUEST_ID = "X-Request-Id"
_REQUEST_ID_KEY: web.RequestKey[str] = web.RequestKey("request_id", str)
#: Of an answer that has begun: who goes away then has had it.
_STATUS_KEY: web.RequestKey[int] = web.RequestKey("status", int)
#: What may come from a client into the log and back.
_harmless_id = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch
#: As nginx has it: the client went away before its answer.
CLIENT_CLOSED = 499


class _ServerLog(logging.LoggerAdapter[logging.Logger]):
    """aiohttp's log, in which malformed requests are a count and a line without their bytes.

    Its own lines have a traceback with the beginning of what could not be read.
    """

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log what is wrong with us as it comes, and what is wrong with a client in our words."""
        error = kwargs.get("exc_info")
        if not isinstance(error, HttpProcessingError | web.RequestPayloadError):
            super().log(level, msg, *args, **kwargs)
            return
        kind = type(error).__name__
        metrics.MALFORMED_REQUESTS.labels(kind=kind).inc()
        remote = {"remote": args[0]} if args else {}
        logger.info("a malformed request was refused: %s", kind, extra=remote)


#: For aiohttp's runner.
server_log = _ServerLog(server_logger)


def log_requests(web_app: web.Application) -> None:
    """Give each request its id, and have a line of each; before all other middlewares."""
    web_app.middlewares.append(_log_request)
    web_app.on_response_prepare.append(_answer_id)


def route_of(request: web.Request) -> tuple[str, str]:
    """Method and route of a request, with the names of what stands in its path.

    ``POST``, ``/hooks/{tool_id}``; "(none)" where there is no such route, and "other" for methods
    that HTTP does not have.
    """
    resource = request.match_info.route.resource
    method = request.method if request.method in hdrs.METH_ALL else "other"
    return method, resource.canonical if resource is not None else "(none)"


@web.middleware
async def _log_request(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    given = request.headers.get(REQUEST_ID, "")
    request_id = given if _harmless_id(given) else os.urandom(8).hex()
    request[_REQUEST_ID_KEY] = request_id
    # each request is a task, which takes it along
    bind_contextvars(request_id=request_id)
    begun = time.perf_counter()
    status = 0
    try:
        response = await handler(request)
        status = response.status
        return response
    except web.HTTPException as answer:
        status = answer.status
        raise
    finally:
        status = status or request.get(_STATUS_KEY, CLIENT_CLOSED)
        level = logging.INFO if status >= 400 else logging.DEBUG
        if logger.isEnabledFor(level):
            _log(level, request, status, time.perf_counter() - begun)


def _log(level: int, request: web.Request, status: int, seconds: float) -> None:
    method, route = route_of(request)
    fields = {
        "method": method,
        "route": route,
        "status": status,
        "duration_ms": round(seconds * 1000, 1),
        "remote": request.remote,
    }
    logger.log(level, "%s %s %d", method, route, status, extra=fields)


async def _answer_id(request: web.Request, response: web.StreamResponse) -> None:
    request[_STATUS_KEY] = response.status
    if request_id := request.get(_REQUEST_ID_KEY):
        response.headers[REQUEST_ID] = request_id
