"""The way of a webhook into a process, past what aiohttp does for every request.

Router, middlewares and response objects take as long as verifying a body of 10 KB. ``POST
/hooks/TOOL`` needs none of them: the tool's id is what follows in the path (``TENANT/TOOL`` of
tenants but the default one), and what is answered is a few lines. Whatever is out of the ordinary
(other paths and methods, ``Expect``, HTTP/1.0, a request of the operators' port, anything that
fails) goes the way of all others.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import SERVER_SOFTWARE
from aiohttp.web_request import BaseRequest

from hookstream.app.addresses import Network
from hookstream.app.ids import full_tool_id
from hookstream.app.providers import Answer
from hookstream.app.providers.signatures.options import BODILESS
from hookstream.app.web.browsers import HARDENED
from hookstream.app.web.problem import problems
from hookstream.app.web.receive import EVENT_ID_HEADER
from hookstream.app.web.request_log import REQUEST_ID, begin, is_verbose, log_request
from hookstream.app.web.sender import look_past

__all__ = ["PREFIX", "HotRoute", "answer_bytes"]

PREFIX: Final = "/hooks/"
#: What may stand for a tool in a path as it is: all else is for the router to decode.
PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")

#: The answer to a webhook of a tool, and the event's id; "" where it became none.
Take = Callable[[web.Request, str], Awaitable[tuple[Answer, str]]]
Handle = Callable[[Any], Awaitable[web.StreamResponse]]


class HotRoute:
    """Handles requests of a server: webhooks by ``take``, all others by ``handle``."""

    def __init__(
        self,
        take: Take,
        handle: Handle,
        web_app: web.Application,
        *,
        admin_port: int,
        trusted: Sequence[Network],
    ) -> None:
        """``handle``: what the server had before; ``admin_port``: 0 where there is none.

        ``trusted``: networks of proxies that are believed.
        """
        self._trusted = trusted
        self._take = take
        self._handle = handle
        self._web_app = web_app
        self._admin_port = admin_port

    async def __call__(self, request: BaseRequest) -> web.StreamResponse:
        """For ``aiohttp.web.Server.request_handler``."""
        assert isinstance(request, web.Request)  # as its application makes them
        tool_id = self._tool_id(request)
        if not tool_id:
            return await self._handle(request)
        if self._trusted:
            look_past(request, self._trusted)
        request_id = begin(request)
        try:
            answer, event_id = await self._take(request, tool_id)
        except BaseException as error:  # noqa: BLE001 raised again where all are dealt with
            return await self._failed(request, error)
        return _ready(request, answer, event_id, request_id)

    def _tool_id(self, request: web.Request) -> str:
        """The tool of an ordinary webhook; "" where all others are dealt with."""
        # as it was sent: taking a URL apart costs more than all of this
        path = request.raw_path
        if request.method != "POST" or not path.startswith(PREFIX):
            return ""
        tool_id = path[len(PREFIX) :].partition("?")[0]
        if not tool_id or not PLAIN.issuperset(tool_id):
            tenant, _, name = tool_id.partition("/")
            if not (tenant and name and PLAIN.issuperset(tenant) and PLAIN.issuperset(name)):
                return ""
            tool_id = full_tool_id(tenant, name)
        # one whose sender waits for a word before its body is of another class
        if type(request) is not web.Request or request.version != HttpVersion11 or is_verbose():
            return ""
        if self._admin_port:
            here = request.get_extra_info("sockname")
            if here is None or here[1] == self._admin_port:
                return ""
        return tool_id

    async def _failed(self, request: web.Request, error: BaseException) -> web.StreamResponse:
        """The answer to what failed, logged as every other: its route is asked for only now."""
        match_info = await self._web_app.router.resolve(request)
        match_info.add_app(self._web_app)
        match_info.freeze()
        request._match_info = match_info

        async def fail(_: web.Request) -> web.StreamResponse:
            raise error

        async def answer(request: web.Request) -> web.StreamResponse:
            return await problems(request, fail)

        return await log_request(request, answer)


class ReadyResponse(web.StreamResponse):
    """An answer that is written as it is: ``data`` is all of it, its status line among it."""

    # what the base class would build headers from is never asked for
    def __init__(self, data: bytes, *, keep_alive: bool) -> None:
        self._data = data
        self._keep_alive = keep_alive

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        """Write it."""
        await request.writer.write(self._data)
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""


_HARDENED: Final = "".join(f"{name}: {value}\r\n" for name, value in HARDENED.items())
_SERVER: Final = f"Server: {SERVER_SOFTWARE}\r\n"
#: Every answer's first line, by its status.
_STATUS: Final = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n" for s in HTTPStatus}


class _Clock:
    """The last lines of all answers, with the time as HTTP has it: made once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def lines(self) -> str:
        second = int(time.time())
        if second != self._second:
            date = formatdate(second, usegmt=True)
            self._second, self._text = second, f"{_HARDENED}Date: {date}\r\n{_SERVER}"
        return self._text


_last_lines = _Clock().lines


def _ready(request: web.Request, answer: Answer, event_id: str, request_id: str) -> ReadyResponse:
    """An answer as bytes, with what every other gets on its way. Raises ValueError."""
    keep_alive = request.keep_alive
    data = answer_bytes(answer, event_id, request_id, keep_alive=keep_alive)
    return ReadyResponse(data, keep_alive=keep_alive)


def answer_bytes(answer: Answer, event_id: str, request_id: str, *, keep_alive: bool) -> bytes:
    """All that is sent for an answer.

    Raises:
        ValueError: it has a header that is none.
    """
    for value in answer.headers.values():
        if not value.isprintable():
            raise ValueError("a header of an answer has more than one line")
    # what followed would be taken for the next answer (RFC 9110, 15.3.5 and 15.3.6)
    bodiless = answer.status in BODILESS
    body = b"" if bodiless else answer.body
    status = _STATUS.get(answer.status) or f"HTTP/1.1 {answer.status} \r\n"
    own = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
    kind = "" if bodiless else f"Content-Type: {answer.content_type}\r\n"
    event = f"{EVENT_ID_HEADER}: {event_id}\r\n" if event_id else ""
    length = "" if answer.status == 204 else f"Content-Length: {len(body)}\r\n"
    end = "\r\n" if keep_alive else "Connection: close\r\n\r\n"
    head = f"{status}{own}{kind}{event}{length}{REQUEST_ID}: {request_id}\r\n{_last_lines()}{end}"
    return head.encode() + body
