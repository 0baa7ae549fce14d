"""Warm blocks: many events of one tool packed together, each with its payload as it came.

zstd over all of it finds what an event has in common with those around it, which is more than any
dictionary knows: GitHub's example payloads take a sixth of what they take one by one.

Where payloads are sealed, the block is, once it is compressed: what is sealed one by one does not
compress. A block is of one tenant, tool and month, so one key opens all of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from hookstream.codecs.envelope import varint
from hookstream.codecs.errors import CodecError, UnknownVersionError
from hookstream.codecs.sealed import MonthKey, is_sealed, open_sealed
from hookstream.codecs.zstd import MAX_BYTES, compress_together, decompress
from hookstream.proto.pipeline_pb2 import WarmBlock

__all__ = ["BLOCK_BYTES", "BLOCK_EVENTS", "BLOCK_VERSION", "KeptEvent", "pack_block", "read_block"]

BLOCK_VERSION: Final = 1
_BEGIN: Final = b"\x08" + bytes((BLOCK_VERSION,))
#: A block is full with so many events, or so many bytes of them before compression. Who looks for
#: one event unpacks all of its block: some milliseconds at most.
BLOCK_EVENTS: Final = 1024
BLOCK_BYTES: Final = 8 * 1024 * 1024
#: Most bytes that a block unpacks to: one event of the largest payload, with its envelope.
MAX_BLOCK_BYTES: Final = 2 * MAX_BYTES


@dataclass(frozen=True, slots=True)
class KeptEvent:
    """An event's entry in its stream, and its envelope with the payload inside, as it came."""

    entry_id: str
    envelope: bytes


def pack_block(
    events: Iterable[tuple[str, Sequence[bytes]]], key: MonthKey | None = None, place: bytes = b""
) -> bytes:
    """A block of events in the order of their entries: of each its entry, its envelope in pieces.

    It is a :class:`WarmBlock`, written here field by field: protobuf would copy each payload three
    times. What was packed is unpacked again, and compared. Then it is sealed, where a ``key`` is
    given, for its ``place``.

    Raises:
        CodecError: it does not unpack to what was packed.
    """
    parts = [_BEGIN]
    for entry_id, pieces in events:
        entry, size = entry_id.encode(), sum(map(len, pieces))
        head = b"\x0a" + varint(len(entry)) + entry + b"\x12" + varint(size)
        parts.append(b"\x12" + varint(len(head) + size) + head)
        parts += pieces
    content = b"".join(parts)
    block = compress_together(content)
    if decompress(block, MAX_BLOCK_BYTES) != content:
        raise CodecError("a block that was packed does not unpack to what was put into it")
    return block if key is None else key.seal(block, place)


def read_block(data: bytes, place: bytes = b"") -> list[KeptEvent]:
    """What :func:`pack_block` made, sealed for a place or not.

    Raises:
        UnknownKeyError: its data key was not fetched.
        ErasedError: its data key was destroyed.
        CodecError: the bytes are no block, or a damaged one.
        UnknownVersionError: a newer build has made it.
    """
    if is_sealed(data):
        data = open_sealed(data, place)
    try:
        block = WarmBlock.FromString(decompress(data, MAX_BLOCK_BYTES))
    except DecodeError as error:
        raise CodecError(f"not a warm block ({len(data)} bytes): {error}") from error
    if block.schema_version != BLOCK_VERSION:
        raise UnknownVersionError(
            f"a warm block of schema version {block.schema_version}; this build reads version "
            f"{BLOCK_VERSION}: upgrade it",
            block.schema_version,
        )
    return [KeptEvent(event.entry_id, event.envelope) for event in block.events]
