"""``Expect: 100-continue``: a sender that asks before it sends its body.

aiohttp says yes before anything has been looked at. Here ``100 Continue`` goes out when the body is
wanted: who is refused is so at once, and the connection ends, for nobody could tell whether a body
comes after all.
"""

from typing import Any

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.multipart import MultipartReader
from aiohttp.web_request import BaseRequest
from multidict import CIMultiDict, CIMultiDictProxy

__all__ = ["begin_body", "close_unread", "waiting_request"]

#: Of a request whose sender waits for a word before it sends its body.
_WAITS: web.RequestKey[bool] = web.RequestKey("waits", bool)


class _WaitingRequest(web.Request):
    """One whose sender waits, read by whomever."""

    async def read(self) -> bytes:
        await begin_body(self)
        return await super().read()

    async def multipart(self) -> MultipartReader:
        await begin_body(self)
        return await super().multipart()


def waiting_request(make: Any, message: RawRequestMessage, *rest: Any) -> BaseRequest:
    """A request that aiohttp sees no ``Expect`` of: it would say yes before anybody has looked."""
    expect = message.headers.get(hdrs.EXPECT)
    if not expect:
        request: BaseRequest = make(message, *rest)
        return request
    headers = CIMultiDict(message.headers)
    del headers[hdrs.EXPECT]
    seen = message._replace(headers=CIMultiDictProxy(headers))
    waiting: BaseRequest = make(seen, *rest, _cls=_WaitingRequest)
    # what else may be expected can be passed over (RFC 9110, 10.1.1), and so it is of HTTP/1.0
    if expect.strip().lower() == "100-continue" and message.version >= HttpVersion11:
        waiting[_WAITS] = True
    return waiting


async def begin_body(request: web.BaseRequest) -> None:
    """Say that the body is wanted, to a sender that waits for it; to be called before reading."""
    if not request.get(_WAITS):
        return
    request[_WAITS] = False
    content = request.content
    if content.total_bytes or content.is_eof():
        # it has not waited
        return
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    await request.writer.drain()
    # the answer's own bytes are still to come
    request.writer.output_size = 0


async def close_unread(request: web.Request, response: web.StreamResponse) -> None:
    """Say that the connection ends where a body was refused: nobody could tell what comes next.

    For ``on_response_prepare``.
    """
    if (response.status >= 400 or request.get(_WAITS)) and not request.content.is_eof():
        response.force_close()
        response.headers[hdrs.CONNECTION] = "close"
