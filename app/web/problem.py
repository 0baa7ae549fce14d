"""Errors as RFC 9457 ``application/problem+json``, for every route alike."""

import math
from asyncio import CancelledError
from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web
from mode.utils.logging import get_logger

from hookstream.app import tasks
from hookstream.app.errors import (
    ContentEncodingError,
    HookstreamError,
    LimitError,
    UnavailableKeyError,
)
from hookstream.app.redis.errors import REDIS_ERRORS, as_unavailable, is_redis_down
from hookstream.app.web.body import ENCODINGS
from hookstream.app.web.request_log import DOOR, route_of
from hookstream.codecs.json_payload import dump_json

__all__ = ["TYPE_PREFIX", "Handler", "json_response", "problem", "problem_response", "problems"]

logger = get_logger(__name__)

TYPE_PREFIX = "https://hookstream.dev/problems/"
RETRY_AFTER_SECONDS = "5"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def json_response(value: object, *, status: int = 200) -> web.Response:
    """A JSON response."""
    return web.Response(body=dump_json(value), status=status, content_type="application/json")


def problem(status: int, slug: str, title: str, detail: str) -> web.Response:
    """A problem document with a stable ``type``."""
    body = {"type": TYPE_PREFIX + slug, "title": title, "status": status, "detail": detail}
    response = web.Response(
        body=orjson.dumps(body), status=status, content_type="application/problem+json"
    )
    if status in (429, 503):
        response.headers["Retry-After"] = RETRY_AFTER_SECONDS
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def problem_response(error: HookstreamError) -> web.Response:
    """What one of our own errors says to a client."""
    if error.status >= 500 and error.status != 503:
        return problem(error.status, error.slug, error.title, "see the server's log")
    response = problem(error.status, error.slug, error.title, str(error))
    if isinstance(error, LimitError) and error.retry_after_seconds is not None:
        # whole seconds, and never too few
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_seconds)))
    if isinstance(error, ContentEncodingError):
        # RFC 9110, 15.5.16: what would have been taken
        response.headers["Accept-Encoding"] = ", ".join(ENCODINGS)
    return response


def _is_gone(request: web.Request) -> bool:
    """Whether the client has dropped its connection: what waits for it is cancelled, then."""
    return request.transport is None or request.transport.is_closing() is True


def _is_for_hooks(request: web.Request) -> bool:
    return request.path == "/hooks" or request.path.startswith("/hooks/")


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into a problem document; what is not ours is logged, and told to nobody."""
    try:
        return await handler(request)
    except HookstreamError as error:
        if error.status >= 500 and not isinstance(error, UnavailableKeyError):
            logger.warning("%s %s: %s", *route_of(request), error)
        return problem_response(error)
    except REDIS_ERRORS as error:
        if not is_redis_down(error):
            logger.exception("%s %s failed", *route_of(request))
            return problem(500, "internal", "Internal error", "see the server's log")
        logger.warning("%s %s: Redis: %s", *route_of(request), error)
        return problem_response(as_unavailable(error))
    except web.HTTPException as error:
        if error.status < 400:
            raise
        detail = f"{request.method} {request.path[:200]}: {error.reason}"
        if request.match_info.http_exception is not None and _is_for_hooks(request):
            detail = f"{detail}. A webhook is sent by POST to /hooks/TOOL, with nothing behind it"
            if (door := request.app.get(DOOR)) is not None:
                door.missed(request, error.status, detail)
        response = problem(
            error.status, error.reason.lower().replace(" ", "-"), error.reason, detail
        )
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response
    except ConnectionError:
        # the client has gone: nobody hears an answer
        logger.debug("%s %s: the client has gone", *route_of(request))
        return problem(499, "client-closed-request", "Client closed request", "nobody hears this")
    except BaseException as error:
        # also what a page of a stage may end with, such as sys.exit()
        if tasks.ends_task(error) or (isinstance(error, CancelledError) and _is_gone(request)):
            raise
        logger.exception("%s %s failed", *route_of(request))
        return problem(500, "internal", "Internal error", "see the server's log")
