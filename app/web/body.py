"""Reading a request's body: bounded in size and time, and undoing its content encoding."""

import asyncio
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from traceback import clear_frames

import brotli
import zstandard
from aiohttp import web

from hookstream.app.errors import (
    BadRequestError,
    ContentEncodingError,
    HookstreamError,
    PayloadTooLargeError,
    SlowBodyError,
)
from hookstream.app.web.expectations import begin_body
from hookstream.codecs.zstd_frames import frame_end

__all__ = ["ENCODINGS", "check_size", "decode_aside", "decode_body", "read_body"]

#: What a body may be packed with, as an answer's Accept-Encoding says it.
ENCODINGS = ("gzip", "deflate", "br", "zstd")
#: One over the other; senders have one, a proxy may add another.
MAX_ENCODINGS = 3

#: Window size (log2) that a zstd frame may ask memory for: 8 MiB, as RFC 9659 has it for the web.
ZSTD_MAX_WINDOW = 8 * 1024 * 1024
CHUNK_BYTES = 64 * 1024
#: What a call of Brotli gives at most, about: it takes longer to get a turn than to give more.
BROTLI_BYTES = 512 * 1024
#: Few: each has a window and what comes out of it in memory, and all keep the event loop's thread
#: from its turn. Others' work, which has threads of its own, does not wait behind bombs.
_UNPACKERS = ThreadPoolExecutor(2, "unpack")
#: Gzip members one after the other in a body. Senders that flush often make a few.
MAX_MEMBERS = 1024
#: Blocks of all zstd frames of a body: one has 128 KiB, and less where the sender flushes.
MAX_BLOCKS = 65_536
#: A compressed body above it is undone in a thread (zlib and zstd let go of the GIL).
ASIDE_BYTES = 4 * 1024
#: What begins without much memory. Brotli fills a window of megabytes before it gives anything.
_QUICK = ("identity", "gzip", "x-gzip", "deflate", "zstd")
#: So is a smaller one that grows over this.
HERE_BYTES = 32 * 1024


async def read_body(
    request: web.Request,
    max_bytes: int,
    timeout_seconds: float,
    came: list[bytes] | None = None,
    hold: Callable[[int], None] | None = None,
) -> bytes:
    """The body as it came over the wire; ``came`` is given its parts, also where that fails.

    ``hold`` is told how much has come, and may raise.

    Raises:
        PayloadTooLargeError: more than ``max_bytes``; reading stops there.
        SlowBodyError: not complete after ``timeout_seconds``.
        BadRequestError: the client broke off, or framed the body wrongly.
    """
    check_size(request.content_length or 0, max_bytes)
    parts = [] if came is None else came
    size = 0
    await begin_body(request)
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
                if hold:
                    hold(size)
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


async def decode_aside(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """As :func:`decode_body`; a large body does not stop the event loop.

    Raises:
        HookstreamError: as :func:`decode_body`.
    """
    if not encoding:
        return body
    if len(body) <= ASIDE_BYTES and encoding.strip().lower() in _QUICK:
        try:
            return decode_body(body, encoding, min(max_bytes, HERE_BYTES))
        except PayloadTooLargeError:
            # a few bytes that become millions would keep everybody waiting
            pass
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_UNPACKERS, decode_body, body, encoding, max_bytes)


def decode_body(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Undo content encodings, the last of the list first; never more than ``max_bytes`` of any.

    Raises:
        ContentEncodingError: one other than identity and :data:`ENCODINGS`, or more than
            :data:`MAX_ENCODINGS`.
        PayloadTooLargeError: the body grows over ``max_bytes`` (a compression bomb, perhaps).
        BadRequestError: the body is not what its encoding says, or is cut off.
    """
    try:
        return _decoded(body, encoding, max_bytes)
    except HookstreamError as error:
        # it would keep what has been unpacked, and windows, until its client has the answer
        for one in (error, error.__cause__):
            if one is not None:
                clear_frames(one.__traceback__)
        raise


def _decoded(body: bytes, encoding: str, max_bytes: int) -> bytes:
    names = [name.strip().lower() for name in encoding.split(",", 100)]
    packed = [_ALIASES.get(name, name) for name in names if name not in ("", "identity")]
    # all of them are looked at before any work is done
    if unknown := [name for name in packed if name not in ENCODINGS]:
        raise ContentEncodingError(
            f"Content-Encoding {unknown[0][:40]!r} is not handled: send "
            f"{', '.join(ENCODINGS)} or none"
        )
    if len(packed) > MAX_ENCODINGS:
        raise ContentEncodingError(
            f"Content-Encoding names more than {MAX_ENCODINGS} encodings: pack the body once"
        )
    for name in reversed(packed):
        body = _unpack(body, name, max_bytes)
    return body


#: RFC 9110, 8.4.1.3.
_ALIASES = {"x-gzip": "gzip"}


def _unpack(body: bytes, name: str, max_bytes: int) -> bytes:
    try:
        if name == "gzip":
            return _inflate(body, 31, max_bytes)
        if name == "deflate":
            # RFC 9110 means zlib's format by "deflate"; some senders leave its header out
            zlib_header = len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
            return _inflate(body, 15 if zlib_header else -15, max_bytes)
        return _unbrotli(body, max_bytes) if name == "br" else _unzstd(body, max_bytes)
    except (zlib.error, zstandard.ZstdError, brotli.error) as error:
        raise BadRequestError(f"the body is not valid {name}") from error


def _inflate(body: bytes, window_bits: int, max_bytes: int) -> bytes:
    """Undo deflate in time linear in what comes in and out.

    Each member ends with a copy of what it was given and did not use: it is given a chunk at a
    time, and members are bounded.
    """
    out: list[bytes] = []
    size, at, members = 0, 0, 1
    inflater = zlib.decompressobj(window_bits)
    rest = b""
    while rest or at < len(body):
        if not rest:
            rest, at = body[at : at + CHUNK_BYTES], at + CHUNK_BYTES
        if inflater.eof:
            members += 1
            if members > MAX_MEMBERS:
                raise BadRequestError(
                    f"the compressed body has more than {MAX_MEMBERS} gzip members: send one"
                )
            inflater = zlib.decompressobj(window_bits)
        out.append(inflater.decompress(rest, max_bytes - size + 1))
        size += len(out[-1])
        if size > max_bytes:
            raise PayloadTooLargeError(_too_large(max_bytes, decoded=True))
        # gzip allows members one after another; deflate ends with its stream
        rest = inflater.unused_data
        if inflater.eof and window_bits != 31 and (rest or at < len(body)):
            raise BadRequestError("the compressed body goes on behind its end")
    if body and not inflater.eof:
        raise BadRequestError("the compressed body is cut off")
    return b"".join(out)


def _unzstd(body: bytes, max_bytes: int) -> bytes:
    _check_whole_zstd(body)
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
    return b"".join(out)


def _check_whole_zstd(body: bytes) -> None:
    """The last frame ends where the body does. Raises BadRequestError."""
    at, blocks = 0, 0
    while at < len(body):
        try:
            at, more = frame_end(body, at, MAX_BLOCKS - blocks)
        except ValueError as error:
            raise BadRequestError("the body is not valid zstd") from error
        blocks += more
        if blocks > MAX_BLOCKS:
            raise BadRequestError(
                f"the compressed body has more than {MAX_BLOCKS} zstd blocks: flush less often"
            )
    if at > len(body):
        raise BadRequestError("the compressed body is cut off")


def _unbrotli(body: bytes, max_bytes: int) -> bytes:
    """Undo Brotli in time linear in what comes in and out.

    A call keeps a copy of what it was given and did not use: it is given a chunk at a time. Its
    window is 16 MiB at most (RFC 7932); the larger ones of later drafts are refused.
    """
    out: list[bytes] = []
    size, at = 0, 0
    unpacker = brotli.Decompressor()
    while not unpacker.is_finished():
        given = b""
        if unpacker.can_accept_more_data():
            given, at = body[at : at + CHUNK_BYTES], at + CHUNK_BYTES
        out.append(unpacker.process(given, output_buffer_limit=BROTLI_BYTES))
        if not out[-1] and at >= len(body):
            # nothing to be had of what there is
            break
        size += len(out[-1])
        if size > max_bytes:
            raise PayloadTooLargeError(_too_large(max_bytes, decoded=True))
    if body and not unpacker.is_finished():
        raise BadRequestError("the compressed body is cut off")
    if at < len(body):
        raise BadRequestError("the compressed body goes on behind its end")
    return b"".join(out)


def check_size(size: int, max_bytes: int) -> None:
    """Refuse a body of more than ``max_bytes`` as sent. Raises PayloadTooLargeError."""
    if size > max_bytes:
        raise PayloadTooLargeError(_too_large(max_bytes))


def _too_large(max_bytes: int, *, decoded: bool = False) -> str:
    state = " once decompressed" if decoded else ""
    return f"the body is over {max_bytes} bytes{state} (HOOKSTREAM_MAX_BODY_BYTES)"
