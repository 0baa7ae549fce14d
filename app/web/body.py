"""Reading a request's body: bounded in size and time, and undoing its content encoding."""

import asyncio
import zlib

import zstandard
from aiohttp import web

from hookstream.app.errors import (
    BadRequestError,
    ContentEncodingError,
    PayloadTooLargeError,
    SlowBodyError,
)

__all__ = ["check_size", "decode_body", "read_body"]

#: Window size (log2) that a zstd frame may ask memory for: 8 MiB, as RFC 9659 has it for the web.
ZSTD_MAX_WINDOW = 8 * 1024 * 1024
CHUNK_BYTES = 64 * 1024


async def read_body(
    request: web.Request,
    max_bytes: int,
    timeout_seconds: float,
    came: list[bytes] | None = None,
) -> bytes:
    """The body as it came over the wire; ``came`` is given its parts, also where that fails.

    Raises:
        PayloadTooLargeError: more than ``max_bytes``; reading stops there.
        SlowBodyError: not complete after ``timeout_seconds``.
        BadRequestError: the client broke off, or framed the body wrongly.
    """
    check_size(request.content_length or 0, max_bytes)
    parts = [] if came is None else came
    size = 0
    if request.content.is_eof() and request.content.exception() is None:
        # it came whole with its head, as most do: nothing to wait for, so no timer
        check_size(request.content.total_bytes, max_bytes)
        parts.append(request.content.read_nowait())
        return parts[0]
    try:
        async with asyncio.timeout(timeout_seconds):
            while chunk := await request.content.readany():
                size += len(chunk)
                check_size(size, max_bytes)
                parts.append(chunk)
    except TimeoutError as error:
        raise SlowBodyError(
            f"the body was not complete after {timeout_seconds:g} seconds; {size} bytes had come"
        ) from error
    except (web.HTTPException, ConnectionError) as error:
        raise BadRequestError(f"the body broke off after {size} bytes") from error
    except Exception as error:
        if type(error).__module__.startswith("aiohttp"):
            raise BadRequestError(f"the body could not be read: {type(error).__name__}") from error
        raise
    return b"".join(parts)


def decode_body(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Undo one content encoding, never producing more than ``max_bytes``.

    Raises:
        ContentEncodingError: an encoding other than identity, gzip, deflate and zstd.
        PayloadTooLargeError: the body grows over ``max_bytes`` (a compression bomb, perhaps).
        BadRequestError: the body is not what its encoding says, or is cut off.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    try:
        if name in ("gzip", "x-gzip"):
            return _inflate(body, 31, max_bytes)
        if name == "deflate":
            # RFC 9110 means zlib's format by "deflate"; some senders leave its header out
            zlib_header = len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
            return _inflate(body, 15 if zlib_header else -15, max_bytes)
        if name == "zstd":
            return _unzstd(body, max_bytes)
    except (zlib.error, zstandard.ZstdError) as error:
        raise BadRequestError(f"the body is not valid {name}") from error
    raise ContentEncodingError(
        f"Content-Encoding {name[:40]!r} is not handled: send gzip, deflate, zstd or none"
    )


def _inflate(body: bytes, window_bits: int, max_bytes: int) -> bytes:
    out: list[bytes] = []
    size = 0
    while body:
        inflater = zlib.decompressobj(window_bits)
        out.append(inflater.decompress(body, max_bytes - size + 1))
        size += len(out[-1])
        if size > max_bytes:
            raise PayloadTooLargeError(_too_large(max_bytes, decoded=True))
        if not inflater.eof:
            raise BadRequestError("the compressed body is cut off")
        # gzip allows members one after another; each moves on, so the loop ends
        body = inflater.unused_data if window_bits == 31 else b""
    return b"".join(out)


def _unzstd(body: bytes, max_bytes: int) -> bytes:
    out: list[bytes] = []
    size = 0
    reader = zstandard.ZstdDecompressor(max_window_size=ZSTD_MAX_WINDOW).stream_reader(
        body, read_across_frames=True
    )
    while chunk := reader.read(CHUNK_BYTES):
        out.append(chunk)
        size += len(chunk)
        if size > max_bytes:
            raise PayloadTooLargeError(_too_large(max_bytes, decoded=True))
    if body and not size and zstandard.frame_content_size(body) != 0:
        raise BadRequestError("the compressed body is cut off")
    return b"".join(out)


def check_size(size: int, max_bytes: int) -> None:
    """Refuse a body of more than ``max_bytes`` as sent. Raises PayloadTooLargeError."""
    if size > max_bytes:
        raise PayloadTooLargeError(_too_large(max_bytes))


def _too_large(max_bytes: int, *, decoded: bool = False) -> str:
    state = " once decompressed" if decoded else ""
    return f"the body is over {max_bytes} bytes{state} (HOOKSTREAM_MAX_BODY_BYTES)"
