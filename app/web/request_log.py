"""A line a request and an id for each; of what is no request only that it came.

What clients send is not logged: paths are those of routes, and of a header nothing is kept.
"""

import logging
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import server_logger
from mode.utils.logging import get_logger
from structlog.contextvars import bind_contextvars

from hookstream.app import metrics
from hookstream.app.ids import random_bits
from hookstream.app.providers import Answer
from hookstream.app.web.malformed import Fault, fault_of
from hookstream.app.web.sender import sender_of

__all__ = [
    "DOOR",
    "REQUEST_ID",
    "Door",
    "ServerLog",
    "begin",
    "id_of",
    "is_verbose",
    "log_request",
    "log_requests",
    "request_id_of",
    "route_of",
]

logger = get_logger(__name__)

REQUEST_ID = "X-Request-Id"
_REQUEST_ID_KEY: web.RequestKey[str] = web.RequestKey("request_id", str)
_BEGUN_KEY: web.RequestKey[float] = web.RequestKey("begun", float)
#: Of an answer that has begun: who goes away then has had it.
_STATUS_KEY: web.RequestKey[int] = web.RequestKey("status", int)
#: What may come from a client into the log and back.
_harmless_id = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch
#: As nginx has it: the client went away before its answer.
CLIENT_CLOSED = 499


class Door(Protocol):
    """Who takes webhooks, keeps those that are refused, and hears of what never comes so far."""

    async def take(self, request: web.Request, tool_id: str) -> tuple[Answer, str]:
        """Take one of a tool: its answer, and the event's id; "" where it became none."""

    def malformed(self, fault: Fault, address: str) -> None:
        """What came from ``address`` was no request."""

    def missed(self, request: web.Request, status: int, detail: str) -> None:
        """A request below ``/hooks`` that is for no route."""


#: Of an application that takes webhooks.
DOOR: web.AppKey[Door] = web.AppKey("door", Door)


class ServerLog(logging.LoggerAdapter[logging.Logger]):
    """aiohttp's log, in which malformed requests are a count and a line without their bytes.

    Its own lines have a traceback with the beginning of what could not be read.
    """

    def __init__(self, web_app: web.Application) -> None:
        super().__init__(server_logger)
        self._web_app = web_app

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
        door = self._web_app.get(DOOR)
        if door is not None and isinstance(error, HttpProcessingError):
            door.malformed(fault_of(error), str(args[0]) if args else "")


def log_requests(web_app: web.Application) -> None:
    """Give each request its id, and have a line of each; before all other middlewares."""
    web_app.middlewares.append(log_request)
    web_app.on_response_prepare.append(_answer_id)


def route_of(request: web.Request) -> tuple[str, str]:
    """Method and route of a request, with the names of what stands in its path.

    ``POST``, ``/hooks/{tool_id}``; "(none)" where there is no such route, and "other" for methods
    that HTTP does not have.
    """
    resource = request.match_info.route.resource
    method = request.method if request.method in hdrs.METH_ALL else "other"
    return method, resource.canonical if resource is not None else "(none)"


def begin(request: web.Request) -> str:
    """Give a request its id, which is returned, unless it has one."""
    request_id = request_id_of(request.headers.get(REQUEST_ID, ""))
    request[_REQUEST_ID_KEY] = request_id
    request[_BEGUN_KEY] = time.perf_counter()
    # each request is a task, which takes it along
    bind_contextvars(request_id=request_id)
    return request_id


def request_id_of(given: str) -> str:
    """The id of a request that came with ``given`` for one, if it did."""
    return given if given and _harmless_id(given) else f"{random_bits():016x}"


def id_of(request: web.Request) -> str:
    """The id that a request was given; "" for one that has not begun."""
    known: str = request.get(_REQUEST_ID_KEY, "")
    return known


def is_verbose() -> bool:
    """Whether requests that went well are lines of the log, too."""
    return bool(logger.isEnabledFor(logging.DEBUG))


@web.middleware
async def log_request(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Have a line of a request, which begins here unless it has begun (:func:`begin`)."""
    if _BEGUN_KEY not in request:
        begin(request)
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
            _log(level, request, status, time.perf_counter() - request[_BEGUN_KEY])


def _log(level: int, request: web.Request, status: int, seconds: float) -> None:
    method, route = route_of(request)
    fields = {
        "method": method,
        "route": route,
        "status": status,
        "duration_ms": round(seconds * 1000, 1),
        "remote": sender_of(request).address,
    }
    logger.log(level, "%s %s %d", method, route, status, extra=fields)


async def _answer_id(request: web.Request, response: web.StreamResponse) -> None:
    request[_STATUS_KEY] = response.status
    if request_id := request.get(_REQUEST_ID_KEY):
        response.headers[REQUEST_ID] = request_id
