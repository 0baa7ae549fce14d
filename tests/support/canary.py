"""Looks for a word in bytes that somebody keeps, however they are packed."""

import re

import zstandard

__all__ = ["holds"]

_FRAME = re.compile(rb"\x28\xb5\x2f\xfd")


def holds(data: bytes, word: str) -> bool:
    """Whether a word stands in bytes as it is, as hexadecimal digits, or in a frame of zstd."""
    wanted = word.encode()
    if wanted in data or wanted.hex().encode() in data:
        return True
    for frame in _FRAME.finditer(data):
        try:
            opened = zstandard.ZstdDecompressor().decompressobj().decompress(data[frame.start() :])
        except zstandard.ZstdError:
            continue
        if wanted in opened:
            return True
    return False
