"""An ASGI application behind an aiohttp view: the SDK speaks the one, this project the other."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from hookstream.app.web.sender import sender_of

__all__ = ["serve_asgi"]

Message = MutableMapping[str, Any]
Asgi = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]


async def serve_asgi(
    asgi: Asgi,
    request: web.Request,
    body: bytes,
    *,
    write_seconds: float,
    begun: Callable[[], object],
    **extra: Any,
) -> web.StreamResponse:
    """Answer ``request``, whose body has been read, by ``asgi``; ``extra`` goes into its scope.

    A client that goes away cancels the view, and the application with it; so does one that does not
    take what is written within ``write_seconds``. ``begun`` is called when the response has begun.
    """
    left = [body]
    response: web.StreamResponse | None = None

    async def receive() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        await asyncio.get_running_loop().create_future()  # a disconnect is a cancellation here
        raise AssertionError

    async def send(message: Message) -> None:
        nonlocal response
        if message["type"] == "http.response.start":
            headers = CIMultiDict(
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in message.get("headers", ())
            )
            response = web.StreamResponse(status=message["status"], headers=headers)
            await response.prepare(request)
            begun()
            return
        assert response is not None
        # what is told to a client that has gone is nobody's error
        with contextlib.suppress(ConnectionResetError):
            try:
                async with asyncio.timeout(write_seconds):
                    if chunk := message.get("body"):
                        await response.write(chunk)
                    if not message.get("more_body", False):
                        await response.write_eof()
            except TimeoutError:
                if request.transport is not None:
                    request.transport.abort()

    sender = sender_of(request)
    await asgi(
        {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": sender.scheme,
            "path": request.path,
            "raw_path": request.raw_path.partition("?")[0].encode(),
            "query_string": request.query_string.encode(),
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in request.raw_headers],
            "client": (sender.address, 0),
            "server": None,
            **extra,
        },
        receive,
        send,
    )
    assert response is not None
    return response
