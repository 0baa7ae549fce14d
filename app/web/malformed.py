"""What is no HTTP request, or one that is too long: the status it gets, and words for it.

aiohttp tells these apart by classes, and answers 400 with text to all.
"""

from dataclasses import dataclass
from typing import Final

from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError, LineTooLong

__all__ = [
    "MAX_FIELD_BYTES",
    "MAX_HEADERS",
    "MAX_HEAD_BYTES",
    "MAX_LINE_BYTES",
    "Fault",
    "HeadTooLongError",
    "fault_of",
]

#: Of the address in a request's first line. Not the same as of a header: a parser's error names
#: the limit, and not what was too long.
MAX_LINE_BYTES: Final = 8190
#: Of a header, its name and its value.
MAX_FIELD_BYTES: Final = 8192
MAX_HEADERS: Final = 128
#: Of all that comes before a body: 128 headers of 8 KiB would be a megabyte a connection.
MAX_HEAD_BYTES: Final = 32 * 1024

_NO_REQUEST_LINE: Final = (
    "it does not begin as one does; https sent to this port, which speaks http, does so"
)
_MEANS: Final = {
    "BadHttpMethod": _NO_REQUEST_LINE,
    "BadStatusLine": _NO_REQUEST_LINE,
    "InvalidHeader": "a header is none",
    "InvalidURLError": "its URL is none",
}


class HeadTooLongError(BadHttpMessage):
    """All headers together are too long, whether or not they come to an end."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong; ``kind`` is its class's name, ``slug`` the end of the problem's type."""

    kind: str
    status: int
    slug: str
    title: str
    detail: str


def fault_of(error: HttpProcessingError) -> Fault:
    """What a parser's error means, in words that quote nothing of what was sent."""
    kind = type(error).__name__
    if isinstance(error, LineTooLong) and error.args[1] == MAX_LINE_BYTES:
        detail = f"the address in the request's first line is longer than {MAX_LINE_BYTES} bytes"
        return Fault(kind, 414, "uri-too-long", "Address too long", detail)
    long = ""
    if isinstance(error, LineTooLong):
        long = f"a header is longer than {MAX_FIELD_BYTES} bytes"
    elif isinstance(error, HeadTooLongError):
        long = f"all headers together are longer than {MAX_HEAD_BYTES} bytes"
    elif error.message == "Too many headers received":
        long = f"there are more than {MAX_HEADERS} headers"
    if long:
        return Fault(kind, 431, "headers-too-long", "Headers too long", long)
    detail = f"no HTTP request: {_MEANS.get(kind, kind)}"
    return Fault(kind, 400, "malformed", "No HTTP request", detail)
