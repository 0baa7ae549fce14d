"""One client's connection: aiohttp's, with bounds and answers of our own.

What is no request, or too long, is answered by a problem document, and that stays readable: what
the client still sends is taken and dropped for a moment, for a closed socket would reset it.
"""

import asyncio
from functools import partial
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo
from aiohttp.web_request import BaseRequest

from hookstream.app.web.browsers import HARDENED
from hookstream.app.web.expectations import waiting_request
from hookstream.app.web.malformed import MAX_HEAD_BYTES, HeadTooLongError, fault_of
from hookstream.app.web.problem import problem

__all__ = ["Runner"]


class Runner(web.AppRunner):
    """Serves an application over connections of this kind."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            request_factory=partial(waiting_request, made.request_factory),
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


class Connection(RequestHandler):
    """Bounds the head of a request, and answers what cannot be read."""

    __slots__ = ("_body", "_drains", "_ended", "_head_bytes", "_seen")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Of the last request that is known.
        self._body: StreamReader = EMPTY_PAYLOAD
        self._seen = 0
        #: What has come of a head that has no end yet.
        self._head_bytes = 0
        #: Nothing is read any more: what comes is dropped.
        self._drains = False
        self._ended: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        """What has come; all that is behind something malformed is dropped."""
        if self._drains:
            return
        before, between = self._body, self._body.is_eof()
        super().data_received(data)
        much = self._head_bytes + len(data) > MAX_HEAD_BYTES
        if self._request_count != self._seen:
            new = self._request_count - self._seen
            self._seen, self._head_bytes = self._request_count, 0
            if self._messages:
                message, self._body = self._messages[-1]
                self._drains = isinstance(message, _ErrInfo)
            if self._drains and not before.is_eof():
                # whoever reads it would wait for its end until its time is over
                before.set_exception(web.RequestPayloadError("the body is malformed"))
            if much and any(_is_long(message) for message, _ in list(self._messages)[-new:]):
                self._refuse(new)
        elif between and not self._upgraded and self._payload_parser is None:
            self._head_bytes += len(data)
            if much:
                self._refuse(0)

    def _refuse(self, new: int) -> None:
        """Answer the last ``new`` requests, or one that has not come whole, by what is wrong.

        A client that sends several such at once is told so once.
        """
        self._drains = True
        for _ in range(min(new, len(self._messages))):
            self._messages.pop()
        self._request_count += 1
        self._seen = self._request_count
        error = _ErrInfo(status=400, exc=HeadTooLongError("too long"), message="")
        self._messages.append((error, EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what could not be read; other errors are aiohttp's."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        self.log_exception("Error handling request from %s", request.remote, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        fault = fault_of(exc)
        response = problem(fault.status, fault.slug, fault.title, fault.detail)
        response.headers.update(HARDENED)
        response.headers[hdrs.CONNECTION] = "close"
        response.force_close()
        return response

    async def finish_response(
        self, request: BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; the last one is left for the client to read."""
        sent = await super().finish_response(request, resp, start_time)
        if self._drains and not self._messages:
            await self._drain()
        return sent

    async def _drain(self) -> None:
        """Take what comes until the client closes, or for the lingering time."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if transport.can_write_eof():
            transport.write_eof()
        self._ended = self._loop.create_future()
        await asyncio.wait([self._ended], timeout=self._lingering_time)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The end, for whichever reason."""
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
        super().connection_lost(exc)


def _is_long(message: RawRequestMessage | _ErrInfo) -> bool:
    if isinstance(message, _ErrInfo):
        return False
    # a header has a colon, a space and a line's end
    size = sum(len(name) + len(value) + 4 for name, value in message.raw_headers)
    return size > MAX_HEAD_BYTES
