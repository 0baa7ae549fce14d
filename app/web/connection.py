"""One client's connection: aiohttp's, with bounds and answers of our own.

What is no request, or too long, is answered by a problem document, and that stays readable: what
the client still sends is taken and dropped for a moment, for a closed socket would reset it.
"""

import asyncio
from functools import partial
from typing import Any, Protocol

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
from hookstream.app.web.sender import Sender, peer_of

__all__ = ["Connection", "Lane", "LaneServer", "Runner", "not_kept"]


class Lane(Protocol):
    """A shorter way for some requests (:mod:`hookstream.app.web.fast_lane`)."""

    def take(
        self, landing: "Connection", message: RawRequestMessage, payload: StreamReader, peer: Sender
    ) -> bool:
        """Whether the request is on its way: ``landing`` hears what becomes of it, later."""


class Runner(web.AppRunner):
    """Serves an application over connections of this kind."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return LaneServer(
            made.request_handler,
            request_factory=partial(waiting_request, made.request_factory),
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )


class LaneServer(web.Server):
    """Its connections try ``lane``, if there is one, but for those to the port ``no_lane``."""

    lane: Lane | None = None
    no_lane = 0

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


class Connection(RequestHandler):
    """Bounds the head of a request, and answers what cannot be read."""

    __slots__ = (
        "_body", "_drains", "_ended", "_head_bytes", "_hidden", "_peer", "_seen", "_taken",
        "not_kept",
    )  # fmt: skip

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
        #: Who is at the other end, where the lane may be tried.
        self._peer: Sender | None = None
        #: The request that is on its way by the lane; and what aiohttp's task waits by for the next
        #: one, of which it hears nothing meanwhile.
        self._taken: tuple[RawRequestMessage | _ErrInfo, StreamReader] | None = None
        self._hidden: asyncio.Future[None] | None = None
        #: Of a request that the lane took, and nobody keeps: the next one, which is for aiohttp.
        self.not_kept: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The beginning."""
        super().connection_made(transport)
        server = self._manager
        if isinstance(server, LaneServer) and server.lane is not None:
            here = transport.get_extra_info("sockname")
            if not server.no_lane or (here and here[1] != server.no_lane):
                self._peer = peer_of(self.peername, is_secure=self.ssl_context is not None)

    def data_received(self, data: bytes) -> None:
        """What has come; all that is behind something malformed is dropped."""
        if self._drains:
            return
        waiter = self._waiter
        if self._peer is None or waiter is None or waiter.done():
            self._receive(data)
            return
        # its task is not woken before the lane has had a look
        self._waiter = None
        try:
            self._receive(data)
        finally:
            self._go_on(waiter)

    def _go_on(self, waiter: "asyncio.Future[None]") -> None:
        """Have the lane take what has come, or else aiohttp's task."""
        if self._messages and self._goes_by_lane(*self._messages[0]):
            self._taken = self._messages.popleft()
            self._hidden = waiter
            self._request_in_progress = True
            return
        self._waiter = waiter
        if self._messages and not waiter.done():
            waiter.set_result(None)

    def _goes_by_lane(self, message: RawRequestMessage | _ErrInfo, payload: StreamReader) -> bool:
        server = self._manager
        return (
            not (self._drains or self._force_close or self._upgraded)
            and isinstance(server, LaneServer)
            and server.lane is not None
            and self._peer is not None
            and not isinstance(message, _ErrInfo)
            and server.lane.take(self, message, payload, self._peer)
        )

    def landed(self, data: bytes) -> bool:
        """The request that the lane took has this answer; False where nobody is left to hear it."""
        if self.transport is None:
            self._hidden = self._taken = None
            return False
        assert self._taken is not None
        assert self._parser is not None
        assert self._manager is not None
        # it has not been read, in its way: what it holds is not to be held any longer
        self._taken[1]._buffer.clear()
        self._parser.message_consumed()
        self._manager.requests_count += 1
        self.transport.write(data)
        self._next()
        return True

    def not_landed(self, error: Exception) -> None:
        """The request that the lane took is kept by nobody: aiohttp's task has it answered."""
        if self._taken is not None and self.transport is not None:
            self._messages.appendleft(self._taken)
            self.not_kept = error
        self._next()

    def _next(self) -> None:
        """What the lane took is over: go on, or end, as aiohttp's task does then."""
        waiter, self._hidden, self._taken = self._hidden, None, None
        self._request_in_progress = False
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)
        if waiter is None or self.transport is None:
            return
        if (self._close or self._force_close) and self.not_kept is None:
            waiter.cancel()
            if not self._force_close:
                self.transport.close()
            return
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(
                self._next_keepalive_close_time, self._process_keepalive
            )
        if self.not_kept is None:
            if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
                self._resume_reading_if_drained()
            self._go_on(waiter)
            return
        self._waiter = waiter
        if not waiter.done():
            waiter.set_result(None)

    def _receive(self, data: bytes) -> None:
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


def not_kept(request: web.Request) -> Exception | None:
    """Why nobody keeps a request that the lane took, told once; None for all others."""
    connection = request.protocol
    if not isinstance(connection, Connection) or connection.not_kept is None:
        return None
    error, connection.not_kept = connection.not_kept, None
    return error


def _is_long(message: RawRequestMessage | _ErrInfo) -> bool:
    if isinstance(message, _ErrInfo):
        return False
    # a header has a colon, a space and a line's end
    size = sum(len(name) + len(value) + 4 for name, value in message.raw_headers)
    return size > MAX_HEAD_BYTES
